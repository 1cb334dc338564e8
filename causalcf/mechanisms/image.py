"""What all mechanisms of images share: they refuse other variables, and draw noise that is standard normal."""

from __future__ import annotations

from abc import abstractmethod
from typing import ClassVar

from torch import Tensor

from causalcf.mechanisms.base import Mechanism, Noise, Parents
from causalcf.mechanisms.features import Features
from causalcf.units import Units
from causalcf.variables import Image


class ImageMechanism(Mechanism):
    """A mechanism of an image whose noise has standard normal sites.

    Attributes:
        remainder: the site of what abduction keeps of an observed image beside what decides what it looks like. It is
            left out of drawn noise, so that prediction then ends at the image the networks mean.
        features: the parents as a vector.
    """

    has_density = False
    remainder: ClassVar[str]

    def _build(self) -> None:
        if not isinstance(self.variable, Image):
            raise TypeError(
                f"{type(self).__name__} models an Image, got {self.variable}; leave the mechanism out for a default"
            )
        self.features = Features(self.parents)

    def calibrate(self, value: Tensor, parents: Parents) -> None:  # noqa: D102
        self.features.calibrate(parents)

    @abstractmethod
    def noise_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        ...

    def noise(self, units: Units, key: str) -> Noise:
        """Standard normal noise at all sites but the remainder."""
        sites = {site: shape for site, shape in self.noise_shapes().items() if site != self.remainder}
        return {site: units.normal(f"{key}.{site}", shape) for site, shape in sites.items()}
