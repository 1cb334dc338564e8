"""What reads factors from noisy images, and what relates them to each other."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from diffusers.models.embeddings import Timesteps
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from causalcf.networks.encoder import Trunk

LEVELS = 20  # the training steps fall into as many ranges, each with spreads of its own
LEAST = 0.02  # the smallest spread, in standard deviations of a factor
SAME = 1e-4  # factors nearer than this, in standard deviations, differ by rounding
CLOSE = 0.06  # a factor so near to its equation, in standard deviations, follows it; no fit of an equation is exact


class Projector(Trunk):
    """Reads standardised factors from images at any noise level, and knows how far it is off at each.

    Args:
        channels: of the image.
        size: height and width of the image.
        factors: how many.
        widths: channels after each halving of the resolution.
        length: number of training steps of the schedule.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        factors: int,
        widths: Sequence[int] = (32, 64, 64),
        length: int = 1000,
    ) -> None:
        super().__init__(channels, size, 128, widths)
        self.length = length
        self.time = Timesteps(64, flip_sin_to_cos=True, downscale_freq_shift=0)
        self.embed = nn.Sequential(nn.Linear(64, 128), nn.SiLU())
        self.head = nn.Linear(self.width, factors)
        self.log_spread = nn.Parameter(torch.zeros(LEVELS, factors))

    def forward(
        self, x: Float[Tensor, "batch channel height width"], timestep: Int[Tensor, " batch"]
    ) -> Float[Tensor, "batch factors"]:
        """The factors that noisy images show."""
        time = self.time(timestep).to(x.dtype)
        return self.head(self.hidden(x, self.embed(time)))

    def spread(self, timestep: Int[Tensor, " batch"]) -> Float[Tensor, "batch factors"]:
        """Standard deviations of the error at these training steps."""
        level = (timestep * LEVELS // self.length).clamp(0, LEVELS - 1)
        return self.log_spread.exp().clamp_min(LEAST)[level]

    def loss(self, x: Tensor, timestep: Tensor, factors: Tensor) -> Float[Tensor, " batch"]:
        """Negative log-likelihood of the factors, mean over factors."""
        return surprise(factors - self(x, timestep), self.spread(timestep))


class Equations(nn.Module):
    r"""Non-parametric structural equations with additive noise, `z_k = s_k(M_k z) + u_k`, one network per factor.

    Args:
        factors: how many.
        mask: shape `(K, K)`, row k says which factors factor k listens to; None learns it, as soft gates under an
            acyclicity penalty (Zheng et al., "DAGs with NO TEARS", 2018).
        hidden: width of each network.
    """

    def __init__(self, factors: int, mask: Tensor | None = None, hidden: int = 32) -> None:
        super().__init__()
        self.learned = mask is None
        if mask is None:
            self.gates = nn.Parameter(torch.zeros(factors, factors))
            self.register_buffer("mask", 1 - torch.eye(factors))
        else:
            self.register_buffer("mask", mask.float())
        self.first = nn.Parameter(torch.randn(factors, factors, hidden) / factors**0.5)
        self.bias = nn.Parameter(torch.randn(factors, hidden))
        self.second = nn.Parameter(torch.randn(factors, hidden, hidden) / hidden**0.5)
        self.middle = nn.Parameter(torch.zeros(factors, hidden))
        self.last = nn.Parameter(torch.zeros(factors, hidden))
        self.constant = nn.Parameter(torch.zeros(factors))
        self.log_spread = nn.Parameter(torch.zeros(factors))

    mask: Tensor

    def adjacency(self) -> Float[Tensor, "factor parent"]:
        """How much factor k (row) listens to each other factor, 0 to 1."""
        return self.mask * self.gates.sigmoid() if self.learned else self.mask

    def edges(self) -> Float[Tensor, "factor parent"]:
        """The same of the edges alone: what is less than half open is shut."""
        adjacency = self.adjacency()
        return adjacency * (adjacency > 0.5)

    def forward(
        self, z: Float[Tensor, "batch factor"], adjacency: Float[Tensor, "factor parent"] | None = None
    ) -> Float[Tensor, "batch factor"]:
        """What every factor would be without noise of its own, given the others, heard as much as `adjacency` says."""
        seen = z[:, None, :] * (self.adjacency() if adjacency is None else adjacency)
        h = nn.functional.silu(torch.einsum("bkp,kph->bkh", seen, self.first) + self.bias)
        h = nn.functional.silu(torch.einsum("bkh,khg->bkg", h, self.second) + self.middle)
        return (h * self.last).sum(2) + self.constant

    def spread(self) -> Float[Tensor, " factor"]:
        """Standard deviations of the noise."""
        return self.log_spread.exp().clamp_min(LEAST)

    @torch.no_grad()
    def intervened(
        self,
        factual: Float[Tensor, "batch factor"],
        value: Float[Tensor, "batch factor"],
        adjacency: Float[Tensor, "factor parent"] | None = None,
    ) -> Bool[Tensor, "batch factor"]:
        """Which standardised factors do not take the value that their equation gives with the factual noise.

        A guess, for where it is not known what was done: values that another model gave seldom lie on these equations.
        A factor none of whose causes moved was intervened on whenever it moved itself. Of the others, those far from
        their equation were: the noise of an equation may be wide, so its spread is no measure of how far a value may
        be off, since interventions within it would be overlooked.
        """
        adjacency = self.adjacency() if adjacency is None else adjacency
        moved = (value - factual).abs() > SAME
        reached = moved.to(value.dtype) @ (adjacency > 0).to(value.dtype).T > 0
        natural = self(value, adjacency) + factual - self(factual, adjacency)
        return torch.where(reached, (value - natural).abs() > CLOSE, moved)

    def loss(self, z: Float[Tensor, "batch factor"]) -> Float[Tensor, " batch"]:
        """Negative log-likelihood of the factors under their equations, mean over factors."""
        return surprise(z - self(z), self.spread())

    def cycles(self) -> Tensor:
        """`tr exp(A o A) - K`, which is 0 if and only if there is no cycle."""
        adjacency = self.adjacency()
        return torch.matrix_exp(adjacency.square()).trace() - len(adjacency)

    def penalty(self, sparsity: float) -> Tensor:
        """`3 h + h^2 / 2 + sparsity * sum A`, with h the cycles; 0 where the graph is given."""
        if not self.learned:
            return self.mask.new_zeros(())
        h = self.cycles()
        return 3 * h + 0.5 * h.square() + sparsity * self.adjacency().sum()


def surprise(error: Float[Tensor, "batch factor"], spread: Tensor) -> Float[Tensor, " batch"]:
    """Negative log-likelihood of a normal error, up to a constant."""
    return (0.5 * (error / spread).square() + spread.log()).mean(1)
