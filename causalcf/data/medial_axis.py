"""Distance transform and medial axis of small binary images: those of scikit-image, several times as fast."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
from jaxtyping import Bool, Int, UInt8
from scipy import ndimage
from skimage import morphology

try:  # most of the time of `medial_axis` goes into a table that never changes; the loop alone is what we need
    from skimage.morphology._skeletonize import _skeletonize_loop as _thin
except ImportError:  # pragma: no cover - a scikit-image that keeps its loop elsewhere
    _thin = None

REACH = 181  # distances below it: the sum of two squares of such numbers fits 16 bits

Tiebreak = Callable[[int], Int[np.ndarray, " pixels"]]


def seeded(pixels: int) -> Int[np.ndarray, " pixels"]:
    """The order that `skimage.morphology.medial_axis(..., rng=42)` gives to equal pixels."""
    return np.random.default_rng(42).permutation(pixels)


def squared_distance(ink: Bool[np.ndarray, "height width"]) -> Int[np.ndarray, "height width"]:
    r"""Exact squared distance of every pixel to the nearest background pixel, in pixels.

    `d^2(y, x) = min_{x'} (g(y, x')^2 + (x - x')^2)`, where g is the distance within the column: the two
    passes of Saito and Toriwaki (1994). The second stops at the greatest distance, so thin strokes are cheap.

    Args:
        ink: True is foreground. At least one pixel must be background; beyond the border there is nothing.

    Returns:
        Integers, shape `(height, width)`; zero on the background.
    """
    height = len(ink)
    row = np.arange(height, dtype=np.int16)[:, None]
    above = np.where(ink, np.int16(-REACH), row)
    np.maximum.accumulate(above, axis=0, out=above)
    below = np.where(ink, np.int16(height + REACH), row)[::-1]
    below = np.minimum.accumulate(below, axis=0)[::-1]
    column = np.minimum(np.minimum(row - above, below - row), REACH)
    # transposed, so that the shifts below move whole rows of memory
    squares = np.ascontiguousarray(column.T).astype(np.uint16) ** 2
    nearest, shifted, step, furthest = squares.copy(), np.empty_like(squares), 1, REACH**2
    while step < REACH and step * step < furthest:
        np.add(squares, np.uint16(step * step), out=shifted)
        np.minimum(nearest[step:], shifted[:-step], out=nearest[step:])
        np.minimum(nearest[:-step], shifted[step:], out=nearest[:-step])
        step += 1
        if step % 4 == 0:  # not at every step, since it takes as long as one
            furthest = int(nearest.max())
    if nearest.max() >= REACH**2:
        return np.rint(np.square(np.asarray(ndimage.distance_transform_edt(ink)))).astype(np.int64)
    return np.ascontiguousarray(nearest.T)


def medial_axis(
    ink: Bool[np.ndarray, "height width"],
    squares: Int[np.ndarray, "height width"],
    tiebreak: Tiebreak = seeded,
) -> Bool[np.ndarray, "height width"]:
    """Ridge of the distance transform, one pixel wide and connected as the ink is.

    Pixels are visited by distance, then by how many of their neighbours are background, then as `tiebreak`
    says; one is removed where that neither disconnects anything nor shortens an end. By default the result is
    that of `skimage.morphology.medial_axis(ink, rng=42)`.

    Args:
        ink: True is foreground.
        squares: `squared_distance(ink)`.
        tiebreak: number of ink pixels -> a permutation of them, in reading order.
    """
    if _thin is None:
        return _public_medial_axis(ink)
    position = np.flatnonzero(ink)
    pixels = ink.astype(np.uint8)
    distance = squares.ravel()[position]
    present = np.zeros(int(distance.max()) + 1, dtype=bool)
    present[distance] = True
    rank = np.cumsum(present) - 1  # keeps keys in 16 bits, which numpy sorts by radix
    key = rank[distance] * 9 + (9 - _neighbourhood(pixels).ravel()[position])
    key = key.astype(np.uint16 if key.max() < 2**16 else np.int64)
    drawn = np.empty(len(position), dtype=np.int32)
    drawn[tiebreak(len(position))] = np.arange(len(position), dtype=np.int32)
    order = drawn[np.argsort(key[drawn], kind="stable")]
    y, x = np.divmod(position, ink.shape[1])
    _thin(pixels, y, x, order, _kept())
    return pixels.view(bool)


def _public_medial_axis(ink: Bool[np.ndarray, "height width"]) -> Bool[np.ndarray, "height width"]:
    """The slow way, for versions of scikit-image whose loop we do not find; ties go to its own order."""
    return np.asarray(morphology.medial_axis(ink, rng=42))


def _neighbourhood(pixels: UInt8[np.ndarray, "height width"]) -> UInt8[np.ndarray, "height width"]:
    """How many of the 3x3 pixels around each pixel are ink."""
    rows = pixels.copy()
    rows[1:] += pixels[:-1]
    rows[:-1] += pixels[1:]
    total = rows.copy()
    total[:, 1:] += rows[:, :-1]
    total[:, :-1] += rows[:, 1:]
    return total


@cache
def _kept() -> UInt8[np.ndarray, " 512"]:
    """For each 3x3 pattern (bit k is pixel k, row by row), whether its centre must stay."""

    def parts(pattern: np.ndarray) -> int:
        return int(np.max(ndimage.label(pattern, structure=np.ones((3, 3)))[0]))  # pyright: ignore

    kept = np.zeros(512, dtype=np.uint8)
    for code in range(512):
        pattern = (code >> np.arange(9) & 1).reshape(3, 3)
        without = pattern.copy()
        without[1, 1] = 0
        kept[code] = pattern[1, 1] and (parts(pattern) != parts(without) or pattern.sum() < 3)
    return kept
