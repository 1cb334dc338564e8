"""The network of a diffusion mechanism: diffusers' UNet, told its parents through the class embedding."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

import torch
from diffusers import UNet2DModel
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from causalcf.networks.refinement import Refinement
from causalcf.networks.sides import GROUPS, coarsest
from causalcf.numbers import whole


class ConditionalUNet(nn.Module):
    """A UNet `(x_t, t, condition) -> output` with a learned null token.

    The condition is a vector of features; a small network embeds it to the width of the time embedding, to which it is
    added, and every residual block is scaled and shifted by the sum. Beside the image the network sees where each pixel
    is, since attributes such as slant act on places.

    Args:
        channels: of the image.
        size: height and width of the image, divisible by `patch * 2 ** (len(widths) - 1)`.
        features: of the condition.
        widths: channels at each resolution.
        blocks: residual blocks at each resolution.
        attention: whether the coarsest resolution attends to itself.
        patch: side of the squares of pixels that are folded into channels before the network, and unfolded behind it.
        refine: channels of a shallow network at full resolution behind it; 0 for none.
    """

    place: Tensor

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        features: int,
        widths: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        attention: bool = False,
        patch: int = 1,
        refine: int = 0,
    ) -> None:
        super().__init__()
        coarsest("UNet", size, widths, patch)
        whole("UNet", 1, blocks=blocks)
        width = 4 * widths[0]
        self.patch = patch
        height, width_ = (torch.linspace(-1, 1, side // patch) for side in size)
        self.register_buffer("place", torch.stack(torch.meshgrid(height, width_, indexing="ij")), persistent=False)
        self.null = nn.Parameter(torch.randn(features))
        self.embed = nn.Sequential(nn.Linear(features, width), nn.SiLU(), nn.Linear(width, width))
        self.unet = UNet2DModel(
            sample_size=(size[0] // patch, size[1] // patch),
            in_channels=channels * patch**2 + 2,
            out_channels=channels * patch**2,
            layers_per_block=blocks,
            block_out_channels=tuple(widths),
            down_block_types=("DownBlock2D",) * len(widths),
            up_block_types=("UpBlock2D",) * len(widths),
            class_embed_type="identity",
            resnet_time_scale_shift="scale_shift",
            norm_num_groups=GROUPS,
            add_attention=attention,
        )
        self.refine = Refinement(channels, refine) if refine else None

    def forward(
        self,
        x: Float[Tensor, "batch channel height width"],
        timestep: Int[Tensor, " batch"],
        condition: Float[Tensor, "batch features"],
    ) -> Float[Tensor, "batch channel height width"]:
        """The network's output for noisy images."""
        folded = nn.functional.pixel_unshuffle(x, self.patch)
        seen = torch.cat([folded, self.place.to(x.dtype).expand(len(x), -1, -1, -1)], dim=1)
        output = self.unet(seen, timestep, class_labels=self.embed(condition)).sample
        output = nn.functional.pixel_shuffle(output, self.patch)
        return output if self.refine is None else self.refine(x, output, timestep)

    def train(self, mode: bool = True) -> Self:
        """Also lay out the weights: with channels last, CPUs take a fifth less time, but not in training."""
        layout = torch.contiguous_format if mode else torch.channels_last
        return super().train(mode).to(memory_format=layout)  # pyright: ignore[reportCallIssue]

    def dropped(
        self, condition: Float[Tensor, "batch features"], drop: Bool[Tensor, " batch"], keep: int = 0
    ) -> Float[Tensor, "batch features"]:
        """The condition with the null token, but for its first `keep` entries, in the rows to drop."""
        null = self.null.to(condition.dtype).expand_as(condition)
        null = torch.cat([condition[:, :keep], null[:, keep:]], dim=1)
        return torch.where(drop[:, None], null, condition)
