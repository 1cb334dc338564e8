"""Solvers by the names under which a mechanism asks for them."""

from __future__ import annotations

from causalcf.diffusion.multistep import Multistep
from causalcf.diffusion.reversible import BELM, EDICT, BidirectionalDDIM
from causalcf.diffusion.solvers import DDIM, Explicit, FixedPoint, Solver
from causalcf.numbers import number

SOLVERS = ("ddim", "explicit ddim", "2m", "bidirectional ddim", "belm", "edict")
MIXED = {"bidirectional ddim": 0.0, "edict": 0.5}  # solvers that take `mixing`, and what it must be above
TWO_STEPS = ("bidirectional ddim", "belm")  # that carry the image next to the noise, and need another step to change it


def solver_named(
    kind: str, name: str, steps: int, passes: int = 8, tolerance: float = 1e-4, mixing: float | None = None
) -> Solver:
    """A solver, with the options that are its own.

    Args:
        kind: who asks, for messages.
        name: one of `SOLVERS`.
        steps: of the trajectory.
        passes: the most network calls of one fixed-point step of "ddim".
        tolerance: the change of a pixel, in parts of the level's noise, at which such a step stops.
        mixing: the gamma of "bidirectional ddim", or the p of "edict"; None is the scheme's own default.

    Raises:
        ValueError: another name, a mixing out of range or of a solver that has none, or too few steps.

    Example:
        >>> solver_named("SpatialDiffusion", "edict", steps=24, mixing=0.9)
        EDICT(p=0.9)
    """
    if name not in SOLVERS:
        raise ValueError(f"{kind}: expected solver in {list(SOLVERS)}, got {name!r}")
    if mixing is not None and name not in MIXED:
        raise ValueError(
            f"{kind}: mixing={mixing!r} is of the solvers {' and '.join(map(repr, MIXED))}, got solver={name!r}; "
            "give mixing=None"
        )
    if mixing is not None and not (number(mixing) and MIXED[name] < mixing <= 1):
        raise ValueError(
            f"{kind}: expected {MIXED[name]:g} < mixing <= 1 with solver={name!r}, or None for its default, "
            f"got {mixing!r}"
        )
    if steps == 1 and name in TWO_STEPS:
        raise ValueError(
            f"{kind}: solver={name!r} keeps the image next to the noise, which with steps=1 is the factual one, "
            "and nothing would change; give steps=2 or more"
        )
    iterated, mixed = FixedPoint(passes, tolerance), () if mixing is None else (mixing,)
    match name:
        case "ddim":
            return DDIM(iterated)
        case "explicit ddim":
            return DDIM(Explicit())
        case "2m":
            return Multistep()
        case "belm":
            return BELM()
        case "edict":
            return EDICT(*mixed)
        case _:
            return BidirectionalDDIM(*mixed)
