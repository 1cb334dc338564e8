"""Train the models of Flow; killed and started again, it goes on.

    python -m experiments.flow.train [--kind causal-vae] [--seed 1]

Writes `runs/flow-<kind>`, with checkpoints beside it.
"""

from pathlib import Path
from typing import Literal

from experiments.scenes.scene import BLOWN, FLOW
from experiments.scenes.train import train, train_judge


def main(
    kind: Literal["nscm", "causal-vae", "judge"] = "nscm",
    out: Path = Path("runs"),
    steps: int | None = None,
    confounding: float = 0.0,
    seed: int = 0,
    stray: bool = False,
) -> None:
    """Fit and save.

    Args:
        kind: which model.
        out: folder of the folders.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
        confounding: correlation of ball and hole in the training rows.
        seed: of data, weights, order and noise; other seeds than 0 are part of the folder's name.
        stray: whether jets may land nearer or further than water and hole say; then the folder is `flow-stray-<kind>`.
    """
    scene = BLOWN if stray else FLOW
    if kind == "judge":
        train_judge(scene, out, *([] if steps is None else [steps]))
    else:
        train(scene, kind, out, steps, confounding, seed)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
