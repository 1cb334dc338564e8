"""The generators that all methods share: one of pixels, and one as wide of an autoencoder's codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.codec import Codec
from causalcf.explain import generators
from causalcf.explain.generator import Generator
from causalcf.hardware import autocast
from causalcf.mechanisms import Recipe

IMAGE = Recipe(
    steps=3000, batch=64, learning_rate=1.5e-3, weight_decay=0.01, ema=0.999, precision="auto", checkpoint=250
)
FACTOR = Recipe(steps=500, batch=512, learning_rate=1e-2)


def model(graph: cf.CausalGraph, steps: int | None = None) -> cf.SCM:
    """The model whose image mechanism is the generator, unfitted; of codes it is as wide, with smaller patches.

    Args:
        graph: attributes, and the image that they decide, or its code.
        steps: optimiser steps of each mechanism, instead of its recipe's.
    """
    of_codes = graph["image"].shape[0] != 3
    network = M.SpatialDiffusion(
        widths=(64, 128),
        patch=2 if of_codes else 4,
        refine=16,
        attention=True,
        schedule="cosine",
        prediction="scaled",
        solver="2m",
        steps=24,
        null_probability=0.3,
        recipe=IMAGE if steps is None else IMAGE.but(steps=steps),
    )
    caused = [name for name in graph if name != "image" and graph.parents(name)]
    attribute = FACTOR if steps is None else FACTOR.but(steps=steps)
    return cf.SCM(graph, {**{name: M.Binary(recipe=attribute) for name in caused}, "image": network})


@dataclass(frozen=True)
class Halved:
    """A network that computes in bfloat16, where the hardware does.

    Args:
        network: of a generator.
    """

    network: Any

    def __call__(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:  # noqa: D102
        with autocast("auto", x.device):
            return self.network(x, timestep, condition).float()


@dataclass(frozen=True)
class Told:
    """What the generator is told of a class: that attribute, and of all others how frequent they are where it is so.

    Args:
        features: of the image's mechanism.
        label: the attribute.
        shares: attribute -> how frequent it is among the training rows of either class.
    """

    features: Any
    label: str
    shares: Mapping[str, Tensor]

    def __call__(self, classes: Tensor) -> Tensor:  # noqa: D102
        given = {name: share[classes] for name, share in self.shares.items()}
        return self.features({**given, self.label: classes.float()}, len(classes))


def generator(scm: cf.SCM, label: str, rows: Mapping[str, Tensor], codec: Codec | None = None) -> Generator:
    """The generator of a model, in bfloat16, told of one attribute.

    Args:
        scm: a fitted model.
        label: the attribute.
        rows: training rows, for how frequent the other attributes are.
        codec: whose codes the model draws; None if it draws images.
    """
    found = generators.from_scm(scm)
    mechanism = scm.mechanism("image")
    assert isinstance(mechanism, M.SpatialDiffusion)
    mechanism.requires_grad_(False).eval()
    of_class = [rows[label] == value for value in (0, 1)]
    shares = {
        name: torch.stack([rows[name][chosen].float().mean() for chosen in of_class])
        for name in mechanism.features.variables
    }
    told = Told(mechanism.features, label, shares)
    found = replace(found, network=Halved(found.network), conditions=told)
    return found if codec is None else replace(found, codec=codec, channels=3, size=None)
