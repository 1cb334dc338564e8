"""Train everything of Morpho-MNIST on the official training rows; killed and started again, it goes on.

    CAUSALCF_DATA=folder python -m experiments.morphomnist.train

Writes `runs/morphomnist-<name>`, with checkpoints beside it, and `runs/morphomnist-predictors`. On two CPU cores a
diffusion model of 4500 steps takes about half an hour, one of 9000 an hour, the HVAE three quarters of an hour, the
predictors 20 minutes: four hours in all. `--only "[predictors, spatial-long]"` is enough for the best method.
"""

from pathlib import Path

import causalcf as cf
from causalcf.data import MorphoMNIST
from experiments.morphomnist import train_predictors, tune
from experiments.morphomnist.models import NAMES, folder, mechanism

TUNED = "hvae-tuned"
PARTS = ("predictors", *NAMES, TUNED)


def main(
    only: list[str] = list(PARTS),  # noqa: B006
    out: Path = Path("runs"),
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Fit and save.

    Args:
        only: what, of predictors, spatial, semantic, hvae, vae, spatial-dropout, semantic-dropout,
            spatial-long, hvae-tuned; the last
            needs predictors and hvae.
        out: folder of the folders.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
        seed: of weights, order and noise; other seeds than 0 are part of the folder's name. The predictors that judge
            and steer are the same for all seeds.
    """
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise SystemExit(f"train: expected parts of {', '.join(PARTS)}, got {unknown[0]!r}")
    train, val = MorphoMNIST(folder("morphomnist"), "train"), MorphoMNIST(folder("morphomnist"), "val")
    for name in only:
        if name == "predictors":
            train_predictors.main(out / "morphomnist-predictors")
        elif name == TUNED:
            tune.main("hvae", out, out / "morphomnist-predictors", seed=seed)
        else:
            target = out / f"morphomnist-{name}{f'-{seed}' if seed else ''}"
            scm = cf.SCM(MorphoMNIST.graph, {"image": mechanism(name, steps)})
            scm.fit(train, val, folder=target.with_name(target.name + "-fit"), seed=seed)
            scm.save(target, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
