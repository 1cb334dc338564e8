"""A combination of our own: few deterministic steps, where the classifier and the generator's two classes agree."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.consensus import consensus
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.descent import Term, tweedie
from causalcf.diffusion.guidance import Guidance, NoGuidance, Step, guided
from causalcf.diffusion.masks import AdaptiveDual, Mask, moved
from causalcf.diffusion.pasting import Pasted
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import DDIM, Explicit, noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer
from causalcf.explain.queries import LossForm

Weights = tuple[float, float, float]  # of the gradient, of the generator's direction, of the L1 distance


@dataclass
class Agreement(Guidance):
    r"""`e + w_g |d| g / |g| + w_d d + w_l sigma sign(x0 - x)`: a classifier's gradient g, where the generator agrees.

    `d = e(y') - e(y)` is the generator's own direction from the one class to the other; blocks of the gradient that
    point elsewhere are left out. Masks follow the product `|g| |d|`: where the classifier looks and the class is drawn.

    Args:
        conditions: the targets, and the classes that are left, as the generator is told them.
        loss: of clean estimates.
        factual: the factual images, clean.
        mask: is shown the product; clean estimates leave the factual image only where it lets them.
        weights: w_g, w_d and w_l.
        angle: up to which a block is kept, in degrees; 180 keeps all.
        block: side of a block.
    """

    conditions: tuple[Tensor, Tensor]
    loss: Callable[[Images], Tensor]
    factual: Images
    mask: Mask
    weights: Weights
    angle: float
    block: int
    watch: Callable[[int, Tensor], None] = field(default=lambda k, share: None)

    @property
    def asks(self) -> int:  # noqa: D102
        return 2

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        return self.conditions

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        clean = self.mask.kept(tweedie(step), self.factual)
        gradient = Term(self.loss, 1.0).gradient(clean)
        direction = branches[0] - branches[1]
        agreed, share = consensus(direction, gradient, self.angle, self.block)
        self.watch(step.k, share)
        self.mask.see(tweedie(step), agreed.abs().sum(1, keepdim=True) * direction.abs().sum(1, keepdim=True), step.k)
        near = step.levels.sigma[step.k].item() * (clean - self.factual).sign()
        return (
            self.weights[0] * _of_length(agreed, _lengths(direction))
            + self.weights[1] * direction
            + self.weights[2] * near
        )


def _lengths(x: Images) -> Tensor:
    return x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def _of_length(x: Images, length: Tensor) -> Images:
    own = _lengths(x)
    return torch.where(own > 0, x / own.clamp_min(1e-30) * length, 0.0)


class Agreed(Explainer):
    r"""Abduction to a depth, and deterministic steps back by `Agreement` under two masks; then trimming.

    Parts: the noise is the image's own, found by explicit inverse DDIM steps (spatial abduction), so that what is not
    edited is retraced; the gradient is a smoothed surrogate's at the one-step estimate, without the network's Jacobian
    (FastDiME, SCE-LITE-HQ), kept where the generator agrees (LDCE); masks are MaskDiME's; what is put back where they
    are closed is the abducted path itself. At the end the change is cut down to the fewest pixels that keep most of the
    surrogate's verdict, which costs no further call of the generator. Two classes only.

    Args:
        surrogate: images in [0, 1] -> logits, whose gradients are taken; None takes the classifier's own.
        steps: of the whole chain.
        strength: which share of them is taken back.
        weights: of the gradient, of the generator's direction, and of the L1 distance.
        share: of the pixels that noisy images may change.
        inner: share of these that clean estimates may change.
        dilation: side of the square by which both masks are dilated.
        angle: of the consensus, in degrees.
        block: side of its blocks.
        abducted: whether the noise is the image's own; otherwise it is drawn once, and costs nothing.
        trim: share of the target's probability that trimming keeps; 0 trims nothing.
        scales: of gradient and direction; rows that do not flip at one are tried again at the next.
        loss: "logit" or "log-probability".
        batch: rows at a time.
        seed: of all noise.
    """

    def __init__(
        self,
        surrogate: Any = None,
        steps: int = 16,
        strength: float = 0.6,
        weights: Weights = (1.0, 1.0, 0.02),
        share: float = 0.05,
        inner: float = 1.0,
        dilation: int = 5,
        angle: float = 90.0,
        block: int = 4,
        abducted: bool = True,
        trim: float = 0.98,
        scales: Sequence[float] = (1.0, 2.0, 3.0),
        loss: LossForm = "log-probability",
        batch: int = 16,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, None, batch, seed)
        if not 0 < strength <= 1 or not 0 <= trim <= 1:
            raise ValueError(f"Agreed: expected strength in (0, 1] and trim in [0, 1], got {strength} and {trim}")
        self.surrogate, self.steps, self.strength, self.weights = surrogate, steps, strength, weights
        self.share, self.inner, self.dilation, self.angle, self.block = share, inner, dilation, angle, block
        self.abducted, self.trim = abducted, trim
        self.loss: LossForm = loss

    @property
    def depth(self) -> int:
        """Steps that are taken back."""
        return max(1, int(self.strength * self.steps + 1e-9))

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        generator, factual = attempt.generator, attempt.factual
        levels, decode = generator.levels(self.steps), generator.codec.decode
        soft, rows = attempt.query.through(self.surrogate), attempt.rows
        target = attempt.query.target[rows]
        x, draw = self.start(attempt, levels)
        mask = AdaptiveDual(self.share, self.inner, self.dilation)
        guidance = Agreement(
            (generator.told(target), generator.told(1 - target)),
            lambda clean: soft.loss(decode(clean), rows, self.loss),
            factual,
            mask,
            (attempt.scale * self.weights[0], attempt.scale * self.weights[1], self.weights[2]),
            self.angle,
            self.block,
        )
        model = guided(generator.denoiser(levels), generator.nothing(len(factual)), guidance)
        found = decode(generate(model, x, levels, Pasted(DDIM(Explicit()), mask, factual, draw), depth=self.depth))
        assert mask.noisy is not None
        where = torch.nn.functional.interpolate(mask.noisy.float(), found.shape[2:]) > 0
        found = torch.where(where, found, attempt.images).clamp(0, 1)
        if self.trim:
            found = trimmed(found, attempt.images, lambda images: _sure(soft, images, rows), self.trim)
        return found, moved(found, attempt.images, 1e-6, 1)

    def start(self, attempt: Attempt, levels: Levels) -> tuple[Images, Callable[[int], Tensor]]:
        """The noisy image at the depth, and the noise that factual images are put back at."""
        factual = attempt.factual
        if not self.abducted:
            e = attempt.draw("start", fresh=False)(0)
            return noised(factual, e, self.depth, levels), lambda k: e
        free = guided(attempt.generator.denoiser(levels), attempt.generator.nothing(len(factual)), NoGuidance())
        first = attempt.draw("start", fresh=False)(0)
        path = {1: noised(factual, first, 1, levels)}  # level 0 is free of noise, and no network is asked there
        for k in range(2, self.depth + 1):
            (path[k],) = DDIM(Explicit()).inverse(free, (path[k - 1],), k, levels)

        def own(k: int) -> Tensor:
            if k == 0:
                return first
            return (path[k] - levels.alpha[k].item() * factual) / levels.sigma[k].item()

        return path[self.depth], own


def _sure(query: Any, images: Tensor, rows: Tensor) -> Tensor:
    """The target's probability."""
    return (-query.loss(images, rows, "log-probability")).exp()


def trimmed(found: Images, factual: Images, sure: Callable[[Images], Tensor], keep: float, parts: int = 12) -> Images:
    """The change, of the fewest of the most changed pixels that keep a share of the target's probability.

    Args:
        found: counterfactuals.
        factual: images.
        sure: probability of the target.
        keep: the share.
        parts: how many numbers of pixels are tried; each is `2 ** -0.5` of the one before.
    """
    size = (found - factual).abs().sum(1, keepdim=True)
    rank = size.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(size.shape)
    count = (size > 0).flatten(1).sum(1).double()
    enough, best = keep * sure(found), found.clone()
    for part in range(1, parts + 1):
        few = (count * 2 ** (-part / 2)).ceil().reshape(-1, 1, 1, 1)
        tried = torch.where(rank < few, found, factual)
        good = (sure(tried) >= enough).reshape(-1, 1, 1, 1)
        best = torch.where(good, tried, best)
    return best
