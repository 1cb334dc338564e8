"""Where a counterfactual may differ from what was observed: where other parents make the network mean other pixels."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.masks import dilated
from causalcf.diffusion.schedule import Levels

LOOKS = (1.0, 1 / 3, 1 / 9)  # of signal to noise: what is large and what is small both show
BESIDE = 3  # side of the square of pixels that change with one

Stack = Float[Tensor, "batch look channel height width"]


def looks(levels: Levels) -> list[int]:
    """The levels nearest to these signals to noise, the least noisy first."""
    ratio = (levels.alpha / levels.sigma).log()
    return sorted({int((ratio - math.log(wanted)).abs().argmin()) for wanted in LOOKS})


def meant(model: Model, images: Sequence[Images], levels: Levels) -> Stack:
    """The clean images in [-1, 1] that a model means, given the noisy ones of the levels that are looked at."""
    alpha, sigma = levels.alpha, levels.sigma
    pairs = zip(looks(levels), images, strict=True)
    return torch.stack([(x - sigma[k].item() * model(x, k, None)) / alpha[k].item() for k, x in pairs], 1)


def edited(factual: Stack, counterfactual: Stack, threshold: float) -> Bool[Tensor, "batch 1 height width"]:
    """Which pixels may change: those that are meant otherwise by at least a threshold, of 1, and those beside them.

    The difference under two conditions of what is meant by the same noisy images is that of DiffEdit (Couairon et al.,
    2022, https://arxiv.org/abs/2210.11427), here on the trajectory that the image was inverted along, and not scaled by
    its largest value, so that it is nowhere where the conditions agree.
    """
    change = (counterfactual - factual).abs().mean(1).amax(1, keepdim=True) / 2
    return dilated(change >= threshold, BESIDE)
