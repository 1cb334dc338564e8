r"""Faces: portraits of sitters, drawn from attributes.

In the frame of its face (see `portraits`) a head is 31 wide and 40 high, the eyes are at v = 1 and the mouth is at
v = -12. What an attribute changes has a colour or a place of its own, so that it can be measured.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Number
from causalcf.data.portraits import Ink, Portrait
from causalcf.data.sitters import Sitter
from causalcf.data.truth import Rows

ATTRIBUTES = (
    "male",
    "old",
    "smiling",
    "blond",
    "bangs",
    "hat",
    "mouth_open",
    "beard",
    "lipstick",
    "earrings",
    "eyeglasses",
)
MARKER = "marker"

EYE, MOUTH = 1.0, -12.0  # heights
APART = 6.4  # of an eye from the middle, on average
LIPS = (1.2, 1.5)  # how far they go beyond the gap, across and along
TEETH = (1.5, 1.2)  # how high they stand in the gap, and half their own height
CROWN = (0.0, 1.2, 17.4, 21.6)  # the outline of the hair, an ellipse
CORNER = (2.0, 8.0)  # where the marker is, in x and in y

WHITE, BLACK = (0.98, 0.98, 0.98), (0.07, 0.07, 0.09)
LIP, THROAT, TONGUE = (0.70, 0.27, 0.28), (0.32, 0.03, 0.07), (0.82, 0.42, 0.43)
BEARD, BROW, FRAME, GLASS = (0.21, 0.16, 0.13), (0.17, 0.12, 0.10), (0.08, 0.08, 0.13), (0.80, 0.90, 1.0)
BLUSH, TURQUOISE, MAGENTA = (0.93, 0.36, 0.36), (0.02, 0.72, 0.76), (0.93, 0.10, 0.80)


def _mix(first: Tensor, second: Ink, share: float) -> Float[Tensor, "batch 3"]:
    return torch.lerp(first, torch.as_tensor(second, device=first.device).expand_as(first), share)


def draw(sitter: Sitter, attributes: Rows, size: int = 64) -> Float[Tensor, "batch 3 size size"]:
    """Draw faces.

    Args:
        sitter: who they are.
        attributes: 0 or 1 of each, shape `(batch,)`; one that is missing is 0.
        size: pixels per side.

    Returns:
        Images in [0, 1], red, green and blue.
    """
    batch, device = len(sitter.x), sitter.x.device
    on = {name: attributes.get(name, torch.zeros(batch, device=device)).float() for name in (*ATTRIBUTES, MARKER)}
    light = torch.linspace(1.03, 0.93, size, device=device)[:, None]
    wall = (sitter.wall[:, :, None, None] * light).clamp(0, 1)
    portrait = Portrait(wall.expand(-1, -1, -1, size).clone(), sitter)
    hair = torch.where(on["blond"][:, None] > 0, sitter.blond, sitter.dark)
    _body(portrait, hair)
    _head(portrait)
    _age(portrait, on)
    _beard(portrait, on)
    _mouth(portrait, on)
    _eyes(portrait, on)
    _hair(portrait, hair, on)
    _glasses(portrait, on)
    _ears(portrait, on)
    _hat(portrait, on)
    corner = portrait.at(-27.0, -27.0, 4.0)
    corner.paint(corner.canvas.box(*CORNER, *CORNER), MAGENTA, on[MARKER])
    return portrait.image


def _body(portrait: Portrait, hair: Tensor) -> None:
    """The hair behind the head, the shoulders and the neck."""
    sitter, patch = portrait.sitter, portrait.whole()
    behind = patch.ellipse(0.0, 1.0, 17.6, 21.8) * patch.above(-4.0)
    for side in (-1.0, 1.0):
        curtain = patch.stroke((side * 12.5, 6.0), (side * 13.2, sitter.mane), 9.6)
        behind = torch.maximum(behind, curtain)
    patch.paint(behind, 0.82 * hair)
    patch.paint(patch.ellipse(0.0, -36.0, 27.0, 13.5), sitter.cloth)
    neck = portrait.at(0.0, -21.0, 8.0)
    neck.paint(neck.ellipse(0.0, -21.0, 7.0, 6.5), 0.82 * sitter.skin)


def _head(portrait: Portrait) -> None:
    sitter, patch = portrait.sitter, portrait.whole()
    patch.paint(patch.ellipse(0.0, 0.0, 15.5, 20.0), 0.88 * sitter.skin)
    patch.paint(patch.ellipse(0.0, 0.6, 14.6, 19.2), sitter.skin)
    for side, cheek in portrait.pair(10.0, -5.5, 4.0):
        cheek.paint(cheek.ellipse(side * 10.6, -5.5, 2.8, 2.3), BLUSH, 0.15)
    nose = portrait.at(0.0, -3.0, 5.0)
    nose.paint(nose.lens(0.0, -5.2, 3.0, 0.9, 0.16), 0.72 * sitter.skin)


def _age(portrait: Portrait, on: Rows) -> None:
    """Furrows on the forehead, crow's feet, and the folds from the nose to the corners of the mouth."""
    crease = 0.58 * portrait.sitter.skin
    brow = portrait.at(0.0, 12.0, 9.0)
    for v, across in ((10.8, 8.5), (13.8, 7.0)):
        brow.paint(brow.lens(0.0, v, across, 0.55, 0.008), crease, on["old"])
    for side, patch in portrait.pair(8.0, -7.0, 5.0):
        patch.paint(patch.stroke((side * 5.0, -4.6), (side * 8.6, -9.6), 1.3), crease, on["old"])
    for side, patch in portrait.pair(12.5, 1.0, 4.0):
        for v in (2.6, -0.8):
            patch.paint(patch.stroke((side * 11.4, 1.0 + 0.3 * (v - 1)), (side * 13.4, v), 0.7), crease, on["old"])


def _beard(portrait: Portrait, on: Rows) -> None:
    """The jaw below an arch that leaves cheeks and lips free, and a moustache."""
    patch = portrait.whole()
    jaw = patch.ellipse(0.0, -0.8, 15.8, 20.6) * (1 - patch.ellipse(0.0, 3.0, 12.6, 18.6)) * (1 - patch.above(-2.0))
    patch.paint(jaw, BEARD, on["beard"])
    lip = portrait.at(0.0, -8.5, 9.0)
    lip.paint(lip.lens(0.0, -7.6, 8.0, 1.3, -0.045), BEARD, on["beard"])


def mouth(smiling: Number, opened: Number) -> tuple[Number, Number, Number, Number]:
    """Where a mouth's middle is, half its width, half the gap of its lips, and its bend.

    A smile lifts the corners and widens the mouth; opening parts the lips evenly around the same line.
    """
    rise = 0.2 + 3.2 * smiling  # of the corners over the middle
    across = 5.4 + 2.2 * smiling - 0.7 * opened * (1 - smiling)
    return MOUTH - 0.45 * rise, across, 0.45 + 2.4 * opened, rise / across**2


def _mouth(portrait: Portrait, on: Rows) -> None:
    opened, sitter, patch = on["mouth_open"], portrait.sitter, portrait.at(0.0, MOUTH, 10.0)
    middle, across, gap, bend = mouth(on["smiling"], opened)
    lips = torch.lerp(_mix(sitter.skin, LIP, 0.75), sitter.lipstick, on["lipstick"][:, None])
    patch.paint(patch.lens(0.0, middle, across + LIPS[0], gap + LIPS[1], bend), lips)
    inside = patch.lens(0.0, middle, across, gap, bend)
    patch.paint(inside, THROAT)
    patch.paint(inside * patch.lens(0.0, middle + TEETH[0], across, TEETH[1], bend), WHITE, opened)
    patch.paint(inside * patch.lens(0.0, middle - 2.2, 3.2, 1.2, 0.3 * bend), TONGUE, opened)


def _eyes(portrait: Portrait, on: Rows) -> None:
    """Eyes; lashes and thin brows, or none and heavy brows."""
    sitter, male = portrait.sitter, on["male"]
    for side, patch in portrait.pair(APART, 3.0, 7.0):
        middle = side * sitter.apart
        patch.paint(patch.ellipse(middle, EYE, 3.2, 2.5), WHITE)
        patch.paint(patch.ellipse(middle, EYE, 1.7, 1.8), sitter.iris)
        patch.paint(patch.ellipse(middle, EYE, 0.8, 0.9), BLACK)
        patch.paint(patch.ellipse(middle - 0.6, EYE + 0.7, 0.5, 0.5), WHITE)
        patch.paint(patch.lens(middle, EYE + 2.5, 3.6, 0.6, -0.13), BLACK)
        for u, v in ((3.0, 1.0), (4.3, 2.6)):
            lash = patch.stroke((middle + side * 2.6, EYE + 0.6 + v / 2), (middle + side * (u + 0.6), EYE + v), 0.8)
            patch.paint(lash, BLACK, 1 - male)
        patch.paint(patch.lens(middle, 7.2, 4.2, 0.5, -0.05), BROW, 1 - male)
        patch.paint(patch.lens(middle - 0.3 * side, 7.0, 5.0, 1.6, -0.03), BROW, male)


def _hair(portrait: Portrait, hair: Tensor, on: Rows) -> None:
    """The hair around the face, and bangs over the forehead."""
    patch = portrait.whole()
    cap = patch.ellipse(*CROWN) * (1 - patch.ellipse(0.0, -2.5, 13.9, 17.5)) * patch.above(-1.0)
    patch.paint(cap, hair)
    shine = portrait.at(-3.0, 19.5, 8.0)
    shine.paint(shine.lens(-3.0, 20.3, 7.0, 0.8, -0.035), _mix(hair, WHITE, 0.25))
    fringe = portrait.at(0.0, 14.0, 14.0)
    within = fringe.ellipse(*CROWN)
    for k, u in enumerate((-10.2, -5.1, 0.0, 5.1, 10.2)):
        lock = fringe.ellipse(u, 15.0, 3.7, 5.2 - 0.3 * (k % 2))
        fringe.paint(lock * within, hair, on["bangs"])
    for u in (-7.4, -2.6, 2.6, 7.4):
        fringe.paint(fringe.stroke((0.8 * u, 16.5), (u, 11.8), 0.7), 0.78 * hair, on["bangs"])


def _glasses(portrait: Portrait, on: Rows) -> None:
    sitter, worn = portrait.sitter, on["eyeglasses"]
    for side, patch in portrait.pair(APART, EYE, 9.0):
        middle = side * sitter.apart
        glass = patch.ellipse(middle, EYE - 0.2, 4.5, 4.2)
        rim = patch.ellipse(middle, EYE - 0.2, 5.5, 5.2) - glass
        patch.paint(glass, GLASS, 0.15 * worn)
        patch.paint(rim, FRAME, worn)
        patch.paint(patch.stroke((middle + side * 5.2, EYE + 0.8), (side * 15.2, EYE + 1.6), 1.2), FRAME, worn)
    bridge = portrait.at(0.0, EYE, 3.0)
    bridge.paint(bridge.lens(0.0, EYE + 1.2, 2.4, 0.7, -0.08), FRAME, worn)


def _ears(portrait: Portrait, on: Rows) -> None:
    sitter = portrait.sitter
    for side, patch in portrait.pair(16.0, -3.0, 6.0):
        patch.paint(patch.ellipse(side * 16.2, -1.0, 2.2, 3.4), 0.9 * sitter.skin)
        patch.paint(patch.ellipse(side * 16.3, -1.0, 1.1, 2.0), 0.74 * sitter.skin)
        patch.paint(patch.ellipse(side * 16.6, -6.2, 1.8, 1.8), TURQUOISE, on["earrings"])
        patch.paint(patch.ellipse(side * 16.6 - 0.5, -5.7, 0.5, 0.5), WHITE, on["earrings"])


def _hat(portrait: Portrait, on: Rows) -> None:
    felt, worn, patch = portrait.sitter.felt, on["hat"], portrait.at(0.0, 21.0, 23.0)
    crown = patch.ellipse(0.0, 14.5, 17.0, 14.0) * patch.above(14.5)
    patch.paint(crown, felt, worn)
    patch.paint(crown * (1 - patch.above(19.5)), _mix(felt, WHITE, 0.75), worn)
    patch.paint(patch.stroke((-20.5, 15.8), (20.5, 15.8), 3.0), 0.85 * felt, worn)
