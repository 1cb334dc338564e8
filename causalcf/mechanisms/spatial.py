"""Diffusion with spatial abduction: the noise is an image."""

from __future__ import annotations

from torch import Tensor

from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.diffusion import Diffusion
from causalcf.units import Units


class SpatialDiffusion(Diffusion):
    r"""A conditional diffusion model whose exogenous noise is the image's own, `u = DDIM^{-1}(x; pa)`.

    The counterfactual is `DDIM(u; pa*)`. Source: Rasal et al., "Diffusion Counterfactual Generation with Semantic
    Abduction" (2025), the spatial mechanism, https://arxiv.org/abs/2506.07883.

    Takes the options of `Diffusion`.
    """

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Invert the trajectory under the parents."""
        return self._inverted(value, self.features(parents, len(value)), parents, units, key)[0]
