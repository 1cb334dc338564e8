"""Train the model of Pendulum; killed and started again, it goes on.

    python -m experiments.pendulum.train

Writes `runs/pendulum-nscm`, with checkpoints beside it.
"""

from pathlib import Path

from causalcf.data import Pendulum
from experiments.pendulum.models import model


def main(
    out: Path = Path("runs/pendulum-nscm"), steps: int | None = None, confounding: float = 0.0, seed: int = 0
) -> None:
    """Fit and save.

    Args:
        out: folder of the model.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
        confounding: correlation of the two angles in the training rows.
        seed: of data, weights, order and noise.
    """
    train = Pendulum("train", rows=20_000, seed=seed, confounding=confounding)
    val = Pendulum("val", rows=1_000, seed=seed, confounding=confounding)
    scm = model(train.graph, steps=steps)
    scm.fit(train, val, folder=out.with_name(out.name + "-fit"), seed=seed)
    scm.save(out, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
