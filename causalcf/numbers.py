"""Numbers and switches among options, checked where they enter."""

from __future__ import annotations

import math
from typing import TypeGuard


def whole(kind: str, least: int, **options: object) -> None:
    """Raise a ValueError where an option is no whole number, or below the least one.

    Example:
        >>> whole("VAE", 1, latent=2.5)
        Traceback (most recent call last):
        ValueError: VAE: expected a whole number latent >= 1, got 2.5
    """
    for name, value in options.items():
        if isinstance(value, bool) or not isinstance(value, int) or value < least:
            raise ValueError(f"{kind}: expected a whole number {name} >= {least}, got {value!r}")


def number(value: object) -> TypeGuard[int | float]:
    """Whether it is a real number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def finite(kind: str, least: float, **options: object) -> None:
    """Raise a ValueError where an option is no finite number, or below the least one, if there is one (not -inf)."""
    for name, value in options.items():
        if not (number(value) and math.isfinite(value) and value >= least):
            bound = f" >= {least:g}" if math.isfinite(least) else ""
            raise ValueError(f"{kind}: expected a finite {name}{bound}, got {value!r}")


def truth(kind: str, **options: object) -> None:
    """Raise a ValueError where an option is neither True nor False: "no" would count as yes."""
    for name, value in options.items():
        if not isinstance(value, bool):
            raise ValueError(f"{kind}: expected {name} to be True or False, got {value!r}")
