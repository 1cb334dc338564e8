"""What the JSON files of measured methods hold, by the columns of the table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from causalcf.metrics.tally import estimate
from experiments.asked import written
from experiments.morphomnist.methods import METHODS
from experiments.paired import half_of, sure

Place = tuple[str, str, str]  # metric, action, variable
FULL = {"t": "thickness", "i": "intensity", "d": "digit"}
SOUND: dict[str, Place] = {
    "composition 1": ("composition, 1 cycle", "", "image"),
    "composition 10": ("composition, 10 cycles", "", "image"),
    "do(t): reversibility": ("reversibility, 1 cycle", "do(thickness)", "image"),
    "do(i): reversibility": ("reversibility, 1 cycle", "do(intensity)", "image"),
    "do(d): reversibility": ("reversibility, 1 cycle", "do(digit)", "image"),
    "do(t): to the truth": ("error against the truth", "do(thickness)", "image"),
    "do(i): to the truth": ("error against the truth", "do(intensity)", "image"),
}
MEASURED: dict[str, Place] = {
    **{
        f"do({do}): {read} error": ("error of oracle", f"do({FULL[do]})", FULL[read])
        for read in ("t", "i")
        for do in ("t", "i", "d")
    },
    "do(t): t bias": ("signed bias", "do(thickness)", "thickness"),
    "do(i): i bias": ("signed bias", "do(intensity)", "intensity"),
}
READ: dict[str, Place] = {
    **{
        f"do({do}): {read} error, CNN": ("error of CNN", f"do({FULL[do]})", FULL[read])
        for read in ("t", "i")
        for do in ("t", "i", "d")
    },
    **{f"do({do}): digit": ("accuracy of oracle", f"do({FULL[do]})", "digit") for do in ("t", "i", "d")},
}
KEPT: dict[str, Place] = {
    **{
        f"do({do}): identity{end}": (f"identity, {to}", f"do({FULL[do]})", "image")
        for to, end in (("to the observation", ""), ("to the reconstruction", ", to the reconstruction"))
        for do in ("t", "i", "d")
    },
    **{
        f"do({do}): CLD{end}": (f"minimality (CLD), {form}", f"do({FULL[do]})", FULL[do])
        for form, end in (("corrected", ""), ("published", ", published"))
        for do in ("t", "i", "d")
    },
    **{f"do({do}): Frechet": ("Frechet distance", f"do({FULL[do]})", "image") for do in ("t", "i", "d")},
}
COLUMNS: dict[str, Place] = {**SOUND, **MEASURED, **READ, **KEPT}


def slug(name: str) -> str:
    """A file name."""
    return "".join(letter if letter.isalnum() or letter == "." else "-" for letter in name.replace(": ", "-"))


@dataclass(frozen=True)
class Value:
    """A mean and half the width of its 95 % interval, and the first of the rows behind them, where they are kept."""

    mean: float
    half: float
    reference: float = math.nan
    rows: tuple[float, ...] = ()

    def less(self, other: Value) -> Value:
        """The difference; of the rows that both have, where they have any."""
        count = min(len(self.rows), len(other.rows))
        if count < 2:
            return Value(self.mean - other.mean, self.half + other.half)
        each = [first - second for first, second in zip(self.rows[:count], other.rows[:count], strict=True)]
        return of_rows(each)

    def first(self, count: int) -> Value:
        """Of the first rows alone, where they are kept."""
        return of_rows(self.rows[:count]) if len(self.rows) >= count > 1 else self

    @property
    def sure(self) -> bool:
        """Whether a difference is other than 0 by more than chance: row by row, where its rows are known."""
        return sure(self.rows) if self.rows else abs(self.mean) > self.half

    def size(self) -> Value:
        """Of a bias, whatever its sign."""
        sign = -1.0 if self.mean < 0 else 1.0
        return Value(sign * self.mean, self.half, self.reference, tuple(sign * row for row in self.rows))

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


def of_rows(values: Sequence[float]) -> Value:
    """The mean of some rows; those that do not count are NaN."""
    found = estimate(torch.tensor(values, dtype=torch.float64))
    return Value(found.mean, found.half_width, math.nan, tuple(values))


class Result:
    """One measured method."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.name, self.cost = content["method"], content["evaluations"]
        self.rows, self.few = content["about"]["rows"], content.get("cycled", 0)
        self.lines = {(line["metric"], line["action"], line["variable"]): line for line in content["lines"]}

    def __getitem__(self, column: str) -> Value:
        line = self.lines.get(COLUMNS[column])
        if line is None:
            return Value(math.nan, math.nan)
        reference = line["reference"]
        values = tuple(math.nan if value is None else value for value in line.get("values", ()))
        held = math.nan if not reference or reference["mean"] is None else reference["mean"]
        return Value(line["estimate"]["mean"], half_of(line["estimate"]), held, values)

    def behind(self, column: str) -> int:
        """The rows behind a column: fewer have gone through ten cycles, and back."""
        metric = COLUMNS[column][0]
        return self.few if metric.startswith("reversibility") or metric.endswith("10 cycles") else self.rows

    @property
    def spread(self) -> float:
        """Standard deviation of the abducted noise."""
        square, mean = (self.lines.get((f"noise {moment}", "", "image")) for moment in ("mean square", "mean"))
        if square is None or mean is None:
            return math.nan
        return math.sqrt(square["estimate"]["mean"] - mean["estimate"]["mean"] ** 2)

    @property
    def calls(self) -> str:
        """Network evaluations of a row."""
        back = f" ({self.cost['backward']:.0f} backward)" if self.cost["backward"] else ""
        return f"{self.cost['abduct']:.0f} + {self.cost['predict']:.0f}{back}"

    @property
    def readings(self) -> str:
        """Evaluations of the readers that steer, forwards and backwards."""
        return f"{self.cost['read']:.0f} + {self.cost['read backward']:.0f}"


def load(place: Path) -> dict[str, Result]:
    """What is measured so far, in the order of the methods."""
    found = {name: place / f"{slug(name)}.json" for name in METHODS}
    return {name: Result(written(path)) for name, path in found.items() if path.exists()}
