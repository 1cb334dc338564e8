"""What DiME and its descendants share: noising to a depth, and guided ancestral steps back."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from causalcf.diffusion.ancestral import Ancestral, Variance
from causalcf.diffusion.descent import Descent, Estimate, Term, ancestrally
from causalcf.diffusion.guidance import guided
from causalcf.diffusion.masks import Everywhere, Mask
from causalcf.diffusion.pasting import Pasted
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, Parity
from causalcf.explain.inputs import refuse_unknown
from causalcf.explain.queries import LossForm

Encoder = Callable[[Tensor], Tensor]


class Returning(Explainer):
    r"""Noising to a depth, and guided ancestral steps back.

    `g = (1 / alpha) grad s L_class(x0) + lambda_1 grad |x0 - x| + (1 / alpha) grad lambda_p |phi(x0) - phi(x)|^2`
    shifts each mean by `-Sigma g`; how the clean image x0 is found, and where it may change, is what methods differ in.

    Published code noises one level higher than it steps back from, and measures the L1 distance of the noisy image;
    corrected, both start at the same level, and the distance is that of the clean estimate.

    Args:
        steps: of the whole chain.
        depth: steps that are taken back.
        scales: of the class term; rows that do not flip at one are tried again at the next.
        distance: lambda_1, the weight of the L1 distance, of images in [-1, 1].
        perceptual: phi, images in [0, 1] -> features; None leaves the term out.
        perceptual_weight: lambda_p.
        loss: "logit" lowers minus the target's logit, "log-probability" its surprise.
        variance: of the ancestral steps, which gradients are scaled by: with "small" the last step follows none.
        parity: "published" or None.
        batch: rows at a time.
        seed: of all noise.
    """

    def __init__(
        self,
        steps: int = 200,
        depth: int = 60,
        scales: Sequence[float] = (8.0, 10.0, 15.0),
        distance: float = 0.05,
        perceptual: Encoder | None = None,
        perceptual_weight: float = 30.0,
        loss: LossForm = "logit",
        variance: Variance = "small",
        parity: Parity = None,
        batch: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, parity, batch, seed)
        kind = type(self).__name__
        refuse_unknown(kind, loss, variance)
        if not 2 <= depth < steps:
            raise ValueError(f"{kind}: expected 2 <= depth < steps, got depth={depth} of steps={steps}")
        if distance < 0 or perceptual_weight < 0:
            raise ValueError(f"{kind}: expected weights >= 0, got {distance} and {perceptual_weight}")
        self.steps, self.depth, self.distance = steps, depth, distance
        self.loss: LossForm = loss
        self.variance: Variance = variance
        self.perceptual, self.perceptual_weight = perceptual, perceptual_weight

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        levels = attempt.generator.levels(self.steps)
        mask = self.mask(attempt)
        return self.trajectory(attempt, levels, mask)

    def mask(self, attempt: Attempt) -> Mask:
        """Where images may change."""
        return Everywhere()

    @abstractmethod
    def estimate(self, attempt: Attempt, levels: Levels) -> Estimate:
        """How clean images are found."""

    def terms(self, attempt: Attempt) -> list[Term]:
        """The losses."""
        decode, query = attempt.generator.codec.decode, attempt.query
        noisy = self.parity == "published"
        found = [
            Term(lambda x: query.loss(decode(x), attempt.rows, self.loss), attempt.scale, leads=True),
            Term(
                lambda x: (x - attempt.factual.to(x)).abs().flatten(1).sum(1),
                self.distance,
                of="noisy" if noisy else "clean",
            ),
        ]
        if self.perceptual is not None:
            encoder, wanted = self.perceptual, self.perceptual(attempt.images)

            def features(x: Tensor) -> Tensor:
                return (encoder(decode(x)) - wanted).square().flatten(1).mean(1)

            found.append(Term(features, self.perceptual_weight))
        return found

    @property
    def factor(self) -> float:
        """A factor of all gradients."""
        return 1.0

    @property
    def divided(self) -> bool:
        """Whether gradients at clean estimates are divided by alpha."""
        return True

    @property
    def stepnoise(self) -> bool:
        """Whether steps draw noise."""
        return True

    def trajectory(self, attempt: Attempt, levels: Levels, mask: Mask) -> tuple[Tensor, Tensor]:
        """Noise to the depth, step back under guidance, and put the factual image back where the mask says so."""
        codec, factual, late = attempt.generator.codec, attempt.factual, self.parity == "published"
        start = min(self.depth + late, levels.steps)
        x = noised(factual, attempt.draw("start", fresh=False)(0), start, levels)
        descent = Descent(
            self.terms(attempt),
            self.estimate(attempt, levels),
            factual,
            mask,
            ancestrally(self.variance),
            self.factor,
            self.divided,
        )
        descent.begin()
        model = guided(attempt.generator.denoiser(levels), attempt.generator.nothing(len(x)), descent)
        steps = Ancestral(attempt.draw("step") if self.stepnoise else None, self.variance)
        sampler = self.stepped(Pasted(steps, mask, factual, attempt.draw("paste"), late), descent)
        x = generate(model, x, levels, sampler, depth=self.depth)
        where = mask.noisy
        if where is None:
            return codec.decode(x), torch.ones_like(attempt.images[:, :1], dtype=torch.bool)
        where = interpolate(where.float(), attempt.images.shape[2:]) > 0
        return self.finished(codec.decode(x), attempt, where), where

    def stepped(self, sampler: Sampler, descent: Descent) -> Sampler:
        """How steps are taken, given how they are guided."""
        return sampler

    def finished(self, found: Tensor, attempt: Attempt, where: Tensor) -> Tensor:
        """The counterfactual, with the factual image itself where nothing may change."""
        return torch.where(where, found, attempt.images)
