"""Residual replay: what a trajectory misses of its own inversion is recorded once, and added whenever it is taken."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, State
from causalcf.diffusion.trajectory import generate


class Replay(Sampler):
    """Another solver's steps, each followed by the residual of its level.

    With the residuals that `residuals` finds, the factual trajectory is retraced exactly, by any solver and under any
    guidance, without iterating. The price is memory: one image per level and row.

    Args:
        solver: how to take a step.
        residuals: one image per level, the residual of arriving at level `k` at place `k`.
    """

    def __init__(self, solver: Sampler, residuals: Sequence[Images]) -> None:
        self.solver, self.residuals = solver, residuals

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        x, *memory = self.solver.step(model, state, k, levels)
        return x + self.residuals[k - 1], *memory

    def begin(self, noise: State, depth: int) -> tuple[State, int]:  # noqa: D102
        return self.solver.begin(noise, depth)


class _Retrace(Sampler):
    """Steps of another solver that arrive where the path says, whatever they compute."""

    def __init__(self, solver: Sampler, path: Sequence[Images]) -> None:
        self.solver, self.path = solver, path
        self.residuals = [torch.zeros_like(x) for x in path[:-1]]

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:
        x, *memory = self.solver.step(model, state, k, levels)
        self.residuals[k - 1] = self.path[k - 1] - x
        return self.path[k - 1], *memory

    def begin(self, noise: State, depth: int) -> tuple[State, int]:
        return self.solver.begin(noise, depth)


def residuals(model: Model, path: Sequence[Images], noise: State, levels: Levels, solver: Sampler) -> list[Images]:
    """What each step down misses of a path.

    Args:
        model: the noise that generation will follow under the factual parents.
        path: the images at all levels, level 0 first, as an inversion visits them.
        noise: where generation will start, as the inversion returned it.
        levels: the noise levels.
        solver: whose steps.
    """
    retrace = _Retrace(solver, path)
    generate(model, noise, levels, retrace, depth=len(path) - 1)
    return retrace.residuals
