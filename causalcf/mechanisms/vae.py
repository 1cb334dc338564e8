"""Variational autoencoders as mechanisms of images: one pass up, one pass down."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from causalcf.mechanisms.base import Noise, Parents, Recipe, as_recipe, recipe_config
from causalcf.mechanisms.image import ImageMechanism
from causalcf.networks.decoder import Decoder
from causalcf.networks.encoder import Encoder, divergence, drawn
from causalcf.networks.ladder import Ladder, discretised
from causalcf.numbers import finite, whole
from causalcf.units import Units

RECIPE = Recipe(
    steps=6000, batch=128, learning_rate=1e-3, weight_decay=0.01, clip=50.0, skip=500.0, ema=0.999, checkpoint=250
)


class Variational(ImageMechanism):
    r"""An image whose noise is a code with an exogenous prior, and what the decoder leaves over.

    `x = clamp(mu(z, pa) + sigma(z, pa) u)`, with mu between black and white: abduction takes the mean of
    `q(z | x, pa)` and `u = (x - mu) / sigma`, so that doing nothing gives the image back exactly. Training minimises
    the negative evidence lower bound per dimension, with the likelihood of 8-bit grey levels under a discretised
    Gaussian, and `beta` on the divergence, whose layers each have `free_bits` nats that cost nothing: a divergence
    below them is not lowered further.

    Abduction and prediction are differentiable, in the weights and in the image.

    Noise sites: "z0", "z1", ..., the standardised codes from the top; "u", what is left over.
    """

    exact = True
    remainder = "u"
    beta: float
    free_bits: float

    def __init__(self, beta: float, free_bits: float, recipe: Recipe | Mapping[str, Any] | None) -> None:
        super().__init__()
        finite(type(self).__name__, 0, beta=beta, free_bits=free_bits)
        self.beta, self.free_bits = beta, free_bits
        self.recipe = as_recipe(recipe, RECIPE)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"beta": self.beta, "free_bits": self.free_bits, "recipe": recipe_config(self.recipe)}

    @abstractmethod
    def _passed(
        self, x: Tensor, features: Tensor, draw: torch.Generator | bool
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        """Of images in [-1, 1]: mean and log scale, standardised codes, and their divergences per row, one a layer."""

    @abstractmethod
    def _decoded(self, codes: Sequence[Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log scale of the image in [-1, 1]."""

    @abstractmethod
    def _shapes(self) -> list[tuple[int, ...]]:
        """Shapes of the codes of one row."""

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """The negative evidence lower bound, nats per dimension."""
        features, x = self.features(parents, len(value)), 2 * value - 1
        mean, log_scale, _, costs = self._passed(x, features, True if generator is None else generator)
        fit = -discretised(x.float(), mean.float(), log_scale.float()).flatten(1).sum(1)
        paid = [cost.float().clamp_min(self.free_bits) for cost in costs]
        return (fit + self.beta * sum(paid, torch.zeros_like(fit))) / value[0].numel()

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Encode, decode, and keep what the decoder leaves over."""
        features = self.features(parents, len(value))
        x = (2 * value - 1).to(features.dtype)
        mean, log_scale, codes, _ = self._passed(x, features, False)
        left = (x.double() - within(mean)) / log_scale.double().exp()
        return {**{f"z{index}": code for index, code in enumerate(codes)}, "u": left}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """Decode under these parents, and add what was left over; drawn noise ends at the mean."""
        codes = [noise[f"z{index}"] for index in range(len(self._shapes()))]
        features = self.features(parents, len(codes[0]))
        mean, log_scale = self._decoded([code.to(features.dtype) for code in codes], features)
        x = within(mean)
        if "u" in noise:
            x = x + log_scale.double().exp() * noise["u"].double()
        return ((x + 1) / 2).clamp(0, 1).to(features.dtype)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {**{f"z{index}": shape for index, shape in enumerate(self._shapes())}, "u": self.variable.shape}


def within(mean: Tensor) -> Tensor:
    """The mean of an image, kept in [-1, 1]: beyond, the likelihood, whose ends hold the tails, leaves it free."""
    return mean.double().clamp(-1, 1)


class VAE(Variational):
    """A conditional variational autoencoder with one flat code (Kingma and Welling, 2014; Pawlowski et al., 2020).

    Args:
        latent: width of the code.
        widths: channels of the decoder at each resolution, the finest first.
        beta: weight of the divergence.
        free_bits: nats of the code that cost nothing.
        recipe: of the training.
    """

    def __init__(
        self,
        latent: int = 16,
        widths: Sequence[int] = (32, 64),
        beta: float = 1.0,
        free_bits: float = 0.0,
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(beta, free_bits, recipe)
        whole("VAE", 1, latent=latent)
        self.latent, self.widths = latent, tuple(widths)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {"latent": self.latent, "widths": list(self.widths), **super().config()}

    def _build(self) -> None:
        super()._build()
        channels, height, width = self.variable.shape
        self.encoder = Encoder(channels, (height, width), self.latent, self.features.width, (32, 64, 64))
        self.decoder = Decoder(channels, (height, width), self.latent + self.features.width, self.widths)

    def _passed(
        self, x: Tensor, features: Tensor, draw: torch.Generator | bool
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        mean, log_variance = self.encoder(x, features)
        generator = draw if isinstance(draw, torch.Generator) else None
        code = mean if draw is False else drawn(mean, log_variance, generator)
        return *self._decoded([code], features), [code], [divergence(mean, log_variance)]

    def _decoded(self, codes: Sequence[Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
        return self.decoder(torch.cat([codes[0].to(features.dtype), features], 1))

    def _shapes(self) -> list[tuple[int, ...]]:
        return [(self.latent,)]


class HVAE(Variational):
    """A hierarchical VAE with codes at several resolutions (De Sousa Ribeiro et al., 2023).

    Args:
        widths: channels at each resolution, the finest first.
        blocks: stochastic layers at each resolution.
        latent: channels of a code.
        finest: index of the finest resolution with codes; 1 leaves the full resolution without.
        beta: weight of the divergence.
        free_bits: nats of each layer that cost nothing.
        recipe: of the training.
    """

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 96),
        blocks: int = 2,
        latent: int = 8,
        finest: int = 1,
        beta: float = 1.0,
        free_bits: float = 0.0,
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(beta, free_bits, recipe)
        whole("HVAE", 1, blocks=blocks, latent=latent)
        whole("HVAE", 0, finest=finest)
        self.widths, self.blocks, self.latent, self.finest = tuple(widths), blocks, latent, finest

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("blocks", "latent", "finest")}
        return {"widths": list(self.widths), **own, **super().config()}

    def _build(self) -> None:
        super()._build()
        channels, height, width = self.variable.shape
        self.ladder = Ladder(
            channels, (height, width), self.features.width, self.widths, self.blocks, self.latent, self.finest
        )

    def _passed(
        self, x: Tensor, features: Tensor, draw: torch.Generator | bool
    ) -> tuple[Tensor, Tensor, list[Tensor], list[Tensor]]:
        return self.ladder(features, x, draw=draw)

    def _decoded(self, codes: Sequence[Tensor], features: Tensor) -> tuple[Tensor, Tensor]:
        mean, log_scale, _, _ = self.ladder(features, noise=list(codes))
        return mean, log_scale

    def _shapes(self) -> list[tuple[int, ...]]:
        return self.ladder.shapes()
