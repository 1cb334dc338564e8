"""Train the models of a scene."""

from __future__ import annotations

from pathlib import Path

from causalcf.rows import Table
from causalcf.training.predictors import fit_regressor, save_predictor
from experiments.scenes.models import model
from experiments.scenes.scene import Scene


def train_judge(scene: Scene, out: Path, steps: int = 1500) -> None:
    """Fit and save `<scene>-judge`, whose features the Frechet distance is measured in; no model is trained with it.

    Args:
        scene: the scene.
        out: folder of the folders.
        steps: optimiser steps.
    """
    rows = scene.data("train", rows=8_000, seed=100)[:]
    table = Table(rows, scene.data("train", rows=1).graph, "train")
    judge = fit_regressor(table, scene.order[0], steps=steps, batch=64, seed=100, precision="bfloat16")
    save_predictor(judge, out / f"{scene.name}-judge")


def train(scene: Scene, kind: str, out: Path, steps: int | None, confounding: float, seed: int) -> None:
    """Fit and save `<scene>-<kind>[-confounded][-<seed>]`; killed and started again, it goes on.

    Args:
        scene: the scene.
        kind: "nscm" or "causal-vae".
        out: folder of the folders.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
        confounding: correlation of the first two factors in the training rows.
        seed: of data, weights, order and noise.
    """
    rows = scene.data("train", rows=20_000, seed=seed, confounding=confounding)
    val = scene.data("val", rows=1_000, seed=seed, confounding=confounding)
    target = out / name(scene, kind, confounding, seed)
    scm = model(scene, rows.graph, kind, steps)
    scm.fit(rows, val, folder=target.with_name(target.name + "-fit"), seed=seed)
    scm.save(target, overwrite=True, half=True)


def name(scene: Scene, kind: str, confounding: float, seed: int) -> str:
    """The name of a model's folder."""
    return f"{scene.name}-{kind}{'-confounded' if confounding else ''}{f'-{seed}' if seed else ''}"
