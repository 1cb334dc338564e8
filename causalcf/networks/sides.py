"""Which images a network that halves the resolution can take."""

from __future__ import annotations

from causalcf.numbers import whole


def coarsest(kind: str, size: tuple[int, int], widths: int, patch: int = 1) -> tuple[int, int]:
    """Height and width of the coarsest resolution, of `widths` of them, each half of the one before.

    Args:
        kind: the network's name, for the error.
        size: height and width of the image.
        widths: how many resolutions.
        patch: side of the squares of pixels that are folded before.

    Raises:
        ValueError: the sides cannot be divided so often, or by nothing.

    Example:
        >>> coarsest("UNet", (28, 28), 3)
        (7, 7)
    """
    if widths < 1:
        raise ValueError(f"{kind}: expected widths of at least one resolution, got none; give (32, 64), for example")
    whole(kind, 1, patch=patch)
    factor = patch * 2 ** (widths - 1)
    if size[0] % factor or size[1] % factor:
        folded = f"patches of {patch} and " if patch > 1 else ""
        raise ValueError(
            f"{kind}: {folded}{widths} widths divide the image by {factor}, which {size[0]}x{size[1]} pixels do not "
            f"allow; use fewer widths or an image whose sides are multiples of {factor}"
        )
    return size[0] // factor, size[1] // factor
