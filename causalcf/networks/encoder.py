"""A convolutional encoder of images to a Gaussian code."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn


class Trunk(nn.Module):
    """Strided residual convolutions, and one linear layer over all places: nothing is pooled over the whole image.

    The condition, where there is one, scales and shifts the features of every block.

    Args:
        channels: of the image.
        size: height and width of the image.
        features: of the condition; 0 for none.
        widths: channels after each halving of the resolution.
    """

    def __init__(self, channels: int, size: tuple[int, int], features: int, widths: Sequence[int]) -> None:
        super().__init__()
        self.features, self.width = features, 2 * widths[-1]
        self.blocks = nn.ModuleList()
        before, (height, width) = channels, size
        for after in widths:
            self.blocks.append(_Block(before, after, features))
            before, height, width = after, -(-height // 2), -(-width // 2)
        self.neck = nn.Sequential(nn.Flatten(), nn.Linear(before * height * width, self.width), nn.SiLU())

    def hidden(
        self, image: Float[Tensor, "batch channel height width"], condition: Float[Tensor, "batch features"]
    ) -> Float[Tensor, "batch width"]:
        """What the linear heads see."""
        h = image
        for block in self.blocks:
            h = block(h, condition)
        return self.neck(h)


class Encoder(Trunk):
    """Mean and log-variance of `q(z | image, condition)`.

    Args:
        channels: of the image.
        size: height and width of the image.
        latent: width of the code.
        features: of the condition; 0 for none.
        widths: channels after each halving of the resolution.
    """

    LIMIT = 8.0  # of the log-variance: beyond it the code is exact, or ignored

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        latent: int,
        features: int = 0,
        widths: Sequence[int] = (32, 64, 128),
    ) -> None:
        super().__init__(channels, size, features, widths)
        self.mean = nn.Linear(self.width, latent)
        self.log_variance = nn.Linear(self.width, latent)
        nn.init.zeros_(self.log_variance.weight)
        nn.init.constant_(self.log_variance.bias, -2.0)

    def forward(
        self,
        image: Float[Tensor, "batch channel height width"],
        condition: Float[Tensor, "batch features"],
    ) -> tuple[Float[Tensor, "batch latent"], Float[Tensor, "batch latent"]]:
        """Mean and log-variance of the code."""
        h = self.hidden(image, condition)
        return self.mean(h), self.log_variance(h).clamp(-self.LIMIT, self.LIMIT)


class _Block(nn.Module):
    """Halve the resolution, then one residual convolution under the condition."""

    def __init__(self, before: int, after: int, features: int) -> None:
        super().__init__()
        self.down = nn.Conv2d(before, after, 3, stride=2, padding=1)
        self.first, self.second = nn.GroupNorm(8, after), nn.GroupNorm(8, after)
        self.conv = nn.Conv2d(after, after, 3, padding=1)
        self.film = nn.Linear(features, 2 * after) if features else None

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        h = self.down(x)
        r = self.first(h)
        if self.film is not None:
            scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
            r = r * (1 + scale) + shift
        h = h + self.conv(nn.functional.silu(r))
        return nn.functional.silu(self.second(h))


def divergence(mean: Float[Tensor, "batch latent"], log_variance: Float[Tensor, "batch latent"]) -> Tensor:
    """`KL(N(mean, exp(log_variance)) || N(0, 1))` per row, nats."""
    return 0.5 * (mean.square() + log_variance.exp() - 1 - log_variance).sum(1)


def drawn(mean: Tensor, log_variance: Tensor, generator: torch.Generator | None) -> Tensor:
    """A reparametrised draw."""
    e = torch.randn(mean.shape, generator=generator, device=mean.device, dtype=mean.dtype)
    return mean + (0.5 * log_variance).exp() * e
