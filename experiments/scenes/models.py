"""The models of a scene: learned equations of its factors, and an image led by causal representations."""

from __future__ import annotations

import inspect
import tempfile
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.mechanisms import Recipe
from experiments.scenes.scene import Scene, Structure

IMAGE = Recipe(
    steps=2000, batch=64, learning_rate=1.5e-3, weight_decay=0.01, ema=0.999, precision="auto", checkpoint=250
)
VARIATIONAL = Recipe(
    steps=4000, batch=64, learning_rate=1e-3, weight_decay=0.01, clip=50.0, ema=0.999, checkpoint=500
).but(precision="auto")
FACTOR = Recipe(steps=2000, batch=512, learning_rate=1e-2, ema=0.99)
STEPS = 1500  # of the equations, where they alone are fitted
AGAIN = Recipe(steps=600, batch=512, learning_rate=1e-2, ema=0.99)  # of the flows of another graph


def model(scene: Scene, graph: cf.CausalGraph, kind: str = "nscm", steps: int | None = None) -> cf.SCM:
    """The model, unfitted; its image takes the equations' edges from the graph.

    Args:
        scene: the scene.
        graph: of its data set.
        kind: "nscm" or "causal-vae".
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
    """
    if kind == "causal-vae":
        recipe = VARIATIONAL if steps is None else VARIATIONAL.but(steps=steps)
        image: cf.Mechanism = M.CausalVAE(widths=(16, 32, 64), recipe=recipe)
    elif kind == "nscm":
        image = M.NSCMDiffusion(
            widths=(48, 96),
            patch=4,
            refine=16,
            attention=True,
            schedule="cosine",
            prediction="scaled",
            solver="2m",
            steps=24,
            lowest=60,
            projector=(32, 64, 64, 128),
            recipe=IMAGE if steps is None else IMAGE.but(steps=steps),
        )
    else:
        raise ValueError(f"expected kind 'nscm' or 'causal-vae', got {kind!r}")
    caused = {name: M.Flow("affine", hidden=(64, 64), recipe=FACTOR) for name in scene.structure}
    return cf.SCM(graph, {**caused, "image": image})


def restructured(
    scm: cf.SCM, structure: Structure | Literal["learned"], rows: dict[str, Tensor], seed: int = 0
) -> cf.SCM:
    """The same generator and projector with equations of another graph, fitted to the labels alone.

    Args:
        scm: whose image is an `NSCMDiffusion`.
        structure: the graph, or "learned".
        rows: training rows.
        seed: of weights and batches.
    """
    old = led(scm)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        new = M.NSCMDiffusion(**{**old.config(), "structure": structure}).build(old.variable, old.parents)
        shared(new, old)
        z = new.features(rows, len(rows["id"]))
        optimiser = torch.optim.Adam(new.equations.parameters(), 1e-2)
        for _ in range(STEPS):
            batch = z[torch.randint(len(z), (256,))]
            loss = new.equations.loss(batch).mean() + new.equations.penalty(new.sparsity)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    return scm.using(image=new.eval())


def misled(scm: cf.SCM, scene: Scene, rows: dict[str, Tensor], seed: int = 0) -> cf.SCM:
    """The same generator and projector in an SCM whose every edge between factors is turned round.

    Equations and flows are fitted to the labels again: what follows an intervention is wrong as well as how it is led.

    Args:
        scm: whose image is an `NSCMDiffusion`.
        scene: the scene.
        rows: training rows.
        seed: of weights and batches.
    """
    image = restructured(scm, scene.wrong, rows, seed).mechanism("image")
    turned = [(cause, name) for name, causes in scene.wrong.items() for cause in causes]
    graph = cf.CausalGraph([*turned, *((name, "image") for name in image.parents)], dict(scm.graph.variables))
    flows = {name: M.Flow("affine", hidden=(64, 64), recipe=AGAIN) for name in scene.ranges}
    blank = torch.zeros(1, *image.variable.shape).expand(len(rows["id"]), *image.variable.shape)
    wrong = cf.SCM(graph, {**flows, "image": M.VAE()})
    with tempfile.TemporaryDirectory() as folder, torch.enable_grad():
        table = {**rows, "image": blank}
        wrong.fit(table, folder=Path(folder), only=list(scene.ranges), seed=seed, progress=False)
    return wrong.using(image=image)


def classified(scm: cf.SCM, **options: Any) -> cf.SCM:
    """The same generator led by the projector as an anti-causal classifier: Diff-SCM."""
    old = led(scm)
    alone = inspect.signature(M.NSCMDiffusion).parameters.keys() - inspect.signature(M.DiffSCM).parameters.keys()
    kept = {name: value for name, value in old.config().items() if name not in alone}
    new = M.DiffSCM(**{**kept, "by": "classifier", "scale": "constant", **options}).build(old.variable, old.parents)
    shared(new, old)
    return scm.using(image=new.eval())


def led(scm: cf.SCM) -> M.NSCMDiffusion:
    """The mechanism of the image."""
    image = scm.mechanism("image")
    assert isinstance(image, M.NSCMDiffusion)
    return image


def shared(new: M.NSCMDiffusion | M.DiffSCM, old: M.NSCMDiffusion) -> None:
    """Give a mechanism the generator and the projector of another."""
    for part in ("network", "projector", "features"):
        getattr(new, part).load_state_dict(getattr(old, part).state_dict())
    new.fitted = True
