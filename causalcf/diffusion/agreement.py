"""Guidance from class to class, where a classifier and a conditional generator agree."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from causalcf.diffusion.consensus import consensus
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.descent import Loss, Term, tweedie
from causalcf.diffusion.guidance import Guidance, Step
from causalcf.diffusion.masks import Where

Weights = tuple[float, float, float]  # of the gradient, of the generator's direction, of the L1 distance


@dataclass
class Agreement(Guidance):
    r"""`e(y) + w_g |d| g / |g| + w_d d + w_l sigma sign(x0 - x)`: a gradient g, where the generator agrees.

    `d = e(y') - e(y)` is the generator's own direction from the class that is left to the target; with `w_d = 1` and
    nothing else its answer is that of the generator alone. Blocks of the gradient that point elsewhere are left out.

    Args:
        target: what the generator is told of the targets; what it is asked under is the class that is left.
        loss: of clean estimates.
        factual: the factual images, clean.
        where: clean estimates leave the factual image only here.
        weights: w_g, w_d and w_l.
        angle: up to which a block is kept, in degrees; 180 keeps all.
        block: side of a block.
    """

    target: Tensor
    loss: Loss
    factual: Images
    where: Where
    weights: Weights
    angle: float
    block: int

    @property
    def asks(self) -> int:  # noqa: D102
        return 1

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        return (self.target,)

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        clean = torch.where(self.where, tweedie(step), self.factual)
        direction = branches[0] - step.epsilon
        gradient = Term(self.loss, 1.0).gradient(clean)
        agreed, _ = consensus(direction, gradient, self.angle, self.block)
        inside = direction * self.where
        near = step.levels.sigma[step.k].item() * (clean - self.factual).sign()
        pulled = _of_length(agreed * self.where, _lengths(inside))
        return self.weights[0] * pulled + self.weights[1] * direction + self.weights[2] * near


def _lengths(x: Images) -> Tensor:
    return x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def _of_length(x: Images, length: Tensor) -> Images:
    own = _lengths(x)
    return torch.where(own > 0, x / own.clamp_min(1e-30) * length, 0.0)
