"""The models of Morpho-MNIST that are compared: one graph, one data set, other mechanisms of the image."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import causalcf as cf
from causalcf import demo
from causalcf import mechanisms as M
from causalcf.mechanisms import Recipe

UNET = {**demo.UNET, "steps": 24}  # of a trajectory, as shipped
DIFFUSION = Recipe(
    steps=4500, batch=64, learning_rate=1.5e-3, weight_decay=0.01, ema=0.999, precision="auto", checkpoint=250
)
VARIATIONAL = Recipe(
    steps=6000,
    batch=64,
    learning_rate=1e-3,
    weight_decay=0.01,
    clip=50.0,
    skip=500.0,
    ema=0.999,
    precision="auto",
    checkpoint=250,
)
NAMES = ("spatial", "semantic", "hvae", "vae", "spatial-dropout", "semantic-dropout", "spatial-long")
DROPOUT = 0.5  # how often the models named for it do without their condition in training; the others 0.1


def mechanism(name: str, steps: int | None = None) -> cf.Mechanism:
    """The image's mechanism, unfitted.

    Args:
        name: one of `NAMES`.
        steps: optimiser steps, instead of the recipe's.
    """
    if name not in NAMES:
        raise ValueError(f"expected a model of {', '.join(NAMES)}, got {name!r}")
    recipe = VARIATIONAL if name in ("hvae", "vae") else DIFFUSION
    recipe = recipe if steps is None else recipe.but(steps=steps)
    if name == "spatial-long":
        return M.SpatialDiffusion(**UNET, recipe=recipe if steps else recipe.but(steps=9000))
    if name == "spatial":
        return M.SpatialDiffusion(**UNET, recipe=recipe)
    if name == "spatial-dropout":
        return M.SpatialDiffusion(null_probability=DROPOUT, **UNET, recipe=recipe)
    if name in ("semantic", "semantic-dropout"):
        own: dict[str, Any] = {"latent": 16, "kl_weight": 0.1, "encoder": "image", **UNET, "recipe": recipe}
        own |= {"views": {"brightness": 0.5, "stroke": 0.8}}
        own |= {"null_probability": DROPOUT} if name == "semantic-dropout" else {}
        return M.SemanticDiffusion(**own)
    if name == "hvae":
        return M.HVAE(widths=(32, 64, 96), blocks=2, latent=8, recipe=recipe)
    return M.VAE(latent=16, recipe=recipe)


def folder(kind: str) -> Path:
    """Where the official files lie: `$CAUSALCF_DATA/morphomnist`, or `mnist` beside it."""
    root = os.environ.get("CAUSALCF_DATA")
    if not root:
        raise SystemExit("set CAUSALCF_DATA to the folder that holds morphomnist/ and mnist/")
    return Path(root) / kind
