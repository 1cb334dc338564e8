"""The model of Pendulum: learned equations of the shadow, and an image led by causal representations."""

from __future__ import annotations

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.mechanisms import Recipe

SHADOW = {"length": ["angle", "sun"], "position": ["angle", "sun"]}
IMAGE = Recipe(
    steps=4500, batch=64, learning_rate=1.5e-3, weight_decay=0.01, ema=0.999, precision="bfloat16", checkpoint=250
)
FACTOR = Recipe(steps=2000, batch=512, learning_rate=1e-2, ema=0.99)


def model(graph: cf.CausalGraph, structure: dict[str, list[str]] | None = None, steps: int | None = None) -> cf.SCM:
    """The model, unfitted.

    Args:
        graph: of the data set.
        structure: what the equations inside the image's mechanism listen to; the true one by default, {} for none.
        steps: optimiser steps of the image's mechanism, instead of the recipe's.
    """
    recipe = IMAGE if steps is None else IMAGE.but(steps=steps)
    image = M.NSCMDiffusion(
        structure=SHADOW if structure is None else structure,
        widths=(64, 128),
        patch=4,
        attention=True,
        schedule="cosine",
        prediction="v",
        solver="2m",
        steps=24,
        projector=(32, 64, 64, 128),
        recipe=recipe,
    )
    shadow = {name: M.Flow("affine", hidden=(64, 64), recipe=FACTOR) for name in SHADOW}
    return cf.SCM(graph, {**shadow, "image": image})
