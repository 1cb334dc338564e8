"""Guidance by a classifier where a conditional generator agrees with it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.descent import Loss, tweedie
from causalcf.diffusion.guidance import Guidance, Step

Overwrite = Literal["zero", "unconditional", "cone"]
OVERWRITES = get_args(Overwrite)


def blocks(x: Images, size: int) -> Float[Tensor, "batch blocks entries"]:
    """Squares of `size` places with all their channels, one vector each; sides must be divisible."""
    if x.shape[2] % size or x.shape[3] % size:
        raise ValueError(f"consensus: blocks of {size} do not divide {x.shape[2]}x{x.shape[3]}; take another size")
    return torch.nn.functional.unfold(x, size, stride=size).mT


def unblocked(vectors: Float[Tensor, "batch blocks entries"], size: int, like: Images) -> Images:
    """The inverse of `blocks`."""
    return torch.nn.functional.fold(vectors.mT, like.shape[2:], size, stride=size)


def consensus(
    direction: Images,
    gradient: Images,
    angle: float,
    size: int = 1,
    overwrite: Overwrite = "zero",
    lenient: bool = False,
) -> tuple[Images, Float[Tensor, " batch"]]:
    r"""The parts of a gradient that point where a direction points, block by block.

    A block is kept if its angle to the same block of the direction is at most `angle`. The others become zero, or, by
    "cone", which is ours, the nearest vector within the angle, of the same length; published code has a cone of another
    formula, which lengthens what it turns. A block without length on either side has no angle and is not kept, unless
    `lenient`. Source: Farid et al., "LDCE" (2023), https://arxiv.org/abs/2310.06668.

    Args:
        direction: of the generator, `e(c) - e(null)`.
        gradient: of the classifier, in the same sense.
        angle: in degrees.
        size: side of a block.
        overwrite: what happens to the other blocks; by "unconditional" they become zero, too.
        lenient: keeps what published code finds no angle of: blocks without length, and those whose cosine rounding
            takes beyond 1 or -1.

    Returns:
        The filtered gradient, and the share of the blocks that were kept.
    """
    own, other = blocks(gradient, size), blocks(direction, size)
    lengths = own.norm(dim=2), other.norm(dim=2)
    known = (lengths[0] > 0) & (lengths[1] > 0)
    cosine = (own * other).sum(2) / (lengths[0] * lengths[1]).clamp_min(1e-30)
    kept = known & (cosine.clamp(-1, 1) >= math.cos(math.radians(angle)) - 1e-12)
    if lenient:
        kept = kept | ~known | (cosine.abs() > 1)
    share = kept.double().mean(1)
    if overwrite != "cone":
        return unblocked(torch.where(kept[..., None], own, 0.0), size, gradient), share
    unit = other / lengths[1].clamp_min(1e-30)[..., None]
    across = own - (own * unit).sum(2, keepdim=True) * unit
    across = across / across.norm(dim=2, keepdim=True).clamp_min(1e-30)
    edge = math.cos(math.radians(angle)) * unit + math.sin(math.radians(angle)) * across
    turned = torch.where(known[..., None], lengths[0][..., None] * edge, 0.0)
    return unblocked(torch.where(kept[..., None], own, turned), size, gradient), share


@dataclass
class Consensus(Guidance):
    r"""`e + scale (w_c g_c + w_d g_d)`: gradients of a classifier, where the generator agrees, and of a distance.

    Both are taken at the image that the clean estimate decodes to, through decoder and network, and rescaled to the
    length of the generator's own direction `e(c) - e(null)`, which itself only decides what is kept. By "zero" what was
    kept of a gradient is brought to that length, as published code has it: the less is kept, the longer each block. By
    "unconditional", the paper's other way, the whole gradient is, before it is filtered: blocks that are not kept have
    the noise without a condition, and the others what they would have had without the filter.

    Args:
        condition: the targets, as the generator is told them.
        class_loss: of clean estimates, minus the logarithm of the target's probability.
        distance: of clean estimates, from the factual images.
        weights: w_c and w_d.
        scale: of both.
        angle: see `consensus`; 180 keeps everything.
        size: side of a block.
        overwrite: what happens to blocks that are not kept.
        watch: called with the level and the share of the blocks kept, per row.
        lenient: see `consensus`.
    """

    condition: Tensor
    class_loss: Loss
    distance: Loss
    weights: tuple[float, float]
    scale: float
    angle: float
    size: int = 1
    overwrite: Overwrite = "zero"
    watch: Callable[[int, Tensor], None] = field(default=lambda k, share: None)
    lenient: bool = False

    @property
    def asks(self) -> int:  # noqa: D102
        return 1

    @property
    def through(self) -> bool:  # noqa: D102
        return True

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        return (self.condition.to(condition.dtype) if condition.is_floating_point() else self.condition,)

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        sigma = step.levels.sigma[step.k].item()
        with torch.enable_grad():
            clean = tweedie(step)
            parts = (self.class_loss(clean).sum(), self.distance(clean).sum())
        (chosen,) = torch.autograd.grad(parts[0], step.x, retain_graph=True)
        (near,) = torch.autograd.grad(parts[1], step.x)
        direction = branches[0] - step.epsilon.detach()
        kept, share = consensus(direction, sigma * chosen, self.angle, self.size, self.overwrite, self.lenient)
        self.watch(step.k, share)
        length, whole = _length(direction), sigma * chosen if self.overwrite == "unconditional" else kept
        classes, distance = _shortened(kept, whole, length), _shortened(near, near, length)
        return self.scale * (self.weights[0] * classes + self.weights[1] * distance)


def _length(x: Images) -> Float[Tensor, "batch 1 1 1"]:
    return x.flatten(1).norm(dim=1).reshape(-1, 1, 1, 1)


def _shortened(x: Images, whole: Images, length: Tensor) -> Images:
    """A part of a whole that is brought to a length."""
    own = _length(whole)
    return torch.where(own > 0, x / own.clamp_min(1e-30) * length, 0.0)
