"""What was generated, as it lies in its folder: one data set per intervention."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from causalcf.graph import CausalGraph

Piece = tuple[Path, slice]  # a finished part, and which of its rows


class Answers:
    """The rows of one intervention, read from their parts when they are asked for; a data set like any other.

    Args:
        name: of the intervention.
        graph: whose variables the rows have, beside their "id".
        pieces: parts, and their rows that belong here, in order.
    """

    def __init__(self, name: str, graph: CausalGraph, pieces: Sequence[Piece]) -> None:
        self.name, self.graph = name, graph
        self._pieces: list[tuple[Path, int]] = []  # a part, and the first of its rows here
        self._starts = [0]
        for part, rows in pieces:
            start, stop, _ = rows.indices(2**62)
            self._pieces.append((part, start))
            self._starts.append(self._starts[-1] + stop - start)

    def __len__(self) -> int:
        return self._starts[-1]

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        """Rows by a slice, a list of positions or a tensor of them; an integer gives a batch of one."""
        return self._read(index, (*self.graph, "id"))

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows."""
        self.graph.require(*(name for name in names if name != "id"))
        return self._read(slice(None), names)

    def _read(self, index: Any, names: Sequence[str]) -> dict[str, Tensor]:
        place = torch.arange(len(self))[[index] if isinstance(index, int) else index]
        rows: dict[str, list[Tensor]] = {name: [] for name in names}
        order = []
        by_part: dict[int, list[int]] = {}
        for at, row in enumerate(place.tolist()):
            by_part.setdefault(bisect_right(self._starts, row) - 1, []).append(at)
        for number, wanted in by_part.items():
            part, first = self._pieces[number]
            inner = place[wanted] - self._starts[number] + first
            for name, tensor in loaded(part, {name: self._key(name) for name in names}).items():
                rows[name].append(pictured(tensor[inner]) if name in self.graph.images else tensor[inner])
            order += wanted
        back = torch.tensor(order, dtype=torch.long).argsort()
        return {name: torch.cat(pieces)[back] if pieces else torch.empty(0) for name, pieces in rows.items()}

    def _key(self, name: str) -> str:
        return name if name == "id" else key(self.name, name)

    def __repr__(self) -> str:
        return f"Answers({self.name}, {len(self)} rows)"


class Generated(Mapping[str, Answers]):
    """Name of an intervention -> its answers, of the same rows in the same order.

    Attributes:
        folder: where they lie.
    """

    def __init__(self, folder: Path, names: Sequence[str], graph: CausalGraph, pieces: Sequence[Piece]) -> None:
        self.folder = folder
        self._answers = {name: Answers(name, graph, pieces) for name in names}

    def __getitem__(self, name: str) -> Answers:
        if name not in self._answers:
            raise KeyError(f"{name!r} is no intervention of {self.folder}; it has {', '.join(self._answers)}")
        return self._answers[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._answers)

    def __len__(self) -> int:
        return len(self._answers)

    def __repr__(self) -> str:
        rows = len(next(iter(self._answers.values())))
        return f"Generated({self.folder}, {rows} rows of {', '.join(self._answers)})"


def key(intervention: str, name: str) -> str:
    """What a variable's values after an intervention are called in a part."""
    return f"{intervention}:{name}"


def loaded(part: Path, keys: Mapping[str, str]) -> dict[str, Tensor]:
    """Tensors of a part, by names of one's own."""
    try:
        with safe_open(part, "pt") as file:
            return {name: file.get_tensor(own) for name, own in keys.items()}
    except (OSError, SafetensorError) as error:
        raise ValueError(f"{part} is damaged ({error}); delete it, and its rows are asked again") from None


def pictured(stored: Tensor) -> Tensor:
    """Images in [0, 1], of bytes or as they are."""
    return stored.float() / 255 if stored.dtype == torch.uint8 else stored
