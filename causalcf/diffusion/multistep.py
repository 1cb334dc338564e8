"""A solver of second order that remembers one call, for few steps."""

from __future__ import annotations

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Solver, State


class Multistep(Solver):
    r"""DPM-Solver++(2M), and the same scheme in the other direction.

    With `lambda = log(alpha / sigma)`, the clean image that the network means is extended linearly in lambda from the
    last two levels, and the trajectory of that is followed exactly. The way up is not the exact inverse of the way
    down, but differs by the square of the step; `Replay` closes what is left. Source: Lu et al., "DPM-Solver++" (2022),
    https://arxiv.org/abs/2211.01095.
    """

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        return self._move(model, state, k, -1, levels)

    def inverse(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        return self._move(model, state, k - 1, 1, levels)

    def _move(self, model: Model, state: State, k: int, way: int, levels: Levels) -> State:
        alpha, sigma = levels.alpha, levels.sigma
        half = (alpha / sigma).log()
        x = state[0]
        clean: Images = (x - sigma[k].item() * model(x, k, None)) / alpha[k].item()
        ahead = clean
        if len(state) == 2:
            ratio = ((half[k + way] - half[k]) / (half[k] - half[k - way])).item()
            ahead = clean + 0.5 * ratio * (clean - state[1])
        keep = (sigma[k + way] / sigma[k]).item()
        return keep * x + (alpha[k + way] - keep * alpha[k]).item() * ahead, clean
