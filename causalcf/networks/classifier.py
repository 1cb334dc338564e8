"""A small convolutional classifier of images."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float, Int
from torch import Tensor, nn


class Classifier(nn.Module):
    """Class logits of an image in [0, 1]: strided 3x3 convolutions, batch normalisation, mean pooling.

    Args:
        channels: of the image.
        classes: how many.
        widths: channels after each convolution; each but the first halves the resolution.
    """

    def __init__(self, channels: int, classes: int, widths: Sequence[int] = (32, 64, 128)) -> None:
        super().__init__()
        self.options = {"channels": channels, "classes": classes, "widths": list(widths)}
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
        self.head = nn.Linear(before, classes)

    def forward(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        return self.head(self.body(2 * image - 1))

    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Int[Tensor, " batch"]:
        """The most probable class, in eval mode: an oracle for `Effectiveness`."""
        return self.eval()(image.to(self.head.weight.dtype)).argmax(1)
