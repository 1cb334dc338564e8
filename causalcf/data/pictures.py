"""Pictures: rows of numbers with known structural equations, and the image that is drawn from them."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.data.indexing import Index, check_count, drawn_columns, positions, row_ids
from causalcf.data.truth import Equation, Rows, as_do, root, true_counterfactual
from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.numbers import whole
from causalcf.units import Units
from causalcf.variables import Image

Split = Literal["train", "val", "test"]
OFFSET = {"train": 0, "val": 1_000_000_000, "test": 2_000_000_000}  # of the row ids
VAL = 10  # one in so many training rows of the grid is kept for validation


Formula = Callable[[Rows], Tensor]


def determined(formula: Formula) -> Equation:
    """The equation of a variable that its parents decide."""
    return Equation(root, partial(_decided, formula))


def strayed(formula: Formula) -> Equation:
    """The equation of a variable that is off what its parents decide by its noise."""
    return Equation(partial(_off, formula), partial(_off, formula, back=True))


def _decided(formula: Formula, _: Tensor, parents: Rows) -> Tensor:
    return formula(parents)


def _off(formula: Formula, value: Tensor, parents: Rows, back: bool = False) -> Tensor:
    """By how much a value is off what its parents decide; or, of that, the value."""
    return value + formula(parents) if back else value - formula(parents)


class Pictures(ABC):
    """A data set whose factors follow known equations, and whose images are drawn when a row is read.

    A subclass says what there is by class attributes: its `graph`, with a node `"image"` that no other hears; the
    `ranges` of the noise of each variable that has one, uniform; the `equations` of all but the image, in the graph's
    order; the formulas of what is `decided` by parents alone; and by how much this may stray, `furthest`.

    Args:
        split: "train", "val" or "test".
        size: pixels per side.
        rows: how many rows to draw, with continuous factors; None gives the grid of the paper.
        seed: of the rows that are drawn, and of drawing noise.
        confounding: correlation of the Gaussian copula of the first two noises, in (-1, 1), where rows are drawn.
        stray: by how much at most the values that parents decide are off, uniform and apart, where rows are drawn.
    """

    graph: CausalGraph
    ranges: Mapping[str, tuple[float, float]]
    equations: Mapping[str, Equation]
    decided: Mapping[str, Formula]
    furthest: float

    def __init__(
        self,
        split: Split = "train",
        size: int = 64,
        rows: int | None = None,
        seed: int = 0,
        confounding: float = 0.0,
        stray: float = 0.0,
    ) -> None:
        self._name = type(self).__name__
        if split not in OFFSET:
            raise ValueError(f"{self._name}: expected split 'train', 'val' or 'test', got {split!r}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 32:
            raise ValueError(f"{self._name}: expected size of 32 pixels or more, got {size!r}; write size=64")
        if rows is not None:
            check_count(self._name, rows)
        if not -1 < confounding < 1:
            raise ValueError(f"{self._name}: expected confounding to be a correlation in (-1, 1), got {confounding}")
        if confounding and rows is None:
            raise ValueError(
                f"{self._name}: the grid holds every pair of values once, so nothing confounds it; "
                f"write {self._name}({split!r}, rows=10_000, confounding={confounding})"
            )
        if not 0 <= stray <= self.furthest:
            raise ValueError(f"{self._name}: expected stray between 0 and {self.furthest:g}, got {stray}")
        if stray and rows is None:
            raise ValueError(
                f"{self._name}: nothing strays on the grid; write {self._name}({split!r}, rows=10_000, stray={stray})"
            )
        self.split, self.size, self.seed, self.confounding, self.stray = split, size, seed, confounding, stray
        if stray:
            self.ranges = {**self.ranges, **dict.fromkeys(self.decided, (-stray, stray))}
            self.equations = {**self.equations, **{name: strayed(own) for name, own in self.decided.items()}}
        self._grid = self._part(*self.grid()) if rows is None else None
        self.rows: int = len(self._grid[next(iter(self.ranges))]) if self._grid is not None else rows or 0
        if (size, size) != self.graph["image"].shape[1:]:
            variables = {name: self.graph[name] for name in self.graph}
            self.graph = CausalGraph(self.graph.edges, {**variables, "image": Image(3, size, size)})

    @classmethod
    @abstractmethod
    def grid(cls) -> tuple[dict[str, Float[Tensor, " rows"]], Bool[Tensor, " rows"]]:
        """The noise of all rows of the paper's grid, in its order, and which of them are for the test."""

    @abstractmethod
    def draw(self, ids: Int[Tensor, " batch"], factors: Rows) -> Float[Tensor, "batch 3 size size"]:
        """The images of the rows with these ids under some factors: the image's own equation.

        Args:
            ids: whose drawing noise, if there is any.
            factors: all variables but the image.
        """

    @staticmethod
    @abstractmethod
    def oracles() -> dict[str, Callable[[Tensor], Tensor]]:
        """Measurements of the factors on images of any size `(B, 3, size, size)`, without any network."""

    def _part(
        self, noise: dict[str, Float[Tensor, " rows"]], test: Bool[Tensor, " rows"]
    ) -> dict[str, Float[Tensor, " part"]]:
        if self.split == "test":
            chosen = test.nonzero()[:, 0]
        else:
            train = (~test).nonzero()[:, 0]
            val = torch.arange(len(train)) % VAL == VAL - 1
            chosen = train[val] if self.split == "val" else train[~val]
        return {name: column[chosen] for name, column in noise.items()}

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """Rows by a slice, a list of positions or a tensor of them; an integer gives a batch of one."""
        position = positions(index, len(self), self._name, self.split)
        factors = self._factors(position)
        return {**factors, "image": self.draw(factors["id"], factors)}

    def _factors(self, position: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        noise = self._noise(position)
        factors: dict[str, Tensor] = {}
        for name, equation in self.equations.items():
            own = noise.get(name, torch.zeros(len(position)))
            factors[name] = equation.predict(own, factors).float()
        return {**factors, "id": OFFSET[self.split] + position}

    def _noise(self, position: Int[Tensor, " batch"]) -> dict[str, Float[Tensor, " batch"]]:
        if self._grid is not None:
            return {name: column[position] for name, column in self._grid.items()}
        units = Units(OFFSET[self.split] + position, self.seed)
        normal = {name: units.normal(name) for name in self.ranges}
        first, second, *_ = self.ranges
        c = self.confounding
        normal[second] = c * normal[first] + math.sqrt(1 - c * c) * normal[second]
        return {
            name: low + (high - low) * torch.special.ndtr(normal[name]) for name, (low, high) in self.ranges.items()
        }

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows; nothing is drawn unless the image is among them."""
        return drawn_columns(self, names, self._factors)

    def knows(self, action: Do) -> bool:
        """Whether the true counterfactual is known: of the image itself it is not."""
        return "image" not in action

    def true_counterfactual(self, rows: Rows, action: Do | Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
        """What the rows would have been under `action`: the equations with the same noise, and drawn again.

        A variable that its parents decide follows them when they are reached, whatever its factual value was.

        Args:
            rows: rows of this data set, with their `"id"`.
            action: interventions on anything but the image.
            seed: for interventions that draw.

        Raises:
            ValueError: rows without id, or `do(image=...)`.
        """
        ids, action = row_ids(self._name, rows), as_do(action)
        if not self.knows(action):
            raise ValueError(
                f"{self._name}: the true counterfactual of {action} is unknown; "
                f"it exists for {', '.join(name for name in self.equations)}"
            )
        image = determined(lambda factors: self.draw(ids, factors))
        return true_counterfactual(self.graph, {**self.equations, "image": image}, rows, action, seed)

    def floor(self, count: int = 1000) -> dict[str, float]:
        """The oracles' mean absolute errors on about `count` rows of this data set, spread evenly over it."""
        whole(f"{self._name}: floor", 1, count=count)
        rows = self[:: max(1, self.rows // count)]
        return {
            name: float((oracle(rows["image"]) - rows[name]).abs().mean()) for name, oracle in self.oracles().items()
        }
