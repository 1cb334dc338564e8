"""Diff-SCM: an unconditional diffusion model, led by a classifier of its parents that reads noisy images."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from causalcf.diffusion.gradient import Likely, Scale
from causalcf.diffusion.guidance import Guidance
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.led import Form, LedDiffusion
from causalcf.variables import Binary, Categorical


class DiffSCM(LedDiffusion):
    r"""A generator that is led along `grad log p(parents | x_t)` of an anti-causal, noise-aware classifier.

    `e <- e(x_t) - size sqrt(1 - alpha_bar) grad log p(pa* | x_t)`: parents that are classes are read by softmax, binary
    ones by a sigmoid, continuous ones as normal, with the error the network has at that noise level. All parents are
    read, those that were not intervened on as well: they hold the rest in place. Source: Sanchez and Tsaftaris,
    "Diffusion causal models for counterfactual estimation" (2022), https://arxiv.org/abs/2202.10166.

    Args:
        by: what leads prediction, the "classifier", or the "parents" as in `SpatialDiffusion`, or "both".
        scale: "constant", as published; or "empirical" or "ancestral", which adjust themselves, and whose pulls neither
            die out near the target nor stop: a class has no tolerance within which it is reached.
        size: its multiplier; published values are 0.7 to 1 for digits. None is 1 of a constant, 0.1 of "empirical" and
            0.03 of "ancestral".
        limit: the longest pull, in standard deviations of the level's noise.
        projector: channels of the classifier after each halving of the resolution.
        null_probability: how often training tells the generator nothing; it is asked so.
        options: those of `Diffusion`.
    """

    leaders = ("classifier", "parents", "both")
    forms = ("constant", "empirical", "ancestral")

    def __init__(
        self,
        by: Literal["classifier", "parents", "both"] = "classifier",
        scale: Form = "constant",
        size: float | None = None,
        limit: float = 3.0,
        projector: Sequence[int] = (32, 64, 64),
        null_probability: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(by, scale, size, limit, projector, null_probability, **options)

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """The errors of generator and classifier; the classifier reads images at noise levels of its own."""
        features = self.features(parents, len(value))
        x, timestep = self._noised(value, generator)
        read = -self.log_likelihood(x, timestep, features) / len(self.parents)
        return self._error(value, features, generator) + read

    def log_likelihood(self, x: Tensor, timestep: Tensor, features: Tensor) -> Float[Tensor, " batch"]:
        """`log p(parents | x_t)` up to a constant, of noisy images in [-1, 1] and encoded parents."""
        read, spread = self.projector(x, timestep), self.projector.spread(timestep)
        total, start = torch.zeros_like(read[:, 0]), 0
        for variable in self.parents.values():
            end = start + (variable.classes if isinstance(variable, Categorical) else 1)
            z, wanted = read[:, start:end], features[:, start:end]
            if isinstance(variable, Categorical):
                part = (wanted * functional.log_softmax(z, 1)).sum(1)
            elif isinstance(variable, Binary):
                part = functional.logsigmoid((2 * wanted - 1) * z)[:, 0]
            else:
                error = (wanted - z) / spread[:, start:end]
                part = (-0.5 * error.square() - spread[:, start:end].log())[:, 0]
            total, start = total + part, end
        return total

    def _pull(self, noise: Noise, parents: Parents, scale: Scale) -> Guidance:
        target = self.features(parents, len(noise["u"]))

        def log_likelihood(x: Tensor, timestep: Tensor) -> Tensor:
            return self.log_likelihood(x, timestep, target)

        return Likely(log_likelihood, scale, self.limit, target.dtype, self.pulls)
