"""Steps towards the image that add fresh noise."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, State

Variance = Literal["small", "large"]
Draw = Callable[[int], Tensor]  # level -> standard normal noise in the shape of the images


def onward(levels: Levels, k: int) -> tuple[float, float]:
    r"""The factor and the variance of `q(x_k | x_{k-1})`, `alpha_k / alpha_{k-1}` and `beta`."""
    signal = (levels.alpha[k] / levels.alpha[k - 1]).item()
    return signal, levels.sigma[k].item() ** 2 - signal**2 * levels.sigma[k - 1].item() ** 2


def spread(levels: Levels, k: int, variance: Variance = "small") -> float:
    r"""The variance of an ancestral step from level k.

    "small" is that of `q(x_{k-1} | x_k, x_0)`, `beta sigma_{k-1}^2 / sigma_k^2`; "large" is `beta`, the variance of
    `q(x_k | x_{k-1})`, with `beta = sigma_k^2 - sigma_{k-1}^2 alpha_k^2 / alpha_{k-1}^2`; where the schedule preserves
    variance, `1 - alpha_k^2 / alpha_{k-1}^2`. They agree but for the lowest levels, where the small one vanishes.
    """
    _, beta = onward(levels, k)
    if variance == "large":
        return beta
    return beta * (levels.sigma[k - 1] / levels.sigma[k]).item() ** 2


@dataclass(frozen=True)
class Ancestral(Sampler):
    r"""The mean of `q(x_{k-1} | x_k, x_0)`, and fresh noise (Ho et al., 2020).

    Args:
        draw: the noise of the step that leaves a level, standard normal; None takes the mean.
        variance: "small" or "large", see `spread`.
    """

    draw: Draw | None = None
    variance: Variance = "small"

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        x = state[0]
        mean = posterior(x, model(x, k, None), k, levels)
        size = spread(levels, k, self.variance) ** 0.5
        if self.draw is None or levels.sigma[k - 1] == 0 or size == 0:
            return (mean,)
        return (mean + size * self.draw(k).to(mean),)


def posterior(x: Images, e: Images, k: int, levels: Levels) -> Images:
    r"""The mean of `q(x_{k-1} | x_k, x_0)`, `(x_k - beta / sigma_k e) alpha_{k-1} / alpha_k`."""
    signal, beta = onward(levels, k)
    return (x - beta / levels.sigma[k].item() * e) / signal


def leverage(levels: Levels, k: int, variance: Variance = "small") -> float:
    r"""What a gradient is to be scaled by, so that adding it to the noise shifts an ancestral mean by `-Sigma g`."""
    signal, beta = onward(levels, k)
    return spread(levels, k, variance) * signal * levels.sigma[k].item() / beta
