"""Fine-tune an autoencoder on its counterfactuals, read by the readers; the judges are other networks.

CAUSALCF_DATA=folder python -m experiments.morphomnist.tune
"""

from pathlib import Path

import causalcf as cf
from causalcf.data import MorphoMNIST
from causalcf.training.predictors import load_predictor
from causalcf.tuning import RECIPE
from experiments.morphomnist.models import folder


def main(
    model: str = "hvae",
    models: Path = Path("runs"),
    predictors: Path = Path("runs/morphomnist-predictors"),
    steps: int = 1000,
    seed: int = 0,
) -> None:
    """Writes `morphomnist-<model>-tuned` beside `morphomnist-<model>`.

    Args:
        model: "hvae" or "vae".
        models: folder of the folders.
        predictors: folder of `reader-thickness`, ...
        steps: optimiser steps.
        seed: of the order and the interventions; other seeds than 0 are part of the folders' names.
    """
    end = f"-{seed}" if seed else ""
    scm = cf.SCM.load(models / f"morphomnist-{model}{end}")
    readers = {name: load_predictor(predictors / f"reader-{name}") for name in ("thickness", "intensity", "digit")}
    target = models / f"morphomnist-{model}-tuned{end}"
    tuned = cf.fine_tune(
        scm,
        MorphoMNIST(folder("morphomnist"), "train", val=5000),
        readers,
        recipe=RECIPE.but(steps=steps, batch=64, precision="auto"),
        folder=target.with_name(target.name + "-fit"),
        seed=seed,
    )
    tuned.save(target, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
