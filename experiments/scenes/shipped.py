"""Lay the model that ships where `evaluate` looks for it, so that it need not be trained.

    python -m experiments.scenes.shipped
    python -m experiments.pendulum.train --stray true --kind judge
    python -m experiments.pendulum.evaluate --stray true

It is seed 0 of Pendulum with shadows that stray, asked as its training left it. What already lies there stays.
"""

from pathlib import Path

import causalcf as cf
from experiments.scenes.models import model
from experiments.scenes.scene import STRAYED
from experiments.scenes.train import name


def main(out: Path = Path("runs")) -> None:
    """Write it.

    Args:
        out: folder of the folders, as in `train`.
    """
    place = out / name(STRAYED, "nscm", 0.0, 0)
    if place.exists():
        return
    scm = cf.load_pretrained("pendulum-nscm")
    trained = model(STRAYED, scm.graph).mechanisms["image"].config()
    own = scm.mechanism("image").config()
    unasked = {"edit": None, "direct": False}  # what a configuration leaves out
    options = {key: value for key, value in {**unasked, **trained}.items() if value != own.get(key) and key != "recipe"}
    scm.using(image=options).save(place, half=True)
    print(f"{place}: pendulum-nscm", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
