r"""Phantoms of breasts: what a mammogram shows of a shape, of glands in fat, of a mass, and of markers on the skin.

The pictures show x and y from 0 to 64, the chest at x = 0. A breast is half an ellipse. Where `r` is a point's distance
from its middle over that of the edge there, it is `(1 - r^2)^(1/4)` thick, and bright in that proportion. Glands are
where a field of smooth noise is highest, more of them towards the middle: the field belongs to the woman, and density
says how much of the breast is above the level, so a denser breast has the same glands, grown.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Canvas, Coverage
from causalcf.units import Units

SIDE = 64.0
FAT, GLAND, MASS, MARKER = 0.25, 0.55, 0.8, 1.0  # how bright where the breast is thickest; markers everywhere
CELLS = (8, 16)  # of the two grids of noise, coarse and fine
CENTRAL = 1.5  # by how much the field falls from the middle to the edge
SOFT = 0.15  # of the field, from fat to gland
RING, STROKE, ARM = 3.2, 1.4, 4.5  # radius of the circle, width of lines, and from the triangle's middle to a corner
CORNERS = [(ARM * math.cos(turn), ARM * math.sin(turn)) for turn in (math.pi / 2, 7 * math.pi / 6, 11 * math.pi / 6)]
GRAIN = 0.01

Rows = Mapping[str, Tensor]


@dataclass(frozen=True)
class Woman:
    """The exogenous noise of a mammogram: shape, glands, where a mass and markers would be, and the film's grain.

    Attributes:
        deep: how far the breast reaches from the chest, 34 to 50.
        high: half its height, 22 to 29.
        y: of its middle, 30 to 34.
        coarse: the large forms of the glands.
        fine: the small ones.
        radius: of the mass, 2.5 to 4.
        places: of mass, circle and triangle, x and y, each in a sector of its own.
        grain: of each pixel.
    """

    deep: Float[Tensor, " batch"]
    high: Float[Tensor, " batch"]
    y: Float[Tensor, " batch"]
    coarse: Float[Tensor, "batch 8 8"]
    fine: Float[Tensor, "batch 16 16"]
    radius: Float[Tensor, " batch"]
    places: Float[Tensor, "batch 3 2"]
    grain: Float[Tensor, "batch size size"]

    @classmethod
    def of(cls, units: Units, size: int) -> Woman:
        """Those who belong to these units."""
        deep, high, y, radius, *polar = units.uniform("woman", (13,)).float().unbind(1)
        deep, high, y = 34 + 16 * deep, 22 + 7 * high, 30 + 4 * y
        far, turn, order = (torch.stack(polar[first : first + 3], 1) for first in (0, 3, 6))
        sector = order.argsort(1).float()  # one for each of the three, so that they seldom touch
        far, turn = 0.4 + 0.25 * far, math.pi * (0.28 * (sector - 1) + 0.1 * (turn - 0.5))
        places = [deep[:, None] * far * torch.cos(turn) + 2.0, y[:, None] + high[:, None] * far * torch.sin(turn)]
        coarse, fine = (units.normal(f"glands.{cells}", (cells, cells)).float() for cells in CELLS)
        grain = units.normal("grain", (size, size)).float()
        return cls(deep, high, y, coarse, fine, 2.5 + 1.5 * radius, torch.stack(places, 2), grain)


def draw(woman: Woman, attributes: Rows, size: int) -> Float[Tensor, "batch 1 size size"]:
    """Mammograms of women under some attributes.

    Args:
        woman: the noise.
        attributes: "density", per cent, and whether there are "mass", "circle" and "triangle".
        size: pixels per side.
    """
    canvas = Canvas(size, 0.0, SIDE, 0.0, SIDE, woman.y.device)
    inside = breast(canvas, woman.deep, woman.high, woman.y)
    thick = thickness(canvas, woman.deep, woman.high, woman.y)
    shade = torch.lerp(torch.tensor(FAT), torch.tensor(GLAND), glands(woman, attributes["density"], canvas, inside))
    (mx, my), circle, triangle = (place.unbind(1) for place in woman.places.unbind(1))
    there = {name: attributes[name].float()[:, None, None] for name in ("mass", "circle", "triangle")}
    lump = canvas.disk(mx, my, woman.radius) * there["mass"]
    image = inside * thick * torch.lerp(shade, torch.tensor(MASS), lump)
    image = image + GRAIN * woman.grain
    for mark, name in ((ring(canvas, *circle), "circle"), (corners(canvas, *triangle), "triangle")):
        image = torch.lerp(image, torch.tensor(MARKER), mark * there[name])
    return image.clamp(0, 1)[:, None]


def radial(canvas: Canvas, deep: Tensor, high: Tensor, y: Tensor) -> Float[Tensor, "batch size size"]:
    """Each pixel's distance from the middle of the breast over that of the edge in its direction."""
    across = canvas.x / deep[:, None, None]
    along = (canvas.y[:, None] - y[:, None, None]) / high[:, None, None]
    return torch.hypot(across.expand(len(deep), *along.shape[1:2], -1), along)


def breast(canvas: Canvas, deep: Tensor, high: Tensor, y: Tensor) -> Coverage:
    """Which share of each pixel shows the breast."""
    return ((1 - radial(canvas, deep, high, y)) * high[:, None, None] / canvas.pixel[0] + 0.5).clamp(0, 1)


def thickness(canvas: Canvas, deep: Tensor, high: Tensor, y: Tensor) -> Float[Tensor, "batch size size"]:
    """How thick the breast is at each pixel, against its middle."""
    return (1 - radial(canvas, deep, high, y) ** 2).clamp(0.05, 1) ** 0.25


def glands(woman: Woman, density: Tensor, canvas: Canvas, inside: Coverage) -> Float[Tensor, "batch size size"]:
    """Which share of each pixel's tissue is gland, so that of the breast it is what density says, in per cent."""
    field = -CENTRAL * radial(canvas, woman.deep, woman.high, woman.y)
    for noise, weight in ((woman.coarse, 1.0), (woman.fine, 0.5)):
        smooth = torch.nn.functional.interpolate(noise[:, None], canvas.size, mode="bicubic", align_corners=False)
        field = field + weight * smooth[:, 0]
    low, high = field.flatten(1).amin(1) - 1, field.flatten(1).amax(1) + 1
    wanted, whole = density.float() / 100, inside.flatten(1).sum(1)
    for _ in range(25):  # the level, by bisection
        level = (low + high) / 2
        share = (inside * torch.sigmoid((field - level[:, None, None]) / SOFT)).flatten(1).sum(1) / whole
        low, high = torch.where(share > wanted, level, low), torch.where(share > wanted, high, level)
    return torch.sigmoid((field - ((low + high) / 2)[:, None, None]) / SOFT)


def ring(canvas: Canvas, x: Tensor | float, y: Tensor | float) -> Coverage:
    """The circle: a ring."""
    return canvas.disk(x, y, RING + STROKE / 2) - canvas.disk(x, y, RING - STROKE / 2)


def corners(canvas: Canvas, x: Tensor | float, y: Tensor | float) -> Coverage:
    """The triangle: three strokes."""
    ends = [(x + across, y + along) for across, along in CORNERS]
    strokes = [canvas.segment(ends[k], ends[(k + 1) % 3], STROKE) for k in range(3)]
    return torch.stack(torch.broadcast_tensors(*strokes)).amax(0)
