"""Where generators come from: models of ours, and pipelines of diffusers."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.codec import Pixels
from causalcf.diffusion.schedule import Schedule
from causalcf.explain.generator import Conditions, Generator
from causalcf.explain.pipelines import from_diffusers
from causalcf.mechanisms import DiffSCM, NSCMDiffusion, SpatialDiffusion
from causalcf.scm import SCM
from causalcf.variables import Binary, Categorical

__all__ = ["Generator", "from_diffusers", "from_scm"]


def from_scm(scm: SCM, node: str = "image", label: str | None = None) -> Generator:
    """The generator inside a model's image mechanism, asked without its parents.

    Args:
        scm: fitted, with a diffusion mechanism at the node, trained with a null token.
        node: the image.
        label: the discrete parent that classes mean; the other parents are then set to their means.

    Example:
        `generator = cf.explain.generators.from_scm(cf.load_pretrained("morphomnist-spatial"))`
    """
    mechanism = scm.mechanism(node)
    if not isinstance(mechanism, SpatialDiffusion | NSCMDiffusion | DiffSCM):
        raise TypeError(
            f"from_scm: {node} has a {type(mechanism).__name__}; expected a SpatialDiffusion, whose network can be "
            "asked without parents and without a code"
        )
    if mechanism.null_probability == 0:
        raise ValueError(f"from_scm: {node} was trained with null_probability=0 and has no null token; train with 0.1")
    network, features = mechanism.network, mechanism.features
    conditions: Conditions | None = None
    if label is not None:
        if not isinstance(mechanism.parents.get(label), Binary | Categorical):
            raise ValueError(f"from_scm: expected a discrete parent of {node} as label, got {label!r}")

        def told(classes: Tensor) -> Tensor:
            means = dict(zip(features.variables, features.mean, strict=True))
            given: dict[str, Any] = {}
            for name, variable in features.variables.items():
                whole = isinstance(variable, Binary | Categorical)
                given[name] = torch.zeros_like(classes) if whole else means[name].expand(len(classes))
            return features({**given, label: classes}, len(classes))

        conditions = told
    schedule, (channels, *size) = Schedule(mechanism.schedule), mechanism.variable.shape
    return Generator(
        network,
        network.null.detach(),
        schedule,
        mechanism.prediction,
        Pixels(),
        conditions,
        channels,
        (size[0], size[1]),
    )
