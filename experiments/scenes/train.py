"""Train the models of a scene."""

from __future__ import annotations

from pathlib import Path

import torch

from experiments.scenes.judge import fit_judge, save_judge
from experiments.scenes.models import model
from experiments.scenes.scene import Scene


def train_judge(scene: Scene, out: Path, steps: int = 1500) -> None:
    """Fit and save `<scene>-judge`, whose features of all factors the Frechet distance is measured in.

    Args:
        scene: the scene.
        out: folder of the folders.
        steps: optimiser steps.
    """
    data = scene.rows("train", rows=8_000, seed=100)
    factors = torch.stack(list(data.columns(list(scene.ranges)).values()), 1).float()
    save_judge(fit_judge(data[:]["image"], factors, steps=steps), out / f"{scene.name}-judge")


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
    rows = scene.rows("train", rows=20_000, seed=seed, confounding=confounding)
    val = scene.rows("val", rows=1_000, seed=seed, confounding=confounding)
    target = out / name(scene, kind, confounding, seed)
    scm = model(scene, rows.graph, kind, steps)
    scm.fit(rows, val, folder=target.with_name(target.name + "-fit"), seed=seed)
    scm.save(target, overwrite=True, half=True)


def name(scene: Scene, kind: str, confounding: float, seed: int) -> str:
    """The name of a model's folder."""
    return f"{scene.name}-{kind}{'-confounded' if confounding else ''}{f'-{seed}' if seed else ''}"
