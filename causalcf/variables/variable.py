"""What any node of a causal graph is: a shape, a dtype and a support."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict
from numbers import Integral
from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

FLOATS = (torch.float32, torch.float64)


class Variable(ABC):
    r"""The type of a node: which tensors are values of it.

    A value is batch first, of shape :math:`(B, *\text{shape})`. Subclasses are frozen dataclasses, so two
    variables are equal when their fields are.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Shape of one value: ``()`` for a number, ``(C, H, W)`` for an image."""

    @property
    @abstractmethod
    def dtype(self) -> torch.dtype:
        """The nominal dtype: float32, or int64 where the values are classes."""

    def check(
        self, name: str, value: Shaped[Tensor, "batch *shape"], rows: int | None = None
    ) -> Shaped[Tensor, "batch *shape"]:
        """Return `value`, the same object, if it is a batch of values of this variable.

        Args:
            name: The variable's name, for the messages.
            value: A batch of values.
            rows: The number of rows to insist on; any but zero by default.

        Raises:
            TypeError: If it is not a tensor or has the wrong dtype.
            ValueError: If its shape is wrong or a value lies outside of the support.

        Example:
            >>> from causalcf.variables import Continuous
            >>> thickness = Continuous(lower=0.0, unit="px")
            >>> thickness.check("thickness", torch.tensor([2.5, -1.2]))  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ValueError: thickness: expected values >= 0.0 px, got -1.2 in row 1; correct the value or ...
        """
        if not isinstance(value, Tensor):
            remedy = f"write torch.as_tensor(..., dtype={self.dtype})"
            if isinstance(value, Iterable) and any(isinstance(part, str) for part in value):
                remedy = f"of names of classes, graph[{name!r}].encode({name!r}, ...) makes one"
            raise TypeError(f"{name}: expected a tensor of shape {self._batch()}, got {type(value).__name__}; {remedy}")
        self._check_dtype(name, value)
        if tuple(value.shape[1:]) != self.shape or value.ndim == 0:
            raise ValueError(
                f"{name}: expected shape {self._batch()}, got {tuple(value.shape)}; {self._reshape(name, value)}"
            )
        if len(value) == 0:
            raise ValueError(
                f"{name}: expected at least one row, got shape {tuple(value.shape)}; leave empty batches out"
            )
        if rows is not None and len(value) != rows:
            raise ValueError(
                f"{name}: expected {rows} rows, got {len(value)} (shape {tuple(value.shape)}); "
                "give every variable the same rows"
            )
        self._check_support(name, value)
        return value

    @abstractmethod
    def _check_dtype(self, name: str, value: Tensor) -> None: ...

    @abstractmethod
    def _check_support(self, name: str, value: Tensor) -> None: ...

    def _batch(self) -> str:
        return f"(B{''.join(f', {size}' for size in self.shape)}{'' if self.shape else ','})"

    def _reshape(self, name: str, value: Tensor) -> str:
        if value.ndim == 0:
            return f"write {name}.reshape(1) for a single row"
        if value.ndim == 2 and value.shape[1] == 1:
            return f"write {name}.squeeze(1)"
        return "give one number per row"

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description: the type's name and the fields.

        Example:
            >>> from causalcf.variables import Categorical
            >>> Categorical(10).to_config()
            {'type': 'Categorical', 'classes': 10}
        """
        return {"type": type(self).__name__, **asdict(self)}  # pyright: ignore[reportArgumentType]


def is_size(value: object) -> bool:
    """Whether this is a positive whole number."""
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def check_float(name: str, value: Tensor, remedy: str) -> None:
    """Raise a TypeError unless the values are floats of 32 or 64 bits."""
    if value.dtype not in FLOATS:
        raise TypeError(f"{name}: expected torch.float32 or torch.float64, got {value.dtype}; write {remedy}")


def check_finite(name: str, value: Tensor) -> None:
    """Raise a ValueError where a value is NaN or infinite."""
    if not (finite := value.isfinite()).all():
        refuse(name, value, ~finite, "finite values", "drop or fill the rows that hold NaN or inf")


def refuse(name: str, value: Tensor, bad: Bool[Tensor, "batch *shape"], expected: str, remedy: str) -> NoReturn:
    """Raise a ValueError that names the first value and row that is bad, and how many more there are."""
    bad_rows = bad.flatten(1).any(1) if bad.ndim > 1 else bad
    row = int(bad_rows.nonzero()[0])
    # numpy prints a float32 with the digits it has: -1.2 rather than -1.2000000476837158
    first = value[row][bad[row]].detach().cpu().numpy()[0]
    more = int(bad_rows.sum()) - 1
    also = f" (and in {more} more row{'s' if more > 1 else ''})" if more else ""
    raise ValueError(f"{name}: expected {expected}, got {first!s} in row {row}{also}; {remedy}")
