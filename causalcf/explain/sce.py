"""SCE: an image optimised under a smoothed surrogate, behind a diffusion model that filters it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Self

import torch
from torch import Tensor

from causalcf.diffusion.ancestral import Ancestral, Variance
from causalcf.diffusion.descent import clipped
from causalcf.diffusion.guidance import Model, NoGuidance, guided
from causalcf.diffusion.masks import moved, outstanding, refuse_even
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, Parity, steps_back
from causalcf.explain.inputs import refuse_unknown
from causalcf.explain.queries import LossForm, Query, probability
from causalcf.explain.repainting import repainted


class SCE(Explainer):
    r"""Momentum gradient descent on the image, through noising and the steps back (Bender et al.).

    Each iteration noises the image to a depth, steps back, and lowers `s L_class(surrogate(F(z)) / T) + lambda |z - x|`
    differentiated through every step. Rows keep the image at which the classifier was surest of the target, and stop
    when it is as sure of it as it was of the other class. What moved less than a threshold is put back. Further
    explanations of the same row keep out of the places that earlier ones changed.

    Corrected, every gradient has the same largest entry, and what is kept is the filtered image. Published code only
    shortens gradients; it keeps z itself, which it repaints, where the classifier decides for the target, around what
    stands out of the blurred difference; and it halves threshold and lambda for every further explanation. Its values
    for 128 pixels are `rate=300, distance=5e-4, threshold=0.15, blur=13`, without a limit on gradients.

    Args:
        surrogate: images in [0, 1] -> logits, whose gradients are taken; None takes the classifier's own.
        steps: of the whole chain.
        strength: which share of them the filter takes.
        iterations: the most gradient steps.
        rate: of a gradient step.
        momentum: of the gradient steps.
        distance: lambda, of the mean absolute difference.
        temperature: T, which divides the surrogate's logits.
        threshold: of the blurred difference, below which the factual image is put back; published, a share of the
            row's largest difference.
        blur: side of the square that blurs.
        limit: published, of a gradient's entries, None for none; corrected, the largest of all rows is 1.
        scales: s, of the class term; rows that do not flip at one are tried again at the next.
        loss: "logit" or "log-probability".
        variance: of the ancestral steps.
        parity: "published" or None.
        batch: rows at a time.
        seed: of all noise.
    """

    def __init__(
        self,
        surrogate: Any = None,
        steps: int = 50,
        strength: float = 0.3,
        iterations: int = 50,
        rate: float = 0.05,
        momentum: float = 0.9,
        distance: float = 0.01,
        temperature: float = 3.0,
        threshold: float = 0.03,
        blur: int = 5,
        limit: float | None = None,
        scales: Sequence[float] = (1.0,),
        loss: LossForm = "log-probability",
        variance: Variance = "small",
        parity: Parity = None,
        batch: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, parity, batch, seed)
        refuse_unknown("SCE", loss, variance)
        refuse_even(blur)
        if not 0 < strength < 1 or iterations < 1 or not 0 <= momentum < 1 or rate <= 0 or temperature <= 0:
            raise ValueError(
                "SCE: expected strength in (0, 1), iterations >= 1, momentum in [0, 1), rate and temperature > 0, got "
                f"{strength}, {iterations}, {momentum}, {rate}, {temperature}"
            )
        self.surrogate, self.steps, self.strength, self.iterations = surrogate, steps, strength, iterations
        self.rate, self.momentum, self.distance, self.temperature = rate, momentum, distance, temperature
        if threshold < 0 or (limit is not None and not limit > 0):
            raise ValueError(f"SCE: expected threshold >= 0 and limit > 0, got {threshold} and {limit}")
        self.threshold, self.blur, self.limit = threshold, blur, limit
        self.loss: LossForm = loss
        self.variance: Variance = variance

    @property
    def depth(self) -> int:
        """Steps of the filter."""
        return steps_back(self.strength, self.steps)

    def further(self, number: int) -> Self:  # noqa: D102
        again = super().further(number)
        if self.parity == "published":
            again.threshold, again.distance = self.threshold / 2**number, self.distance / 2**number
        return again

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        query, rows = attempt.query, attempt.rows
        soft = query.through(self.surrogate, self.temperature)
        free = torch.ones_like(attempt.images[:, :1], dtype=torch.bool) if attempt.locked is None else ~attempt.locked
        z, speed = attempt.images.clone(), torch.zeros_like(attempt.images)
        best, sure = attempt.images.clone(), query.before[rows].clone()
        enough = 1 - query.before[rows]
        going = torch.ones(len(z), dtype=torch.bool, device=z.device)
        for number in range(self.iterations):
            left = going.nonzero()[:, 0]
            if not len(left):
                break
            part = attempt.part(left)
            gradient, filtered = self.slope(z[left], part, soft, number)
            part.book()
            speed[left] = self.momentum * speed[left] + self.shortened(gradient) * free[left]
            z[left] = (z[left] - self.rate * speed[left]).clamp(0, 1)
            if self.parity == "published":
                shown = z[left] = self.repaint(z[left], part, free[left], number)
            else:
                shown = self.put_back(filtered.clamp(0, 1), part.images, free[left])
            said = probability(query.logits(shown), query.target[part.rows])
            better = said > sure[left]
            best[left[better]], sure[left[better]] = shown[better].to(best), said[better].to(sure)
            going[left] = said < torch.maximum(enough[left], torch.full_like(said, 0.5))
        return best, moved(best, attempt.images, 1e-6, 1)

    def chain(self, attempt: Attempt) -> tuple[Model, Levels]:
        """The noise without guidance, and the levels."""
        generator, rows = attempt.generator, len(attempt.images)
        levels = generator.levels(self.steps)
        return guided(generator.denoiser(levels), generator.nothing(rows), NoGuidance()), levels

    @torch.enable_grad()
    def slope(self, z: Tensor, attempt: Attempt, soft: Query, number: int) -> tuple[Tensor, Tensor]:
        """The gradient at an image, and the image behind the filter."""
        codec, (model, levels) = attempt.generator.codec, self.chain(attempt)
        leaf = z.detach().requires_grad_()
        x = noised(codec.encode(leaf), attempt.draw(f"filter.{number}")(self.depth), self.depth, levels)
        steps = Ancestral(attempt.draw(f"filter.{number}.step"), self.variance)
        filtered = codec.decode(generate(model, x, levels, steps, depth=self.depth))
        chosen = attempt.scale * soft.loss(filtered, attempt.rows, self.loss)
        near = self.distance * (leaf - attempt.images).abs().flatten(1).mean(1)
        return torch.autograd.grad((chosen + near).sum(), leaf)[0], filtered.detach()

    def shortened(self, gradient: Tensor) -> Tensor:
        """A gradient of the length of a step."""
        if self.parity == "published":
            return clipped(gradient, self.limit)
        return gradient / gradient.flatten(1).abs().amax(1).clamp_min(1e-30).reshape(-1, 1, 1, 1)

    def put_back(self, found: Tensor, factual: Tensor, free: Tensor) -> Tensor:
        """The factual image where little moved, and where earlier explanations changed it."""
        where = moved(found, factual, self.threshold, self.blur) & free
        return torch.where(where, found, factual)

    def repaint(self, z: Tensor, attempt: Attempt, free: Tensor, number: int) -> Tensor:
        """Rows that are decided for their target, repainted around what stands out."""
        said = probability(attempt.query.logits(z), attempt.query.target[attempt.rows])
        rows = (said >= 0.5).nonzero()[:, 0]
        if not len(rows):
            return z
        part = attempt.part(rows)
        where = outstanding(z[rows], part.images, self.threshold, self.blur) & free[rows]
        name = f"repaint.{number}"
        painted = repainted(z[rows], where, part, *self.chain(part), self.depth, self.variance, name)
        part.book()
        return z.index_copy(0, rows, painted)
