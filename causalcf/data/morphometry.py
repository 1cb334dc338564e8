r"""Measurements of handwriting: thickness, slant, intensity, area, length, width and height of the strokes.

The definitions are those of Morpho-MNIST (Castro et al., 2019, https://arxiv.org/abs/1809.10780): an image is
upsampled `scale` times by cubic splines and a Gaussian, binarised half-way between its extremes, measured.

Every stage gives scikit-image's numbers: see `upsampling` and `medial_axis`. The one approximation is that
floats are rounded to 256 grey levels, as if the image were saved, before they are upsampled.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Float32, Float64, UInt8
from joblib import Parallel, delayed
from torch import Tensor

from causalcf.data.medial_axis import Tiebreak, medial_axis, seeded, squared_distance
from causalcf.data.upsampling import ROUNDING, Fine, single_threaded, upsample

NAMES = ("thickness", "slant", "intensity", "area", "length", "width", "height")
STROKES = ("slant", "thickness", "area", "length", "width", "height")  # those of the upsampled image
TRIM = 0.02  # share of the ink outside of the bounding parallelogram, per axis
TOLERANCE = 1e-6  # a decoded image may leave [0, 1] by one rounding
FLOAT32 = 1e-3  # grey levels; the error of a float32 in [0, 1] is less


def stroke(ink: Bool[np.ndarray, "height width"], tiebreak: Tiebreak = seeded) -> tuple[float, float]:
    """Mean thickness `2 mean(distance to the background on the medial axis)` and length of strokes, px.

    Length counts 1 for neighbours on the medial axis in a row or column and sqrt(2) for diagonal ones.
    """
    y, x = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    window = np.s_[max(y[0] - 1, 0) : y[-1] + 2, max(x[0] - 1, 0) : x[-1] + 2]
    ink = np.ascontiguousarray(ink[window])
    squares = squared_distance(ink)
    axis = medial_axis(ink, squares, tiebreak)
    straight = np.count_nonzero(axis[1:] & axis[:-1]) + np.count_nonzero(axis[:, 1:] & axis[:, :-1])
    falling = np.count_nonzero(axis[1:, 1:] & axis[:-1, :-1])
    rising = np.count_nonzero(axis[1:, :-1] & axis[:-1, 1:])
    distance = np.sqrt(squares[axis].astype(np.float64))
    return 2 * float(distance.mean()), straight + 2**0.5 * (falling + rising)


def shear(weights: Float[np.ndarray, "height width"]) -> tuple[float, float, float]:
    """Horizontal shear `u11 / u02` (covariance of x and y by variance of y), and the centroid (x, y)."""
    total = weights.sum()
    x, y = np.arange(weights.shape[1]), np.arange(weights.shape[0])
    column, row = weights.sum(0), weights.sum(1)
    mean_x, mean_y = column @ x / total, row @ y / total
    u02 = row @ (y - mean_y) ** 2 / total
    u11 = (y - mean_y) @ (weights @ (x - mean_x)) / total
    return float(u11 / u02) if u02 > 0 else 0.0, float(mean_x), float(mean_y)


def _extent(fine: Fine, grey: np.ndarray, slope: float, middle: float) -> tuple[float, float]:
    """Width and height of the parallelogram of that slope that leaves out `TRIM` of the grey, per axis."""
    y = np.arange(len(grey))
    # pixel x of row y lies left of t where x + 1/2 - slope (y - middle) < t: one shift for the whole row
    shift = np.floor(0.5 - slope * (y - middle)).astype(int) + 1
    start = shift.min()
    rows = np.flatnonzero(np.diff(shift, prepend=start - 1))
    column = np.zeros(grey.shape[1] + shift.max() - start)
    for offset, weights in zip(shift[rows] - start, np.add.reduceat(grey, rows, axis=0), strict=True):
        column[offset : offset + len(weights)] += weights
    across = _between(column, fine.left + start, fine.shape[1])
    return across, _between(grey.sum(1), fine.top + 1, fine.shape[0])


def _between(weights: np.ndarray, start: int, size: int) -> float:
    """Distance between the quantiles of weights that begin at `start`, both inside of `0 ... size - 1`."""
    share = np.concatenate([[0.0], np.cumsum(weights)])[max(1 - start, 0) : size - start + 1]
    low, high = np.interp([TRIM / 2, 1 - TRIM / 2], share / weights.sum(), np.arange(len(share)))
    return float(high - low)


def measure(
    images: np.ndarray | Tensor, scale: int = 16, workers: int | None = None
) -> dict[str, Float[np.ndarray, " batch"]]:
    """All seven measurements of each image.

    Args:
        images: grey levels, uint8, or floats in [0, 1]; shape `(B, H, W)` or `(B, 1, H, W)`.
        scale: how many times finer strokes are measured, 2 or more; Morpho-MNIST was made at 16.
        workers: processes that share the work. They import this package first (seconds), so they pay from
            some thousands of images on. None measures in this process; the numbers are the same.

    Returns:
        Arrays of shape `(B,)`: thickness, length, width and height (px), area (px^2), slant (rad, positive to
        the right), intensity (grey levels). Without contrast there are no strokes: all but intensity are 0.

    Raises:
        TypeError: not an array of uint8 or floats.
        ValueError: a shape or a value is not that of images, or scale or workers is too small.

    Example:
        >>> bar = np.zeros((1, 28, 28), dtype=np.uint8)
        >>> bar[:, 4:24, 12:16] = 200
        >>> measured = measure(bar)
        >>> [round(float(measured[name][0])) for name in ("intensity", "height", "slant")]
        [200, 20, 0]
    """
    if workers is not None and workers < 1:
        raise ValueError(f"measure: expected workers of 1 or more, or None for this process, got {workers}")
    grey = _grey(images)
    values = {"intensity": _intensity(grey).cpu().numpy(), **_strokes(grey, scale, workers)}
    return {name: values[name] for name in NAMES}


def thickness(images: Float[Tensor, "batch 1 height width"], scale: int = 16) -> Float32[Tensor, " batch"]:
    """Mean thickness of the strokes, px, as `measure` gives it; the same whatever else is in the batch."""
    return torch.from_numpy(_strokes(_grey(images), scale)["thickness"]).to(images.device, torch.float32)


def slant(images: Float[Tensor, "batch 1 height width"], scale: int = 16) -> Float32[Tensor, " batch"]:
    """Slant `arctan(-u11 / u02)` of the upsampled grey levels, rad, positive to the right."""
    with single_threaded():
        slants = [_slant(upsample(image, scale)) for image in _rounded(_grey(images))]
    return torch.tensor(slants, dtype=torch.float32, device=images.device)


def intensity(images: Float[Tensor, "batch 1 height width"]) -> Float32[Tensor, " batch"]:
    """Median of the pixels that reach `min + (max - min) / 2`, grey levels of 0 to 255."""
    return _intensity(_grey(images)).float()


def _grey(images: np.ndarray | Tensor) -> Float64[Tensor, "batch height width"]:
    """Grey levels of 0 to 255, checked."""
    if not isinstance(images, np.ndarray | Tensor):
        raise TypeError(f"images: expected an array or a tensor, got {type(images).__name__}")
    images = torch.tensor(images) if isinstance(images, np.ndarray) else images.detach()
    shape = tuple(images.shape)
    if images.ndim == 4 and shape[1] == 1:
        images = images[:, 0]
    if images.ndim != 3 or 0 in shape[1:]:
        raise ValueError(
            f"images: expected shape (B, 1, H, W) or (B, H, W), got {shape}; "
            "measure the mean of the channels of a colour image"
        )
    if images.dtype == torch.uint8:
        return images.double()
    if not images.is_floating_point():
        raise TypeError(f"images: expected uint8 or floats in [0, 1], got {images.dtype}; write images / 255")
    if len(images) and not (images.min() >= -TOLERANCE and images.max() <= 1 + TOLERANCE):
        raise ValueError(
            f"images: expected floats from 0 to 1, got {images.min():g} to {images.max():g}; "
            "write images / 255 for grey levels, images.clamp(0, 1) to cut off an overshoot"
        )
    return 255 * images.double().clamp(0, 1)


def _rounded(grey: Float64[Tensor, "batch height width"]) -> UInt8[np.ndarray, "batch height width"]:
    return grey.round().to(torch.uint8).cpu().numpy()


def _intensity(grey: Float64[Tensor, "batch height width"]) -> Float64[Tensor, " batch"]:
    levels = grey.flatten(1).sort(1).values
    least, most = levels[:, :1], levels[:, -1:]
    count = (levels >= least + (most - least) / 2 - FLOAT32).sum(1, keepdim=True)
    first = levels.shape[1] - count
    middle = torch.cat([first + (count - 1) // 2, first + count // 2], 1)
    return levels.gather(1, middle).mean(1)


def _strokes(
    grey: Float64[Tensor, "batch height width"], scale: int, workers: int | None = None
) -> dict[str, Float[np.ndarray, " batch"]]:
    """Measurements of the upsampled images, by name."""
    images = _rounded(grey)
    parts: list[Any]
    if workers is None or len(images) == 0:
        parts = [_measure_part(images, scale)]
    else:
        pieces = np.array_split(images, min(len(images), 4 * workers))
        parts = list(Parallel(n_jobs=workers)(delayed(_measure_part)(piece, scale) for piece in pieces))
    return dict(zip(STROKES, np.concatenate(parts).T, strict=True))


def _measure_part(images: UInt8[np.ndarray, "batch height width"], scale: int) -> np.ndarray:
    with single_threaded():
        return np.array([_measure_one(image, scale) for image in images]).reshape(-1, len(STROKES))


def _measure_one(image: UInt8[np.ndarray, "height width"], scale: int) -> tuple[float, ...]:
    fine = upsample(image, scale)
    if fine is None:
        return (0.0,) * len(STROKES)
    thick, long = stroke(fine.ink)
    grey = np.floor(fine.grey + ROUNDING)
    slope, _, middle = shear(grey)
    width, height = _extent(fine, grey, slope, middle)
    area = np.count_nonzero(fine.ink) / scale
    lengths = (thick, area, long, width, height)
    return (float(np.arctan(-slope)), *(length / scale for length in lengths))


def _slant(fine: Fine | None) -> float:
    return 0.0 if fine is None else float(np.arctan(-shear(np.floor(fine.grey + ROUNDING))[0]))


ORACLES = {"thickness": thickness, "intensity": intensity, "slant": slant}
"""What reads an attribute from images `(B, 1, H, W)`: thickness in px, intensity in grey levels, slant in radians."""
