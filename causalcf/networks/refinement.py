"""What a network on patches leaves undone, pixel by pixel."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import Timesteps
from jaxtyping import Float, Int
from torch import Tensor, nn


class Refinement(nn.Module):
    """A shallow network at full resolution, added to the output of one that sees patches; at first it adds nothing.

    A patch of p x p pixels has to pass through the first channels of the network behind it. Where these are few, the
    noise of single pixels does not, and little noise is not told from the image at all. To take it away, the pixels
    around and what the other network makes of them are enough.

    Args:
        channels: of the image.
        width: channels between the three convolutions.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.time = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed = nn.Sequential(nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 4 * width))
        self.first = nn.Conv2d(2 * channels, width, 3, padding=1)
        self.second = nn.Conv2d(width, width, 3, padding=1)
        self.last = nn.Conv2d(width, channels, 3, padding=1)
        for parameter in self.last.parameters():
            nn.init.zeros_(parameter)

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        output: Float[Tensor, "batch channel height width"],
        timestep: Int[Tensor, " batch"],
    ) -> Float[Tensor, "batch channel height width"]:
        """The output, refined.

        Args:
            x: noisy images.
            output: what the other network says of them.
            timestep: their training steps.
        """
        time = self.embed(self.time(timestep).to(x.dtype))[:, :, None, None]
        scale, shift, again, aside = time.chunk(4, dim=1)
        h = nn.functional.silu(self.first(torch.cat([x, output.to(x.dtype)], dim=1)) * (1 + scale) + shift)
        h = nn.functional.silu(self.second(h) * (1 + again) + aside)
        return output + self.last(h)
