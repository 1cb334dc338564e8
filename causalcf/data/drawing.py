"""Drawing: antialiased shapes from signed distances, a batch at a time, painted in layers of colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

Number = Tensor | float
"""One number for all rows, or one per row, shape `(batch,)`."""

Colour = tuple[float, float, float]
"""Red, green and blue, 0 to 1."""

Coverage = Float[Tensor, "batch size size"]
"""Which share of each pixel a shape covers, 0 to 1. The batch is 1 where the shape is the same in all rows."""


@dataclass(frozen=True)
class Canvas:
    """A square of pixels that shows `left` to `right` and `bottom` to `top`, y upwards.

    A shape covers `clip(1/2 - s / w, 0, 1)` of a pixel, s the signed distance of the pixel's centre (negative inside)
    and w the width of a pixel. Coverage so keeps the area of a shape. Boxes are exact.

    Args:
        size: pixels per side.
        left: x of the left edge.
        right: x of the right edge.
        bottom: y of the lower edge.
        top: y of the upper edge.
        device: where to draw.

    Example:
        >>> canvas = Canvas(4, left=0.0, right=8.0, bottom=0.0, top=8.0)
        >>> canvas.box(0.0, 3.0, 0.0, 2.0)[0, -1]
        tensor([1.0000, 0.5000, 0.0000, 0.0000])
    """

    size: int
    left: float
    right: float
    bottom: float
    top: float
    device: torch.device | str = "cpu"

    def __post_init__(self) -> None:
        if isinstance(self.size, bool) or not isinstance(self.size, int) or self.size < 1:
            raise ValueError(f"Canvas: expected size to be a number of pixels, 64 for example, got {self.size!r}")
        if not (self.left < self.right and self.bottom < self.top):
            raise ValueError(
                f"Canvas: expected left < right and bottom < top, got x from {self.left} to {self.right} "
                f"and y from {self.bottom} to {self.top}"
            )

    @property
    def pixel(self) -> tuple[float, float]:
        """Width and height of a pixel, in the canvas's own unit."""
        return (self.right - self.left) / self.size, (self.top - self.bottom) / self.size

    @property
    def x(self) -> Float[Tensor, " size"]:
        """The centres of the columns, from left to right."""
        return self.left + self.pixel[0] * (torch.arange(self.size, device=self.device) + 0.5)

    @property
    def y(self) -> Float[Tensor, " size"]:
        """The centres of the rows, from the top down."""
        return self.top - self.pixel[1] * (torch.arange(self.size, device=self.device) + 0.5)

    def disk(self, x: Number, y: Number, radius: Number) -> Coverage:
        """A disk.

        Args:
            x: of the centre.
            y: of the centre.
            radius: in the canvas's unit.
        """
        # a ramp of width w along a circle adds pi w^2 / 12 to its area
        area = torch.as_tensor(self._rows(radius)) ** 2 - self._width**2 / 12
        across, along = self._from(x, y)
        return self._within(torch.hypot(across, along), area.clamp_min(0).sqrt())

    def segment(self, start: tuple[Number, Number], end: tuple[Number, Number], width: Number) -> Coverage:
        """A straight stroke with round ends.

        Args:
            start: x and y of one end.
            end: x and y of the other.
            width: of the stroke.
        """
        across, along = self._from(*start)
        dx, dy = self._rows(end[0]) - self._rows(start[0]), self._rows(end[1]) - self._rows(start[1])
        squared = torch.as_tensor(dx * dx + dy * dy).clamp_min(1e-12)
        share = ((across * dx + along * dy) / squared).clamp(0, 1)
        return self._within(torch.hypot(across - share * dx, along - share * dy), self._rows(width) / 2)

    def box(self, left: Number, right: Number, bottom: Number, top: Number) -> Coverage:
        """A box with upright sides; its coverage is exact.

        Args:
            left: x of the left side.
            right: x of the right side.
            bottom: y of the lower side.
            top: y of the upper side.
        """
        width, height = self.pixel
        across = _overlap(self.x, width, self._rows(left), self._rows(right))
        along = _overlap(self.y[None, :, None], height, self._rows(bottom), self._rows(top))
        return across * along

    def parabola(self, x: Number, y: Number, reach: Number, fall: Number, width: Number) -> Coverage:
        """A stroke along a jet that leaves its apex to the right, `Y = y - fall ((X - x) / reach)^2` for `X >= x`.

        Its distance is taken to first order, `|F| / |grad F|` with `F = 0` on the curve.

        Args:
            x: of the apex.
            y: of the apex.
            reach: how far to the right the jet is,
            fall: when it is this far below its apex.
            width: of the stroke.
        """
        across, along = self._from(x, y)
        bend = self._rows(fall) / self._rows(reach) ** 2
        distance = (along + bend * across**2).abs() / (1 + (2 * bend * across) ** 2).sqrt()
        right = _overlap(self.x, self.pixel[0], self._rows(x), math.inf)
        return self._within(distance, self._rows(width) / 2) * right

    @property
    def _width(self) -> float:
        return math.sqrt(self.pixel[0] * self.pixel[1])

    def _rows(self, number: Number) -> Number:
        """A number per row, so that it broadcasts against pixels."""
        return number.to(self.device, torch.float32)[:, None, None] if isinstance(number, Tensor) else number

    def _from(self, x: Number, y: Number) -> tuple[Tensor, Tensor]:
        """The pixels' coordinates as seen from a point."""
        return self.x - self._rows(x), self.y[None, :, None] - self._rows(y)

    def _within(self, distance: Tensor, reach: Number) -> Coverage:
        """Coverage of the points at most `reach` from a line; the second term is for lines thinner than a pixel."""
        near, far = (reach - distance) / self._width, (reach + distance) / self._width
        return (0.5 + near).clamp(0, 1) - (0.5 - far).clamp(0, 1)


def _overlap(centre: Tensor, width: float, low: Number, high: Number) -> Tensor:
    """Which share of the intervals `centre +- width / 2` lies between `low` and `high`."""
    first = (centre - width / 2).clamp(min=low)
    last = (centre + width / 2).clamp(max=high)
    return ((last - first) / width).clamp(0, 1)


def paint(background: Colour, layers: Iterable[tuple[Coverage, Colour]]) -> Float[Tensor, "batch 3 size size"]:
    """Colours over a background, one layer over the other.

    Args:
        background: colour of what no layer covers.
        layers: coverage and colour of each, the lowest first.

    Returns:
        Images in [0, 1]. Each pixel is a mixture of the colours, with weights that add up to one.

    Example:
        >>> half = torch.full((1, 1, 1), 0.5)
        >>> paint((1.0, 1.0, 1.0), [(half, (1.0, 0.0, 0.0))]).flatten()
        tensor([1.0000, 0.5000, 0.5000])
    """
    image = torch.tensor(background)[:, None, None]
    for coverage, colour in layers:
        ink = torch.tensor(colour, device=coverage.device)[:, None, None]
        image = torch.lerp(image.to(coverage.device), ink, coverage[:, None])
    return image
