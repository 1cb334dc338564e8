"""Normalizing flows as mechanisms of continuous attributes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, cast

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import Transform, constraints
from torch.distributions.transforms import AffineTransform, ComposeTransform, ExpTransform, SigmoidTransform
from zuko.transforms import MonotonicAffineTransform, MonotonicRQSTransform

from causalcf.mechanisms.base import Mechanism, Noise, Parents, Recipe, as_recipe, recipe_config
from causalcf.mechanisms.features import Features, deviation
from causalcf.networks.mlp import mlp
from causalcf.units import Units
from causalcf.variables import Continuous


class Support(Transform):
    r"""A bijection from the real line to the support of a variable: identity, `l + e^z`, `h - e^z`, or a logistic.

    Its inverse keeps values eight roundings of the range, and two of the bound, away from the bounds, where it would be
    infinite.

    Args:
        variable: whose bounds to respect.
    """

    domain = constraints.real
    bijective = True

    def __init__(self, variable: Continuous) -> None:
        super().__init__()
        self.variable = variable
        low, high = variable.lower, variable.upper
        if low is not None and high is not None:
            parts: list[Transform] = [SigmoidTransform(), AffineTransform(low, high - low)]
        elif low is not None:
            parts = [ExpTransform(), AffineTransform(low, 1.0)]
        elif high is not None:
            parts = [ExpTransform(), AffineTransform(high, -1.0)]
        else:
            parts = []
        self.parts = ComposeTransform(parts)

    @property
    def codomain(self) -> constraints.Constraint:  # type: ignore[override]
        """The support."""
        low, high = self.variable.lower, self.variable.upper
        if low is not None and high is not None:
            return constraints.interval(low, high)
        if low is not None:
            return constraints.greater_than_eq(low)
        return constraints.real if high is None else constraints.less_than(high)

    def _call(self, x: Tensor) -> Tensor:
        y = cast("Tensor", self.parts(x))
        low, high = self.variable.lower, self.variable.upper
        return y if low is None or high is None else y.clamp(low, high)  # the affine map may round beyond

    def _inverse(self, y: Tensor) -> Tensor:
        return cast("Tensor", self.parts.inv(self.inside(y))) if self.parts.parts else y

    def inside(self, y: Tensor) -> Tensor:
        """Values kept away from the bounds."""
        low, high = self.variable.lower, self.variable.upper
        if low is None and high is None:
            return y
        scale = 8 * (high - low if low is not None and high is not None else 1.0)
        eps = torch.finfo(y.dtype).eps
        least = None if low is None else low + eps * max(scale, 2 * abs(low))
        most = None if high is None else high - eps * max(scale, 2 * abs(high))
        return y.clamp(least, most)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        """`log |dy / dx|`, x on the real line and y in the support."""
        if not self.parts.parts:
            return torch.zeros_like(x)
        return cast("Tensor", self.parts.log_abs_det_jacobian(x, y))


class Flow(Mechanism):
    r"""A monotone map of Gaussian noise, `x = support(standardise^{-1}(T(u; pa)))`, `u ~ N(0, 1)`.

    T is an affine map of the parents, after a monotone rational-quadratic spline of the parents in the case of
    "spline" (Durkan et al., Neural Spline Flows, 2019, https://arxiv.org/abs/1906.04032); the transforms are zuko's.
    Bounds of the variable are respected by a logarithm or a logit outside of the standardisation.

    Args:
        transform: "spline" or "affine".
        bins: of the spline.
        hidden: widths of the hidden layers of the networks that read the parents.
        recipe: of the training.

    Example:
        >>> flow = Flow().build(Continuous(lower=0.0), {})
        >>> bool((flow.predict(flow.noise(Units(torch.arange(9)), "x"), {}) > 0).all())
        True
    """

    exact = True
    has_density = True

    location: Tensor
    spread: Tensor

    def __init__(
        self,
        transform: Literal["spline", "affine"] = "spline",
        bins: int = 8,
        hidden: Sequence[int] = (32, 32),
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if transform not in ("spline", "affine"):
            raise ValueError(f"Flow: expected transform 'spline' or 'affine', got {transform!r}")
        if bins < 2:
            raise ValueError(f"Flow: expected bins >= 2, got {bins}")
        self.transform, self.bins, self.hidden = transform, bins, tuple(hidden)
        self.recipe = as_recipe(recipe, Recipe(steps=1500, batch=512, learning_rate=1e-2, weight_decay=1.0, ema=0.99))

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "transform": self.transform,
            "bins": self.bins,
            "hidden": list(self.hidden),
            "recipe": recipe_config(self.recipe),
        }

    def _build(self) -> None:
        if not isinstance(self.variable, Continuous):
            raise TypeError(
                f"Flow models a Continuous variable, got {self.variable}; leave the mechanism out for a default"
            )
        self.features = Features(self.parents)
        self.affine = mlp(self.features.width, 2, self.hidden)
        self.spline = mlp(self.features.width, 3 * self.bins - 1, self.hidden) if self.transform == "spline" else None
        self.register_buffer("location", torch.zeros(()))
        self.register_buffer("spread", torch.ones(()))
        self._support = Support(self.variable)

    def calibrate(self, value: Tensor, parents: Parents) -> None:  # noqa: D102
        self.features.calibrate(parents)
        self._check_unit(value.to(self.location.dtype))
        unbounded = self._support._inverse(value.double())
        self.location.copy_(unbounded.mean())
        self.spread.fill_(deviation(unbounded, constant=1e-6))

    def _check_unit(self, value: Tensor) -> None:
        """Raise where the margin that keeps the inverse of the support finite is not small beside the values."""
        moved = (self._support.inside(value) - value).abs().max()
        if value.min() < value.max() and moved > 0.01 * value.std():
            variable = self.variable
            raise ValueError(
                f"Flow: values of {variable} lie nearer to a bound than a rounding can tell, their spread is "
                f"{value.std().item():.2g}; give them in another unit, in which it is about 1"
            )

    def _map(self, parents: Parents, rows: int) -> ComposeTransform:
        """From the noise to the value, for these parents."""
        inputs = self.features(parents, rows)
        shift, log_scale = self.affine(inputs).unbind(1)
        parts: list[Transform] = []
        if self.spline is not None:
            widths, heights, slopes = self.spline(inputs).split([self.bins, self.bins, self.bins - 1], dim=1)
            parts.append(MonotonicRQSTransform(widths, heights, slopes, bound=6.0))
        parts.append(MonotonicAffineTransform(shift, log_scale))
        parts.append(AffineTransform(self.location, self.spread))
        return ComposeTransform([*parts, self._support])

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:  # noqa: D102
        return {"u": cast("Tensor", self._map(parents, len(value)).inv(value))}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:  # noqa: D102
        u = noise["u"].to(self.location.dtype)
        return cast("Tensor", self._map(parents, len(u))(u))

    def noise(self, units: Units, key: str) -> Noise:  # noqa: D102
        return {"u": units.normal(f"{key}.u").to(self.location.dtype)}

    def distribution(self, parents: Parents) -> TorchDistributionMixin:
        """The flow as a Pyro `TransformedDistribution`; without parents the batch is one row."""
        rows = len(next(iter(parents.values()))) if parents else 1
        zero = self.location.new_zeros(rows)
        return dist.TransformedDistribution(dist.Normal(zero, zero + 1), [self._map(parents, rows)])
