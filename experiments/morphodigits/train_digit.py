"""Train the digit classifier that judges counterfactuals of MorphoDigits; it shares nothing with the models.

python -m experiments.morphodigits.train_digit --out runs/morphodigits-digit
"""

from pathlib import Path

import torch

from causalcf.data import MorphoDigits
from causalcf.demo import held
from causalcf.training.predictors import fit_classifier, save_predictor


def independent(rows: int, seed: int) -> dict[str, torch.Tensor]:
    """Rows whose slant does not depend on the digit, so that the classifier cannot read one off the other."""
    data = MorphoDigits("train", rows=rows, seed=seed)
    columns = data.columns(["thickness", "intensity", "slant", "digit", "id"])
    order = torch.randperm(rows, generator=torch.Generator().manual_seed(seed))
    columns["slant"] = columns["slant"][order]
    parts = [
        data.draw(columns["id"][k : k + 1000], {name: value[k : k + 1000] for name, value in columns.items()})
        for k in range(0, rows, 1000)
    ]
    return {"image": torch.cat(parts), "digit": columns["digit"]}


def main(out: Path = Path("runs/morphodigits-digit"), rows: int = 40_000, steps: int = 2000, seed: int = 100) -> None:
    """Train, say how often it is right on the test split, and save.

    Args:
        out: folder of the classifier.
        rows: training rows.
        steps: optimiser steps.
        seed: of attributes, weights and order; not that of the model it judges.
    """
    network = fit_classifier(independent(rows, seed), "digit", 10, steps=steps, seed=seed)
    test = held("test", 2000)
    save_predictor(network, out)
    print(f"accuracy on 2000 test rows: {(network.predict(test['image']) == test['digit']).double().mean():.4f}")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
