"""Train what reads attributes from images of Morpho-MNIST: judges, and readers that steer; never the same networks.

CAUSALCF_DATA=folder python -m experiments.morphomnist.train_predictors
"""

from pathlib import Path

import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoMNIST
from causalcf.training.predictors import fit_classifier, fit_regressor, has_predictor, save_predictor
from causalcf.units import Units
from experiments.morphomnist.models import VARIATIONAL, folder

SEEDS = {"judge": 100, "reader": 200}


def main(out: Path = Path("runs/morphomnist-predictors"), steps: int = 1500, reader_steps: int = 2000) -> None:
    """Fit a classifier of the digit and regressors of thickness and intensity, one set to judge and one to steer.

    And an autoencoder without parents, whose code minimality is measured in.

    Judges learn on the last half of the training rows, readers on the first. The readers of thickness and intensity
    also see every row at another brightness, which scales intensity and leaves thickness: they steer towards
    combinations of the two that are rare among the rows.

    Args:
        out: folder of `judge-digit`, `judge-thickness`, `reader-thickness`, ...
        steps: optimiser steps of each judge.
        reader_steps: of each reader.
    """
    data, test = MorphoMNIST(folder("morphomnist"), "train", val=5000), MorphoMNIST(folder("morphomnist"), "test")
    half = len(data) // 2
    rows = {"judge": data[range(half, len(data))], "reader": data[range(half)]}
    seen = test[:2000]
    for role, seed in SEEDS.items():
        for name in ("digit", "thickness", "intensity"):
            path, seen_by = out / f"{role}-{name}", rows[role]
            if has_predictor(path):
                continue
            length = steps if role == "judge" else reader_steps
            if role == "reader" and name != "digit":
                seen_by = relit(rows[role], seed)
            if name == "digit":
                network = fit_classifier(seen_by, name, 10, steps=length, seed=seed, precision="auto")
            else:
                network = fit_regressor(seen_by, name, steps=length, seed=seed, precision="auto")
            save_predictor(network, path)
            found = network.predict(seen["image"])
            if name == "digit":
                share = (found == seen[name]).double().mean()
                print(f"{role}-{name}: accuracy {share:.4f} on 2000 test rows", flush=True)
            else:
                error = (found - seen[name]).abs().mean()
                print(f"{role}-{name}: mean absolute error {error:.4f} on 2000 test rows", flush=True)
    if not (out / "judge-code").is_dir():
        alone = cf.CausalGraph("image", image=MorphoMNIST.graph["image"])
        code = cf.SCM(alone, {"image": M.VAE(latent=100, recipe=VARIATIONAL.but(steps=2500))})
        code.fit({"image": rows["judge"]["image"]}, folder=out / "judge-code-fit", seed=SEEDS["judge"])
        code.save(out / "judge-code", half=True)


def relit(rows: dict[str, torch.Tensor], seed: int) -> dict[str, torch.Tensor]:
    """The rows, and once more at intensities drawn uniformly, no brighter than their brightest pixel can become."""
    intensity, image = rows["intensity"], rows["image"]
    wanted = 60 + 195 * Units(rows["id"], seed).uniform("brightness").float()
    factor = torch.minimum(wanted / intensity, 1 / image.flatten(1).amax(1).clamp_min(1e-3))
    lit = {**rows, "image": image * factor.reshape(-1, 1, 1, 1), "intensity": intensity * factor}
    return {name: torch.cat([rows[name], lit[name]]) for name in ("image", "thickness", "intensity", "digit")}


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
