"""Drawing an image anew where it may change, around the factual one."""

from __future__ import annotations

import torch
from torch import Tensor

from causalcf.diffusion.ancestral import Ancestral, Variance
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.masks import Fixed, Where
from causalcf.diffusion.pasting import Pasted
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt


def repainted(
    images: Tensor,
    where: Where,
    attempt: Attempt,
    model: Model,
    levels: Levels,
    depth: int,
    variance: Variance,
    name: str = "repaint",
) -> Tensor:
    """Images taken through noise and back, with the factual one put back outside a mask before every step.

    Source: Lugmayr et al., "RePaint" (2022), https://arxiv.org/abs/2201.09865, without its jumps.

    Args:
        images: in [0, 1].
        where: they may differ from the factual ones, which they are elsewhere.
        attempt: whose rows they are.
        model: the noise without guidance.
        levels: of the chain.
        depth: its steps that are taken.
        variance: of the steps.
        name: of the noise.
    """
    codec, factual = attempt.generator.codec, attempt.factual
    size = (factual.shape[2], factual.shape[3])
    small = torch.nn.functional.adaptive_max_pool2d(where.float(), size) > 0  # every place with a pixel of the mask
    steps = Ancestral(attempt.draw(f"{name}.step"), variance)
    sampler = Pasted(steps, Fixed(small), factual, attempt.draw(f"{name}.paste"))
    x = noised(codec.encode(images), attempt.draw(name)(depth), depth, levels)
    x = generate(model, sampler.pasted(x, depth, levels), levels, sampler, depth=depth)
    return torch.where(where, codec.decode(x).clamp(0, 1), attempt.images)
