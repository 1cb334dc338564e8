"""Diffusion guided by causal representations: factors are read at every level, and pulled through their equations."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.gradient import Ancestral, Balanced, Constant, Empirical, Scale, Towards
from causalcf.diffusion.guidance import Guidance
from causalcf.diffusion.schedule import Schedule
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.diffusion import Diffusion
from causalcf.networks.projector import Equations, Projector
from causalcf.units import Units
from causalcf.variables import Categorical

Form = Literal["balanced", "empirical", "ancestral", "constant"]
SCALES: dict[str, type[Balanced | Empirical | Ancestral | Constant]] = {
    "balanced": Balanced,
    "empirical": Empirical,
    "ancestral": Ancestral,
    "constant": Constant,
}
THROUGH = 3.0  # a factor within so many spreads of its equation was not intervened on


class NSCMDiffusion(Diffusion):
    r"""A diffusion model led to its counterfactual by a projector and structural equations of the factors.

    Three networks are trained together: a generator, a projector `h(x_t, t)` that reads the factors from noisy images,
    and non-parametric structural equations `z_k = s_k(pa_k) + u_k` over them. Abduction inverts the generator without
    any condition. Prediction pulls every step towards the counterfactual factors: those that were intervened on, and
    those without causes, are read by the projector itself; the others through their equations, with their own noise,
    so that they are moved by moving their causes. How strongly is the self-adjusting `lambda_t`. Source: Zhu et al.,
    "DiffusionCounterfactuals" (2024), https://arxiv.org/abs/2407.20553; reconstructed, since no code is public.

    The generator is also told the factors in some of the training rows, so that the same weights can be asked by
    classifier-free guidance instead, `by="parents"`.

    Args:
        structure: factor -> the factors it listens to; None learns it. A factor that is not named listens to none.
        by: what leads prediction, the "nscm", or the "parents" as in `SpatialDiffusion`.
        scale: the form of `lambda_t`: "balanced" a priori by the norm of the Jacobian, "empirical" by that of the
            gradient, "ancestral" by the step's variance, or "constant".
        size: its multiplier.
        limit: the longest pull, in standard deviations of the level's noise.
        stop: misses below it, in spreads of the projector's error, do not pull.
        probes: random vectors that estimate the Jacobian's norm; 0 computes it.
        projector: channels of the projector after each halving of the resolution.
        hidden: width of the networks of the equations.
        sparsity: price of an edge where the structure is learned.
        options: those of `Diffusion`.
    """

    def __init__(
        self,
        structure: Mapping[str, Sequence[str]] | None = None,
        by: Literal["nscm", "parents"] = "nscm",
        scale: Form = "balanced",
        size: float = 1.0,
        limit: float = 3.0,
        stop: float = 0.0,
        probes: int = 0,
        projector: Sequence[int] = (32, 64, 64),
        hidden: int = 32,
        sparsity: float = 0.01,
        null_probability: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(null_probability=null_probability, **options)
        if by not in ("nscm", "parents"):
            raise ValueError(f"NSCMDiffusion: expected by='nscm' or 'parents', got {by!r}")
        if scale not in SCALES:
            raise ValueError(f"NSCMDiffusion: expected scale in {get_args(Form)}, got {scale!r}")
        if size < 0 or limit <= 0 or stop < 0 or probes < 0:
            raise ValueError(
                f"NSCMDiffusion: expected size >= 0, limit > 0, stop >= 0, probes >= 0, got {size}, {limit}, {stop}, "
                f"{probes}"
            )
        if by == "nscm" and self.omega != 1:
            raise ValueError(f"NSCMDiffusion: omega={self.omega} is of by='parents'; the nscm is scaled by size")
        self.structure = None if structure is None else {name: list(causes) for name, causes in structure.items()}
        self.by, self.scale, self.size, self.limit, self.stop = by, scale, size, limit, stop
        self.probes, self.projector_widths, self.hidden, self.sparsity = probes, tuple(projector), hidden, sparsity

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("structure", "by", "scale", "size", "limit", "stop", "probes")}
        own |= {"projector": list(self.projector_widths), "hidden": self.hidden, "sparsity": self.sparsity}
        return {**own, **super().config()}

    def _build(self) -> None:
        super()._build()
        classes = [name for name, variable in self.parents.items() if isinstance(variable, Categorical)]
        if classes:
            raise TypeError(
                f"NSCMDiffusion: {classes[0]} is categorical, and factors are numbers; declare it otherwise"
            )
        channels, height, width = self.variable.shape
        count = len(self.parents)
        self.projector = Projector(
            channels, (height, width), count, self.projector_widths, Schedule(self.schedule).length
        )
        self.equations = Equations(count, self._mask(), self.hidden)

    def _mask(self) -> Tensor | None:
        if self.structure is None:
            return None
        names = list(self.parents)
        for name, causes in self.structure.items():
            for factor in (name, *causes):
                if factor not in names:
                    raise ValueError(
                        f"NSCMDiffusion: the structure names {factor!r}, which is no parent of this image; it has "
                        f"{', '.join(names)}"
                    )
        mask = torch.tensor([[float(cause in self.structure.get(name, ())) for cause in names] for name in names])
        if torch.matrix_exp(mask).trace() > len(names) + 1e-4:
            raise ValueError(
                f"NSCMDiffusion: the structure {self.structure} has a cycle; structural equations have none"
            )
        return mask

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """The errors of the three parts; the projector reads images at noise levels of its own."""
        z = self.features(parents, len(value))
        alpha_bar = Schedule(self.schedule).alpha_bar.to(value.device)
        timestep = torch.randint(len(alpha_bar), (len(value),), generator=generator, device=value.device)
        e = torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
        share = alpha_bar[timestep].reshape(-1, 1, 1, 1)
        x = share.sqrt().to(value.dtype) * (2 * value - 1) + (1 - share).sqrt().to(value.dtype) * e
        read = self.projector.loss(x, timestep, z)
        return self._error(value, z, generator) + read + self.equations.loss(z) + self.equations.penalty(self.sparsity)

    def condition(self, noise: Noise, parents: Parents) -> Float[Tensor, "batch features"]:  # noqa: D102
        if self.by == "parents":
            return super().condition(noise, parents)
        return self._nothing(len(noise["u"]))

    def _nothing(self, rows: int) -> Tensor:
        return self.network.null.expand(rows, -1)

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Invert the generator without a condition, and keep the factors."""
        factors = self.features(parents, len(value))
        if self.by == "parents":
            return self._inverted(value, factors, parents, units, key)[0]
        return self._inverted(value, self._nothing(len(value)), parents, units, key, {"f": factors})[0]

    def _guidance(self, noise: Noise, parents: Parents | None = None) -> Guidance:
        base = super()._guidance(noise, parents)
        if self.by == "parents" or parents is None:
            return base
        target = self.features(parents, len(noise["u"]))
        factual = noise.get("f", target)
        with torch.no_grad():
            own = factual - self.equations(factual)
            caused = self.equations.adjacency().sum(1) > 0.5
            natural = (target - self.equations(target) - own).abs() <= THROUGH * self.equations.spread()
        through = caused & natural

        def reads(x: Tensor, timestep: Tensor) -> Tensor:
            z = self.projector(x, timestep)
            return torch.where(through, self.equations(z) + own, z)

        scale: Scale = SCALES[self.scale](self.size)
        return base + Towards(reads, target, self.projector.spread, scale, self.limit, self.stop, self.probes)
