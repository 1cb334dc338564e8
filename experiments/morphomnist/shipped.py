"""Lay the models and predictors that ship where `evaluate` looks for them, so that they need not be trained.

    python -m experiments.morphomnist.shipped
    CAUSALCF_DATA=folder python -m experiments.morphomnist.train --only "[predictors]"
    CAUSALCF_DATA=folder python -m experiments.morphomnist.evaluate

What already lies there stays. The models are those of seed 0 that most rows of the table are about; of the predictors
all but two ship, the judge of minimality and a reader of the digit, which the second command trains.
"""

import shutil
from pathlib import Path

from causalcf.pretrained import ROOT

MODELS = {"semantic": "semantic", "spatial-long": "spatial", "hvae-tuned": "hvae"}
READ = ("digit", "thickness", "intensity")
PREDICTORS = {
    **{f"judge-{name}": name for name in READ},
    **{f"reader-{name}": f"{name}-reader" for name in READ[1:]},
}


def main(out: Path = Path("runs")) -> None:
    """Copy them.

    Args:
        out: folder of the folders, as in `train`.
    """
    places = {
        **{out / f"morphomnist-{name}": own for name, own in MODELS.items()},
        **{out / "morphomnist-predictors" / name: own for name, own in PREDICTORS.items()},
    }
    for place, own in places.items():
        if not place.exists():
            shutil.copytree(ROOT / f"morphomnist-{own}", place, ignore=shutil.ignore_patterns("README.md"))
            print(f"{place}: morphomnist-{own}", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
