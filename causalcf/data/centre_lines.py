"""The centre lines of scikit-learn's handwritten digits: how each was written, without the pen.

They take half a minute to find, so the file beside this one holds them. It is made again by

    python -m causalcf.data.centre_lines
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from jaxtyping import Float, Int, UInt8
from skimage.morphology import skeletonize
from sklearn.datasets import load_digits
from torch import Tensor

UPSAMPLING = 16  # of the 8x8 source, before its centre line is taken
PIXEL = 2.3  # pixels of the drawing per pixel of the source
FILE = Path(__file__).with_suffix(".npz")


def skeleton(source: np.ndarray) -> UInt8[np.ndarray, "points 2"]:
    """The skeleton of a handwritten digit: columns and rows of the scan made 16 times as fine.

    The 8x8 scan is upsampled by cubic splines and thresholded; the skeleton of the result keeps how the digit was
    written and forgets the pen.

    Args:
        source: one digit of scikit-learn, shape `(8, 8)`, values 0 to 16.
    """
    padded = np.pad(source / 16.0, 1)
    fine = scipy.ndimage.zoom(padded, UPSAMPLING, order=3, grid_mode=True, mode="grid-constant")
    fine = scipy.ndimage.gaussian_filter(fine, 0.3 * UPSAMPLING)
    ink = _without_specks(fine > 0.47 * fine.max(), least=0.6)
    ink = ~_without_specks(~ink, least=0.1)
    y, x = np.nonzero(skeletonize(ink))
    return np.stack([x, y], axis=1).astype(np.uint8)


def _without_specks(mask: np.ndarray, least: float) -> np.ndarray:
    """The mask without connected parts smaller than `least` pixels of the source."""
    found: Any = scipy.ndimage.label(mask, structure=np.ones((3, 3)))
    labels = found[0]
    area = np.bincount(labels.ravel())
    keep = area >= least * UPSAMPLING**2
    keep[0] = False
    return keep[labels]


def centre_line(points: UInt8[np.ndarray, "points 2"]) -> np.ndarray:
    """A skeleton upright and centred, in pixels of the drawing.

    Shearing it until the covariance of x and y vanishes removes its own slant.

    Returns:
        Points `(x, y)`, y downwards.
    """
    line = points * (PIXEL / UPSAMPLING)
    line = line - line.mean(0)
    covariance = line.T @ line
    line[:, 0] -= line[:, 1] * covariance[0, 1] / covariance[1, 1]
    return line - (line.max(0) + line.min(0)) / 2


@cache
def sources() -> tuple[Float[Tensor, "sources points 2"], Int[Tensor, " sources"]]:
    """All centre lines, padded by repeating a point (which changes no distance), and their labels."""
    with np.load(FILE) as file:
        parts, labels = np.split(file["points"], np.cumsum(file["counts"])[:-1]), file["labels"]
    lines = [centre_line(part) for part in parts]
    most = max(len(line) for line in lines)
    padded = [np.concatenate([line, np.repeat(line[:1], most - len(line), axis=0)]) for line in lines]
    return torch.from_numpy(np.stack(padded)).float(), torch.from_numpy(labels).long()


def main(file: Path = FILE) -> None:
    """Find all of them, and write the file."""
    digits: Any = load_digits()
    found = [skeleton(image) for image in digits.images]
    counts = np.array([len(points) for points in found], dtype=np.int16)
    np.savez_compressed(file, points=np.concatenate(found), counts=counts, labels=digits.target.astype(np.uint8))


if __name__ == "__main__":
    main()
