"""How to move between noise levels, and back."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

from causalcf import numbers
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels

log = logging.getLogger(__name__)
LOUD = 0.05  # a fixed point that a step leaves by more, in parts of the noise it carries, was not found


def move(x: Images, e: Images, levels: Levels, source: int, target: int) -> Images:
    """The DDIM map (Song et al., 2021): `alpha_b x0 + sigma_b e`, with `x0 = (x - sigma_a e) / alpha_a`.

    Nothing is clamped, in either direction; so the map from a to b and the one from b to a, given the same e, are
    inverse to each other.
    """
    alpha, sigma = levels.alpha, levels.sigma
    signal = (alpha[target] / alpha[source]).item()
    return signal * x + (sigma[target] - signal * sigma[source]).item() * e


State = tuple[Images, ...]


class Sampler(ABC):
    """One step of a trajectory towards the image.

    It carries a state: the image at the current level, and behind it whatever it remembers of earlier levels.
    """

    @abstractmethod
    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:
        """From level `k` to level `k - 1`."""

    def begin(self, noise: State, depth: int) -> tuple[State, int]:
        """The first state of a generation from noise at level `depth`, and its level."""
        return noise, depth


class Solver(Sampler):
    """One step towards the image, and its inverse."""

    @abstractmethod
    def inverse(self, model: Model, state: State, k: int, levels: Levels) -> State:
        """From level `k - 1` to level `k`, such that `step` leads back."""

    def noise(self, state: State) -> State:
        """Of the last state of an inversion, what generation needs to lead back."""
        return state[:1]


class Inversion(ABC):
    """How the implicit equation of an inverse DDIM step is solved."""

    @abstractmethod
    def __call__(self, model: Model, x: Images, k: int, levels: Levels) -> Images:
        """Solve `x = move(y, model(y, k), k -> k - 1)` for `y`."""


class Explicit(Inversion):
    """`y = move(x, model(x, k - 1))`: the noise is read where the step begins; one call, first-order error.

    The network is told the level that the image has. Told the one it goes to, it takes the image for a noisier one, and
    much of the noise is lost.
    """

    def __call__(self, model: Model, x: Images, k: int, levels: Levels) -> Images:  # noqa: D102
        return move(x, model(x, k - 1, None), levels, k - 1, k)


@dataclass(frozen=True)
class FixedPoint(Inversion):
    """`y <- move(x, model(y, k))` until y stands still, with Anderson's acceleration of depth one.

    Each row stops on its own, so its answer does not depend on the rows beside it.

    Args:
        passes: the most network calls for one step.
        tolerance: the largest change of a pixel, in units of the noise it carries, at which a row stops.
    """

    passes: int = 8
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        numbers.whole("FixedPoint", 1, passes=self.passes)
        numbers.finite("FixedPoint", 0, tolerance=self.tolerance)

    def __call__(self, model: Model, x: Images, k: int, levels: Levels) -> Images:  # noqa: D102
        y = x.clone()
        rows = torch.arange(len(x), device=x.device)
        point, limit = x, self.tolerance * levels.sigma[k].item()
        before: tuple[Images, Images] | None = None
        residual, open_rows = torch.zeros_like(x), torch.zeros(len(x), dtype=torch.bool)
        for _ in range(self.passes):
            image = move(x[rows], model(point, k, rows), levels, k - 1, k)
            residual = image - point
            y[rows] = image
            open_rows = residual.flatten(1).abs().amax(1) > limit
            if not open_rows.any():
                break
            ahead = image if before is None else _anderson(image, residual, *before)
            before = (image[open_rows], residual[open_rows])
            point, rows = ahead[open_rows], rows[open_rows]
        left = residual[open_rows].abs().amax().item() / levels.sigma[k].item() if open_rows.any() else 0.0
        if left > LOUD:
            log.warning(
                "the inverse step to level %d of %d did not converge in %d passes (%d rows, off by %.2g of the noise); "
                "take more passes or steps, or a reversible solver",
                *(k, levels.steps, self.passes, int(open_rows.sum()), left),
            )
        return y


def _anderson(image: Images, residual: Images, image_before: Images, residual_before: Images) -> Images:
    """The mixture of the last two images whose residual, taken linear, is least (Anderson, 1965), row by row."""
    change = (residual - residual_before).flatten(1)
    weight = (residual.flatten(1) * change).sum(1) / change.square().sum(1).clamp_min(1e-30)
    weight = weight.clamp(-2, 2).reshape(-1, *[1] * (image.ndim - 1))
    return image - weight * (image - image_before)


@dataclass(frozen=True)
class DDIM(Solver):
    """Deterministic DDIM (Song et al., 2021) with a level-matched inverse.

    Args:
        inversion: how the inverse is computed, `FixedPoint()` or `Explicit()`.
    """

    inversion: Inversion = FixedPoint()

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        return (move(state[0], model(state[0], k, None), levels, k, k - 1),)

    def inverse(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        return (self.inversion(model, state[0], k, levels),)


def noised(x: Images, e: Tensor, k: int, levels: Levels) -> Images:
    """Partial noising: `alpha_k x + sigma_k e`, an image at level `k` by chance rather than by inversion."""
    return levels.alpha[k].item() * x + levels.sigma[k].item() * e
