"""Rows of a mapping or of a data set, behind one interface."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from causalcf.graph import CausalGraph


class Dataset(Protocol):
    """Rows that are read when they are asked for; `dataset[index]` is a mapping name -> tensor, batch first."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: Any) -> Mapping[str, Tensor]: ...


def moved(rows: Mapping[str, Tensor], device: torch.device, dtype: torch.dtype) -> dict[str, Tensor]:
    """Rows on a device, with their floats in one dtype; classes and ids stay integers."""
    return {
        name: value.to(device, dtype) if value.is_floating_point() else value.to(device) for name, value in rows.items()
    }


def spread(rows: int, most: int) -> list[int]:
    """Positions of at most so many of `rows` rows, evenly spaced.

    Example:
        >>> spread(10, 4), spread(2, 4)
        ([0, 2, 5, 7], [0, 1])
    """
    count = min(rows, most)
    return [place * rows // count for place in range(count)]


class Columns:
    """A mapping of tensors as a data set."""

    def __init__(self, content: Mapping[str, Tensor]) -> None:
        self.content = content

    def __len__(self) -> int:
        return len(next(iter(self.content.values()), ()))

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.content.items()}

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows."""
        return {name: self.content[name] for name in names}


def table(rows: Mapping[str, Tensor] | Dataset) -> Dataset:
    """Rows as a data set, where they may be a mapping of tensors.

    Raises:
        ValueError: columns of different lengths.
    """
    if not isinstance(rows, Mapping):
        return rows
    lengths = {name: len(value) for name, value in rows.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"expected columns of one length, got {lengths}; give every column the same rows")
    return Columns(rows)


class Table:
    """What a user fits or measures on: a mapping of tensors, or a data set; rows come out checked against the graph.

    Args:
        data: name -> tensor, batch first; or an object with `len` and, for a slice or a list, such a mapping. If it has
            `columns(names)`, that reads some columns of all rows at once.
        graph: what the rows must fit.
        what: how to call the data in messages, "train" for example.
    """

    def __init__(self, data: Mapping[str, Tensor] | Dataset, graph: CausalGraph, what: str = "rows") -> None:
        self.graph, self.what, self.data = graph, what, data
        self._checked = Columns(graph.check_rows(data)) if isinstance(data, Mapping) else None
        if self._checked is None and not (hasattr(data, "__len__") and hasattr(data, "__getitem__")):
            raise TypeError(
                f"{what}: expected a mapping name -> tensor or a data set that is indexed with a list, "
                f"got {type(data).__name__}"
            )
        if len(self) == 0:
            raise ValueError(f"{what}: expected at least one row, got none")

    def __len__(self) -> int:
        return len(self.data if self._checked is None else self._checked)

    def __getitem__(self, index: slice | Sequence[int]) -> dict[str, Tensor]:
        if self._checked is not None:
            return self._checked[index]
        try:
            rows: Any = self.data[index]  # type: ignore[index]
        except TypeError as error:
            raise TypeError(
                f"{self.what}: its rows cannot be had by a slice or a list of positions ({error}); from a data set of "
                "single rows make a mapping of columns, {name: torch.stack([row[name] for row in data]), ...}"
            ) from error
        return self.graph.check_rows(rows)

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows."""
        if self._checked is not None:
            return self._checked.columns(names)
        if hasattr(self.data, "columns"):
            return self.graph.check_rows(self.data.columns(names), names)  # type: ignore[attr-defined]
        parts = [self[start : start + 1024] for start in range(0, len(self), 1024)]
        return {name: torch.cat([part[name] for part in parts]) for name in names}

    def fingerprint(self, names: Sequence[str]) -> str:
        """A digest of these columns; of the images of a data set, of those of 16 rows, evenly spaced."""
        digest = hashlib.blake2b(str(len(self)).encode(), digest_size=16)
        scalars = [name for name in names if not self.graph[name].shape]
        parts = [self.columns(scalars), self[spread(len(self), 16)]] if self._checked is None else [self.columns(names)]
        for part in parts:
            for name in sorted(part):
                if name in names:
                    digest.update(name.encode() + part[name].detach().cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()
