"""In which space images are diffused: their pixels, or the latents of an autoencoder."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, final

from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.denoiser import Images

Pictures = Float[Tensor, "batch channel height width"]  # in [0, 1]


class Codec(ABC):
    """Turns images in [0, 1] into what is diffused, and back; both ways are differentiable."""

    limit: float | None = None
    """The largest value of what is diffused, where there is one."""

    @abstractmethod
    def encode(self, images: Pictures) -> Images:
        """What is diffused."""

    @abstractmethod
    def decode(self, x: Images) -> Pictures:
        """Images, not clamped."""

    def latent(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:
        """The shape of what is diffused, given that of the images."""
        return shape


@final
class Pixels(Codec):
    """The pixels themselves, in [-1, 1]."""

    limit = 1.0

    def encode(self, images: Pictures) -> Images:  # noqa: D102
        return 2 * images - 1

    def decode(self, x: Images) -> Pictures:  # noqa: D102
        return (x + 1) / 2


@final
class Latents(Codec):
    """The latents of one of diffusers' autoencoders, scaled to unit spread; encoding takes the mean.

    Args:
        autoencoder: `AutoencoderKL`, `VQModel`, `AutoencoderTiny`, ...; its own scaling and shift are used.
    """

    def __init__(self, autoencoder: Any) -> None:
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        config = autoencoder.config
        self.scaling = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.factor = 2 ** (len(getattr(config, "block_out_channels", (1,))) - 1)
        self.channels = int(config.latent_channels)

    def encode(self, images: Pictures) -> Images:  # noqa: D102
        found = self.autoencoder.encode((2 * images - 1).to(self.autoencoder.dtype))
        latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return (latents.to(images.dtype) - self.shift) * self.scaling

    def decode(self, x: Images) -> Pictures:  # noqa: D102
        return (self.autoencoder.decode((x / self.scaling + self.shift).to(self.autoencoder.dtype)).sample + 1) / 2

    def latent(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:  # noqa: D102
        _, height, width = shape
        if height % self.factor or width % self.factor:
            raise ValueError(
                f"images of {height}x{width} do not fit this autoencoder, which divides sides by {self.factor}; "
                f"resize them to {-(-height // self.factor) * self.factor}x{-(-width // self.factor) * self.factor}"
            )
        return self.channels, height // self.factor, width // self.factor
