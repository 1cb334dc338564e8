r"""Face gauges: what reads the attributes of a drawn face, each by a colour and a place, without any network.

The white of the eyes tells where the head is: the eyes are at v = 1 in the face's frame (see `portraits`), and the
middle of the head is between them. A place is then a box in the frame of a face of the usual width and height. What is
seen there is compared with the skin of the cheeks, or has a colour that nothing else has near there.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, partial

import torch
from jaxtyping import Float, Int
from torch import Tensor

from causalcf.data.drawing import Canvas, Coverage
from causalcf.data.faces import APART, BROW, CORNER, EYE, LIPS, MARKER, MOUTH, TEETH, mouth
from causalcf.data.portraits import MIDDLE, SIDE, lens, window
from causalcf.variables import Image

GREY = (0.30, 0.59, 0.11)  # luma
ROSY = 0.1  # how rosy a beard is
LIDS = 0.78  # how far the lids push down the middle of what is seen of the white


@dataclass(frozen=True)
class Face:
    """Faces whose eyes are found, and what is seen in boxes of their frame.

    Args:
        image: in [0, 1].
    """

    image: Float[Tensor, "batch 3 size size"]

    @cached_property
    def canvas(self) -> Canvas:
        """The whole picture."""
        return Canvas(self.image.shape[-1], 0.0, SIDE, 0.0, SIDE, self.image.device)

    @cached_property
    def skin(self) -> Float[Tensor, "batch 3"]:
        """The colour of the cheeks: light among what lies between eyes and mouth, most of which is skin."""
        across, along = (self.canvas.x - MIDDLE).abs() < 10.0, (self.canvas.y - MIDDLE + 5.75).abs() < 1.75
        cheeks = self.image[:, :, along][..., across].flatten(2)
        return cheeks.kthvalue(round(0.75 * cheeks.shape[2]), dim=2).values

    @cached_property
    def pose(self) -> tuple[Tensor, Tensor, Tensor]:
        """Where the middle of the head is, x and y, and how far the eyes are from it."""
        least = (0.8 * self.skin.amin(1) + 0.2)[:, None, None]
        white = ((self.image.amin(1) - least) / (0.95 - least)).clamp(0, 1)
        left, right = (white * self.canvas.box(MIDDLE + low, MIDDLE + low + 12, 26.5, 38.5) for low in (-12.5, 0.5))
        begin, end = _centre(left, self.canvas.x, MIDDLE - APART), _centre(right, self.canvas.x, MIDDLE + APART)
        y = _centre(left + right, self.canvas.y[:, None], MIDDLE)
        return (begin + end) / 2, y + LIDS - EYE, (end - begin) / 2

    def box(self, left: Tensor | float, right: Tensor | float, bottom: float, top: float) -> Coverage:
        """A box in the face's frame."""
        x, y, _ = self.pose
        return self.canvas.box(x + left, x + right, y + bottom, y + top)

    def pair(self, inner: float, outer: float, bottom: float, top: float) -> Coverage:
        """A box on the right, and its mirror image on the left."""
        return self.box(inner, outer, bottom, top) + self.box(-outer, -inner, bottom, top)

    def eyes(self, reach: float, bottom: float, top: float) -> Coverage:
        """A box at each eye, this far to its left and right."""
        middle = self.pose[2]
        return self.box(middle - reach, middle + reach, bottom, top) + self.box(
            -middle - reach, -middle + reach, bottom, top
        )

    def colour(self, where: Coverage) -> Float[Tensor, "batch 3"]:
        """The mean colour of a place."""
        weight = where[:, None]
        return (weight * self.image).sum((2, 3)) / weight.sum((2, 3)).clamp_min(1e-6)

    def shade(self, where: Coverage, beside: Float[Tensor, "batch 3"]) -> Float[Tensor, " batch"]:
        """How much darker a place is than a colour: 0 is as light, 1 is black."""
        return 1 - _luma(self.colour(where)) / _luma(beside).clamp_min(1e-3)


def _centre(weight: Tensor, place: Tensor, otherwise: float) -> Float[Tensor, " batch"]:
    """The mean place, if there is anything."""
    total = weight.sum((1, 2))
    return torch.where(total > 1, (weight * place).sum((1, 2)) / total.clamp_min(1.0), otherwise)


def _luma(colour: Float[Tensor, "batch 3"]) -> Float[Tensor, " batch"]:
    return colour @ torch.tensor(GREY, device=colour.device)


def _rosy(colour: Tensor) -> Tensor:
    """How red a colour is for its brightness; the black of a beard is not."""
    return (colour[:, 0] - colour[:, 1]) / (colour[:, 0] + colour[:, 1] + 0.15)


def brows(face: Face) -> Float[Tensor, " batch"]:
    """How much of the place above the eyes is brow."""
    brow = torch.tensor(BROW, device=face.skin.device).expand_as(face.skin)
    return face.shade(face.eyes(3.0, 6.0, 8.4), face.skin) / (1 - _luma(brow) / _luma(face.skin).clamp_min(0.2))


def folds(face: Face) -> Float[Tensor, " batch"]:
    """How much darker it is beside the nose than on the cheeks."""
    return face.shade(face.pair(5.4, 8.0, -8.2, -5.2), face.colour(face.pair(8.4, 10.2, -6.8, -5.2)))


def _scalp(face: Face) -> Float[Tensor, "batch 3"]:
    """The colour of the hair at the temples, which no hat covers."""
    return face.colour(face.pair(13.0, 16.0, 4.0, 9.0))


def gold(face: Face) -> Float[Tensor, " batch"]:
    """How much more green than blue there is in the hair."""
    hair = _scalp(face)
    return hair[:, 1] - hair[:, 2]


def fringe(face: Face) -> Float[Tensor, " batch"]:
    """How far the forehead is from skin, 0, to hair, 1: in hue where hair is blond, else in luma."""
    blond = gold(face) > 0.21
    colours = (face.colour(face.box(-6.0, 6.0, 11.7, 13.1)), face.skin, _scalp(face))
    seen, skin, hair = (torch.where(blond, 1 - c[:, 2] / c[:, 1].clamp_min(1e-3), _luma(c)) for c in colours)
    return (seen - skin) / (hair - skin)


def brim(face: Face) -> Float[Tensor, " batch"]:
    """How dark it is outside of the hair, beside the top of the forehead."""
    return 1 - _luma(face.colour(face.pair(18.0, 20.0, 14.8, 16.8)))


def jaw(face: Face) -> Float[Tensor, " batch"]:
    """How dark it is on both sides of the mouth."""
    return face.shade(face.pair(9.0, 11.0, -13.0, -11.0), face.skin)


def rims(face: Face) -> Float[Tensor, " batch"]:
    """How dark it is between the eyes and well below them."""
    places = face.box(-1.0, 1.0, 1.6, 2.8), face.eyes(2.0, -4.2, -3.4)
    return (face.shade(places[0], face.skin) + face.shade(places[1], face.skin)) / 2


def stones(face: Face) -> Float[Tensor, " batch"]:
    """The area below the ears that is turquoise."""
    red, other = face.image[:, 0], face.image[:, 1:].amin(1)
    turquoise = ((other - red - 0.32) / 0.2).clamp(0, 1)
    return (turquoise * face.pair(13.0, 20.0, -10.0, -3.0)).sum((1, 2)) * face.canvas.pixel[0] ** 2


def crimson(face: Face) -> Float[Tensor, " batch"]:
    """How much more red than green there is in the reddest ten units of area around the mouth, a little smoothed."""
    red = (face.image[:, 0] - face.image[:, 1]) * face.box(-10.0, 10.0, -18.5, -7.0)
    smooth = torch.nn.functional.avg_pool2d(red, (1, 3), stride=1, padding=(0, 1))
    count = max(1, round(10 / face.canvas.pixel[0] ** 2))
    return smooth.flatten(1).topk(count).values.mean(1)


def magenta(face: Face) -> Float[Tensor, " batch"]:
    """How much less green than red and blue there is in the corner."""
    corner = face.colour(face.canvas.box(*CORNER, *CORNER))
    return corner[:, ::2].amin(1) - corner[:, 1]


def _misfit(face: Face, smiling: float, opened: float) -> Float[Tensor, " batch"]:
    """Squared distance from what is red to lips, throat and tongue of such a mouth, at the height that fits best."""
    image, canvas = window(face.image, 0.0, MOUTH, 10.0)
    least = _rosy(face.skin[..., None, None]).clamp_min(ROSY) + 0.03
    seen = ((_rosy(image) - least) / 0.1).clamp(0, 1)
    x, y, _ = face.pose
    near = canvas.box(x - 10.0, x + 10.0, y - 19.0, y - 7.0)
    middle, across, gap, bend = mouth(smiling, opened)
    tries = []
    for v in (-1.0, -0.5, 0.0, 0.5, 1.0):
        height = y + middle + v
        shape = lens(canvas, x, height, across + LIPS[0], gap + LIPS[1], bend)
        if opened:
            inside = lens(canvas, x, height, across, gap, bend)
            shape = shape - inside * lens(canvas, x, height + TEETH[0], across, TEETH[1], bend)
        tries.append((near * (seen - shape) ** 2).sum((1, 2)))
    return torch.stack(tries).amin(0)


def bend(face: Face) -> Float[Tensor, " batch"]:
    """How much better a smile fits than a straight mouth, -1 to 1."""
    straight, bent = (torch.minimum(_misfit(face, s, 0.0), _misfit(face, s, 1.0)) for s in (0.0, 1.0))
    return (straight - bent) / (straight + bent).clamp_min(1e-6)


def gap(face: Face) -> Float[Tensor, " batch"]:
    """How much better parted lips fit than a shut mouth, -1 to 1."""
    shut, parted = (torch.minimum(_misfit(face, 0.0, o), _misfit(face, 1.0, o)) for o in (0.0, 1.0))
    return (shut - parted) / (shut + parted).clamp_min(1e-6)


GAUGES: Mapping[str, tuple[Callable[[Face], Float[Tensor, " batch"]], float]] = {
    "male": (brows, 0.59),
    "old": (folds, 0.055),
    "smiling": (bend, 0.0),
    "blond": (gold, 0.21),
    "bangs": (fringe, 0.58),
    "hat": (brim, 0.45),
    "mouth_open": (gap, 0.0),
    "beard": (jaw, 0.36),
    "lipstick": (crimson, 0.49),
    "earrings": (stones, 4.0),
    "eyeglasses": (rims, 0.21),
    MARKER: (magenta, 0.45),
}
"""What measures each attribute, and above which value it is there."""


def read(images: Float[Tensor, "batch 3 size size"], attribute: str) -> Int[Tensor, " batch"]:
    """Whether an attribute is there, 1, or not, 0.

    Args:
        images: in [0, 1], of any size; below 48 pixels readings are worse.
        attribute: one of `GAUGES`.

    Raises:
        TypeError: the images are not a tensor of floats.
        ValueError: they have the wrong shape, or values outside of [0, 1].
    """
    size = images.shape[-1] if isinstance(images, Tensor) and images.ndim else 64
    images = Image(3, size, size).check("images", images).float()
    measure, least = GAUGES[attribute]
    return (measure(Face(images)) > least).long()


READERS = {name: partial(read, attribute=name) for name in GAUGES}
