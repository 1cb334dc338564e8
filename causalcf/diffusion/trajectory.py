"""The two loops: from noise to image, and from image to noise."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, Solver, State

Watch = Callable[[int, Images], None]


def _silent(k: int, x: Images) -> None: ...


def generate(
    model: Model,
    noise: Images | State,
    levels: Levels,
    solver: Sampler,
    depth: int | None = None,
    watch: Watch = _silent,
) -> Images:
    """Follow a trajectory down to the image.

    Args:
        model: the noise to follow, `(x, k, rows) -> e`, as `guided` makes it.
        noise: the start, an image at level `depth`, or what `invert` returned.
        levels: the noise levels.
        solver: how to take a step.
        depth: the level of the noise, by default the noisiest.
        watch: called as `watch(k, x)` with every level reached.

    Returns:
        The image, at level 0.
    """
    start = (noise,) if isinstance(noise, Tensor) else noise
    state, level = solver.begin(start, levels.steps if depth is None else depth)
    for k in range(level, 0, -1):
        state = solver.step(model, state, k, levels)
        watch(k - 1, state[0])
    return state[0]


def invert(
    model: Model, x: Images, levels: Levels, solver: Solver, depth: int | None = None, watch: Watch = _silent
) -> State:
    """Follow the trajectory of an image up to its noise; the inverse of `generate`.

    Args:
        model: the noise to follow, the same as for `generate`.
        x: the image, taken to be at level 0.
        levels: the noise levels.
        solver: whose steps to invert.
        depth: the level to stop at, by default the noisiest.
        watch: called as `watch(k, x)` with every level reached.

    Returns:
        The noise, at level `depth` first; one image, or as many as the solver needs to lead back.
    """
    state: State = (x,)
    for k in range(1, (levels.steps if depth is None else depth) + 1):
        state = solver.inverse(model, state, k, levels)
        watch(k, state[0])
    return solver.noise(state)
