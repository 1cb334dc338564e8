"""Throughput of `causalcf.data.morphometry.measure` next to one scikit-image call after another.

    python experiments/benchmarks/morphometry.py --data FOLDER [--rows 200] [--workers 2]

FOLDER holds `t10k-images-idx3-ubyte[.gz]` (Morpho-MNIST or plain MNIST). Both measure the same rows at scale
16, in turns of 20, in one process and one thread of linear algebra. Ours includes width and height, which the
reference leaves out. A ratio of two times on one machine is printed, and no time.
"""

from __future__ import annotations

import argparse
import os
import time
from pathlib import Path

import numpy as np
from scipy import ndimage
from skimage.morphology import medial_axis
from skimage.transform import pyramid_expand
from threadpoolctl import threadpool_limits

from causalcf.data.idx import read_idx
from causalcf.data.morphometry import measure

SCALE, TURN = 16, 20
STEP_LENGTH = np.array([[0, 0, 0], [0, 0, 1], [2**0.5, 1, 2**0.5]])


def reference(image: np.ndarray) -> dict[str, float]:
    """Morpho-MNIST's measurements with scikit-image, step by step."""
    fine = (255 * pyramid_expand(image, upscale=SCALE, order=3)).astype(np.uint8)
    ink = fine >= fine.min() + 0.5 * (int(fine.max()) - int(fine.min()))
    skeleton, distance = medial_axis(ink, return_distance=True, rng=42)
    steps = ndimage.correlate(skeleton.astype(float), STEP_LENGTH, mode="constant")
    y, x = np.mgrid[: fine.shape[0], : fine.shape[1]]
    weights = fine / fine.sum()
    y, x = y - (weights * y).sum(), x - (weights * x).sum()
    bright = image[image >= image.min() + 0.5 * (int(image.max()) - int(image.min()))]
    return {
        "thickness": 2 * distance[skeleton].mean() / SCALE,
        "slant": np.arctan(-(weights * x * y).sum() / (weights * y * y).sum()),
        "intensity": np.median(bright),
        "area": ink.sum() / SCALE**2,
        "length": steps[skeleton].sum() / SCALE,
    }


def main() -> None:
    """Measure, compare, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--rows", type=int, default=200)
    parser.add_argument("--workers", type=int, default=0, help="also time this many processes, once warm")
    options = parser.parse_args()
    images = read_idx(options.data, "t10k-images-idx3-ubyte", 3, "give its folder as --data")[: options.rows]
    measure(images[:1])  # builds the tables that are kept

    slow, fast, theirs, ours = 0.0, 0.0, [], []
    with threadpool_limits(1):
        for start in range(0, len(images), TURN):
            turn = images[start : start + TURN]
            begin = time.perf_counter()
            theirs += [reference(image) for image in turn]
            middle = time.perf_counter()
            ours.append(measure(turn))
            slow, fast = slow + middle - begin, fast + time.perf_counter() - middle
    print(f"rows {len(images)}, cores {os.cpu_count()}, 1 process: {slow / fast:.1f} times as fast")
    for name in theirs[0]:
        value = np.concatenate([part[name] for part in ours])
        difference = np.abs(value - [row[name] for row in theirs]).max()
        print(f"greatest difference in {name:9} {difference:.1e}")
    if options.workers:
        measure(images, workers=options.workers)
        begin = time.perf_counter()
        measure(images, workers=options.workers)
        ratio = slow / (time.perf_counter() - begin)
        print(f"{options.workers} processes, started before: {ratio:.1f} times as fast as the reference in one")


if __name__ == "__main__":
    main()
