"""What draws counterfactuals: a denoiser, the space it works in, and what it can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Int
from torch import Tensor

from causalcf.diffusion.codec import Codec, Pixels
from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser, Network
from causalcf.diffusion.schedule import Levels, NoiseSchedule, Schedule, Spacing

Conditions = Callable[[Int[Tensor, " batch"]], Tensor]  # classes -> what the network is told of each row


@dataclass
class Generator:
    """A diffusion model of images, as explainers ask it.

    Attributes:
        network: `(x, timestep, condition) -> output`.
        null: the condition that says nothing, of one row.
        schedule: how much noise there is at each training step.
        prediction: what the network outputs, "epsilon", "v", "x0" or "flow".
        codec: from images in [0, 1] to what is diffused.
        conditions: classes -> conditions, where the network can be told the class.
        channels: of the images it draws, where that is known.
        size: height and width of these, where it draws no others.
        forward: rows the network was shown since `count` was called.
        backward: rows whose gradient was taken through the network since, each as often as it was.
    """

    network: Network
    null: Tensor
    schedule: NoiseSchedule = field(default_factory=Schedule)
    prediction: str = "epsilon"
    codec: Codec = field(default_factory=Pixels)
    conditions: Conditions | None = None
    channels: int | None = None
    size: tuple[int, int] | None = None
    forward: int = field(default=0, init=False)
    backward: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"generator: expected prediction in {list(PREDICTIONS)}, got {self.prediction!r}")

    def levels(self, steps: int, spacing: Spacing = "uniform") -> Levels:
        """A chain of `steps` steps over the whole schedule, down to no noise at all."""
        return self.schedule.levels(steps - 1, spacing, top=self.schedule.last).with_clean()

    def denoiser(self, levels: Levels) -> Denoiser:
        """The network at these levels; its evaluations are counted."""
        return Denoiser(self._asked, PREDICTIONS[self.prediction], levels, self.codec.limit)

    def _asked(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        self.forward += len(x)
        found = self.network(x, timestep, condition)
        if found.requires_grad:
            found.register_hook(self._differentiated)
        return found

    def _differentiated(self, slopes: Tensor) -> None:
        self.backward += len(slopes)

    def count(self) -> None:
        """Start counting again."""
        self.forward = self.backward = 0

    def nothing(self, rows: int) -> Tensor:
        """The condition that says nothing, for so many rows."""
        return self.null.expand(rows, *self.null.shape)

    def told(self, classes: Int[Tensor, " batch"]) -> Tensor:
        """The conditions of classes, one per row."""
        if self.conditions is None:
            raise ValueError(
                "this generator cannot be told a class; give it conditions=, or use an explainer that needs none"
            )
        return self.conditions(classes)
