"""What a node of a causal graph can be: its shape, its support and its unit."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from numbers import Integral, Real
from typing import Any, NoReturn

import torch
from jaxtyping import Bool, Shaped
from torch import Tensor

__all__ = ["Binary", "Categorical", "Continuous", "Discrete", "Image", "Variable", "variable_from_config"]

FLOATS = (torch.float32, torch.float64)
TOLERANCE = 1e-6  # a decoded image may leave [0, 1] by one rounding


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
            >>> thickness = Continuous(lower=0.0, unit="px")
            >>> thickness.check("thickness", torch.tensor([2.5, -1.2]))  # doctest: +ELLIPSIS
            Traceback (most recent call last):
            ValueError: thickness: expected values >= 0.0 px, got -1.2 in row 1; correct the value or ...
        """
        if not isinstance(value, Tensor):
            remedy = f"write torch.as_tensor(..., dtype={self.dtype})"
            if isinstance(value, Iterable) and any(isinstance(part, str) for part in value):
                remedy = "write classes as numbers from 0, torch.tensor([names.index(name) for name in ...])"
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
            >>> Categorical(10).to_config()
            {'type': 'Categorical', 'classes': 10}
        """
        return {"type": type(self).__name__, **asdict(self)}  # pyright: ignore[reportArgumentType]


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
        _check_float(name, value, f"{name}.float()")

    def _check_support(self, name: str, value: Tensor) -> None:
        _check_finite(name, value)
        unit = f" {self.unit}" if self.unit else ""
        lower, upper = self.lower, self.upper
        if lower is not None and (value < lower).any():
            _refuse(
                name,
                value,
                value < lower,
                f"values >= {lower}{unit}",
                "correct the value or its unit, or declare a smaller `lower`",
            )
        if upper is not None and (value > upper).any():
            _refuse(
                name,
                value,
                value > upper,
                f"values <= {upper}{unit}",
                "correct the value or its unit, or declare a greater `upper`",
            )


class Discrete(Variable):
    r"""One of :math:`K` classes: int64 values :math:`0, \dots, K - 1` of shape ``(B,)``."""

    classes: int

    @property
    def shape(self) -> tuple[int, ...]:
        """A class: ``()``."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """int64."""
        return torch.int64

    def _check_dtype(self, name: str, value: Tensor) -> None:
        if value.dtype == torch.int64:
            return
        got = f"{name}: expected classes as torch.int64, got {value.dtype}"
        if value.is_floating_point() and (missing := int(value.isnan().sum())):
            raise TypeError(f"{got} with {missing} NaN; leave rows without a class out, then write {name}.long()")
        if value.ndim == 2 and value.shape[1] == self.classes:
            raise TypeError(f"{got} of shape {tuple(value.shape)}; of one column per class write {name}.argmax(1)")
        raise TypeError(f"{got}; write {name}.long()")

    def _check_support(self, name: str, value: Tensor) -> None:
        outside = (value < 0) | (value >= self.classes)
        if outside.any():
            _refuse(
                name,
                value,
                outside,
                f"classes 0 to {self.classes - 1}",
                f"count from 0, or declare Categorical({max(int(value.max()) + 1, 2)}) if there are more classes",
            )


@dataclass(frozen=True)
class Binary(Discrete):
    """Absent (0) or present (1); int64 of shape ``(B,)``.

    Example:
        >>> Binary().check("smiling", torch.tensor([True, False]))
        Traceback (most recent call last):
        TypeError: smiling: expected classes as torch.int64, got torch.bool; write smiling.long()
    """

    @property
    def classes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Two."""
        return 2


@dataclass(frozen=True)
class Categorical(Discrete):
    """One of several classes without an order; int64 of shape ``(B,)``.

    Args:
        classes: How many classes there are, two or more.

    Example:
        >>> Categorical(10).check("digit", torch.tensor([7, 3]))
        tensor([7, 3])
    """

    classes: int

    def __post_init__(self) -> None:
        if not _is_size(self.classes) or self.classes < 2:
            raise ValueError(f"Categorical: expected two or more classes, got {self.classes!r}; write Categorical(10)")
        object.__setattr__(self, "classes", int(self.classes))


@dataclass(frozen=True)
class Image(Variable):
    """An image with values in [0, 1]; float32 (float64 is kept) of shape ``(B, C, H, W)``.

    Args:
        channels: 1 for grey, 3 for colour.
        height: Rows of pixels.
        width: Columns of pixels.

    Example:
        >>> Image(1, 28, 28).check("image", torch.rand(4, 28, 28))
        Traceback (most recent call last):
        ValueError: image: expected shape (B, 1, 28, 28), got (4, 28, 28); write image.unsqueeze(1)
    """

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for field in ("channels", "height", "width"):
            if not _is_size(getattr(self, field)):
                raise ValueError(
                    f"Image: expected {field} to be a positive integer, got {getattr(self, field)!r}; "
                    "write Image(channels, height, width), e.g. Image(1, 28, 28)"
                )
            object.__setattr__(self, field, int(getattr(self, field)))

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)``."""
        return (self.channels, self.height, self.width)

    @property
    def dtype(self) -> torch.dtype:
        """float32."""
        return torch.float32

    def _check_dtype(self, name: str, value: Tensor) -> None:
        _check_float(name, value, f"{name}.float() / 255" if value.dtype == torch.uint8 else f"{name}.float()")

    def _check_support(self, name: str, value: Tensor) -> None:
        _check_finite(name, value)
        low, high = (float(bound) for bound in value.aminmax())
        if low >= -TOLERANCE and high <= 1 + TOLERANCE:
            return
        if low >= 0 and high <= 255:
            remedy = f"for grey levels of 0 to 255 write {name} / 255"
        elif low >= 0 and high <= 65535 and high > 2 * 255:
            remedy = f"for 16 bits write {name} / 65535, for 12 bits {name} / 4095"
        elif low >= -1 - TOLERANCE and high <= 1 + TOLERANCE:
            remedy = f"for values of -1 to 1 write ({name} + 1) / 2; to cut off an overshoot, {name}.clamp(0, 1)"
        else:
            remedy = f"undo the normalisation, or write {name}.clamp(0, 1)"
        _refuse(name, value, (value < -TOLERANCE) | (value > 1 + TOLERANCE), "values from 0 to 1", remedy)

    def _reshape(self, name: str, value: Tensor) -> str:
        shape = tuple(value.shape)
        if shape == self.shape:
            return f"write {name}.unsqueeze(0) for a single image"
        if shape[1:] == self.shape[1:] and len(shape) == 3 and self.channels == 1:
            return f"write {name}.unsqueeze(1)"
        if shape[1:] == (self.height, self.width, self.channels):
            return f"write {name}.permute(0, 3, 1, 2)"
        if len(shape) == 4 and shape[2:] == self.shape[1:]:
            ours = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
            return f"give {ours}, or declare Image({shape[1]}, {self.height}, {self.width})"
        return (
            f"resize the images, or declare Image({', '.join(str(size) for size in shape[1:])})"
            if (len(shape) == 4)
            else "give a batch of images, channels first"
        )


def variable_from_config(config: dict[str, Any]) -> Variable:
    """The variable that :meth:`Variable.to_config` described.

    Raises:
        ValueError: If the type is unknown.

    Example:
        >>> variable_from_config({"type": "Image", "channels": 1, "height": 28, "width": 28})
        Image(channels=1, height=28, width=28)
    """
    kinds: dict[str, type[Variable]] = {kind.__name__: kind for kind in (Continuous, Binary, Categorical, Image)}
    fields = dict(config)
    name = fields.pop("type", None)
    if name not in kinds:
        raise ValueError(
            f'variable type: expected one of {", ".join(kinds)}, got {name!r}; write {{"type": "Binary"}}, for example'
        )
    return kinds[name](**fields)


def _is_size(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool) and int(value) > 0


def _check_float(name: str, value: Tensor, remedy: str) -> None:
    if value.dtype not in FLOATS:
        raise TypeError(f"{name}: expected torch.float32 or torch.float64, got {value.dtype}; write {remedy}")


def _check_finite(name: str, value: Tensor) -> None:
    if not (finite := value.isfinite()).all():
        _refuse(name, value, ~finite, "finite values", "drop or fill the rows that hold NaN or inf")


def _refuse(name: str, value: Tensor, bad: Bool[Tensor, "batch *shape"], expected: str, remedy: str) -> NoReturn:
    bad_rows = bad.flatten(1).any(1) if bad.ndim > 1 else bad
    row = int(bad_rows.nonzero()[0])
    # numpy prints a float32 with the digits it has: -1.2 rather than -1.2000000476837158
    first = value[row][bad[row]].detach().cpu().numpy()[0]
    more = int(bad_rows.sum()) - 1
    also = f" (and in {more} more row{'s' if more > 1 else ''})" if more else ""
    raise ValueError(f"{name}: expected {expected}, got {first!s} in row {row}{also}; {remedy}")
