"""What draws counterfactuals: a denoiser, the space it works in, and what it can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

from causalcf.diffusion.codec import Codec, Pixels
from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser, Network
from causalcf.diffusion.schedule import Levels, Schedule, Spacing
from causalcf.mechanisms import DiffSCM, NSCMDiffusion, SpatialDiffusion
from causalcf.scm import SCM
from causalcf.variables import Binary, Categorical

Conditions = Callable[[Int[Tensor, " batch"]], Tensor]  # classes -> what the network is told of each row


@dataclass
class Generator:
    """A diffusion model of images, as explainers ask it.

    Attributes:
        network: `(x, timestep, condition) -> output`.
        null: the condition that says nothing, of one row.
        schedule: how much noise there is at each training step.
        prediction: what the network outputs, "epsilon", "v", "x0" or "flow".
        codec: from images in [0, 1] to what is diffused.
        conditions: classes -> conditions, where the network can be told the class.
        forward: rows the network was shown since `count` was called.
        backward: those of them that were differentiated.
    """

    network: Network
    null: Tensor
    schedule: Schedule = field(default_factory=Schedule)
    prediction: str = "epsilon"
    codec: Codec = field(default_factory=Pixels)
    conditions: Conditions | None = None
    forward: int = field(default=0, init=False)
    backward: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"generator: expected prediction in {list(PREDICTIONS)}, got {self.prediction!r}")

    def levels(self, steps: int, spacing: Spacing = "uniform") -> Levels:
        """A chain of `steps` steps over the whole schedule, down to no noise at all."""
        return self.schedule.levels(steps - 1, spacing, top=self.schedule.length - 1).with_clean()

    def denoiser(self, levels: Levels) -> Denoiser:
        """The network at these levels; its evaluations are counted."""
        return Denoiser(self._asked, PREDICTIONS[self.prediction], levels, self.codec.limit)

    def _asked(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        self.forward += len(x)
        if torch.is_grad_enabled() and x.requires_grad:
            self.backward += len(x)
        return self.network(x, timestep, condition)

    def count(self) -> None:
        """Start counting again."""
        self.forward = self.backward = 0

    def nothing(self, rows: int) -> Tensor:
        """The condition that says nothing, for so many rows."""
        return self.null.expand(rows, *self.null.shape)

    def told(self, classes: Int[Tensor, " batch"]) -> Float[Tensor, "batch features"]:
        """The conditions of classes."""
        if self.conditions is None:
            raise ValueError(
                "this generator cannot be told a class; give it conditions=, or use an explainer that needs none"
            )
        return self.conditions(classes)


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
    schedule = Schedule(mechanism.schedule)
    return Generator(network, network.null.detach(), schedule, mechanism.prediction, Pixels(), conditions)
