"""A ladder of stochastic layers, coarse to fine: the network of hierarchical VAEs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import torch
from jaxtyping import Float
from torch import Tensor, nn

from causalcf.networks.decoder import pixels
from causalcf.networks.sides import coarsest

Codes = list[Tensor]


class Ladder(nn.Module):
    """Encoder and decoder with a code at each of several resolutions, under parents that its prior does not see.

    The prior of a code depends on the codes above it alone, so that all of them are exogenous; parents enter the
    posterior and the path to the image. Source: De Sousa Ribeiro et al., "High Fidelity Image Counterfactuals with
    Probabilistic Causal Models" (2023), https://arxiv.org/abs/2306.15764, made small.

    Args:
        channels: of the image.
        size: height and width of the image, divisible by `2 ** (len(widths) - 1)`.
        features: of the parents.
        widths: channels at each resolution, the finest first; each next one has half the resolution.
        blocks: stochastic layers at each resolution.
        latent: channels of a code.
        finest: index of the finest resolution that has codes.
    """

    def __init__(
        self,
        channels: int,
        size: tuple[int, int],
        features: int,
        widths: Sequence[int],
        blocks: int,
        latent: int,
        finest: int,
    ) -> None:
        super().__init__()
        height, width = coarsest("HVAE", size, widths)
        if not 0 <= finest < len(widths):
            raise ValueError(f"HVAE: expected 0 <= finest < {len(widths)}, got {finest}")
        self.blocks, self.latent = blocks, latent
        self.stem = nn.Conv2d(channels, widths[0], 3, padding=1)
        self.up = nn.ModuleList(_Residual(width) for width in widths)
        self.shrink = nn.ModuleList(
            nn.Conv2d(before, after, 3, stride=2, padding=1) for before, after in pairwise(widths)
        )
        coarse = len(widths) - 1
        self.top = nn.Parameter(torch.zeros(widths[-1], height, width))
        layers = len(widths) * blocks
        self.down = nn.ModuleDict(
            {
                str(level): nn.ModuleList(
                    _Layer(widths[level], features, latent if level >= finest else 0, layers) for _ in range(blocks)
                )
                for level in range(coarse, -1, -1)
            }
        )
        last = self.down[str(finest)][-1]  # pyright: ignore[reportIndexIssue]
        last.enter_prior = None  # nothing below reads it
        self.grow = nn.ModuleDict(
            {str(level): nn.Conv2d(widths[level + 1], widths[level], 1) for level in range(coarse - 1, -1, -1)}
        )
        self.grow_prior = nn.ModuleDict(
            {str(level): nn.Conv2d(widths[level + 1], widths[level], 1) for level in range(coarse - 1, finest - 1, -1)}
        )
        self.head = nn.Conv2d(widths[0], 2 * channels, 3, padding=1)
        for tensor in self.head.parameters():
            nn.init.zeros_(tensor)

    def shapes(self) -> list[tuple[int, ...]]:
        """The shapes of the codes of one row, in the order they are used."""
        _, height, width = self.top.shape
        found, levels = [], sorted((int(level) for level in self.down), reverse=True)
        for depth, level in enumerate(levels):
            layers = self.down[str(level)]
            assert isinstance(layers, nn.ModuleList)
            found += [(self.latent, height << depth, width << depth) for layer in layers if layer.stochastic]  # pyright: ignore[reportAttributeAccessIssue]
        return found

    def features_of(self, image: Tensor) -> list[Tensor]:
        """What the encoder sees at each resolution, the finest first."""
        h, seen = self.stem(image), []
        for level, block in enumerate(self.up):
            h = block(h if level == 0 else self.shrink[level - 1](h))
            seen.append(h)
        return seen

    def forward(
        self,
        parents: Float[Tensor, "batch features"],
        image: Tensor | None = None,
        noise: Codes | None = None,
        draw: torch.Generator | bool = False,
    ) -> tuple[Tensor, Tensor, Codes, list[Tensor]]:
        """Decode, with codes from the posterior of an image, or from their standardised noise under the prior.

        Args:
            parents: features of the parents.
            image: in [-1, 1]; its posterior gives the codes.
            noise: standard normal noise of every code, used where there is no image.
            draw: False takes the posterior's mean; True or a generator draws.

        Returns:
            Mean and log scale of the image in [-1, 1], the codes' noise under the prior, and their KL per row.
        """
        seen = None if image is None else self.features_of(image)
        rows = len(parents)
        h = self.top.expand(rows, *self.top.shape)
        prior = h
        codes: Codes = []
        costs: list[Tensor] = []
        for name, layers in self.down.items():
            level = int(name)
            if name in self.grow:
                h = self.grow[name](nn.functional.interpolate(h, scale_factor=2.0))
                if name in self.grow_prior:
                    prior = self.grow_prior[name](nn.functional.interpolate(prior, scale_factor=2.0))
            for layer in layers:  # pyright: ignore[reportGeneralTypeIssues]
                given = None if noise is None or not layer.stochastic else noise[len(codes)]
                h, prior, code, cost = layer(h, prior, parents, None if seen is None else seen[level], given, draw)
                if layer.stochastic:
                    codes.append(code)
                    costs.append(cost)
        return *pixels(self.head(nn.functional.silu(h))), codes, costs


class _Residual(nn.Module):
    """A residual block, optionally under the parents."""

    def __init__(self, width: int, features: int = 0, scale: float = 1.0) -> None:
        super().__init__()
        self.norm = nn.GroupNorm(8, width)
        self.first, self.second = nn.Conv2d(width, width, 3, padding=1), nn.Conv2d(width, width, 3, padding=1)
        self.film = nn.Linear(features, 2 * width) if features else None
        self.second.weight.data *= scale

    def forward(self, x: Tensor, condition: Tensor | None = None) -> Tensor:
        h = self.first(nn.functional.silu(self.norm(x)))
        if self.film is not None and condition is not None:
            scale, shift = self.film(condition)[..., None, None].chunk(2, 1)
            h = h * (1 + scale) + shift
        return x + self.second(nn.functional.silu(h))


class _Layer(nn.Module):
    """One step down the ladder: a code, unless `latent` is 0, then a block under code and parents."""

    def __init__(self, width: int, features: int, latent: int, layers: int) -> None:
        super().__init__()
        self.stochastic = latent > 0
        self.block = _Residual(width, features, 1 / math.sqrt(layers))
        if not self.stochastic:
            return
        self.prior = nn.Sequential(
            nn.GroupNorm(8, width), nn.SiLU(), nn.Conv2d(width, 2 * latent + width, 3, padding=1)
        )
        self.posterior = nn.Sequential(
            nn.GroupNorm(8, 2 * width), nn.SiLU(), nn.Conv2d(2 * width, width, 3, padding=1), nn.SiLU()
        )
        self.told = nn.Linear(features, width) if features else None
        self.posterior_head = nn.Conv2d(width, 2 * latent, 3, padding=1)
        self.enter = nn.Conv2d(latent, width, 1)
        self.enter_prior: nn.Module | None = nn.Conv2d(latent, width, 1)
        last = self.prior[-1]
        assert isinstance(last, nn.Conv2d) and last.bias is not None
        for tensor in (last.weight, last.bias, self.posterior_head.weight, self.posterior_head.bias):
            assert tensor is not None
            nn.init.zeros_(tensor)
        self.latent = latent

    def forward(
        self, h: Tensor, prior: Tensor, parents: Tensor, seen: Tensor | None, noise: Tensor | None, draw: object
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not self.stochastic:
            return self.block(h, parents), prior, h, h
        p_mean, p_log, features = self.prior(prior).split([self.latent, self.latent, prior.shape[1]], 1)
        p_log = p_log.clamp(-6, 3)
        cost = p_mean.new_zeros(len(p_mean))
        if seen is not None:
            inner = self.posterior(torch.cat([h, seen], 1))
            if self.told is not None:
                inner = inner + self.told(parents)[..., None, None]
            q_mean, q_log = self.posterior_head(inner).chunk(2, 1)
            q_log = q_log.clamp(-6, 3)
            z = q_mean
            if draw is not False:
                generator = draw if isinstance(draw, torch.Generator) else None
                e = torch.randn(z.shape, generator=generator, device=z.device, dtype=z.dtype)
                z = z + q_log.exp() * e
            ratio = 2 * (q_log - p_log)
            cost = 0.5 * (ratio.exp() + ((q_mean - p_mean) / p_log.exp()).square() - 1 - ratio).flatten(1).sum(1)
        else:
            assert noise is not None
            z = p_mean + p_log.exp() * noise.to(p_mean.dtype)
        code = (z - p_mean) / p_log.exp()
        h = h + features + self.enter(z)
        prior = prior + features
        return self.block(h, parents), prior if self.enter_prior is None else prior + self.enter_prior(z), code, cost


def discretised(
    x: Float[Tensor, "batch ..."], mean: Float[Tensor, "batch ..."], log_scale: Float[Tensor, "batch ..."]
) -> Float[Tensor, "batch ..."]:
    """Log-probability of 8-bit grey levels in [-1, 1] under a Gaussian, the two ends holding its tails."""
    scale = log_scale.exp()

    def below(edge: Tensor) -> Tensor:
        return torch.special.ndtr((edge - mean) / scale)

    high = torch.where(x > 0.999, torch.ones_like(x), below(x + 1 / 255))
    low = torch.where(x < -0.999, torch.zeros_like(x), below(x - 1 / 255))
    return (high - low).clamp_min(1e-12).log()
