"""FastDiME: the clean image is read off the noisy one in one step, and a mask follows the change."""

from __future__ import annotations

from typing import Any, Literal

from torch import Tensor

from causalcf.diffusion.descent import Estimate, Lagging, OneStep
from causalcf.diffusion.masks import Difference, Everywhere, Fixed, Mask, differing, refuse_even
from causalcf.diffusion.schedule import Levels
from causalcf.explain.explainer import Attempt
from causalcf.explain.returning import Returning

Masking = Literal["self", "none", "2", "2+"]


class FastDiME(Returning):
    r"""DiME with the one-step estimate `x0 = (x_k - sigma e) / alpha` (Weng et al., ECCV 2024).

    `masking` is its variants: "self" follows the change of the estimate during the second half of the steps; "2" runs
    without a mask first, and again from the same noise under the mask of what changed; "2+" runs with "self" first;
    "none" has no mask.

    Published code takes gradients at the estimate of the step before, leaves out `1 / alpha`, and puts the factual
    image back at the noise of the level just left; corrected, the estimate is the step's own, and the noise that of the
    level reached.

    Args:
        masking: "self", "none", "2" or "2+".
        dilation: side of the square by which a difference is dilated, in pixels of what is diffused.
        threshold: share of the largest difference from which on a pixel may change.
        warmup: steps before "self" masks; None is half of the depth.
        options: those of `Returning`.
    """

    def __init__(
        self,
        masking: Masking = "self",
        dilation: int = 5,
        threshold: float = 0.15,
        warmup: int | None = None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        refuse_even(dilation)
        if masking not in ("self", "none", "2", "2+"):
            raise ValueError(f"FastDiME: expected masking 'self', 'none', '2' or '2+', got {masking!r}")
        if not 0 < threshold <= 1:
            raise ValueError(f"FastDiME: expected a threshold in (0, 1], got {threshold}")
        self.masking, self.dilation, self.threshold = masking, dilation, threshold
        self.warmup = self.depth // 2 if warmup is None else warmup

    @property
    def divided(self) -> bool:  # noqa: D102
        return self.parity != "published"

    def estimate(self, attempt: Attempt, levels: Levels) -> Estimate:  # noqa: D102
        return Lagging(attempt.factual) if self.parity == "published" else OneStep(attempt.factual)

    def mask(self, attempt: Attempt) -> Mask:  # noqa: D102
        if self.masking in ("none", "2"):
            return Everywhere()
        return Difference(attempt.factual, self.dilation, self.threshold, self.depth - self.warmup)

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        levels = attempt.generator.levels(self.steps)
        found, where = self.trajectory(attempt, levels, self.mask(attempt))
        if self.masking not in ("2", "2+"):
            return found, where
        encoded = attempt.generator.codec.encode(found)
        fixed = Fixed(differing(encoded, attempt.factual, self.dilation, self.threshold))
        return self.trajectory(attempt, levels, fixed)
