"""Train the model that ships as `morphodigits-semantic`.

python -m experiments.morphodigits.train --out runs/morphodigits-semantic
"""

from pathlib import Path

from causalcf.demo import semantic_morphodigits


def main(out: Path = Path("runs/morphodigits-semantic"), steps: int = 4500, rows: int = 60_000, seed: int = 0) -> None:
    """Fit every mechanism and save the model; started again after a kill, it goes on.

    Args:
        out: folder of the model; checkpoints lie beside it.
        steps: optimiser steps of the image mechanism.
        rows: training rows.
        seed: of weights, order and noise.
    """
    scm = semantic_morphodigits(out.with_name(out.name + "-fit"), steps=steps, rows=rows, seed=seed)
    scm.save(out, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
