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
        multiple: what the network needs the sides of latents to be multiples of.
    """

    def __init__(self, autoencoder: Any, multiple: int = 1) -> None:
        self.autoencoder = autoencoder.requires_grad_(False).eval()
        config = autoencoder.config
        self.scaling = float(getattr(config, "scaling_factor", None) or 1.0)
        self.shift = float(getattr(config, "shift_factor", None) or 0.0)
        self.factor = 2 ** (len(getattr(config, "block_out_channels", (1,))) - 1)
        self.channels = int(config.latent_channels)
        self.seen = int(getattr(config, "in_channels", 3))
        self.multiple = multiple

    def encode(self, images: Pictures) -> Images:  # noqa: D102
        self.latent((images.shape[1], images.shape[2], images.shape[3]))
        found = self.autoencoder.encode((2 * images - 1).to(self.autoencoder.dtype))
        latents = found.latent_dist.mode() if hasattr(found, "latent_dist") else found.latents
        return (latents.to(images.dtype) - self.shift) * self.scaling

    def decode(self, x: Images) -> Pictures:  # noqa: D102
        images = self.autoencoder.decode((x / self.scaling + self.shift).to(self.autoencoder.dtype)).sample
        return (images.to(x.dtype) + 1) / 2

    def latent(self, shape: tuple[int, int, int]) -> tuple[int, int, int]:  # noqa: D102
        channels, height, width = shape
        if channels != self.seen:
            raise ValueError(
                f"this autoencoder reads images of {self.seen} channels, got {channels}; "
                f"show it grey ones as images.expand(-1, {self.seen}, -1, -1)"
            )
        side = self.factor * self.multiple
        if height % side or width % side:
            raise ValueError(
                f"images of {height}x{width} do not fit this autoencoder, which divides sides by {self.factor}, and a "
                f"network that reads multiples of {self.multiple}; "
                f"resize them to {-(-height // side) * side}x{-(-width // side) * side}"
            )
        return self.channels, height // self.factor, width // self.factor
