"""SCE: an image optimised under a smoothed surrogate, behind a diffusion model that filters it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.ancestral import Ancestral, Variance
from causalcf.diffusion.guidance import NoGuidance, guided
from causalcf.diffusion.masks import moved
from causalcf.diffusion.solvers import noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, Parity, steps_back
from causalcf.explain.queries import LossForm, probability


class SCE(Explainer):
    r"""Momentum gradient descent on the image, through noising and the steps back (Bender et al.).

    Each iteration noises the image to a depth, steps back, and lowers `s L_class(surrogate(F(z)) / T) + lambda |z - x|`
    differentiated through every step. Rows keep the image at which the classifier was surest of the target, and stop
    when it is as sure of it as it was of the other class. What moved less than a threshold is put back. Further
    explanations of the same row keep out of the places that earlier ones changed.

    Args:
        surrogate: images in [0, 1] -> logits, whose gradients are taken; None takes the classifier's own.
        steps: of the whole chain.
        strength: which share of them the filter takes.
        iterations: the most gradient steps.
        rate: of a gradient step.
        momentum: of the gradient steps.
        distance: lambda, of the mean absolute difference.
        temperature: T, which divides the surrogate's logits.
        threshold: of the blurred difference, below which the factual image is put back.
        blur: side of the square that blurs.
        scales: s, of the class term; rows that do not flip at one are tried again at the next.
        loss: "logit" or "log-probability".
        variance: of the ancestral steps.
        parity: "published" or None; published code puts nothing back before a row has reached its target.
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
        scales: Sequence[float] = (1.0,),
        loss: LossForm = "log-probability",
        variance: Variance = "small",
        parity: Parity = None,
        batch: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, parity, batch, seed)
        if not 0 < strength < 1 or iterations < 1 or not 0 <= momentum < 1 or rate <= 0 or temperature <= 0:
            raise ValueError(
                "SCE: expected strength in (0, 1), iterations >= 1, momentum in [0, 1), rate and temperature > 0, got "
                f"{strength}, {iterations}, {momentum}, {rate}, {temperature}"
            )
        self.surrogate, self.steps, self.strength, self.iterations = surrogate, steps, strength, iterations
        self.rate, self.momentum, self.distance, self.temperature = rate, momentum, distance, temperature
        self.threshold, self.blur = threshold, blur
        self.loss: LossForm = loss
        self.variance: Variance = variance

    @property
    def depth(self) -> int:
        """Steps of the filter."""
        return steps_back(self.strength, self.steps)

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        generator, query, rows = attempt.generator, attempt.query, attempt.rows
        levels, codec = generator.levels(self.steps), generator.codec
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
            model = guided(generator.denoiser(levels), generator.nothing(len(left)), NoGuidance())
            with torch.enable_grad():
                leaf = z[left].detach().requires_grad_()
                x = noised(codec.encode(leaf), part.draw(f"filter.{number}")(self.depth), self.depth, levels)
                chain = Ancestral(part.draw(f"filter.{number}.step"), self.variance)
                filtered = codec.decode(generate(model, x, levels, chain, depth=self.depth))
                chosen = attempt.scale * soft.loss(filtered, part.rows, self.loss)
                near = self.distance * (leaf - part.images).abs().flatten(1).mean(1)
                (gradient,) = torch.autograd.grad((chosen + near).sum(), leaf)
            largest = gradient.flatten(1).abs().amax(1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
            speed[left] = self.momentum * speed[left] + gradient / largest * free[left]
            z[left] = (z[left] - self.rate * speed[left]).clamp(0, 1)
            shown = self.put_back(filtered.detach().clamp(0, 1), part.images, free[left])
            said = probability(query.logits(shown), query.target[part.rows])
            better = said > sure[left]
            best[left[better]], sure[left[better]] = shown[better].to(best), said[better].to(sure)
            going[left] = said < torch.maximum(enough[left], torch.full_like(said, 0.5))
        return best, moved(best, attempt.images, 1e-6, 1)

    def put_back(self, found: Tensor, factual: Tensor, free: Tensor) -> Tensor:
        """The factual image where little moved, and where earlier explanations changed it."""
        where = moved(found, factual, self.threshold, self.blur) & free
        return torch.where(where, found, factual)
