"""Where generators come from: models of ours, and pipelines of diffusers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from causalcf.diffusion.codec import Pixels
from causalcf.diffusion.readers import Reader, as_reader
from causalcf.diffusion.schedule import Schedule
from causalcf.explain.generator import Generator, Given, Listed
from causalcf.explain.pipelines import from_diffusers
from causalcf.mechanisms import DiffSCM, NSCMDiffusion, SpatialDiffusion
from causalcf.mechanisms.features import Features
from causalcf.scm import SCM
from causalcf.variables import Binary, Categorical, Continuous, Variable

__all__ = ["Generator", "from_diffusers", "from_scm"]


@dataclass(frozen=True)
class Parents:
    """The conditions of a model's image: the class of one parent, and the others as they were read, or at their means.

    Args:
        features: what the network is told of parents.
        label: the parent that classes mean.
        own: its own class for each class of the explained classifier.
    """

    features: Features
    label: str
    own: Listed

    @property
    def count(self) -> int | None:
        """How many classes the classifier must know."""
        return self.own.count

    def __call__(self, classes: Int[Tensor, " batch"], given: Given | None = None) -> Tensor:
        """The conditions of classes, and of what was read of the same rows."""
        told: dict[str, Tensor] = {}
        for (name, variable), mean in zip(self.features.variables.items(), self.features.mean, strict=True):
            whole = isinstance(variable, Binary | Categorical)
            if given is not None and name in given:
                told[name] = variable.check(f"the reader of {name}", _within(variable, given[name].to(mean.device)))
            else:
                told[name] = (torch.zeros_like(mean, dtype=torch.int64) if whole else mean).expand(len(classes))
        told[self.label] = self.own(classes.to(self.features.mean.device))
        return self.features(told, len(classes))


def _within(variable: Variable, read: Tensor) -> Tensor:
    """A reading in the variable's type, and, of a continuous one, in its support: what is measured may leave it."""
    if not isinstance(variable, Continuous):
        return read if read.is_floating_point() else read.long()  # probabilities are no classes, and refused
    return read.float().clamp(
        -math.inf if variable.lower is None else variable.lower, math.inf if variable.upper is None else variable.upper
    )


def from_scm(
    scm: SCM,
    node: str = "image",
    label: str | None = None,
    classes: Sequence[int] | None = None,
    readers: Mapping[str, Any] | None = None,
) -> Generator:
    """The generator inside a model's image mechanism, asked without its parents, or with one of them.

    Args:
        scm: fitted, with a diffusion mechanism at the node, trained with a null token.
        node: the image.
        label: the discrete parent that classes mean; the other parents are then set to their means, or, if they are
            discrete, to class 0, unless they are read.
        classes: the parent's own class for each class of the explained classifier; by default they are the same. Of
            digits, a classifier of 3 and 8 is explained with `label="digit", classes=(3, 8)`.
        readers: other parent -> what reads it from images in [0, 1]: a function, or a predictor with `predict`. The
            network is then told what each factual image shows, whichever the class, so that explanations leave it
            alone. What the label causes should not be among them.

    Raises:
        TypeError: another mechanism at the node.
        ValueError: a mechanism without a null token, or a label, classes or readers that it does not have.

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
    if label is None and (classes is not None or readers):
        raise ValueError(
            f"from_scm: classes and readers go with a discrete parent of {node}; write label= (--parent) as well"
        )
    conditions = None if label is None else _parents(mechanism, node, label, classes)
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
        {} if conditions is None else _readers(conditions, node, readers or {}),
    )


def _parents(
    mechanism: SpatialDiffusion | NSCMDiffusion | DiffSCM, node: str, label: str, classes: Sequence[int] | None
) -> Parents:
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
    return Parents(features, label, Listed(torch.tensor(chosen, device=features.mean.device), whole=True))


def _readers(conditions: Parents, node: str, readers: Mapping[str, Any]) -> dict[str, Reader]:
    """Readers of the other parents."""
    others = [name for name in conditions.features.variables if name != conditions.label]
    if unknown := [name for name in readers if name not in others]:
        raise ValueError(
            f"from_scm: expected readers of other parents of {node}, {', '.join(others) or '(none)'}, got "
            f"{', '.join(map(repr, unknown))}"
        )
    return {name: as_reader(name, reader) for name, reader in readers.items()}
