"""The two loops: from noise to image, and from image to noise."""

from __future__ import annotations

from collections.abc import Callable

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Solver

Watch = Callable[[int, Images], None]


def _silent(k: int, x: Images) -> None: ...


def generate(
    model: Model, x: Images, levels: Levels, solver: Solver, depth: int | None = None, watch: Watch = _silent
) -> Images:
    """Follow a trajectory down to the image.

    Args:
        model: the noise to follow, `(x, k, rows) -> e`, as `guided` makes it.
        x: the start, at level `depth`.
        levels: the noise levels.
        solver: how to take a step.
        depth: the level of `x`, by default the noisiest.
        watch: called as `watch(k, x)` with every level reached.

    Returns:
        The image, at level 0.
    """
    for k in range(levels.steps if depth is None else depth, 0, -1):
        x = solver.step(model, x, k, levels)
        watch(k - 1, x)
    return x


def invert(
    model: Model, x: Images, levels: Levels, solver: Solver, depth: int | None = None, watch: Watch = _silent
) -> Images:
    """Follow the trajectory of an image up to its noise; the inverse of `generate`.

    Args:
        model: the noise to follow, the same as for `generate`.
        x: the image, taken to be at level 0.
        levels: the noise levels.
        solver: whose steps to invert.
        depth: the level to stop at, by default the noisiest.
        watch: called as `watch(k, x)` with every level reached.

    Returns:
        The noise, at level `depth`.
    """
    for k in range(1, (levels.steps if depth is None else depth) + 1):
        x = solver.inverse(model, x, k, levels)
        watch(k, x)
    return x
