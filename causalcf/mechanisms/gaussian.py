"""Location-scale mechanisms with Gaussian noise."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from causalcf.mechanisms.base import Mechanism, Noise, Parents, Recipe, as_recipe, recipe_config
from causalcf.mechanisms.features import Features, deviation
from causalcf.networks.mlp import mlp
from causalcf.numbers import finite
from causalcf.units import Units
from causalcf.variables import Categorical, Continuous


class Gaussian(Mechanism):
    r"""`x = m(pa) + s(pa) u`, `u ~ N(0, 1)`.

    Without hidden layers m is linear and s a constant, fitted in closed form by least squares; or give them, and
    nothing is fitted. With hidden layers both are networks of the parents.

    Args:
        hidden: widths of the hidden layers.
        weights: name of a continuous or binary parent -> its coefficient, for a mechanism that is known.
        bias: the constant term, with `weights`.
        scale: the standard deviation of the noise, with `weights`.
        recipe: of the training, with `hidden`.

    Example:
        >>> x = Gaussian(weights={"a": 2.0}, bias=1.0, scale=0.5).build(Continuous(), {"a": Continuous()})
        >>> x.predict({"u": torch.zeros(1)}, {"a": torch.tensor([3.0])})
        tensor([7.])
    """

    exact = True
    has_density = True

    weight: Tensor
    location: Tensor
    spread: Tensor

    def __init__(
        self,
        hidden: Sequence[int] = (),
        weights: Mapping[str, float] | None = None,
        bias: float = 0.0,
        scale: float = 1.0,
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        if hidden and weights is not None:
            raise ValueError("Gaussian: give either hidden layers to fit or weights that are known, not both")
        if not 0 < scale < math.inf:
            raise ValueError(f"Gaussian: expected a finite scale > 0, got {scale}")
        if weights is None and (bias, scale) != (0.0, 1.0):
            raise ValueError(
                f"Gaussian: bias={bias} and scale={scale} are of a mechanism that is known, and fitting overwrites "
                "them; give weights={parent: ...} with them, {} without parents, or leave them out"
            )
        known = None if weights is None else {name: float(weight) for name, weight in weights.items()}
        finite("Gaussian", -math.inf, bias=float(bias), **{f"weight of {name}": w for name, w in (known or {}).items()})
        self.hidden, self.weights = tuple(hidden), known
        self.bias, self.scale = float(bias), float(scale)
        self.recipe = as_recipe(recipe, Recipe(weight_decay=1e-4))

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "hidden": list(self.hidden),
            "weights": self.weights,
            "bias": self.bias,
            "scale": self.scale,
            "recipe": recipe_config(self.recipe),
        }

    @property
    def known(self) -> bool:  # noqa: D102
        return self.weights is not None

    def _build(self) -> None:
        variable = self.variable
        if not isinstance(variable, Continuous):
            raise TypeError(
                f"Gaussian models a Continuous variable, got {variable}; leave the mechanism out for a default"
            )
        if variable.lower is not None or variable.upper is not None:
            raise ValueError(f"Gaussian has no bounds, but the variable is {variable}; use Flow(), or drop the bounds")
        self.features = Features(self.parents, standardise=bool(self.hidden))
        if self.hidden:
            self.network = mlp(self.features.width, 2, self.hidden)
            self.register_buffer("location", torch.zeros(()))
            self.register_buffer("spread", torch.ones(()))
            return
        unknown = set(self.weights or ()) - set(self.parents)
        if unknown:
            raise ValueError(
                f"Gaussian: weights name {sorted(unknown)}, which are no parents; they are {list(self.parents)}"
            )
        weight = torch.zeros(self.features.width)
        for index, name in enumerate(self.parents):
            if self.weights and name in self.weights:
                if any(isinstance(v, Categorical) for v in self.parents.values()):
                    raise TypeError(
                        f"Gaussian: {name} has no single weight; leave weights out and fit, or use Functional"
                    )
                weight[index] = self.weights[name]
        self.register_buffer("weight", weight)
        self.register_buffer("location", torch.tensor(self.bias))
        self.register_buffer("spread", torch.tensor(self.scale))

    def calibrate(self, value: Tensor, parents: Parents) -> None:  # noqa: D102
        if self.hidden:
            self.features.calibrate(parents)
            self.location.copy_(value.mean())
            self.spread.fill_(deviation(value, constant=1e-6))
        elif self.weights is None:
            inputs = self.features(parents, len(value)).double()
            design = torch.cat([inputs, inputs.new_ones(len(value), 1)], 1)
            both = design.cpu(), value.double()[:, None].cpu()  # GPUs have no driver for columns that depend on others
            solution = torch.linalg.lstsq(*both, driver="gelsd").solution[:, 0].to(design)
            self.weight.copy_(solution[:-1])
            self.location.copy_(solution[-1])
            residual = (value.double() - design @ solution).std(correction=0)
            self.spread.fill_(deviation(value, constant=1.0))
            self.spread.copy_(residual.clamp_min(_least(self.spread)))

    def _location_scale(self, parents: Parents, rows: int) -> tuple[Tensor, Tensor]:
        inputs = self.features(parents, rows)
        if not self.hidden:
            return self.location + inputs @ self.weight, self.spread.expand(rows)
        mean, log_scale = self.network(inputs).unbind(1)
        scale = self.spread * nn.functional.softplus(log_scale + 0.5413) + _least(self.spread)
        return self.location + self.spread * mean, scale

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:  # noqa: D102
        mean, scale = self._location_scale(parents, len(value))
        return {"u": (value - mean) / scale}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:  # noqa: D102
        u = noise["u"].to(self.features.mean.dtype)
        mean, scale = self._location_scale(parents, len(u))
        return mean + scale * u

    def noise(self, units: Units, key: str) -> Noise:  # noqa: D102
        return {"u": units.normal(f"{key}.u").to(self.features.mean.dtype)}

    def distribution(self, parents: Parents) -> TorchDistributionMixin:
        """`N(m(pa), s(pa))`; without parents the batch is one row."""
        rows = len(next(iter(parents.values()))) if parents else 1
        return dist.Normal(*self._location_scale(parents, rows))


def _least(spread: Tensor) -> Tensor:
    """The least standard deviation of noise: 1e-6, or a thousandth of the spread of values whose unit is large."""
    return (1e-3 * spread).clamp_max(1e-6)
