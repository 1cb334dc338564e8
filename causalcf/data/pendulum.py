r"""Pendulum: a pendulum in the sun, and its shadow on the ground.

The picture shows x from 0 to 20 and y from -1 to 21. The rod, 1 wide and black, hangs from (10, 10.5). The ball, of
radius 1.5 and firebrick, is 8 along it; its lowest point, 9.5 along, is the rod's tip. The sun, of radius 3 and
orange, stands at the height 20.5 where the ray through the pivot comes from. The shadow is black, from y = -1 to 0.
All four lie apart but for the end of the rod under the ball, so each can be measured by its colour and place.

Source: Yang et al., "CausalVAE", 2021, https://arxiv.org/abs/2004.08697; its released generator for the geometry. The
labels here are not cut off to integers, and the picture has no margin.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from functools import cache
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Canvas, paint
from causalcf.data.gauges import box_ends, fit, unmix
from causalcf.data.pictures import Formula, Pictures, determined
from causalcf.data.truth import ROOT, Equation, Rows
from causalcf.graph import CausalGraph
from causalcf.variables import Continuous, Image

STEP = math.pi / 200  # of the paper's grid, rad
LEFT, RIGHT, BOTTOM, TOP = 0.0, 20.0, -1.0, 21.0
PIVOT = (10.0, 10.5)
ROD, TIP = 8.0, 9.5  # from the pivot to the ball's centre, and to its lowest point
BALL, SUN, STROKE = 1.5, 3.0, 1.0
SKY, GROUND = 20.5, -0.5
LEAST = 3.0  # length of a shadow

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
ORANGE = (1.0, 165 / 255, 0.0)
FIREBRICK = (178 / 255, 34 / 255, 34 / 255)
PALETTE = (WHITE, ORANGE, FIREBRICK, BLACK)

GRAPH = CausalGraph(
    [
        ("angle", "length"),
        ("sun", "length"),
        ("angle", "position"),
        ("sun", "position"),
        ("angle", "image"),
        ("sun", "image"),
        ("length", "image"),
        ("position", "image"),
    ],
    angle=Continuous(lower=-0.65, upper=0.7, unit="rad"),
    sun=Continuous(lower=0.9, upper=2.35, unit="rad"),
    length=Continuous(lower=1.0, upper=15.0),
    position=Continuous(lower=0.0, upper=22.0),
    image=Image(3, 64, 64),
)


def projection(sun: Tensor, x: Tensor | float, y: Tensor | float, base: float) -> Tensor:
    """Where the ray of the sun through (x, y) meets the height `base`: `x + (base - y) cot(sun)`."""
    return x + (base - y) * torch.cos(sun) / torch.sin(sun)


def _ends(parents: Rows) -> tuple[Tensor, Tensor]:
    """The shadows of the pivot and of the tip."""
    angle, sun = parents["angle"].double(), parents["sun"].double()
    x, y = PIVOT[0] + TIP * torch.sin(angle), PIVOT[1] - TIP * torch.cos(angle)
    return projection(sun, *PIVOT, GROUND), projection(sun, x, y, GROUND)


def _length(parents: Rows) -> Tensor:
    pivot, tip = _ends(parents)
    return (pivot - tip).abs().clamp_min(LEAST).to(parents["angle"].dtype)


def _position(parents: Rows) -> Tensor:
    pivot, tip = _ends(parents)
    return ((pivot + tip) / 2).to(parents["angle"].dtype)


RANGES: Mapping[str, tuple[float, float]] = {"angle": (-40 * STEP, 44 * STEP), "sun": (60 * STEP, 148 * STEP)}
DECIDED: Mapping[str, Formula] = {"length": _length, "position": _position}
EQUATIONS: Mapping[str, Equation] = {
    "angle": ROOT,
    "sun": ROOT,
    **{name: determined(formula) for name, formula in DECIDED.items()},
}


def _ball(angle: Tensor) -> tuple[Tensor, Tensor]:
    return PIVOT[0] + ROD * torch.sin(angle), PIVOT[1] - ROD * torch.cos(angle)


def draw(
    angle: Float[Tensor, " batch"],
    sun: Float[Tensor, " batch"],
    length: Float[Tensor, " batch"],
    position: Float[Tensor, " batch"],
    size: int = 64,
) -> Float[Tensor, "batch 3 size size"]:
    """Draw pendulums.

    Args:
        angle: of the pendulum, rad, positive to the right.
        sun: its angle above the ground on the right, rad.
        length: of the shadow.
        position: x of the shadow's middle.
        size: pixels per side.

    Returns:
        Images in [0, 1], red, green and blue.
    """
    canvas = Canvas(size, LEFT, RIGHT, BOTTOM, TOP, angle.device)
    ball = _ball(angle)
    layers = [
        (canvas.segment(PIVOT, ball, STROKE), BLACK),
        (canvas.disk(*ball, BALL), FIREBRICK),
        (canvas.disk(projection(sun, *PIVOT, SKY), SKY, SUN), ORANGE),
        (canvas.box(position - length / 2, position + length / 2, GROUND - STROKE / 2, GROUND + STROKE / 2), BLACK),
    ]
    return paint(WHITE, layers)


@final
class Pendulum(Pictures):
    r"""A pendulum in the sun, with the shadow it casts.

    With `c = cot(sun)`, the pivot's shadow is at `10 - 11 c` and the tip's at `10 + 9.5 sin(angle) - (11 - 9.5
    cos(angle)) c`. The shadow's `length = max(3, |difference|)` and `position`, its middle, are decided by both angles.
    Both angles are uniform, `angle` in `[-40, 44) pi / 200` and `sun` in `[60, 148) pi / 200`. Interventions may go a
    little further, as the graph declares.

    The right edge of the picture cuts 1.6 % of the shadows (114 of the grid's 7308, by 0.15 on average). What is
    beyond cannot be seen, so the oracles take such a shadow to be the least one that shows as much: its length is
    `max(3, what is seen)`. Interventions on length or position that push an end out of the picture are measured no
    better. `floor()` measures how well all oracles do on the rows at hand.

    Rows are drawn when they are read, and are the same whatever else is read.

    Args:
        split: "train" (4934 rows of the grid), "val" (548) or "test" (1826, every fourth).
        size: pixels per side.
        rows: how many rows to draw, with uniform angles; None gives the paper's grid, without the sun at its zenith.
        seed: of the angles that are drawn.
        confounding: correlation of the Gaussian copula of the two angles, in (-1, 1), where rows are drawn.
        stray: by how much at most a shadow is longer or shorter, and further left or right, than the sun casts it,
            uniform and apart, where rows are drawn; 2 at most. Without it no row shows a shadow that is not decided
            by both angles, so what `do(length=...)` and `do(position=...)` ask for cannot be learnt from rows. With
            it length and position have noise, which counterfactuals keep.

    Example:
        >>> data = Pendulum("test", rows=8)
        >>> data[:2]["image"].shape
        torch.Size([2, 3, 64, 64])
    """

    graph = GRAPH
    ranges = RANGES
    equations = EQUATIONS
    decided = DECIDED
    furthest = 2.0

    @classmethod
    def grid(cls) -> tuple[dict[str, Tensor], Tensor]:  # noqa: D102
        suns = torch.tensor([j for j in range(60, 148) if j != 100])
        i, j = torch.meshgrid(torch.arange(-40, 44), suns, indexing="ij")
        row = torch.arange(i.numel())
        test = (row % 4 == 0) & (row > 0)
        return {"angle": STEP * i.flatten().double(), "sun": STEP * j.flatten().double()}, test

    def draw(self, ids: Tensor, factors: Rows) -> Tensor:  # noqa: D102
        return draw(*(factors[name] for name in ("angle", "sun", "length", "position")), size=self.size)

    @staticmethod
    def oracles() -> dict[str, Callable[[Tensor], Tensor]]:
        """Measurements of both angles (rad) and of the shadow on images of any size, without any network."""
        return {"angle": read_angle, "sun": read_sun, "length": read_length, "position": read_position}


@cache
def _templates(size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """The ball under a grid of angles and the sun under a grid of its own, a little beyond what the graph declares."""
    canvas = Canvas(size, LEFT, RIGHT, BOTTOM, TOP)
    angles, suns = torch.linspace(-0.75, 0.8, 320), torch.linspace(0.8, 2.45, 320)
    return {
        "angle": (canvas.disk(*_ball(angles), BALL), angles),
        "sun": (canvas.disk(projection(suns, *PIVOT, SKY), SKY, SUN), suns),
    }


def _fit(layer: Tensor, name: str) -> Tensor:
    templates, values = _templates(layer.shape[-1])[name]
    return fit(layer, templates.to(layer.device), values.to(layer.device))


def read_angle(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Angle of the pendulum, rad: that of the ball nearest to what is firebrick."""
    return _fit(unmix(images, PALETTE)[:, 2], "angle")


def read_sun(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Angle of the sun, rad: that of the sun nearest to what is orange, cut off by the edge or not."""
    return _fit(unmix(images, PALETTE)[:, 1], "sun")


def read_length(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Length of the shadow, as `_shadow` reads it."""
    return _shadow(images)[0]


def read_position(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Middle of the shadow, as `_shadow` reads it."""
    return _shadow(images)[1]


def _shadow(images: Tensor) -> tuple[Tensor, Tensor]:
    """Length and middle of what is black along the ground; a shadow that one edge cuts is taken to be 3 or longer."""
    canvas = Canvas(images.shape[-1], LEFT, RIGHT, BOTTOM, TOP, images.device)
    width, height = canvas.pixel
    ground = canvas.y < GROUND + STROKE
    black = unmix(images, PALETTE)[:, 3, ground].sum(1) * height / STROKE
    begin, end = (LEFT + width * pixels for pixels in box_ends(black.clamp(0, 1)))
    whole = (end - begin).clamp_min(LEAST)
    cut_left, cut_right = begin < LEFT + width / 4, end > RIGHT - width / 4
    seen = end - begin > width
    left = torch.where(cut_left & ~cut_right & seen, end - whole, begin)
    right = torch.where(cut_right & ~cut_left & seen, begin + whole, end)
    return right - left, (left + right) / 2
