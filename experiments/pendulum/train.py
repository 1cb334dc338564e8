"""Train the models of Pendulum; killed and started again, it goes on.

    python -m experiments.pendulum.train [--kind causal-vae] [--seed 1]

Writes `runs/pendulum-<kind>`, with checkpoints beside it.
"""

from pathlib import Path
from typing import Literal

from experiments.scenes.scene import PENDULUM, STRAYED
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
        confounding: correlation of the two angles in the training rows.
        seed: of data, weights, order and noise; other seeds than 0 are part of the folder's name.
        stray: whether shadows may be longer or shorter, and further left or right, than the sun casts them; then the
            folder is `pendulum-stray-<kind>`.
    """
    scene = STRAYED if stray else PENDULUM
    if kind == "judge":
        train_judge(scene, out, *([] if steps is None else [steps]))
    else:
        train(scene, kind, out, steps, confounding, seed)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
