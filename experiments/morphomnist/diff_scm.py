"""Diff-SCM on Morpho-MNIST: minimality of do(digit) along the scale of the classifier's gradient.

    CAUSALCF_DATA=folder python -m experiments.morphomnist.diff_scm

The generator is that of `spatial-long`, asked without its parents; a classifier of noisy images is trained beside it,
about five minutes on two CPU cores. Writes `results/diff_scm.md`, `diff_scm.json` and `diff_scm.png`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from matplotlib.figure import Figure

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoMNIST
from causalcf.metrics import Effectiveness, Frechet, Minimality, evaluate
from causalcf.networks.classifier import Classifier
from causalcf.training.predictors import load_predictor
from experiments.morphomnist.evaluate import REFERENCE, interventions, unconditional
from experiments.morphomnist.models import folder

SCALES = (0.0, 0.3, 0.7, 1.0, 2.0, 3.0, 5.0)


def classified(scm: cf.SCM, train: Any, steps: int, seed: int) -> cf.SCM:
    """The same generator, led by a classifier of all its parents that is trained here on noisy images."""
    old = scm.mechanism("image")
    assert isinstance(old, M.SpatialDiffusion)
    torch.manual_seed(seed)
    new = M.DiffSCM(**{**old.config(), "omega": 1.0}).build(old.variable, old.parents)
    for part in ("network", "features"):
        getattr(new, part).load_state_dict(getattr(old, part).state_dict())
    classifier = new.projector.train()
    optimiser = torch.optim.AdamW(classifier.parameters(), 2e-3, weight_decay=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for _ in range(steps):
        rows = train[torch.randint(len(train), (128,)).tolist()]
        x, timestep = new._noised(rows["image"], None)
        loss = -new.log_likelihood(x, timestep, new.features(rows, 128)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        cycle.step()
    new.fitted = True
    return scm.using(image=new.eval())


def main(
    model: Path = Path("runs/morphomnist-spatial-long"),
    predictors: Path = Path("runs/morphomnist-predictors"),
    out: Path = Path("experiments/morphomnist/results"),
    rows: int = 200,
    steps: int = 2500,
    batch: int = 100,
    seed: int = 0,
) -> None:
    """Train the classifier, and measure along the scale.

    Args:
        model: whose generator is used.
        predictors: folder of judges.
        out: where the files go.
        rows: test rows.
        steps: optimiser steps of the classifier.
        batch: rows at a time.
        seed: of the classifier and the interventions.
    """
    data, train = MorphoMNIST(folder("morphomnist"), "test"), MorphoMNIST(folder("morphomnist"), "train")
    scm = classified(cf.SCM.load(model), train, steps, seed)
    drawn = interventions(data[:rows], train.columns(["thickness", "intensity"]), seed)
    plan = {"do(digit)": cf.do(digit=drawn["digit"])}
    judge, reference = load_predictor(predictors / "judge-digit"), train[:REFERENCE]
    assert isinstance(judge, Classifier)
    code = unconditional(predictors / "judge-code")
    columns = {
        "CLD": ("minimality (CLD), corrected", "do(digit)", "digit"),
        "digit read as intended": ("accuracy of oracle", "do(digit)", "digit"),
        "Frechet distance": ("Frechet distance", "do(digit)", "image"),
    }
    found: list[dict[str, float]] = []
    for size in SCALES:
        metrics = [Effectiveness({"digit": judge}), Minimality(code, reference)]
        metrics.append(Frechet(judge.features, reference["image"]))
        with torch.no_grad():
            report = evaluate(scm.using(image={"size": size}), data[:rows], plan, metrics, batch=batch, seed=seed)
        nothing = report[columns["CLD"]].reference
        found.append({"size": size, **{name: report[place].estimate.mean for name, place in columns.items()}})
        found[-1]["CLD of doing nothing"] = nothing.mean if nothing else float("nan")
        print(found[-1], flush=True)
    (out / "diff_scm.json").write_text(json.dumps({"rows": rows, "seed": seed, "curve": found}, indent=1) + "\n")
    lines = ["| " + " | ".join(found[0]) + " |", "|" + "---|" * len(found[0])]
    lines += ["| " + " | ".join(f"{value:.3f}" for value in point.values()) + " |" for point in found]
    (out / "diff_scm.md").write_text("\n".join([*lines, "", f"n = {rows} test rows, seed {seed}."]) + "\n")
    figure = Figure(figsize=(7, 2.6), layout="constrained")
    for ax, name in zip(figure.subplots(1, 3), columns, strict=True):
        ax.plot(SCALES, [point[name] for point in found], "o-", ms=3.5, lw=1.2, color="#2468ad")
        ax.set_xlabel("scale", fontsize=8)
        ax.set_title(name, fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(out / "diff_scm.png", dpi=160)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
