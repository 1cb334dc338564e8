"""Where generators come from: models of ours, and pipelines of diffusers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.codec import Pixels
from causalcf.diffusion.schedule import Schedule
from causalcf.explain.generator import Generator, Listed
from causalcf.explain.pipelines import from_diffusers
from causalcf.mechanisms import DiffSCM, NSCMDiffusion, SpatialDiffusion
from causalcf.scm import SCM
from causalcf.variables import Binary, Categorical

__all__ = ["Generator", "from_diffusers", "from_scm"]


def from_scm(
    scm: SCM, node: str = "image", label: str | None = None, classes: Sequence[int] | None = None
) -> Generator:
    """The generator inside a model's image mechanism, asked without its parents.

    Args:
        scm: fitted, with a diffusion mechanism at the node, trained with a null token.
        node: the image.
        label: the discrete parent that classes mean; the other parents are then set to their means, or, if they are
            discrete, to class 0.
        classes: the parent's own class for each class of the explained classifier; by default they are the same. Of
            digits, a classifier of 3 and 8 is explained with `label="digit", classes=(3, 8)`.

    Raises:
        TypeError: another mechanism at the node.
        ValueError: a mechanism without a null token, or a label or classes that it does not have.

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
    network = mechanism.network
    conditions = None if label is None else Listed(_rows(mechanism, node, label, classes), whole=True)
    if label is None and classes is not None:
        raise ValueError(f"from_scm: classes are those of a discrete parent of {node}; write label= (--parent) as well")
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


def _rows(
    mechanism: SpatialDiffusion | NSCMDiffusion | DiffSCM, node: str, label: str, classes: Sequence[int] | None
) -> Tensor:
    """What the network is told of each class of a parent."""
    parent, features = mechanism.parents.get(label), mechanism.features
    if not isinstance(parent, Binary | Categorical):
        raise ValueError(f"from_scm: expected a discrete parent of {node} as label, got {label!r}")
    chosen = list(range(parent.classes) if classes is None else classes)
    if not chosen or not all(isinstance(own, int) and 0 <= own < parent.classes for own in chosen):
        raise ValueError(
            f"from_scm: expected as classes numbers from 0 to {parent.classes - 1} of {label}, one for each class of "
            f"the classifier, got {classes}; write classes=(0, 1)"
        )
    given: dict[str, Any] = {}
    for (name, variable), mean in zip(features.variables.items(), features.mean, strict=True):
        whole = isinstance(variable, Binary | Categorical)
        given[name] = torch.zeros_like(mean, dtype=torch.int64) if whole else mean
        given[name] = given[name].expand(len(chosen))
    given[label] = torch.tensor(chosen, device=features.mean.device)
    return features(given, len(chosen))
