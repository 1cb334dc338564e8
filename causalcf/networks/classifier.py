"""Small convolutional networks that read an attribute from an image."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn


class Predictor(nn.Module):
    """Strided 3x3 convolutions, batch normalisation, mean pooling, one linear layer.

    Args:
        channels: of the image.
        outputs: of the linear layer.
        widths: channels after each convolution; each but the first halves the resolution.
    """

    def __init__(self, channels: int, outputs: int, widths: Sequence[int]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        before = channels
        for index, width in enumerate(widths):
            layers += [
                nn.Conv2d(before, width, 3, stride=2 if index else 1, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.SiLU(),
                nn.Conv2d(width, width, 3, padding=1, bias=False),
                nn.BatchNorm2d(width),
                nn.SiLU(),
            ]
            before = width
        self.body = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.2))
        self.head = nn.Linear(before, outputs)

    def forward(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch outputs"]:
        """What the linear layer says."""
        return self.head(self.features(image))

    def features(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch features"]:
        """What the linear layer sees: an embedding of images for metrics, in eval mode."""
        return self.body(2 * image.to(self.head.weight.dtype) - 1)


class Classifier(Predictor):
    """Class logits of an image in [0, 1].

    Args:
        channels: of the image.
        classes: how many.
        widths: channels after each convolution; each but the first halves the resolution.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__(channels, classes, widths)
        self.options = {"channels": channels, "classes": classes, "widths": list(widths)}

    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Int[Tensor, " batch"]:
        """The most probable class, in eval mode: an oracle for `Effectiveness`."""
        return self.eval()(image).argmax(1)


class Regressor(Predictor):
    """The value of a continuous attribute, in its own unit, from an image in [0, 1].

    Args:
        channels: of the image.
        widths: channels after each convolution; each but the first halves the resolution.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__(channels, 1, widths)
        self.options = {"channels": channels, "widths": list(widths)}
        self.register_buffer("mean", torch.zeros(()))
        self.register_buffer("std", torch.ones(()))

    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, " batch"]:
        """The value, in eval mode: an oracle for `Effectiveness`; gradients flow to the image."""
        return self.eval()(image)[:, 0] * self.std + self.mean
