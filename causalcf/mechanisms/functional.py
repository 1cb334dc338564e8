"""Equations the user knows."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor
from torch.distributions import Distribution, Transform, constraints

from causalcf.assignments import draw, on_device
from causalcf.mechanisms.base import Mechanism, Noise, Parents
from causalcf.units import Units


class _Equation(Transform):
    """The equation for given parents as a transform of the noise, its derivative taken by autograd."""

    domain = constraints.real
    codomain = constraints.real
    bijective = True

    def __init__(self, mechanism: Functional, parents: Parents) -> None:
        super().__init__()
        self.mechanism, self.given = mechanism, parents

    def _call(self, x: Tensor) -> Tensor:
        return self.mechanism.equation(x, self.given)

    def _inverse(self, y: Tensor) -> Tensor:
        u = self.mechanism.inverse(y, self.given)
        return u if u.is_floating_point() else u.to(self.mechanism.dtype)

    def log_abs_det_jacobian(self, x: Tensor, y: Tensor) -> Tensor:
        if not y.is_floating_point():  # of a class only its probability is asked, that of the noise which gives it
            if not getattr(self.mechanism.law.support, "is_discrete", False):
                raise ValueError(
                    "Functional: a class that continuous noise decides has no density by its inverse; leave it out, "
                    "log_prob(rows, on=[...])"
                )
            return torch.zeros_like(x)
        with torch.enable_grad():
            leaf = x.detach().requires_grad_()
            (slope,) = torch.autograd.grad(self._call(leaf).sum(), leaf)
        return slope.abs().log()


class Functional(Mechanism):
    r"""A known equation `x = equation(u, pa)` with its inverse `u = inverse(x, pa)`.

    Args:
        equation: takes the noise, shape `(B, ...)`, and the parents' values.
        inverse: takes the value and the parents' values, and gives the noise.
        noise: the distribution of one noise; standard normal by default.

    An SCM that holds one is saved without it: functions are code, and code is not read from files. Give it again when
    loading, `SCM.load(folder, mechanisms={"x": Functional(...)})`.

    Example:
        >>> double = Functional(lambda u, pa: 2 * pa["a"] + u, lambda x, pa: x - 2 * pa["a"])
    """

    exact = True
    has_density = True

    def __init__(
        self,
        equation: Callable[[Tensor, Parents], Tensor],
        inverse: Callable[[Tensor, Parents], Tensor],
        noise: Distribution | None = None,
    ) -> None:
        super().__init__()
        self.equation, self.inverse = equation, inverse
        self.law = dist.Normal(0.0, 1.0) if noise is None else noise
        if self.law.batch_shape or self.law.event_shape:
            raise ValueError(
                "Functional: expected the distribution of a single number as noise, without batch or event"
            )
        self.register_buffer("zero", torch.zeros(()))  # carries the device and the dtype

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {}

    @property
    def known(self) -> bool:  # noqa: D102
        return True

    def _build(self) -> None:
        if self.variable.shape:
            raise TypeError(f"Functional models a variable with one number per row, got {self.variable}")

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:  # noqa: D102
        return {"u": self.inverse(value, parents)}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:  # noqa: D102
        return self.equation(noise["u"], parents)

    def noise(self, units: Units, key: str) -> Noise:  # noqa: D102
        u = draw(self.law, units, f"{key}.u")
        return {"u": u.to(self.device, self.dtype if u.is_floating_point() else u.dtype)}

    def distribution(self, parents: Parents) -> TorchDistributionMixin:
        """The noise's distribution carried through the equation; the density needs a differentiable equation."""
        rows = len(next(iter(parents.values()))) if parents else 1
        law = on_device(self.law, self.device).expand((rows,))
        return dist.TransformedDistribution(law, [_Equation(self, parents)])
