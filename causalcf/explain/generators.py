"""Where generators come from: models of ours, and pipelines of diffusers."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.diffusion.codec import Pixels
from causalcf.diffusion.readers import Reader, as_reader
from causalcf.diffusion.schedule import Schedule
from causalcf.explain.generator import Generator, Given, Listed
from causalcf.explain.pipelines import from_diffusers
from causalcf.mechanisms import DiffSCM, NSCMDiffusion, SpatialDiffusion
from causalcf.mechanisms.features import Features
from causalcf.scm import SCM
from causalcf.variables import Binary, Categorical, Continuous

__all__ = ["Generator", "from_diffusers", "from_scm"]

DRAWN = 2000  # rows that averages are of


@dataclass(frozen=True)
class Parents:
    """The conditions of a model's image: the class of one parent, and the others as they were read, or on average.

    Args:
        features: what the network is told of parents.
        means: the same of each class of the explained classifier, on average; of a row, but for what was read of it.
    """

    features: Features
    means: Float[Tensor, "class features"]

    @property
    def count(self) -> int:
        """How many classes the classifier must know."""
        return len(self.means)

    def __call__(self, classes: Int[Tensor, " batch"], given: Given | None = None) -> Tensor:
        """The conditions of classes, and of what was read of the same rows."""
        told = Listed(self.means)(classes)
        if not given:
            return told
        read = {
            name: self.features.variables[name].check(f"the reader of {name}", _within(self.features, name, values))
            for name, values in given.items()
        }
        found = self.features({**_blank(self.features, len(classes)), **read}, len(classes))
        return torch.where(_columns(self.features, read), found, told)


def _columns(features: Features, names: Collection[str]) -> Bool[Tensor, " features"]:
    """Which of the features tell of these variables."""
    given: list[bool] = []
    for name, variable in features.variables.items():
        given += [name in names] * (variable.classes if isinstance(variable, Categorical) else 1)
    return torch.tensor(given, device=features.mean.device)


def _blank(features: Features, rows: int) -> dict[str, Tensor]:
    """Values of all variables, of no meaning."""
    zero = torch.zeros(rows, device=features.mean.device)
    return {
        name: zero if isinstance(variable, Continuous) else zero.long() for name, variable in features.variables.items()
    }


def _within(features: Features, name: str, read: Tensor) -> Tensor:
    """A reading in the variable's type, and, of a continuous one, in its support: what is measured may leave it."""
    variable, read = features.variables[name], read.to(features.mean.device)
    if not isinstance(variable, Continuous):
        return read if read.is_floating_point() else read.long()  # probabilities are no classes, and refused
    return read.float().clamp(
        -math.inf if variable.lower is None else variable.lower, math.inf if variable.upper is None else variable.upper
    )


def from_scm(
    scm: SCM,
    node: str | None = None,
    label: str | None = None,
    classes: Sequence[int] | None = None,
    readers: Mapping[str, Any] | None = None,
) -> Generator:
    """The generator inside a model's image mechanism, asked without its parents, or with one of them.

    Args:
        scm: fitted, with a diffusion mechanism at the node, trained with a null token.
        node: the image; by default the only one.
        label: the discrete parent that classes mean. Of the other parents the network is told what the model draws of
            them under `do(label)`, on average, unless they are read.
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
    node = node or scm.graph.image()
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
    conditions, known = None, {}
    if label is not None:
        known = _readers(mechanism, node, label, readers or {})
        conditions = _parents(scm, mechanism, node, label, classes, known)
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
        known,
    )


def _parents(
    scm: SCM,
    mechanism: SpatialDiffusion | NSCMDiffusion | DiffSCM,
    node: str,
    label: str,
    classes: Sequence[int] | None,
    readers: Collection[str],
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
    others, means = [name for name in mechanism.parents if name != label and name not in readers], []
    for own in chosen:
        drawn = scm.do(**{label: own}).sample(DRAWN, only=[label, *others])
        told = _blank(features, DRAWN) | {name: column.to(features.mean.device) for name, column in drawn.items()}
        means.append(features(told, DRAWN).mean(0))
    return Parents(features, torch.stack(means))


def _readers(
    mechanism: SpatialDiffusion | NSCMDiffusion | DiffSCM, node: str, label: str, readers: Mapping[str, Any]
) -> dict[str, Reader]:
    """Readers of the other parents."""
    others = [name for name in mechanism.parents if name != label]
    if unknown := [name for name in readers if name not in others]:
        raise ValueError(
            f"from_scm: expected readers of other parents of {node}, {', '.join(others) or '(none)'}, got "
            f"{', '.join(map(repr, unknown))}"
        )
    return {name: as_reader(name, reader) for name, reader in readers.items()}
