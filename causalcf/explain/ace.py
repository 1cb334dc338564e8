"""ACE: an adversarial attack on the classifier behind a diffusion model that filters what is not of an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from causalcf.diffusion.ancestral import Ancestral, Variance
from causalcf.diffusion.guidance import Model, NoGuidance, guided
from causalcf.diffusion.masks import differing, refuse_even
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, Parity
from causalcf.explain.inputs import refuse_unknown
from causalcf.explain.queries import LossForm
from causalcf.explain.repainting import repainted


class ACE(Explainer):
    r"""Signed gradient steps on the image, through noising and the steps back, and a refinement under a mask.

    `x' <- x' - rate sign(grad s L_class(F(x')) + lambda_1 grad |x' - x|)`, where `F` noises the image to a small depth
    and steps back, differentiated through every step; each iteration draws fresh noise. What changed is dilated, and
    everything else repainted from the factual image (Jeanneret et al., CVPR 2023, https://arxiv.org/abs/2303.09962).

    Published code takes the mean of the class loss over the batch and the sum of the distance, so that results depend
    on the batch; corrected, every row has its own loss, as published code has at a batch of one.

    Args:
        steps: of the whole chain.
        depth: steps of the filter.
        iterations: of the attack.
        rate: of one of its steps, in grey levels of 255.
        distance: lambda_1, the weight of the L1 distance, of images in [0, 1].
        threshold: share of the largest difference from which on a pixel may change.
        dilation: side of the square by which the difference is dilated.
        scales: s, of the class term; rows that do not flip at one are tried again at the next.
        loss: "logit" or "log-probability".
        variance: of the ancestral steps.
        parity: "published" or None.
        batch: rows at a time.
        seed: of all noise.
    """

    def __init__(
        self,
        steps: int = 50,
        depth: int = 5,
        iterations: int = 50,
        rate: float = 1.0,
        distance: float = 1e-3,
        threshold: float = 0.15,
        dilation: int = 15,
        scales: Sequence[float] = (1.0,),
        loss: LossForm = "log-probability",
        variance: Variance = "small",
        parity: Parity = None,
        batch: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, parity, batch, seed)
        refuse_unknown("ACE", loss, variance)
        refuse_even(dilation)
        if not 1 <= depth < steps or iterations < 1:
            raise ValueError(
                f"ACE: expected 1 <= depth < steps and iterations >= 1, got {depth}, {steps}, {iterations}"
            )
        if not (rate > 0 and distance >= 0 and 0 < threshold <= 1):
            raise ValueError(
                f"ACE: expected rate > 0, distance >= 0 and a threshold in (0, 1], got {rate}, {distance}, {threshold}"
            )
        self.steps, self.depth, self.iterations, self.rate = steps, depth, iterations, rate
        self.distance, self.threshold, self.dilation = distance, threshold, dilation
        self.loss: LossForm = loss
        self.variance: Variance = variance

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        levels = attempt.generator.levels(self.steps)
        model = guided(attempt.generator.denoiser(levels), attempt.generator.nothing(len(attempt.images)), NoGuidance())
        found = attempt.images
        shared = len(found) if self.parity == "published" else 1
        for number in range(self.iterations):
            with torch.enable_grad():
                leaf = found.detach().requires_grad_()
                filtered = self.filtered(leaf, attempt, model, levels, number)
                chosen = attempt.scale / shared * attempt.query.loss(filtered, attempt.rows, self.loss)
                near = self.distance * (leaf - attempt.images).abs().flatten(1).sum(1)
                (gradient,) = torch.autograd.grad((chosen + near).sum(), leaf)
            found = (found - self.rate / 255 * gradient.sign()).clamp(0, 1)
        return self.refined(found, attempt, model, levels)

    def filtered(self, images: Tensor, attempt: Attempt, model: Model, levels: Levels, number: int) -> Tensor:
        """Noised to the depth, and back."""
        codec = attempt.generator.codec
        x = noised(codec.encode(images), attempt.draw(f"filter.{number}")(self.depth), self.depth, levels)
        steps = Ancestral(attempt.draw(f"filter.{number}.step"), self.variance)
        return codec.decode(generate(model, x, levels, steps, depth=self.depth))

    def refined(self, found: Tensor, attempt: Attempt, model: Model, levels: Levels) -> tuple[Tensor, Tensor]:
        """Repainted around the places that changed."""
        where = differing(found, attempt.images, self.dilation, self.threshold)
        return repainted(found, where, attempt, model, levels, self.depth, self.variance, "refine"), where
