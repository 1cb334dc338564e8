"""What draws counterfactuals: a denoiser, the space it works in, and what it can be told."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from causalcf.diffusion.codec import Codec, Pixels
from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser, Network
from causalcf.diffusion.readers import Reader
from causalcf.diffusion.schedule import Levels, NoiseSchedule, Schedule, Spacing

Given = Mapping[str, Tensor]  # what else is known of each row
Conditions = Callable[..., Tensor]  # classes, and, where there are readers, what they read -> what the network is told


@dataclass(frozen=True)
class Listed:
    """The conditions of the classes 0, 1, ... of the explained classifier, one row each.

    Args:
        rows: the conditions.
        whole: whether these must be all classes of the classifier; texts may be those of its first ones alone.
    """

    rows: Tensor
    whole: bool = False

    @property
    def count(self) -> int | None:
        """How many classes the classifier must know."""
        return len(self.rows) if self.whole else None

    def __call__(self, classes: Int[Tensor, " batch"]) -> Tensor:
        """The conditions of classes."""
        if classes.max() >= len(self.rows):
            raise ValueError(
                f"class {classes.max().item()}: this generator was told what {len(self.rows)} classes are; give one "
                "of prompts= or classes= for each class of the classifier"
            )
        return self.rows[classes.to(self.rows.device)]


@dataclass(repr=False)
class Generator:
    """A diffusion model of images, as explainers ask it.

    Attributes:
        network: `(x, timestep, condition) -> output`.
        null: the condition that says nothing, of one row.
        schedule: how much noise there is at each training step.
        prediction: what the network outputs, "epsilon", "v", "x0" or "flow".
        codec: from images in [0, 1] to what is diffused.
        conditions: classes -> conditions, where the network can be told the class; with readers, classes and what was
            read -> conditions.
        channels: of the images it draws, where that is known.
        size: height and width of these, where it draws no others.
        readers: attribute -> what reads it from images in [0, 1]. The network is told of a row's class, and of what
            its own image shows otherwise, whichever the class.
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
    readers: Mapping[str, Reader] = field(default_factory=dict)
    forward: int = field(default=0, init=False)
    backward: int = field(default=0, init=False)

    def __repr__(self) -> str:
        """One line, without the network's layers."""
        size = "any size" if self.size is None else " by ".join(map(str, self.size))
        told = "told the class" if self.conditions is not None else "told no class"
        read = f", reads {', '.join(self.readers)}" if self.readers else ""
        return f"Generator({type(self.network).__name__}, {self.channels or '?'} channels, {size}, {told}{read})"

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
        self.refuse_silent()
        whole = getattr(self.conditions, "count", None)
        if whole not in (None, known):
            raise ValueError(
                f"generator: it can be told {whole} classes, and the classifier knows {known}; say "
                "which of the generator's own each of these is, classes=(3, 8) or --classes 3,8 where class 0 is its 3 "
                "and class 1 its 8"
            )

    def refuse_silent(self) -> None:
        """Raise if it cannot be told any class."""
        if self.conditions is None:
            raise ValueError(
                "this generator cannot be told a class; give it conditions=, or use an explainer that needs none; "
                "for a model of ours name the parent that is the class, label= or --parent"
            )

    @torch.no_grad()
    def given(self, images: Float[Tensor, "batch channel height width"]) -> dict[str, Tensor]:
        """What its readers say of images.

        Raises:
            ValueError: a reader that does not answer with one value per image.
        """
        found = {name: reader(images) for name, reader in self.readers.items()}
        for name, values in found.items():
            if not isinstance(values, Tensor) or values.shape != (len(images),):
                got = f"shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
                raise ValueError(
                    f"the reader of {name}: expected a tensor with a value for each image, of shape ({len(images)},), "
                    f"got {got}"
                )
        return {name: values.to(images.device) for name, values in found.items()}

    def told(self, classes: Int[Tensor, " batch"], given: Given | None = None) -> Tensor:
        """The conditions of classes, one per row.

        Args:
            classes: of the explained classifier.
            given: what its readers said of these rows.
        """
        self.refuse_silent()
        assert self.conditions is not None
        return self.conditions(classes, given) if self.readers else self.conditions(classes)
