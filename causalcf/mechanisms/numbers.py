"""Numbers among the options of a mechanism, checked where they enter."""

from __future__ import annotations

import math


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


def finite(kind: str, least: float, **options: object) -> None:
    """Raise a ValueError where an option is no finite number, or below the least one."""
    for name, value in options.items():
        number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if not number or value < least:  # pyright: ignore[reportOperatorIssue]
            raise ValueError(f"{kind}: expected a finite {name} >= {least:g}, got {value!r}")
