"""What draws counterfactuals: a denoiser, the space it works in, and what it can be told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Int
from torch import Tensor

from causalcf.diffusion.codec import Codec, Pixels
from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser, Network
from causalcf.diffusion.schedule import Levels, NoiseSchedule, Schedule, Spacing

Conditions = Callable[[Int[Tensor, " batch"]], Tensor]  # classes -> what the network is told of each row


@dataclass(frozen=True)
class Listed:
    """The conditions of the classes 0, 1, ... of the explained classifier, one row each.

    Args:
        rows: the conditions.
        whole: whether these must be all classes of the classifier; texts may be those of its first ones alone.
    """

    rows: Tensor
    whole: bool = False

    def __call__(self, classes: Int[Tensor, " batch"]) -> Tensor:
        """The conditions of classes."""
        if classes.max() >= len(self.rows):
            raise ValueError(
                f"class {classes.max().item()}: this generator was told what {len(self.rows)} classes are; give one "
                "of prompts= or classes= for each class of the classifier"
            )
        return self.rows[classes.to(self.rows.device)]


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
        channels: of the images it draws, where that is known.
        size: height and width of these, where it draws no others.
        forward: rows the network was shown since `count` was called.
        backward: rows whose gradient was taken through the network since, each as often as it was.
    """

    network: Network
    null: Tensor
    schedule: NoiseSchedule = field(default_factory=Schedule)
    prediction: str = "epsilon"
    codec: Codec = field(default_factory=Pixels)
    conditions: Conditions | None = None
    channels: int | None = None
    size: tuple[int, int] | None = None
    forward: int = field(default=0, init=False)
    backward: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise ValueError(f"generator: expected prediction in {list(PREDICTIONS)}, got {self.prediction!r}")

    def levels(self, steps: int, spacing: Spacing = "uniform") -> Levels:
        """A chain of `steps` steps over the whole schedule, down to no noise at all."""
        return self.schedule.levels(steps - 1, spacing, top=self.schedule.last).with_clean()

    def denoiser(self, levels: Levels) -> Denoiser:
        """The network at these levels; its evaluations are counted."""
        return Denoiser(self._asked, PREDICTIONS[self.prediction], levels, self.codec.limit)

    def _asked(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        self.forward += len(x)
        found = self.network(x, timestep, condition)
        if found.requires_grad:
            found.register_hook(self._differentiated)
        return found

    def _differentiated(self, slopes: Tensor) -> None:
        self.backward += len(slopes)

    def count(self) -> None:
        """Start counting again."""
        self.forward = self.backward = 0

    def nothing(self, rows: int) -> Tensor:
        """The condition that says nothing, for so many rows."""
        return self.null.expand(rows, *self.null.shape)

    def refuse_classes(self, known: int) -> None:
        """Raise if it cannot be told the classes of a classifier that knows so many."""
        self.told(torch.zeros(1, dtype=torch.int64, device=self.null.device))
        if isinstance(self.conditions, Listed) and self.conditions.whole and len(self.conditions.rows) != known:
            raise ValueError(
                f"generator: it can be told {len(self.conditions.rows)} classes, and the classifier knows {known}; say "
                "which of the generator's own each of these is, classes=(3, 8) or --classes 3,8 where class 0 is its 3 "
                "and class 1 its 8"
            )

    def told(self, classes: Int[Tensor, " batch"]) -> Tensor:
        """The conditions of classes, one per row."""
        if self.conditions is None:
            raise ValueError(
                "this generator cannot be told a class; give it conditions=, or use an explainer that needs none"
            )
        return self.conditions(classes)
