"""The options that validation rows choose, of every method by the same rule and among as many candidates."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any

Options = Mapping[str, Any]
CANDIDATES = 8  # of every family


@dataclass(frozen=True)
class Family:
    """Methods that share their options.

    An arm of an ablation has a family of its own: gradients of another source have another length, and what suits a
    method with a part does not suit it without. `SHARED` in `methods.py` says who shares.

    Attributes:
        given: options that are not chosen.
        grid: option -> the values it is chosen from.
    """

    given: Options
    grid: Mapping[str, Sequence[Any]]

    def candidates(self) -> list[dict[str, Any]]:
        """All of the grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]

    def digest(self) -> str:
        """Of what is chosen from."""
        return hashlib.sha256(json.dumps([self.given, self.grid]).encode()).hexdigest()[:12]


def _but(grid: Mapping[str, Sequence[Any]], **changed: Sequence[Any]) -> dict[str, Sequence[Any]]:
    """A grid with other values of some options, and without those that have none."""
    return {name: values for name, values in {**grid, **changed}.items() if values}


# The published chains were uniform in a linear schedule. In the cosine one, the same 60 steps begin at the same noise,
# 0.78, if the whole chain has 105 steps; five steps begin at ACE's 0.27 if it has 29.
BACK: dict[str, Any] = {"depth": 60}
LEVELS = (105, 200)
BOLD, MEEK = (8.0, 10.0, 15.0), (2.0, 4.0, 8.0)  # scales: as published, and smaller ones
LADDERS = (BOLD, (4.0, 8.0, 16.0), MEEK, (1.0, 2.0, 4.0))
MASKED = {"scales": (BOLD, MEEK), "share": (0.05, 0.1), "steps": LEVELS}
FAST = {"scales": (BOLD, MEEK), "threshold": (0.15, 0.3), "steps": LEVELS}
BARE = {"scales": LADDERS, "steps": LEVELS}
LITE: dict[str, Any] = {"steps": 25, "strength": 0.6, "scales": (1.0, 2.0, 4.0)}
RATES = {"rate": (1.0, 0.3, 3.0, 10.0), "threshold": (0.03, 0.06)}
CONSENSUS = {"class_weight": (4.0, 8.0), "distance_weight": (1.2, 3.3, 0.6, 0.3)}
PART: dict[str, Any] = {"steps": 100, "strength": 0.53, "scales": (1.0, 3.0)}  # of LDCE's chain
FEW: dict[str, Any] = {"steps": 8, "strength": 0.9}
BOTH = ((1.0, 2.0, 0.0), (2.0, 3.0, 0.0))  # weights: of the gradient, of the generator's direction, of the distance
MORE = (*BOTH, (1.0, 3.0, 0.0), (2.0, 2.0, 0.0))
OWN = {"weights": BOTH, "share": (0.03, 0.05), "threshold": (0.05, 0.1)}
FAMILIES: dict[str, Family] = {
    "Agreed": Family(FEW, OWN),
    "Agreed, without consensus": Family({**FEW, "angle": 180.0}, OWN),
    "Agreed, vanilla": Family(FEW, OWN),
    "Agreed, gradient alone": Family(FEW, _but(OWN, weights=((2.0, 0.0, 0.0), (1.0, 0.0, 0.0)))),
    "Agreed, generator alone": Family(FEW, _but(OWN, weights=((0.0, 2.0, 0.0), (0.0, 3.0, 0.0)))),
    "Agreed, drawn noise": Family({**FEW, "abducted": False}, OWN),
    "Agreed, nothing put back": Family({**FEW, "threshold": 0.0}, _but(OWN, weights=MORE, threshold=())),
    "Agreed, one look, five steps": Family({**FEW, "steps": 6, "looks": 1}, OWN),
    "MaskDiME": Family(BACK, MASKED),
    "MaskDiME, published": Family({**BACK, "parity": "published"}, MASKED),
    "MaskDiME, distilled": Family(BACK, MASKED),
    "FastDiME": Family(BACK, FAST),
    "FastDiME, published": Family({**BACK, "parity": "published"}, FAST),
    "FastDiME, no mask": Family({**BACK, "masking": "none"}, BARE),
    "SCE-LITE-HQ, distilled": Family(LITE, RATES),
    "SCE-LITE-HQ, vanilla": Family(LITE, RATES),
    "SCE-LITE-HQ, SmoothGrad": Family(LITE, RATES),
    "SCE-LITE-HQ, IntegratedGradients": Family(LITE, RATES),
    "Told": Family(_but(LITE, strength=()), {"rate": (1.0, 3.0), "threshold": (0.03, 0.06), "strength": (0.6, 0.8)}),
    "LDCE": Family(PART, CONSENSUS),
    "LDCE, no consensus": Family({**PART, "angle": 180.0}, CONSENSUS),
    "ACE": Family({"steps": 29, "depth": 5}, {"distance": (1e-3, 1e-2, 1e-4, 0.0), "rate": (1.0, 2.0)}),
    "SCE": Family({"steps": 26, "strength": 0.58}, {"rate": (0.05, 0.1, 0.025, 0.2), "threshold": (0.03, 0.06)}),
    "DiME": Family(BACK, BARE),
    "FastDiME, no mask, latent": Family({**BACK, "masking": "none"}, BARE),
    "SCE-LITE-HQ, distilled, latent": Family(LITE, RATES),
    "Agreed, latent": Family(
        {**FEW, "block": 1, "dilation": 3},
        {"weights": ((1.0, 3.0, 0.0), (2.0, 3.0, 0.0)), "share": (0.05, 0.1), "threshold": (0.05, 0.1)},
    ),
}
