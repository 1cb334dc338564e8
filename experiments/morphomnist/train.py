"""Train the models of Morpho-MNIST on the official training rows; killed and started again, it goes on.

    CAUSALCF_DATA=folder python -m experiments.morphomnist.train --only "[spatial, semantic]"

Writes `runs/morphomnist-<name>`, with checkpoints beside it. On two CPU cores about half an hour for 4500 steps of a
diffusion model.
"""

from pathlib import Path

import causalcf as cf
from causalcf.data import MorphoMNIST
from experiments.morphomnist.models import NAMES, folder, mechanism


def main(
    only: list[str] = list(NAMES),  # noqa: B006
    out: Path = Path("runs"),
    steps: int | None = None,
    seed: int = 0,
) -> None:
    """Fit and save.

    Args:
        only: which models, of spatial, semantic, hvae, vae, spatial-dropout, spatial-long.
        out: folder of the folders.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
        seed: of weights, order and noise; other seeds than 0 are part of the folder's name.
    """
    train, val = MorphoMNIST(folder("morphomnist"), "train"), MorphoMNIST(folder("morphomnist"), "val")
    for name in only:
        target = out / f"morphomnist-{name}{f'-{seed}' if seed else ''}"
        scm = cf.SCM(MorphoMNIST.graph, {"image": mechanism(name, steps)})
        scm.fit(train, val, folder=target.with_name(target.name + "-fit"), seed=seed)
        scm.save(target, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
