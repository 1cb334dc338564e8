"""The generator of Morpho-MNIST: sets thickness, slant and intensity of handwriting, to the published pixel.

Steps and constants: Castro et al., 2019 (https://arxiv.org/abs/1809.10780), in the causal variant of
Pawlowski et al., 2020 (https://arxiv.org/abs/2006.06485). The published files were made with the scikit-image
of their year, which interpolated by Catmull-Rom splines and broke ties of the medial axis in another order.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from scipy import ndimage
from skimage import morphology
from torch import Tensor

from causalcf.data.morphometry import shear, stroke
from causalcf.data.upsampling import Fine, plateau, single_threaded, upsample

SCALE = 16
NEARLY = 1e-9  # pixels; positions nearer than that to a pixel are on it

Images = UInt8[np.ndarray, "batch height width"]
Targets = Float[np.ndarray, " batch"] | Float[Tensor, " batch"]


def set_thickness(images: Images, target: Targets) -> Images:
    """Dilate or erode the strokes by a disk of radius `int(16 |target - measured| / 2)`, 16 times upsampled.

    The target is met to the 1/8 px of one step of the radius, and less well where strokes merge or vanish.

    Args:
        images: grey levels. A constant image stays as it is.
        target: mean thickness of the strokes, px.
    """
    return _each(images, target, _set_thickness)


def set_slant(images: Images, target: Targets) -> Images:
    """Shear the strokes about their centre until `arctan(-u11 / u02) = target`.

    Args:
        images: grey levels. A constant image stays as it is.
        target: slant, rad, positive to the right.
    """
    return _each(images, target, _set_slant)


def set_intensity(images: Images, target: Targets) -> Images:
    """Scale the grey levels by `target / median`, the median over pixels that reach `min + (max - min) / 2`.

    Args:
        images: grey levels. A black image stays as it is.
        target: grey level, 0 to 255.
    """
    return _each(images, target, _set_intensity)


def regenerate(images: Images, thickness: Targets, intensity: Targets) -> Images:
    """Rows of causal Morpho-MNIST from plain MNIST and the two columns of its table.

    Args:
        images: plain MNIST, grey levels.
        thickness: the table's thickness, px.
        intensity: the table's intensity, grey levels.

    Returns:
        The published pixels.

    Example:
        >>> bar = np.zeros((1, 28, 28), dtype=np.uint8)
        >>> bar[:, 4:24, 12:16] = 255
        >>> int(regenerate(bar, np.array([6.0]), np.array([180.0])).max())
        180
    """
    return set_intensity(set_thickness(images, thickness), intensity)


def _each(images: Images, target: Targets, change: Callable[[np.ndarray, np.float32], np.ndarray]) -> Images:
    targets = np.asarray(torch.as_tensor(target).cpu(), dtype=np.float32)
    if images.dtype != np.uint8 or images.ndim != 3:
        raise TypeError(
            f"images: expected uint8 of shape (B, H, W), got {images.dtype} of shape {images.shape}; "
            "write (255 * images).round().astype(numpy.uint8)"
        )
    if targets.shape != images.shape[:1] or not np.isfinite(targets).all():
        raise ValueError(
            f"target: expected one finite number for each of {len(images)} images, got shape {targets.shape}"
        )
    if len(images) == 0:
        return images.copy()
    with single_threaded():
        return np.stack([change(image, value) for image, value in zip(images, targets, strict=True)])


def _set_thickness(image: UInt8[np.ndarray, "h w"], target: np.float32) -> UInt8[np.ndarray, "h w"]:
    fine = upsample(image, SCALE, catmull_rom)
    if fine is None:
        return image
    measured = stroke(fine.ink, _published_order)[0] / SCALE
    change = target - np.float32(measured)
    radius = int(np.float32(SCALE) * abs(change) / np.float32(2))
    ink, top, left = _room(fine, radius)
    ink = _dilate(ink, radius) if change >= 0 else ~_dilate(~ink, radius)
    return _downsample(ink, top, left, image.shape)


def _set_slant(image: UInt8[np.ndarray, "h w"], target: np.float32) -> UInt8[np.ndarray, "h w"]:
    fine = upsample(image, SCALE, catmull_rom)
    if fine is None:
        return image
    ink, top, left = _room(fine, max(fine.shape))
    slope, _, middle = shear(ink.astype(np.float64))
    change = -np.tan(float(target)) - slope
    moved = np.zeros_like(ink)
    y, x = np.nonzero(ink)
    x = x - np.floor(0.5 - change * (y - middle)).astype(int)
    inside = (x >= 0) & (x < ink.shape[1])
    moved[y[inside], x[inside]] = True
    return _downsample(moved, top, left, image.shape)


def _set_intensity(image: UInt8[np.ndarray, "h w"], target: np.float32) -> UInt8[np.ndarray, "h w"]:
    least, most = float(image.min()), float(image.max())
    median = np.median(image[image >= least + 0.5 * (most - least)])
    if median == 0:
        return image
    return np.clip(image * (float(target) / median), 0, 255).astype(np.uint8)


def _room(fine: Fine, margin: int) -> tuple[Bool[np.ndarray, "h w"], int, int]:
    """The ink with `margin` more pixels around it, as far as the image goes, and its first pixel."""
    spans = zip((fine.top, fine.left), fine.ink.shape, fine.shape, strict=True)
    (above, below), (before, after) = (
        (min(margin, start), min(margin, size - start - length)) for start, length, size in spans
    )
    ink = np.pad(fine.ink, ((above, below), (before, after)))
    return ink, fine.top - above, fine.left - before


def _dilate(ink: Bool[np.ndarray, "h w"], radius: int) -> Bool[np.ndarray, "h w"]:
    """Dilation by `footprint(radius)`; beyond the border there is nothing."""
    height, width = ink.shape
    count = np.zeros((height + 2 * radius, width + 2 * radius + 1), dtype=np.int16)
    np.cumsum(np.pad(ink, radius), axis=1, out=count[:, 1:])
    spread: dict[tuple[int, int], Bool[np.ndarray, "rows w"]] = {}
    result = np.zeros_like(ink)
    for offset, row in enumerate(footprint(radius)):
        columns = np.flatnonzero(row)
        if len(columns) == 0:
            continue
        first, last = int(columns[0]), int(columns[-1]) + 1
        if (first, last) not in spread:
            spread[first, last] = count[:, last : last + width] > count[:, first : first + width]
        result |= spread[first, last][offset : offset + height]
    return result


def _downsample(
    ink: Bool[np.ndarray, "h w"], top: int, left: int, shape: tuple[int, ...]
) -> UInt8[np.ndarray, "height width"]:
    """Smooth and reduce to the size of MNIST, truncating to whole grey levels."""
    rows = _reduction(shape[0])[:, top : top + ink.shape[0]]
    columns = _reduction(shape[1])[:, left : left + ink.shape[1]]
    grey = np.clip(255 * (rows @ ink.astype(np.float64) @ columns.T), 0, 255)
    return np.maximum(np.floor(grey + plateau(SCALE)[255]), 0).astype(np.uint8)


@cache
def catmull_rom(size: int, scale: int) -> Float[np.ndarray, "fine coarse"]:
    """Interpolation from `size` to `scale * size` pixels by Catmull-Rom splines, mirrored at the border."""
    position = (np.arange(scale * size) + 0.5) / scale - 0.5
    first = np.floor(position).astype(int)
    x = position - first
    weights = (
        (-x + 2 * x**2 - x**3) / 2,
        (2 - 5 * x**2 + 3 * x**3) / 2,
        (x + 4 * x**2 - 3 * x**3) / 2,
        (-(x**2) + x**3) / 2,
    )
    matrix = np.zeros((scale * size, size))
    for offset, weight in enumerate(weights, start=-1):
        index = np.abs(first + offset)
        index = np.where(index < size, index, 2 * (size - 1) - index)
        np.add.at(matrix, (np.arange(scale * size), index), weight)
    return matrix


@cache
def _reduction(size: int) -> Float[np.ndarray, "coarse fine"]:
    """The Gaussian followed by a Catmull-Rom sample half-way between pixels 7 and 8 of every 16."""
    smoothing = ndimage.gaussian_filter1d(np.eye(SCALE * size), SCALE / 3, axis=0, mode="reflect")
    middle = SCALE // 2 - 1
    samples = [smoothing[middle + offset :: SCALE] for offset in (-1, 0, 1, 2)]
    return np.tensordot(np.array([-1, 9, 9, -1]) / 16, np.stack(samples), 1)


@cache
def footprint(radius: int) -> Bool[np.ndarray, "side side"]:
    """The disk of the generator, `2 radius + 1` pixels wide, a little larger than a disk of that radius.

    A disk of 16 times the radius is smoothed and sampled, and every pixel with any weight counts. A sample
    weighs the pixels on both sides of its position. Where that is a pixel, the libraries of the time came to
    lie a rounding error before or after it. This shows at one radius only, 19, which tells the sides taken.
    """
    if radius == 0:
        return np.ones((1, 1), dtype=bool)
    large = np.asarray(morphology.disk(SCALE * radius), dtype=bool)
    reach = int(4 * SCALE / 3 + 0.5)
    large = ndimage.maximum_filter(large, size=2 * reach + 1)
    side = 2 * radius + 1
    position = (np.arange(side) + 0.5) * len(large) / side - 0.5
    on_pixel = np.abs(position - np.rint(position)) < NEARLY
    centre = np.arange(side) == radius
    before = np.arange(side) < radius
    low, high = np.floor(position + NEARLY).astype(int), np.floor(position + NEARLY).astype(int) + 1
    rows = np.where(on_pixel & ~centre, low - 1, low), np.where(on_pixel, low, high)
    columns = low, np.where(on_pixel & ~before, low, high)
    taken = [large[np.ix_(y, x)] for y in rows for x in columns]
    return np.logical_or.reduce(taken)


def _published_order(pixels: int) -> Int[np.ndarray, " pixels"]:
    return np.random.RandomState(0).permutation(np.arange(pixels))
