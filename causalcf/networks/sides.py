"""Which images and widths a network that halves the resolution can take."""

from __future__ import annotations

from collections.abc import Sequence

from causalcf.numbers import whole

GROUPS = 8  # of channels that are normalised together


def even(width: object) -> bool:
    """Whether a layer of so many channels can be normalised."""
    return isinstance(width, int) and width > 0 and width % GROUPS == 0


def coarsest(kind: str, size: tuple[int, int], widths: Sequence[int], patch: int = 1) -> tuple[int, int]:
    """Height and width of the coarsest resolution, of as many as there are widths, each half of the one before.

    Args:
        kind: the network's name, for the error.
        size: height and width of the image.
        widths: channels at each resolution.
        patch: side of the squares of pixels that are folded before.

    Raises:
        ValueError: the sides cannot be divided so often, or by nothing, or channels cannot be normalised.

    Example:
        >>> coarsest("UNet", (28, 28), (32, 64, 64))
        (7, 7)
    """
    if not widths:
        raise ValueError(f"{kind}: expected widths of at least one resolution, got none; give (32, 64), for example")
    if not all(map(even, widths)):
        raise ValueError(
            f"{kind}: expected widths that {GROUPS} divides, got {tuple(widths)}; give (32, 64), for example"
        )
    whole(kind, 1, patch=patch)
    factor = patch * 2 ** (len(widths) - 1)
    if size[0] % factor or size[1] % factor:
        folded = f"patches of {patch} and " if patch > 1 else ""
        raise ValueError(
            f"{kind}: {folded}{len(widths)} widths divide the image by {factor}, which {size[0]}x{size[1]} pixels do "
            f"not allow; use fewer widths or an image whose sides are multiples of {factor}"
        )
    return size[0] // factor, size[1] // factor
