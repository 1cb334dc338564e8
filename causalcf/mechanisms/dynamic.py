"""Diffusion with dynamic semantic abduction: the null tokens of guidance are abducted too."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.alignment import aligned
from causalcf.diffusion.guidance import Anchored, Guidance
from causalcf.diffusion.schedule import Schedule
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.semantic import SemanticDiffusion
from causalcf.numbers import finite, whole
from causalcf.units import Units


class DynamicDiffusion(SemanticDiffusion):
    """Semantic abduction, and one null token per level that makes guided generation retrace the factual image.

    What it converges to is known: the loss is least where the token equals the factual condition. Guidance then cancels
    under the null intervention, and every other intervention overshoots by `omega - 1` of its effect. So composition
    and identity improve, while signed bias grows; compare `replay=True` of `SemanticDiffusion`, which needs no
    optimisation. Source: Rasal et al. (2025), counterfactual trajectory alignment.

    Args:
        passes_per_level: gradient steps on a token.
        rate: size of these steps.
        stop: mean squared error of a pixel, in units where an image spans 2, at which a row stops.
        options: those of `SemanticDiffusion`; `solver` must be "ddim" or "explicit ddim", and `omega` above 1.
    """

    def __init__(
        self,
        passes_per_level: int = 10,
        rate: float = 1e-2,
        stop: float = 1e-5,
        omega: float = 2.0,
        **options: Any,
    ) -> None:
        super().__init__(omega=omega, **options)
        if not omega > 1:
            raise ValueError(
                f"DynamicDiffusion: expected omega > 1, got {omega}; without guidance no token is used, so give omega "
                "above 1, or SemanticDiffusion"
            )
        if self.reference == "factual":
            raise ValueError(
                "DynamicDiffusion: with reference='factual' the tokens would begin where they end, and nothing is "
                "aligned; give reference='null', or SemanticDiffusion"
            )
        whole("DynamicDiffusion", 1, passes_per_level=passes_per_level)
        finite("DynamicDiffusion", 0, rate=rate, stop=stop)
        if rate == 0:
            raise ValueError("DynamicDiffusion: expected rate > 0, got 0; no token would move")
        if self.solver not in ("ddim", "explicit ddim") or self.replay or self.inversion == "guided":
            raise ValueError(
                "DynamicDiffusion: expected solver 'ddim' or 'explicit ddim', without replay and inversion "
                f"'condition', got {self.solver!r}, replay={self.replay}, {self.inversion!r}"
            )
        self.passes_per_level, self.rate, self.stop = passes_per_level, rate, stop

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {"passes_per_level": self.passes_per_level, "rate": self.rate, "stop": self.stop}
        return {**own, **super().config()}

    @torch.inference_mode(False)  # alignment differentiates
    @torch.no_grad()
    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Invert as semantic abduction does, then align the guided trajectory with the inversion."""
        noise, path = self._abducted(value, parents, units, key)
        condition = self.condition(noise, parents)
        (null,) = super()._unsteered(noise).branches(condition, 1)
        with self._autocast():
            noise["tokens"] = aligned(
                self._denoiser(),
                path,
                condition,
                null,
                self.omega,
                self.passes_per_level,
                self.rate,
                self.stop,
                Schedule(self.schedule).length,
            )
        return noise

    @property
    def keeps_path(self) -> bool:  # noqa: D102
        return True

    def _unsteered(self, noise: Noise) -> Guidance:
        if "tokens" not in noise:
            return super()._unsteered(noise)
        return Anchored(self.omega, noise["tokens"])

    @property
    def scalable(self) -> bool:  # noqa: D102
        return False
