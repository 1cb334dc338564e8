"""An autoencoder whose code is one concept per parent, related by structural equations: a baseline."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from causalcf.mechanisms import structure as structures
from causalcf.mechanisms.base import Noise, Parents, Recipe, as_recipe, recipe_config
from causalcf.mechanisms.image import ImageMechanism
from causalcf.mechanisms.vae import RECIPE, within
from causalcf.networks.decoder import Decoder
from causalcf.networks.encoder import Encoder, divergence, drawn
from causalcf.networks.ladder import discretised
from causalcf.networks.projector import Equations
from causalcf.numbers import finite, whole
from causalcf.units import Units
from causalcf.variables import Categorical

SPREAD = 0.03  # of a labelled entry in training, standard deviations: the root of lambda_v = 0.001 there


class CausalVAE(ImageMechanism):
    r"""A variational autoencoder with a causal layer between encoder and decoder, supervised by the parents.

    The encoder reads exogenous codes from the image alone, `q(e | x)`, a block of `width` entries for each parent, here
    called a factor. The causal layer turns them into concepts: the first entry of block k solves `z_k = s_k(M_k z) +
    e_k`, with one network per factor; the others are `e` itself, and hold what the factor's value does not say. The
    decoder draws the image from all concepts. Training minimises, with y the standardised factors and d the dimensions
    of the image,

        (-log p(x | z) + beta (KL(q(e | x) || N(0, 1)) + KL(q(z | x) || N(y, 1)))) / d
            + supervision |z - y|^2 / 2 + the misses of y by the equations + the price of a learned structure,

    where the second divergence and the miss, a mean over factors, are of the first entries at the mean of q. Source:
    Yang et al., "CausalVAE: Disentangled Representation Learning via Neural Structural Causal Models" (2021),
    https://arxiv.org/abs/2004.08697.

    Other than there, the equations relate the labelled entries instead of whole blocks, whose other entries no label
    identifies. Only these others have a spread that is learned, and pay for what they say; where they say what the
    labels do, the decoder may read them instead and ignore interventions, so some of the training rows have them drawn
    anew. And one decoder sees all concepts, since a sum of one decoder per concept cannot draw what two of them decide
    together, as length and position do the ends of a shadow.

    Abduction encodes. Prediction sets the entries of the factors that were intervened on, and the others follow with
    their own codes. What the decoder left over of the factual image is added, so that doing nothing gives the image
    back exactly. Abduction and prediction are differentiable.

    Noise sites: "e", the codes; "f", the factual factors, of abducted noise alone: where there are none, all entries
    are set; "u", what is left over.

    Args:
        structure: factor -> the factors it listens to, one that is not named listens to none; None takes the edges of
            the SCM's graph, and "learned" learns soft gates.
        width: entries of a block.
        widths: channels of the decoder at each resolution, the finest first.
        hidden: width of the networks of the equations.
        beta: weight of the divergences.
        supervision: price of the squared miss of a label, in nats per dimension.
        fresh: in which share of the training rows the other entries are drawn anew; 0 as published.
        sparsity: price of an edge where the structure is learned.
        recipe: of the training.

    Example:
        >>> from causalcf.variables import Continuous, Image
        >>> factors = {"sun": Continuous(), "shadow": Continuous()}
        >>> CausalVAE({"shadow": ["sun"]}, width=3).build(Image(3, 32, 32), factors).noise_shapes()
        {'e': (2, 3), 'u': (3, 32, 32)}
    """

    exact = True
    remainder = "u"
    trained = frozenset({"structure"})

    def __init__(
        self,
        structure: Mapping[str, Sequence[str]] | Literal["learned"] | None = None,
        width: int = 4,
        widths: Sequence[int] = (32, 64),
        hidden: int = 32,
        beta: float = 1.0,
        supervision: float = 1.0,
        fresh: float = 0.3,
        sparsity: float = 0.01,
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        whole("CausalVAE", 1, width=width, hidden=hidden)
        finite("CausalVAE", 0, beta=beta, supervision=supervision, sparsity=sparsity)
        if not 0 <= fresh < 1:
            raise ValueError(f"CausalVAE: expected 0 <= fresh < 1, got {fresh}")
        self.structure: structures.Structure = structures.given("CausalVAE", structure)
        self.width, self.widths, self.hidden = width, tuple(widths), hidden
        self.beta, self.supervision, self.fresh, self.sparsity = beta, supervision, fresh, sparsity
        self.recipe = as_recipe(recipe, RECIPE)

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("structure", "width", "hidden", "beta", "supervision", "fresh")}
        return {**own, "widths": list(self.widths), "sparsity": self.sparsity, "recipe": recipe_config(self.recipe)}

    def _build(self) -> None:
        super()._build()
        if not self.parents:
            raise ValueError("CausalVAE: this image has no parents, so there are no concepts; use VAE()")
        classes = [name for name, variable in self.parents.items() if isinstance(variable, Categorical)]
        if classes:
            raise TypeError(
                f"CausalVAE: {classes[0]} is categorical, and concepts are numbers; declare it as Continuous() or "
                "Binary(), or use VAE()"
            )
        channels, height, width = self.variable.shape
        count = len(self.parents)
        mask = structures.mask("CausalVAE", self.structure, list(self.parents))
        self.equations = Equations(count, mask, self.hidden)
        self.encoder = Encoder(channels, (height, width), count * self.width, widths=(32, 64, 64))
        self.decoder = Decoder(channels, (height, width), count * self.width, self.widths)

    def _relate(self, causes: Mapping[str, Sequence[str]]) -> None:
        self.structure = structures.settled("CausalVAE", self.structure, causes)

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """The negative evidence lower bound, nats per dimension, and the misses of the labels."""
        y, x = self.features(parents, len(value)), 2 * value - 1
        mean, log_variance = self._encoded(x)
        codes = drawn(mean, log_variance, generator)
        e = torch.randn(codes.shape, generator=generator, device=x.device, dtype=codes.dtype)
        fresh = torch.rand(len(x), 1, 1, generator=generator, device=x.device) < self.fresh
        fresh = fresh & (torch.arange(self.width, device=x.device) > 0)
        pixels, log_scale = self._drawing(self._caused(torch.where(fresh, e, codes)))
        fit = -discretised(x.float(), pixels.float(), log_scale.float()).flatten(1).sum(1)
        miss = self._caused(mean)[..., 0] - y
        cost = divergence(mean.flatten(1), log_variance.flatten(1)) + divergence(miss, log_variance[..., 0])
        bound = (fit + self.beta * cost) / value[0].numel()
        labels = 0.5 * self.supervision * miss.square().mean(1) + self.equations.loss(y)
        return bound + labels + self.equations.penalty(self.sparsity)

    def _encoded(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log-variance of the codes."""
        both = self.encoder(x, x.new_zeros(len(x), 0))
        mean, log_variance = (part.to(self.dtype).unflatten(1, (-1, self.width)) for part in both)
        known = torch.full_like(mean[..., :1], 2 * math.log(SPREAD))
        return mean, torch.cat([known, log_variance[..., 1:]], 2)

    def _caused(
        self,
        codes: Float[Tensor, "batch factor width"],
        fixed: Bool[Tensor, "batch factor"] | None = None,
        value: Float[Tensor, "batch factor"] | None = None,
    ) -> Float[Tensor, "batch factor width"]:
        """The causal layer, with some labelled entries fixed: as many sweeps as factors solve an acyclic structure."""
        own = z = codes[..., 0]
        for _ in self.parents:
            z = self.equations(z) + own
            if fixed is not None and value is not None:
                z = torch.where(fixed, value, z)
        return torch.cat([z[..., None], codes[..., 1:]], 2)

    def _drawing(self, z: Float[Tensor, "batch factor width"]) -> tuple[Tensor, Tensor]:
        """Mean and log scale of the image in [-1, 1]."""
        return self.decoder(z.flatten(1))

    def concepts(self, noise: Noise, parents: Parents) -> Float[Tensor, "batch factor width"]:
        """The concepts that this noise takes under these parents; the labelled entries are the first."""
        value = self.features(parents, len(noise["e"]))
        if "f" not in noise:
            fixed = torch.ones_like(value, dtype=torch.bool)
        else:
            fixed = noise["do"] if "do" in noise else self.equations.intervened(noise["f"], value)
        return self._caused(noise["e"].to(value.dtype), fixed, value)

    def act(self, noise: Noise, intervened: Collection[str]) -> Noise:
        """The noise, and in "do" which factors were intervened on.

        Where it is left out they are guessed: a factor that is not where its equation and the factual noise put it.
        """
        return structures.marked(noise, self.parents, intervened)

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Encode, decode, and keep the factors and what the decoder leaves over."""
        factors = self.features(parents, len(value))
        x = (2 * value - 1).to(factors.dtype)
        noise = {"e": self._encoded(x)[0], "f": factors}
        mean, log_scale = self._drawing(self.concepts(noise, parents))
        return {**noise, "u": (x.double() - within(mean)) / log_scale.double().exp()}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """Decode the concepts under these parents, and add what was left over; drawn noise ends at the mean."""
        mean, log_scale = self._drawing(self.concepts(noise, parents))
        x = within(mean)
        if "u" in noise:
            x = x + log_scale.double().exp() * noise["u"].double()
        return ((x + 1) / 2).clamp(0, 1).to(self.dtype)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {"e": (len(self.parents), self.width), "u": self.variable.shape}
