"""Solvers whose steps are undone exactly, whatever the network says: nothing is iterated, and guidance is allowed.

They carry two images. The second one is part of the noise: without it the way back is not known.
"""

from __future__ import annotations

from abc import abstractmethod
from dataclasses import dataclass

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Solver, State, move


class _TwoLevels(Solver):
    """Schemes over three levels, `x_{k-1}` from `x_k` and `x_{k+1}` with one call at `x_k`.

    Inversion starts with one explicit step from the image. The noise is the pair `(x_S, x_{S-1})`; from `x_S` alone, as
    when it is drawn, generation starts with one DDIM step.
    """

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:
        x, e = state[0], model(state[0], k, None)
        if len(state) == 1:
            return move(x, e, levels, k, k - 1), x
        return self._across(x, state[1], e, levels, k, -1), x

    def inverse(self, model: Model, state: State, k: int, levels: Levels) -> State:
        x, e = state[0], model(state[0], k - 1, None)
        if len(state) == 1:
            return move(x, e, levels, k - 1, k), x
        return self._across(x, state[1], e, levels, k - 1, 1), x

    @abstractmethod
    def _across(self, x: Images, behind: Images, e: Images, levels: Levels, k: int, way: int) -> Images:
        """`x_{k + way}` from `x_k` and `x_{k - way}`, given the noise in `x_k`."""

    def noise(self, state: State) -> State:
        return state

    def begin(self, noise: State, depth: int) -> tuple[State, int]:
        if len(noise) == 1:
            return noise, depth
        top, below = noise
        return (below, top), depth - 1


@dataclass(frozen=True)
class BidirectionalDDIM(_TwoLevels):
    """`x_{k-1} = gamma (x_{k+1} - move(x_k, k -> k+1)) + move(x_k, k -> k-1)`, move being DDIM's.

    Source: Zhang, Lewis and Kleijn, "Exact Diffusion Inversion via Bidirectional Integration Approximation" (2024),
    https://arxiv.org/abs/2307.10829.

    Args:
        gamma: how much of the step before is taken back; 1 is the leapfrog, and below it oscillations die out in
            generation, and grow by `1 / gamma` a step in inversion.
    """

    gamma: float = 1.0

    def __post_init__(self) -> None:
        if not 0 < self.gamma <= 1:
            raise ValueError(f"BidirectionalDDIM: expected 0 < gamma <= 1, got {self.gamma}")

    def _across(self, x: Images, behind: Images, e: Images, levels: Levels, k: int, way: int) -> Images:
        back, ahead = behind - move(x, e, levels, k, k - way), move(x, e, levels, k, k + way)
        return (self.gamma if way < 0 else 1 / self.gamma) * back + ahead


class BELM(_TwoLevels):
    r"""The three-level scheme of least local error.

    With `xbar = x / alpha` and `s = sigma / alpha`, `d xbar / ds = e`; the parabola through `xbar_k`, `xbar_{k+1}` with
    slope `e_k` at `s_k` is read at `s_{k-1}`. Source: Wang et al., "BELM: Bidirectional Explicit Linear Multi-step
    Sampler for Exact Inversion in Diffusion Models" (2024), https://arxiv.org/abs/2410.07273.
    """

    def _across(self, x: Images, behind: Images, e: Images, levels: Levels, k: int, way: int) -> Images:
        alpha, s = levels.alpha, levels.sigma / levels.alpha
        past, step = (s[k - way] - s[k]).item(), (s[k + way] - s[k]).item()
        xbar = x / alpha[k].item()
        bend = (behind / alpha[k - way].item() - xbar - past * e) / past**2
        return alpha[k + way].item() * (xbar + step * e + step**2 * bend)


@dataclass(frozen=True)
class EDICT(Solver):
    """Two coupled trajectories, each moved by the noise read in the other, and mixed; two calls a step.

    The second reads the noise of the first after that has moved, as if it were still at its level.

    Source: Wallace, Gokul and Naik, "EDICT: Exact Diffusion Inversion via Coupled Transformations" (2023),
    https://arxiv.org/abs/2211.12446.

    Args:
        p: the mixing weight; 1 leaves the two uncoupled.
    """

    p: float = 0.93

    def __post_init__(self) -> None:
        if not 0.5 < self.p <= 1:
            raise ValueError(f"EDICT: expected 0.5 < p <= 1, got {self.p}")

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        x, y = state if len(state) == 2 else (state[0], state[0])
        x = move(x, model(y, k, None), levels, k, k - 1)
        y = move(y, model(x, k, None), levels, k, k - 1)
        x = self.p * x + (1 - self.p) * y
        return x, self.p * y + (1 - self.p) * x

    def inverse(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        x, y = state if len(state) == 2 else (state[0], state[0])
        y = (y - (1 - self.p) * x) / self.p
        x = (x - (1 - self.p) * y) / self.p
        y = move(y, model(x, k, None), levels, k - 1, k)
        return move(x, model(y, k, None), levels, k - 1, k), y

    def noise(self, state: State) -> State:  # noqa: D102
        return state
