"""Small convolutional networks that read an attribute from an image."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

Stage = Callable[[int, int, int], list[nn.Module]]  # of channels before and after, and the stride


def normalised(before: int, after: int, stride: int) -> list[nn.Module]:
    """Two 3x3 convolutions, each with batch normalisation and a SiLU; the first one strided."""
    return [
        nn.Conv2d(before, after, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.SiLU(),
        nn.Conv2d(after, after, 3, padding=1, bias=False),
        nn.BatchNorm2d(after),
        nn.SiLU(),
    ]


class Predictor(nn.Module, ABC):
    """Stages of 3x3 convolutions, mean pooling, one linear layer.

    Args:
        channels: of the image.
        outputs: of the linear layer.
        widths: channels after each stage; each but the first halves the resolution.
        reads: name of the attribute it was trained on, where it is known.
        stage: the layers of a stage.
        dropout: of what the linear layer sees, in training.
    """

    options: dict[str, Any]

    def __init__(
        self,
        channels: int,
        outputs: int,
        widths: Sequence[int],
        reads: str,
        stage: Stage = normalised,
        dropout: float = 0.2,
    ) -> None:
        super().__init__()
        self.reads = reads
        layers: list[nn.Module] = []
        before = channels
        for index, width in enumerate(widths):
            layers += stage(before, width, 2 if index else 1)
            before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(dropout))
        self.head = nn.Linear(before, outputs)

    def forward(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch outputs"]:
        """What the linear layer says."""
        return self.head(self.features(image))

    def features(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch features"]:
        """What the linear layer sees: an embedding of images for metrics, in eval mode."""
        return self.body(2 * image.to(self.head.weight.dtype) - 1)

    @abstractmethod
    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Tensor:
        """The attribute's value, in eval mode, in its own unit."""

    @abstractmethod
    def loss(self, image: Float[Tensor, "batch channel height width"], wanted: Tensor) -> Float[Tensor, " batch"]:
        """How far what it reads is from the values wanted; gradients flow to the image."""


class Classifier(Predictor):
    """Class logits of an image in [0, 1].

    Args:
        channels: of the image.
        classes: how many.
        widths: channels after each stage; each but the first halves the resolution.
        reads: name of the attribute.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = (32, 64, 128), reads: str = "") -> None:
        super().__init__(channels, classes, widths, reads)
        self.options = {"channels": channels, "classes": classes, "widths": list(widths), "reads": reads}

    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Int[Tensor, " batch"]:
        """The most probable class, in eval mode: an oracle for `Effectiveness`."""
        return self.eval()(image).argmax(1)

    def loss(self, image: Float[Tensor, "batch channel height width"], wanted: Tensor) -> Float[Tensor, " batch"]:
        """Cross-entropy, with labels smoothed a little."""
        return nn.functional.cross_entropy(self(image), wanted, reduction="none", label_smoothing=0.05)


class Regressor(Predictor):
    """The value of a continuous attribute, in its own unit, from an image in [0, 1].

    Args:
        channels: of the image.
        widths: channels after each stage; each but the first halves the resolution.
        reads: name of the attribute.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128), reads: str = "") -> None:
        super().__init__(channels, 1, widths, reads)
        self.options = {"channels": channels, "widths": list(widths), "reads": reads}
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, " batch"]:
        """The value, in eval mode: an oracle for `Effectiveness`; gradients flow to the image."""
        return self.eval()(image)[:, 0] * self.std + self.mean

    def loss(self, image: Float[Tensor, "batch channel height width"], wanted: Tensor) -> Float[Tensor, " batch"]:
        """Absolute error in standard deviations of the attribute, smoothed near 0."""
        target = (wanted.to(self.std) - self.mean) / self.std
        return nn.functional.smooth_l1_loss(self(image)[:, 0], target, reduction="none", beta=0.1)
