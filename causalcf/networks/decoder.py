"""A convolutional decoder: from a flat code and the parents to the mean and scale of an image."""

from __future__ import annotations

from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor, nn

from causalcf.networks.sides import coarsest

LEAST = -7.0  # log scale, a ninth of a grey level: narrower, no likelihood is gained and what is left over explodes


class Decoder(nn.Module):
    """Mean and log scale of every pixel, in [-1, 1], from a vector.

    Args:
        channels: of the image.
        size: height and width, divisible by `2 ** (len(widths) - 1)`.
        inputs: of the vector.
        widths: channels at each resolution, the finest first.
    """

    def __init__(self, channels: int, size: tuple[int, int], inputs: int, widths: Sequence[int] = (32, 64)) -> None:
        super().__init__()
        height, width = coarsest("VAE", size, widths)
        layers: list[nn.Module] = [
            nn.Linear(inputs, 128),
            nn.SiLU(),
            nn.Linear(128, widths[-1] * height * width),
            nn.Unflatten(1, (widths[-1], height, width)),
        ]
        for before, after in zip(reversed(widths), [*reversed(widths[:-1]), None], strict=True):
            layers += [nn.GroupNorm(8, before), nn.SiLU(), nn.Conv2d(before, before, 3, padding=1)]
            if after is not None:
                layers += [nn.Upsample(scale_factor=2), nn.Conv2d(before, after, 3, padding=1)]
        self.body = nn.Sequential(*layers, nn.GroupNorm(8, widths[0]), nn.SiLU())
        self.head = nn.Conv2d(widths[0], 2 * channels, 3, padding=1)
        for tensor in self.head.parameters():
            nn.init.zeros_(tensor)

    def forward(self, code: Float[Tensor, "batch inputs"]) -> tuple[Tensor, Tensor]:
        """Mean and log scale."""
        return pixels(self.head(self.body(code)))


def pixels(output: Float[Tensor, "batch outputs height width"]) -> tuple[Tensor, Tensor]:
    """Mean and log scale of every pixel, from a last layer that begins at zero."""
    mean, log_scale = output.chunk(2, 1)
    return mean, (log_scale - 2.0).clamp_min(LEAST)
