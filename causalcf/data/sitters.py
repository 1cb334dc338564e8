"""Sitters: who sits for a portrait, that is everything about a drawn face that no attribute decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Colour
from causalcf.units import Units

SKINS = ((0.99, 0.87, 0.78), (0.93, 0.73, 0.58), (0.60, 0.41, 0.30))
DARK = ((0.10, 0.08, 0.08), (0.38, 0.23, 0.14))
BLOND = ((0.85, 0.63, 0.24), (0.97, 0.83, 0.46))
LIPSTICKS = ((0.87, 0.05, 0.24), (0.74, 0.03, 0.18))
IRISES = ((0.36, 0.20, 0.10), (0.20, 0.42, 0.68), (0.24, 0.46, 0.30), (0.36, 0.41, 0.47))
CLOTHES = ((0.27, 0.42, 0.60), (0.55, 0.30, 0.32), (0.30, 0.48, 0.40), (0.36, 0.34, 0.42))
HATS = ((0.17, 0.25, 0.52), (0.70, 0.18, 0.19), (0.11, 0.40, 0.33), (0.42, 0.22, 0.53))


@dataclass(frozen=True)
class Sitter:
    """The exogenous noise of a portrait, one number or colour per row.

    Attributes:
        x: of the middle of the head, 30 to 34 in a picture of 64.
        y: of the middle of the head, 30 to 33.
        wide: scale of the face across, 0.93 to 1.05.
        high: scale of the face along, 0.96 to 1.03.
        apart: of each eye from the middle, 5.9 to 7.
        mane: how far up the hair ends at the sides, from 2 (short) to -22 (on the shoulders).
        skin: from fair to dark.
        dark: the hair, where it is not blond.
        blond: the hair, where it is.
        iris: one of four.
        wall: what is behind, pale.
        cloth: the shirt, one of four.
        felt: the hat, one of four.
        lipstick: from pink to crimson.
    """

    x: Float[Tensor, " batch"]
    y: Float[Tensor, " batch"]
    wide: Float[Tensor, " batch"]
    high: Float[Tensor, " batch"]
    apart: Float[Tensor, " batch"]
    mane: Float[Tensor, " batch"]
    skin: Float[Tensor, "batch 3"]
    dark: Float[Tensor, "batch 3"]
    blond: Float[Tensor, "batch 3"]
    iris: Float[Tensor, "batch 3"]
    wall: Float[Tensor, "batch 3"]
    cloth: Float[Tensor, "batch 3"]
    felt: Float[Tensor, "batch 3"]
    lipstick: Float[Tensor, "batch 3"]

    @classmethod
    def of(cls, units: Units) -> Sitter:
        """Those who belong to these units."""
        uniform = units.uniform("sitter", (16,)).float()
        x, y, wide, high, apart, mane, skin, dark, blond, iris, cloth, felt, lipstick, *wall = uniform.unbind(1)
        return cls(
            x=30 + 4 * x,
            y=30 + 3 * y,
            wide=0.93 + 0.12 * wide,
            high=0.96 + 0.07 * high,
            apart=5.9 + 1.1 * apart,
            mane=2 - 24 * mane,
            skin=_between(SKINS, skin),
            dark=_between(DARK, dark),
            blond=_between(BLOND, blond),
            iris=_one_of(IRISES, iris),
            wall=0.68 + 0.27 * torch.stack(wall, 1),
            cloth=_one_of(CLOTHES, cloth),
            felt=_one_of(HATS, felt),
            lipstick=_between(LIPSTICKS, lipstick),
        )


def _between(colours: Sequence[Colour], share: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3"]:
    """A colour on the way from the first to the last."""
    stops = torch.tensor(colours, device=share.device)
    place = share * (len(stops) - 1)
    first = place.long().clamp(max=len(stops) - 2)
    return torch.lerp(stops[first], stops[first + 1], (place - first)[:, None])


def _one_of(colours: Sequence[Colour], share: Float[Tensor, " batch"]) -> Float[Tensor, "batch 3"]:
    stops = torch.tensor(colours, device=share.device)
    return stops[(share * len(stops)).long().clamp(max=len(stops) - 1)]
