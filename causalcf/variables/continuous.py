"""Numbers, with a unit and bounds."""

import math
from dataclasses import dataclass
from numbers import Real

import torch
from torch import Tensor

from causalcf.variables.variable import Variable, check_finite, check_float, refuse


@dataclass(frozen=True)
class Continuous(Variable):
    r"""A real number :math:`x \in [\text{lower}, \text{upper}]`; a bound that is None is absent.

    Values are float32 (float64 is kept) of shape ``(B,)``, in the variable's own unit.

    Args:
        lower: The least value.
        upper: The greatest value.
        unit: The unit, for messages and plots.

    Example:
        >>> Continuous(lower=0.0, unit="px").check("thickness", torch.tensor([2.5, 3.0]))
        tensor([2.5000, 3.0000])
    """

    lower: float | None = None
    upper: float | None = None
    unit: str = ""

    def __post_init__(self) -> None:
        for field in ("lower", "upper"):
            bound = getattr(self, field)
            if bound is None:
                continue
            if isinstance(bound, bool) or not isinstance(bound, Real) or not math.isfinite(bound):
                raise ValueError(
                    f"Continuous: expected {field} to be a finite number, got {bound!r}; "
                    f"write {field}=None where there is no bound"
                )
            object.__setattr__(self, field, float(bound))
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise ValueError(
                f"Continuous: expected lower < upper, got lower={self.lower}, upper={self.upper}; "
                "swap them, or give a constant to the mechanism instead"
            )
        if not isinstance(self.unit, str):
            raise TypeError(f'Continuous: expected unit to be a string, got {self.unit!r}; write unit="px"')

    @property
    def shape(self) -> tuple[int, ...]:
        """A number: ``()``."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """float32."""
        return torch.float32

    def _check_dtype(self, name: str, value: Tensor) -> None:
        check_float(name, value, f"{name}.float()")

    def _check_support(self, name: str, value: Tensor) -> None:
        check_finite(name, value)
        unit = f" {self.unit}" if self.unit else ""
        lower, upper = self.lower, self.upper
        if lower is not None and (value < lower).any():
            refuse(
                name,
                value,
                value < lower,
                f"values >= {lower}{unit}",
                "correct the value or its unit, or declare a smaller `lower`",
            )
        if upper is not None and (value > upper).any():
            refuse(
                name,
                value,
                value > upper,
                f"values <= {upper}{unit}",
                "correct the value or its unit, or declare a greater `upper`",
            )
