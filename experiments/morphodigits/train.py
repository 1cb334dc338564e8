"""Train the models that ship as `morphodigits-semantic` and `morphodigits-spatial`.

python -m experiments.morphodigits.train --out runs/morphodigits-semantic
"""

from pathlib import Path
from typing import Literal

from causalcf.demo import morphodigits


def main(
    out: Path = Path("runs/morphodigits-semantic"),
    kind: Literal["semantic", "spatial"] = "semantic",
    steps: int = 4500,
    rows: int = 60_000,
    seed: int = 0,
) -> None:
    """Fit every mechanism and save the model; started again after a kill, it goes on.

    Args:
        out: folder of the model; checkpoints lie beside it.
        kind: which mechanism the image has.
        steps: optimiser steps of the image mechanism.
        rows: training rows.
        seed: of weights, order and noise.
    """
    scm = morphodigits(out.with_name(out.name + "-fit"), kind, steps=steps, rows=rows, seed=seed)
    scm.save(out, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
