"""MaskDiME: only the places of the largest class gradients are re-drawn."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from causalcf.diffusion.descent import Descent, Estimate, OneStep, Waiting
from causalcf.diffusion.masks import AdaptiveDual, Mask
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler
from causalcf.explain.explainer import Attempt
from causalcf.explain.returning import Returning


class MaskDiME(Returning):
    r"""FastDiME under two masks that follow the class gradient (Guo et al., CVPR 2026).

    Noisy images change where the gradient is among the `share` largest, clean estimates where it is among the `inner`
    share of those, of equal ones by lot; both dilated. `size` scales all terms, which makes up for the weaker one-step
    estimate.

    Published code draws no noise in its steps, takes none where the gradient is exactly zero, puts the factual image
    back at the noise of the level just left, and leaves the noise of the lowest level in the result; corrected, steps
    are taken and draw noise, and the result is the factual image where it may not change.

    Args:
        size: factor of all gradients.
        share: of the pixels that noisy images may change.
        inner: share of these that clean estimates may change.
        dilation: side of the square by which both masks are dilated.
        options: those of `Returning`.
    """

    def __init__(
        self, size: float = 8.0, share: float = 0.05, inner: float = 0.5, dilation: int = 5, **options: Any
    ) -> None:
        super().__init__(**options)
        if size <= 0:
            raise ValueError(f"MaskDiME: expected size > 0, got {size}")
        AdaptiveDual(share, inner, dilation)
        self.size, self.share, self.inner, self.dilation = size, share, inner, dilation

    @property
    def factor(self) -> float:  # noqa: D102
        return self.size

    @property
    def stepnoise(self) -> bool:  # noqa: D102
        return self.parity != "published"

    def estimate(self, attempt: Attempt, levels: Levels) -> Estimate:  # noqa: D102
        return OneStep(attempt.factual)

    def mask(self, attempt: Attempt) -> Mask:  # noqa: D102
        return AdaptiveDual(self.share, self.inner, self.dilation, attempt.draw("ties"))

    def stepped(self, sampler: Sampler, descent: Descent) -> Sampler:  # noqa: D102
        return Waiting(sampler, descent) if self.parity == "published" else sampler

    def finished(self, found: Tensor, attempt: Attempt, where: Tensor) -> Tensor:  # noqa: D102
        return found if self.parity == "published" else super().finished(found, attempt, where)
