"""Diffusion with semantic abduction: the noise is a code of what the image is like, and an image."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.diffusion import Diffusion
from causalcf.networks.encoder import Encoder, divergence, drawn
from causalcf.networks.views import KINDS, view
from causalcf.numbers import finite, whole
from causalcf.units import Units

Dropped = Literal["all", "parents"]


class SemanticDiffusion(Diffusion):
    r"""A diffusion model whose exogenous noise is a semantic code `z = mu(x)` and `u = DDIM^{-1}(x; z, pa)`.

    The counterfactual is `DDIM(u; z, pa*)`: the code is kept. Encoder and denoiser are trained together by the
    denoising error and `kl_weight * KL(q(z | x) || N(0, 1))` over the number of pixels; training draws z, abduction
    takes its mean. Source: Rasal et al., "Diffusion Counterfactual Generation with Semantic Abduction" (2025), the
    semantic mechanism, https://arxiv.org/abs/2506.07883.

    What the parents say need not be in z, but little keeps it out: a code that repeats a parent costs a nat or two, and
    resists interventions on that parent. Two things keep it out here. Hiding the code from the denoiser in some of the
    training rows makes it read the parents first, which leaves less to repeat. And `views` shows the encoder, in
    training, images in which such properties are disturbed at random, so that it can only encode the rest; which views
    leave the rest alone is knowledge of the domain.

    Args:
        latent: width of z.
        kl_weight: price of a nat in z, in squared errors of a pixel; a higher one keeps what the parents say out of z.
        views: what is disturbed, and by how much, as in `causalcf.networks.views.view`; nothing as published.
        encoder: "image" reads the image alone, as published; "image and parents" can tell what the parents
            explain from what it must encode.
        hidden: in which share of the training rows the code is hidden from the denoiser; 0 as published.
        dropped: what the null token stands for in guidance: "all" of z and the parents, as published, or the
            "parents" alone. The latter does not exaggerate the code, but pays it for repeating the parents, which it
            must replace in the rows that lack them.
        options: those of `Diffusion`.
    """

    trained = Diffusion.trained | {"hidden", "kl_weight", "views", "dropped"}

    def __init__(
        self,
        latent: int = 16,
        kl_weight: float = 0.1,
        encoder: Literal["image", "image and parents"] = "image and parents",
        hidden: float = 0.3,
        views: Mapping[str, float] | None = None,
        dropped: Dropped = "all",
        **options: Any,
    ) -> None:
        super().__init__(**options)
        whole("SemanticDiffusion", 1, latent=latent)
        finite("SemanticDiffusion", 0, kl_weight=kl_weight)
        if set(views or ()) - set(KINDS) or not all(0 <= size < math.inf for size in (views or {}).values()):
            raise ValueError(f"SemanticDiffusion: expected sizes >= 0 of the views {KINDS}, got {dict(views or {})}")
        if not 0 <= hidden < 1:
            raise ValueError(f"SemanticDiffusion: expected 0 <= hidden < 1, got {hidden}")
        if encoder not in ("image", "image and parents"):
            raise ValueError(f"SemanticDiffusion: expected encoder 'image' or 'image and parents', got {encoder!r}")
        if dropped not in get_args(Dropped):
            raise ValueError(f"SemanticDiffusion: expected dropped in {get_args(Dropped)}, got {dropped!r}")
        self.latent, self.kl_weight, self.hidden, self.views = latent, kl_weight, hidden, dict(views or {})
        self.encoder_reads, self.what_is_dropped = encoder, dropped

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("latent", "kl_weight", "hidden", "views")}
        own |= {"encoder": self.encoder_reads, "dropped": self.what_is_dropped}
        return {**own, **super().config()}

    def _build(self) -> None:
        super()._build()
        channels, height, width = self.variable.shape
        features = self.features.width if self.encoder_reads == "image and parents" else 0
        self.encoder = Encoder(channels, (height, width), self.latent, features)

    @property
    def code_width(self) -> int:  # noqa: D102
        return self.latent

    @property
    def kept(self) -> int:  # noqa: D102
        return self.latent if self.what_is_dropped == "parents" else 0

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """The denoising error under a drawn code, and the price of the code."""
        features = self.features(parents, len(value))
        seen = view(value, self.views, generator) if self.views else value
        mean, log_variance = (part.float() for part in self.encoder(2 * seen - 1, features))
        z = drawn(mean, log_variance, generator).to(features.dtype)
        hide = torch.rand(len(z), generator=generator, device=z.device) < self.hidden
        z = torch.where(hide[:, None], self.network.null[: self.latent].to(z.dtype), z)
        error = self._error(value, torch.cat([z, features], 1), generator)
        return error + self.kl_weight * divergence(mean, log_variance) / value[0].numel()

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Encode the image, then invert the trajectory under code and parents."""
        return self._abducted(value, parents, units, key)[0]

    @torch.no_grad()
    def _abducted(self, value: Tensor, parents: Parents, units: Units, key: str) -> tuple[Noise, list[Images]]:
        features = self.features(parents, len(value))
        with self._autocast():
            z = self.encoder(2 * value.to(features.dtype) - 1, features)[0].to(features.dtype)
        noise, path = self._inverted(value, torch.cat([z, features], 1), parents, units, key)
        return {**noise, "z": z}, path

    def condition(self, noise: Noise, parents: Parents) -> Float[Tensor, "batch features"]:  # noqa: D102
        features = self.features(parents, len(noise["u"]))
        return torch.cat([noise["z"].to(features.dtype), features], 1)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {**super().noise_shapes(), "z": (self.latent,)}
