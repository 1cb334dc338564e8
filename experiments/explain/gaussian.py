"""A Gaussian model of images as a generator: its denoiser is a matrix, fitted in seconds; a stand-in for a network."""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor, nn

from causalcf.diffusion.schedule import Schedule
from causalcf.explain import Generator


class Wiener(nn.Module):
    r"""The clean image that a noisy one means, `E[x0 | x = alpha x0 + sigma e]`, where `x0 ~ N(mu, V diag(s) V' + r)`.

    `V` and `s` are the first principal components of some images, `r` the mean variance of the others (Tipping and
    Bishop, "Probabilistic Principal Component Analysis", 1999).

    Args:
        images: in [-1, 1].
        components: how many.
        schedule: whose levels are asked about.
    """

    mean: Tensor
    axes: Tensor
    variance: Tensor
    rest: Tensor

    def __init__(
        self, images: Float[Tensor, "batch channel height width"], components: int, schedule: Schedule
    ) -> None:
        super().__init__()
        flat = images.flatten(1)
        self.register_buffer("mean", flat.mean(0))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            _, scale, axes = torch.svd_lowrank(flat - self.mean, components)
        variance = scale.square() / len(images)
        left = (flat - self.mean).square().mean(0).sum() - variance.sum()
        self.register_buffer("axes", axes)
        self.register_buffer("variance", variance)
        self.register_buffer("rest", (left / (flat.shape[1] - components)).clamp_min(1e-6))
        alpha_bar = schedule.alpha_bar.to(flat)
        self.register_buffer("alpha", alpha_bar.sqrt())
        self.register_buffer("noise", 1 - alpha_bar)

    def forward(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        """The clean image; the condition says nothing."""
        alpha, noise = (table[timestep.long()].reshape(-1, 1) for table in (self.alpha, self.noise))
        off = x.flatten(1) - alpha * self.mean
        within = off @ self.axes

        def kept(variance: Tensor) -> Tensor:
            return alpha * variance / (alpha**2 * variance + noise)

        found = self.mean + kept(self.rest) * off + ((kept(self.variance) - kept(self.rest)) * within) @ self.axes.T
        return found.reshape(x.shape)


def gaussian(images: Float[Tensor, "batch channel height width"], components: int = 300) -> Generator:
    """The generator of a Gaussian fitted to images in [0, 1]."""
    schedule = Schedule("cosine")
    network = Wiener(2 * images - 1, min(components, len(images) - 1), schedule).eval()
    return Generator(network, torch.zeros(1), schedule, "x0")
