"""Portraits: pictures that are painted on in the frame of each sitter's face, a small patch at a time.

The pictures show x and y from 0 to 64. A face's frame has u to the right and v up from the middle of the head:
`x = x0 + a u`, `y = y0 + b v`, where x0, y0, a and b are the sitter's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Canvas, Colour, Coverage, Number
from causalcf.data.sitters import Sitter

SIDE, MIDDLE = 64.0, 32.0
SLACK = 4.0  # how far a sitter may carry a shape out of its patch

Ink = Colour | Float[Tensor, "batch 3"]


def ellipse(canvas: Canvas, x: Number, y: Number, across: Number, along: Number) -> Coverage:
    """An ellipse with half axes `across` and `along`, on square pixels.

    Its distance is taken to first order, `|F| / |grad F|` with `F = U^2 + V^2 - 1` in units of the axes.
    """
    across, along = _rows(across), _rows(along)
    u, v = (canvas.x - _rows(x)) / across, (canvas.y[:, None] - _rows(y)) / along
    level = u * u + v * v - 1
    u, v = u / across, v / along
    return _ramp(canvas, level / (2 * (u * u + v * v).sqrt()).clamp_min(1e-6))


def lens(canvas: Canvas, x: Number, y: Number, across: Number, along: Number, bend: Number = 0.0) -> Coverage:
    """What lies between two parabolas, `|V - bend U^2| <= along (1 - (U / across)^2)`, seen from (x, y)."""
    u, v = canvas.x - _rows(x), canvas.y[:, None] - _rows(y)
    bend, sharp = _rows(bend), _rows(along) / _rows(across) ** 2
    squared = u * u
    outside = (v - bend * squared).abs() - _rows(along) + sharp * squared
    slope = (1 + 4 * (abs(bend) + sharp) ** 2 * squared).sqrt()
    return _ramp(canvas, outside / slope)


def _rows(number: Number) -> Number:
    """A number per row, so that it broadcasts against pixels."""
    return number[:, None, None] if isinstance(number, Tensor) else number


def _ramp(canvas: Canvas, distance: Tensor) -> Coverage:
    return (0.5 - distance / canvas.pixel[0]).clamp(0, 1)


def window(
    image: Float[Tensor, "batch 3 size size"], u: float, v: float, reach: float
) -> tuple[Float[Tensor, "batch 3 part part"], Canvas]:
    """The square of the pictures that holds whatever is within `reach` of (u, v) in any sitter's frame: a view."""
    size = image.shape[-1]
    pixel = SIDE / size
    count = min(size, math.ceil(2 * (reach + SLACK) / pixel) + 1)
    left, top = (min(max(0, math.floor((MIDDLE + middle - reach - SLACK) / pixel)), size - count) for middle in (u, -v))
    right, bottom = left + count, top + count
    canvas = Canvas(count, left * pixel, right * pixel, SIDE - bottom * pixel, SIDE - top * pixel, image.device)
    return image[:, :, top:bottom, left:right], canvas


@dataclass(frozen=True)
class Patch:
    """A square of the pictures that is painted on; shapes are told in the face's frame."""

    image: Float[Tensor, "batch 3 pixels pixels"]
    canvas: Canvas
    sitter: Sitter

    def ellipse(self, u: Number, v: Number, across: Number, along: Number) -> Coverage:
        """An ellipse around (u, v)."""
        s = self.sitter
        return ellipse(self.canvas, s.x + s.wide * u, s.y + s.high * v, s.wide * across, s.high * along)

    def lens(self, u: Number, v: Number, across: Number, along: Number, bend: Number = 0.0) -> Coverage:
        """What lies between two parabolas; see `lens`."""
        s = self.sitter
        bend = bend * s.high / s.wide**2
        return lens(self.canvas, s.x + s.wide * u, s.y + s.high * v, s.wide * across, s.high * along, bend)

    def stroke(self, start: tuple[Number, Number], end: tuple[Number, Number], width: float) -> Coverage:
        """A straight stroke with round ends."""
        s = self.sitter
        first, second = ((s.x + s.wide * u, s.y + s.high * v) for u, v in (start, end))
        return self.canvas.segment(first, second, width)

    def above(self, v: Number) -> Coverage:
        """What is higher than v."""
        return self.canvas.box(0.0, SIDE, self.sitter.y + self.sitter.high * v, 2 * SIDE)

    def paint(self, coverage: Coverage, ink: Ink, share: Number = 1.0) -> None:
        """Colour over what is there; `share` is how much of it each row gets."""
        colour = torch.as_tensor(ink, device=self.image.device)
        self.image.lerp_(colour[..., None, None].expand_as(self.image), (coverage * _rows(share))[:, None])


@dataclass(frozen=True)
class Portrait:
    """Pictures on which faces are painted."""

    image: Float[Tensor, "batch 3 size size"]
    sitter: Sitter

    def at(self, u: float, v: float, reach: float) -> Patch:
        """The patch around (u, v); see `window`."""
        return Patch(*window(self.image, u, v, reach), self.sitter)

    def pair(self, u: float, v: float, reach: float) -> Iterator[tuple[float, Patch]]:
        """The patches on the left and on the right, each with the sign of its u."""
        for side in (-1.0, 1.0):
            yield side, self.at(side * u, v, reach)

    def whole(self) -> Patch:
        """The whole picture."""
        return self.at(0.0, 0.0, MIDDLE)
