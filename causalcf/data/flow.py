r"""Flow: a ball in a container of water, and the jet that leaves a hole in its wall.

The picture shows x and y from 0 to 12. The ground is black up to y = 0.5. The container's black walls, 0.375 wide,
stand at x = 0 and at x = 3.75. The water, blue, stands `water` above y = 5, which is above every hole. The ball,
firebrick and of radius `ball / 30`, lies on the ground in the middle of the container. The hole is a gap of 0.4 in the
right wall, at the height `hole / 3`. From there the jet, blue and 0.4 wide, falls along a parabola to y = 0.5, which
it meets `jet` to the right of the wall. So the ball, the water's surface, the hole and the landing each have a place
of their own, and each can be measured by colour and place.

Source: Yang et al., "CausalVAE", 2021, https://arxiv.org/abs/2004.08697; its released generator for the equations and
the grid. The picture shows only the part of its canvas that is used, without margins.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import final

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Canvas, paint
from causalcf.data.gauges import fit, unmix
from causalcf.data.indexing import own_places
from causalcf.data.pictures import OFFSET, Formula, Pictures, Split, determined
from causalcf.data.truth import ROOT, Equation, Rows
from causalcf.graph import CausalGraph
from causalcf.units import Units
from causalcf.variables import Continuous, Image

GRAVITY = 0.98
LEFT, RIGHT, BOTTOM, TOP = 0.0, 12.0, 0.0, 12.0
GROUND, MARK = 0.5, 5.0  # heights of the ground, and of where the water is measured from
WALL = 0.375
INSIDE = (WALL, 3.75)  # of the container
OUTSIDE = INSIDE[1] + WALL  # where the jet starts
STROKE = 0.4  # width of the hole and of the jet
SUBMERGED = 3.2  # the ball ends below this height

WHITE, BLACK = (1.0, 1.0, 1.0), (0.0, 0.0, 0.0)
BLUE = (30 / 255, 144 / 255, 1.0)
FIREBRICK = (178 / 255, 34 / 255, 34 / 255)
PALETTE = (WHITE, BLUE, FIREBRICK, BLACK)

GRAPH = CausalGraph(
    [
        ("ball", "water"),
        ("water", "jet"),
        ("hole", "jet"),
        ("ball", "image"),
        ("water", "image"),
        ("hole", "image"),
        ("jet", "image"),
    ],
    ball=Continuous(lower=4.0, upper=36.0, unit="1/30"),
    hole=Continuous(lower=5.5, upper=15.5, unit="1/3"),
    water=Continuous(lower=0.9, upper=5.9),
    jet=Continuous(lower=1.0, upper=7.5),
    image=Image(3, 64, 64),
)


def _raised(ball: Tensor) -> Tensor:
    return (ball.double() / 30) ** 3


def _water(noise: Tensor, parents: Rows) -> Tensor:
    return (_raised(parents["ball"]) + noise.double() / 10).to(parents["ball"].dtype)


def _water_noise(water: Tensor, parents: Rows) -> Tensor:
    return 10 * (water.double() - _raised(parents["ball"]))


def _jet(parents: Rows) -> Tensor:
    water, hole = parents["water"].double(), parents["hole"].double()
    return (2 * GRAVITY * water * (hole / 3 - GROUND)).clamp_min(0).sqrt().to(parents["water"].dtype)


RANGES: Mapping[str, tuple[float, float]] = {"ball": (5.0, 35.0), "hole": (6.0, 15.0), "water": (10.0, 40.0)}
DECIDED: Mapping[str, Formula] = {"jet": _jet}
EQUATIONS: Mapping[str, Equation] = {
    "ball": ROOT,
    "hole": ROOT,
    "water": Equation(_water_noise, _water),
    "jet": determined(_jet),
}


def draw(
    ball: Float[Tensor, " batch"],
    water: Float[Tensor, " batch"],
    hole: Float[Tensor, " batch"],
    jet: Float[Tensor, " batch"],
    size: int = 64,
) -> Float[Tensor, "batch 3 size size"]:
    """Draw containers.

    Args:
        ball: thirty times its radius.
        water: height of its surface above y = 5.
        hole: three times its height.
        jet: distance of its landing from the wall.
        size: pixels per side.

    Returns:
        Images in [0, 1], red, green and blue.
    """
    canvas = Canvas(size, LEFT, RIGHT, BOTTOM, TOP, ball.device)
    height = hole / 3
    layers = [
        (canvas.box(*INSIDE, GROUND, MARK + water), BLUE),
        (canvas.box(0.0, WALL, GROUND, TOP), BLACK),
        (canvas.box(INSIDE[1], OUTSIDE, GROUND, TOP), BLACK),
        (canvas.box(INSIDE[1], OUTSIDE, height - STROKE / 2, height + STROKE / 2), BLUE),
        (canvas.parabola(OUTSIDE, height, jet, height - GROUND, STROKE), BLUE),
        (canvas.box(LEFT, RIGHT, BOTTOM, GROUND), BLACK),
        (_ball(canvas, ball), FIREBRICK),
    ]
    return paint(WHITE, layers)


def _ball(canvas: Canvas, ball: Tensor) -> Tensor:
    return canvas.disk(sum(INSIDE) / 2, GROUND + ball / 30, ball / 30)


@final
class Flow(Pictures):
    r"""A container of water with a ball in it and a hole in its wall.

    `water = (ball / 30)^3 + h / 10`, where the noise h is uniform in [10, 40); `jet = sqrt(1.96 water (hole / 3 -
    0.5))`. `ball` is uniform in [5, 35) and `hole` in [6, 15). Interventions may go a little further, as the graph
    declares.

    Rows are drawn when they are read, and are the same whatever else is read.

    Args:
        split: "train" (5832 rows of the grid), "val" (648) or "test" (1620, every fifth).
        size: pixels per side.
        rows: how many rows to draw, with continuous factors; None gives the paper's grid of integers.
        seed: of the factors that are drawn, and of the drawing noise.
        confounding: correlation of the Gaussian copula of ball and hole, in (-1, 1), where rows are drawn.
        noise: of the drawing: the jet is drawn under the gravity `0.98 + noise max(|N|, 1)`, N standard normal and each
            row's own. The paper has 0.01, with which every jet lands at least half a per cent too far.
        stray: by how much at most a jet lands nearer or further than water and hole say, uniform, where rows are drawn;
            0.5 at most. It is noise of the jet, which counterfactuals keep; without it no row shows what
            `do(jet=...)` asks for, so it cannot be learnt from rows.

    Example:
        >>> data = Flow("test", rows=8)
        >>> data[:2]["image"].shape
        torch.Size([2, 3, 64, 64])
    """

    graph = GRAPH
    ranges = RANGES
    equations = EQUATIONS
    decided = DECIDED
    furthest = 0.5

    def __init__(
        self,
        split: Split = "train",
        size: int = 64,
        rows: int | None = None,
        seed: int = 0,
        confounding: float = 0.0,
        noise: float = 0.0,
        stray: float = 0.0,
    ) -> None:
        super().__init__(split, size, rows, seed, confounding, stray)
        if not 0 <= noise <= 0.1:
            raise ValueError(f"Flow: expected noise between 0 and 0.1, got {noise}; the paper has 0.01")
        self.noise = noise

    @classmethod
    def grid(cls) -> tuple[dict[str, Tensor], Tensor]:  # noqa: D102
        axes = torch.arange(5, 35), torch.arange(10, 40), torch.arange(6, 15)
        ball, water, hole = (axis.flatten().double() for axis in torch.meshgrid(*axes, indexing="ij"))
        return {"ball": ball, "hole": hole, "water": water}, torch.arange(len(ball)) % 5 == 4

    def draw(self, ids: Tensor, factors: Rows) -> Tensor:  # noqa: D102
        ball, water, hole, jet = (factors[name] for name in ("ball", "water", "hole", "jet"))
        if self.noise:
            own_places("Flow", ids, OFFSET[self.split], self.rows, self.split)
            pull = self.noise * Units(ids, self.seed).normal("drawing").abs().clamp_min(1)
            jet = jet * (1 + pull / GRAVITY).sqrt().to(jet)
        return draw(ball, water, hole, jet, self.size)

    @staticmethod
    def oracles() -> dict[str, Callable[[Tensor], Tensor]]:
        """Measurements of ball, water, hole and jet on images of any size, without any network."""
        return {"ball": read_ball, "water": read_water, "hole": read_hole, "jet": read_jet}


@cache
def _templates(size: int) -> dict[str, tuple[Tensor, Tensor]]:
    """Balls, and profiles of the water and of the right wall, a little beyond what the graph declares."""
    canvas = Canvas(size, LEFT, RIGHT, BOTTOM, TOP)
    balls, waters, holes = (torch.linspace(low, high, 320) for low, high in ((2.0, 38.0), (0.7, 6.1), (5.0, 16.0)))
    level = canvas.box(LEFT, RIGHT, GROUND, MARK + waters)[:, :, 0]
    gap = canvas.box(LEFT, RIGHT, holes / 3 - STROKE / 2, holes / 3 + STROKE / 2)[:, :, 0]
    return {
        "ball": (_ball(canvas, balls), balls),
        "water": (level * (canvas.y > SUBMERGED), waters),
        "hole": ((1 - gap) * (canvas.y > 2 * GROUND), holes),
    }


def _fit(layer: Tensor, name: str) -> Tensor:
    templates, values = _templates(layer.shape[-1])[name]
    return fit(layer, templates.to(layer.device), values.to(layer.device))


def _canvas(images: Tensor) -> Canvas:
    return Canvas(images.shape[-1], LEFT, RIGHT, BOTTOM, TOP, images.device)


def read_ball(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Thirty times the radius of the ball nearest to what is firebrick."""
    return _fit(unmix(images, PALETTE)[:, 2], "ball")


def read_water(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Height of the water above y = 5: that of the surface nearest to how blue the rows of the container are."""
    canvas = _canvas(images)
    inside = (canvas.x > INSIDE[0]) & (canvas.x < INSIDE[1])
    blue = unmix(images, PALETTE)[:, 1, :, inside].mean(2)
    return _fit(blue * (canvas.y > SUBMERGED), "water")


def read_hole(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    """Three times the height of the gap nearest to where the right wall is not black."""
    canvas = _canvas(images)
    share = canvas.box(INSIDE[1], OUTSIDE, GROUND, TOP)[0, 0]  # of each column that the wall fills
    black = (unmix(images, PALETTE)[:, 3] * (share > 0)).sum(2) / share.sum()
    return _fit(black * (canvas.y > 2 * GROUND), "hole")


def read_jet(images: Float[Tensor, "batch 3 size size"]) -> Float[Tensor, " batch"]:
    r"""Distance of the landing from the wall, by the parabola from the hole that is nearest to what is blue.

    A jet that leaves the height a passes y at `x = jet s(y)`, `s = sqrt((a - y) / (a - 0.5))`. Weighted by how blue
    pixels are, least squares give `jet = sum x s / sum s^2`: first of all pixels to the right of the wall and a stroke
    below the hole, then, five times, of those within two strokes of the last answer.
    """
    canvas = _canvas(images)
    right = canvas.x > OUTSIDE
    x, y = canvas.x[right] - OUTSIDE, canvas.y[None, :, None]
    height = (read_hole(images) / 3)[:, None, None]
    s = ((height - y) / (height - GROUND)).clamp_min(0).sqrt()
    blue = (unmix(images, PALETTE)[:, 1, :, right] - 0.1).clamp_min(0)
    seen = blue * ((y > GROUND + canvas.pixel[1]) & (y < height - STROKE))
    jet = _landing(seen, x, s)
    for _ in range(5):
        near = (x - jet[:, None, None] * s).abs() < 2 * STROKE
        jet = _landing(seen * near, x, s)
    return jet


def _landing(weight: Tensor, x: Tensor, s: Tensor) -> Tensor:
    jet = (weight * x * s).sum((1, 2)) / (weight * s * s).sum((1, 2)).clamp_min(1e-6)
    return jet.clamp(1.0, RIGHT - OUTSIDE)
