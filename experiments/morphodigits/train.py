"""Train the model that ships as `morphodigits-spatial`.

python -m experiments.morphodigits.train --out runs/morphodigits-spatial
"""

from __future__ import annotations

from pathlib import Path

import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits
from graphs.morphodigits import graph


def rows(split: str, count: int) -> dict[str, torch.Tensor]:
    """A split held in memory, so that nothing is drawn twice."""
    data = MorphoDigits(split, rows=count)
    parts = [data[start : start + 1000] for start in range(0, count, 1000)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def main(out: Path = Path("runs/morphodigits-spatial"), steps: int = 5000, count: int = 60_000, seed: int = 0) -> None:
    """Fit every mechanism and save the model; started again after a kill, it goes on.

    Args:
        out: folder of the model; checkpoints lie beside it.
        steps: optimiser steps of the image mechanism.
        count: training rows.
        seed: of weights, order and noise.
    """
    recipe = cf.Recipe(
        steps=steps,
        batch=64,
        learning_rate=2e-3,
        weight_decay=0.01,
        ema=0.999,
        precision="bfloat16",
        checkpoint=250,
    )
    image = M.SpatialDiffusion(widths=(32, 64, 96), prediction="v", recipe=recipe)
    scm = cf.SCM(graph, {"image": image})
    scm.fit(rows("train", count), rows("val", 1000), folder=out.with_name(out.name + "-fit"), seed=seed)
    scm.save(out, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
