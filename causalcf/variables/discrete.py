"""Classes, with names or without."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

from causalcf.variables.variable import Variable, is_size, refuse


class Discrete(Variable):
    r"""One of :math:`K` classes: int64 values :math:`0, \dots, K - 1` of shape ``(B,)``."""

    classes: int
    names: tuple[str, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """A class: ``()``."""
        return ()

    @property
    def dtype(self) -> torch.dtype:
        """int64."""
        return torch.int64

    def encode(self, name: str, labels: Iterable[str]) -> Int[Tensor, " batch"]:
        """The classes that have these names.

        Args:
            name: The variable's name, for the messages.
            labels: One for each row.

        Raises:
            ValueError: If a class has no such name, or classes have none.

        Example:
            >>> Categorical(names=("none", "circle", "triangle")).encode("marker", ["circle", "none"])
            tensor([1, 0])
        """
        place = {known: index for index, known in enumerate(self.names)}
        rows = list(labels)
        for row, label in enumerate(rows):
            if label not in place:
                known = f"one of {', '.join(self.names)}" if self.names else f"a class from 0 to {self.classes - 1}"
                remedy = "correct it, or declare it" if self.names else f"or declare {type(self).__name__}(names=...)"
                where = f" in row {row}" if len(rows) > 1 else ""
                raise ValueError(f"{name}: expected {known}, got {label!r}{where}; {remedy}")
        return torch.tensor([place[label] for label in rows], dtype=torch.int64)

    def label(self, value: int) -> str:
        """What a class is called: its name, or its number where it has none.

        Example:
            >>> Binary(names=("right", "left")).label(1), Binary().label(1)
            ('left', '1')
        """
        return self.names[value] if self.names else str(value)

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description: the type's name and the fields; names only where there are any.

        Example:
            >>> Categorical(10).to_config()
            {'type': 'Categorical', 'classes': 10}
        """
        config = {key: value for key, value in super().to_config().items() if key != "names"}
        return {**config, "names": list(self.names)} if self.names else config

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
            refuse(
                name,
                value,
                outside,
                f"classes 0 to {self.classes - 1}",
                f"count from 0, or declare Categorical({max(int(value.max()) + 1, 2)}) if there are more classes",
            )

    def _check_names(self, count: int) -> None:
        """Keep names as a tuple, and raise a ValueError unless there are none, or one for each class."""
        kind, names = type(self).__name__, (self.names,) if isinstance(self.names, str) else tuple(self.names)
        if names and (len(names) != count or not all(isinstance(name, str) and name for name in names)):
            raise ValueError(f"{kind}: expected a name for each of {count} classes, got {', '.join(map(repr, names))}")
        if len(set(names)) < len(names):
            raise ValueError(f"{kind}: expected another name for each class, got {', '.join(names)}")
        object.__setattr__(self, "names", names)

    def __repr__(self) -> str:
        own = {key: value for key, value in self.to_config().items() if key != "type"}
        if self.names:
            own = {"names": self.names}
        return f"{type(self).__name__}({', '.join(f'{key}={value!r}' for key, value in own.items())})"


@dataclass(frozen=True, repr=False)
class Binary(Discrete):
    """Absent (0) or present (1), or the first and the second of two names; int64 of shape ``(B,)``.

    Args:
        names: What 0 and 1 are called, for plots, files and interventions.

    Example:
        >>> Binary().check("smiling", torch.tensor([True, False]))
        Traceback (most recent call last):
        TypeError: smiling: expected classes as torch.int64, got torch.bool; write smiling.long()
    """

    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        self._check_names(2)

    @property
    def classes(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Two."""
        return 2


@dataclass(frozen=True, repr=False)
class Categorical(Discrete):
    """One of several classes without an order; int64 of shape ``(B,)``.

    Args:
        classes: How many classes there are, two or more; by default as many as names.
        names: What they are called, in their order, for plots, files and interventions.

    Example:
        >>> Categorical(10).check("digit", torch.tensor([7, 3]))
        tensor([7, 3])
        >>> Categorical(names=("none", "circle", "triangle")).classes
        3
    """

    classes: int = 0
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        if isinstance(self.classes, list | tuple):
            written = ", ".join(map(repr, self.classes))
            raise TypeError(f"Categorical: expected how many classes there are; to name them, write names=({written})")
        named = not is_size(self.classes) and self.classes == 0
        classes = (len(self.names) if not isinstance(self.names, str) else 1) if named else self.classes
        if not is_size(classes) or classes < 2:
            raise ValueError(f"Categorical: expected two or more classes, got {classes!r}; write Categorical(10)")
        object.__setattr__(self, "classes", int(classes))
        self._check_names(int(classes))
