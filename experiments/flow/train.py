"""Train the models of Flow; killed and started again, it goes on.

    python -m experiments.flow.train [--kind causal-vae] [--seed 1]

Writes `runs/flow-<kind>`, with checkpoints beside it.
"""

from pathlib import Path
from typing import Literal

from experiments.scenes.scene import FLOW
from experiments.scenes.train import train, train_judge


def main(
    kind: Literal["nscm", "causal-vae", "judge"] = "nscm",
    out: Path = Path("runs"),
    steps: int | None = None,
    confounding: float = 0.0,
    seed: int = 0,
) -> None:
    """Fit and save.

    Args:
        kind: which model.
        out: folder of the folders.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
        confounding: correlation of ball and hole in the training rows.
        seed: of data, weights, order and noise; other seeds than 0 are part of the folder's name.
    """
    if kind == "judge":
        train_judge(FLOW, out, *([] if steps is None else [steps]))
    else:
        train(FLOW, kind, out, steps, confounding, seed)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
