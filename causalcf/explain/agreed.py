"""Agreed: few deterministic steps, where a classifier and the two classes of a generator agree."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from causalcf.diffusion.agreement import Agreement, Weights
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.descent import Loss, Term, tweedie
from causalcf.diffusion.guidance import NoGuidance, Step, guided
from causalcf.diffusion.masks import Fixed, Where, blurred, dilated, largest, moved, refuse_even
from causalcf.diffusion.pasting import Pasted
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import DDIM, Explicit, noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, steps_back
from causalcf.explain.inputs import refuse_unknown
from causalcf.explain.queries import LossForm


class Agreed(Explainer):
    r"""Abduction to a depth, a mask, and deterministic steps back by `Agreement` under it; a combination of our own.

    Needs a generator that can be told classes, the one that is left and the target. The noise is the image's own, found
    by explicit inverse DDIM steps under its class (spatial abduction), so that what is not edited is retraced. On the
    way up lies the mask: where the classifier's gradient and the generator's direction are both large, `sum_k |g_k|
    |d_k|` over a few levels (MaskDiME's and DiffEdit's masks as one), the same at all levels. The gradient is taken at
    the one-step estimate, without the network's Jacobian (FastDiME, SCE-LITE-HQ), and kept where the generator agrees
    (LDCE). At the end what moved little is put back (SCE). The noise and the mask follow from the image, so further
    explanations of a row differ only by keeping out of the places that earlier ones changed. What does not flip is
    tried again with more of everything: of the pulls, and of the pixels that may change.

    Args:
        surrogate: images in [0, 1] -> logits, whose gradients are taken; None takes the classifier's own.
        steps: of the whole chain.
        strength: which share of them is taken back.
        weights: of the gradient, of the generator's direction, and of the L1 distance.
        share: of the pixels that may change, before dilation; more where a row is tried again, as the scale is larger.
        dilation: side of the square by which the mask is dilated.
        looks: levels at which the mask is looked for.
        angle: of the consensus, in degrees.
        block: side of its blocks.
        abducted: whether the noise is the image's own; otherwise it is drawn once, and costs nothing.
        threshold: of the blurred difference, below which the factual image is put back; 0 puts nothing back.
        blur: side of the square that blurs.
        scales: of gradient and direction; rows that do not flip at one are tried again at the next.
        loss: "logit" or "log-probability".
        batch: rows at a time.
        seed: of all noise.
    """

    tells = True

    def __init__(
        self,
        surrogate: Any = None,
        steps: int = 8,
        strength: float = 0.9,
        weights: Weights = (1.0, 2.0, 0.0),
        share: float = 0.03,
        dilation: int = 5,
        looks: int = 3,
        angle: float = 90.0,
        block: int = 4,
        abducted: bool = True,
        threshold: float = 0.05,
        blur: int = 3,
        scales: Sequence[float] = (1.0, 2.0, 4.0),
        loss: LossForm = "log-probability",
        batch: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, None, batch, seed)
        refuse_unknown("Agreed", loss)
        refuse_even(dilation)
        refuse_even(blur)
        if not 0 < strength <= 1 or not 0 < share <= 1 or threshold < 0 or looks < 1:
            raise ValueError(
                "Agreed: expected strength and share in (0, 1], threshold >= 0 and looks >= 1, got "
                f"{strength}, {share}, {threshold}, {looks}"
            )
        if not 0 < angle <= 180 or block < 1:
            raise ValueError(f"Agreed: expected an angle in (0, 180] and block >= 1, got {angle} and {block}")
        if len(weights) != 3 or not all(0 <= weight < math.inf for weight in weights):
            raise ValueError(
                "Agreed: expected weights of gradient, direction and distance, each >= 0, got "
                f"{tuple(weights)}; write weights=(1, 2, 0)"
            )
        self.surrogate, self.steps, self.strength, self.weights = surrogate, steps, strength, tuple(weights)
        self.share, self.dilation, self.looks, self.angle, self.block = share, dilation, looks, angle, block
        self.abducted, self.threshold, self.blur = abducted, threshold, blur
        self.loss: LossForm = loss

    @property
    def depth(self) -> int:
        """Steps that are taken back."""
        return steps_back(self.strength, self.steps)

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        generator, factual = attempt.generator, attempt.factual
        levels, decode = generator.levels(self.steps), generator.codec.decode
        soft, rows = attempt.query.through(self.surrogate), attempt.rows
        target = attempt.query.target[rows]
        here, there = attempt.told(attempt.query.predicted[rows]), attempt.told(target)

        def loss(clean: Images) -> Tensor:
            return soft.loss(decode(clean), rows, self.loss)

        path = self.path(attempt, levels, here)
        share = min(1.0, self.share * attempt.scale / self.scales[0])
        where = self.where(attempt, levels, path, (here, there), loss, share)
        weights = (attempt.scale * self.weights[0], attempt.scale * self.weights[1], self.weights[2])
        guidance = Agreement(there, loss, factual, where, weights, self.angle, self.block)
        model = guided(generator.denoiser(levels), here, guidance)

        def own(k: int) -> Tensor:
            k = max(k, 1)  # level 0 is free of noise
            return (path[k] - levels.alpha[k].item() * factual) / levels.sigma[k].item()

        sampler = Pasted(DDIM(Explicit()), Fixed(where), factual, own)
        found = decode(generate(model, path[self.depth], levels, sampler, depth=self.depth))
        seen = interpolate(where.float(), found.shape[2:]) > 0
        if attempt.locked is not None:
            seen = seen & ~attempt.locked
        found = torch.where(seen, found, attempt.images).clamp(0, 1)
        kept = moved(found, attempt.images, self.threshold, self.blur)
        return torch.where(kept, found, attempt.images), kept & seen

    def path(self, attempt: Attempt, levels: Levels, condition: Tensor) -> dict[int, Images]:
        """The image at the levels from the lowest on which there is noise up to the depth."""
        e = attempt.draw("start", fresh=False)(0)
        if not self.abducted:
            return {k: noised(attempt.factual, e, k, levels) for k in range(1, self.depth + 1)}
        free = guided(attempt.generator.denoiser(levels), condition, NoGuidance())
        found = {1: noised(attempt.factual, e, 1, levels)}
        for k in range(2, self.depth + 1):
            (found[k],) = DDIM(Explicit()).inverse(free, (found[k - 1],), k, levels)
        return found

    def where(
        self,
        attempt: Attempt,
        levels: Levels,
        path: dict[int, Images],
        conditions: tuple[Tensor, Tensor],
        loss: Loss,
        share: float,
    ) -> Where:
        """Where the classifier looks, and the generator draws its classes otherwise: a share of the pixels."""
        denoiser, score = attempt.generator.denoiser(levels), torch.zeros_like(attempt.factual[:, :1])
        for look in range(1, self.looks + 1):
            k = max(1, round(look * self.depth / self.looks))
            both = denoiser.epsilon(path[k].repeat(2, 1, 1, 1), k, torch.cat(conditions)).chunk(2)
            clean = tweedie(Step(path[k], k, levels, both[0]))
            parts = [(both[1] - both[0]).abs().sum(1, keepdim=True), Term(loss, 1.0).gradient(clean).abs().sum(1, True)]
            parts = [blurred(part, 3) for part in parts]
            product = parts[0] * parts[1]
            score = score + product / product.flatten(1).sum(1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
        if attempt.locked is None:
            return dilated(largest(score, share), self.dilation)
        shut = interpolate(attempt.locked.float(), score.shape[2:]) > 0
        return dilated(largest(score.masked_fill(shut, -1.0), share), self.dilation) & ~shut
