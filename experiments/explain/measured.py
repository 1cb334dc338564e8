"""What the JSON files of measured methods hold, by the columns of the table; and differences, row by row."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from causalcf.metrics.explanation_sets import jackknife
from causalcf.metrics.tally import Estimate, estimate
from experiments.explain.methods import METHODS, slug
from experiments.paired import sure

TRUTH = "the truth"  # measured like a method
ALL, FLIPPED = "all rows", "flipped rows"
COLUMNS: dict[str, tuple[str, str]] = {
    "flip rate": ("flip rate", ALL),
    "NA": ("flips that flip the independent classifier (NA)", FLIPPED),
    "NAFR": ("flip rate of the independent classifier (NAFR)", ALL),
    "IoU": ("IoU with owned pixels, as many", ALL),
    "IoU above 0.1": ("IoU with owned pixels, change above 0.1", ALL),
    "truth error": ("error against the truth", ALL),
    "COUT": ("COUT", ALL),
    "MNAC": ("attributes changed (MNAC)", FLIPPED),
    "S3": ("cosine (S3, FS)", ALL),
    "sparsity": ("sparsity", FLIPPED),
    "L1": ("L1", FLIPPED),
    "BKL": ("BKL", ALL),
}
DIVERSITY = ("diversity of 2, 1 - |cosine|", "rows with two flips")
MOVED = {f"{name} moved": (f"{name} moved", FLIPPED) for name in ("thickness", "intensity", "slant")}  # of digits
PLACES = {**COLUMNS, "diversity": DIVERSITY, **MOVED}
RATIO = "NAFR / flip rate"
TOGETHER = ("CD", "FID", "sFID")
COST = {
    "processor": "processor seconds",
    "forward": "evaluations",
    "backward": "of them differentiated",
    "retried": "share tried again",
}
LOWER = {"truth error", "MNAC", "CD", "L1", "BKL", "FID", "sFID", *COST, *MOVED}
FEWEST = 10  # pairs of rows, below which nothing is decided


@dataclass(frozen=True)
class Value:
    """A mean, half the width of its 95 % interval if it has one, and of how many rows it is.

    Attributes:
        mean: of the rows.
        half: half the interval.
        n: the rows behind it.
        enough: whether there are as many as such a number takes.
    """

    mean: float
    half: float = math.nan
    n: int = 0
    enough: bool = True

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        digits = 3 if abs(self.mean) < 100 else 1
        interval = "" if math.isnan(self.half) else f" ± {self.half:.{digits}f}"
        return f"{self.mean:.{digits}f}{interval}{'' if self.enough else ' (few)'}"


class Result:
    """One measured method.

    Args:
        content: of its file.
    """

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.name: str = content["about"]["method"]
        self.about, self.asked = content["about"], content["asked"]
        self.machine, self.folder = content["machine"], content["folder"]
        self.tensors, self.grown = content.get("tensors"), content.get("memory")  # how memory was measured before
        self.cost, self.together = content["cost"], content["together"]
        self.lines = {(line["metric"], line["variable"]): line for line in (*content["varied"], *content["lines"])}

    @property
    def rows(self) -> int:
        """How many were explained."""
        return self.asked["rows"]

    def each(self, column: str, count: int) -> list[float]:
        """A number for each of the first rows, NaN where it does not count; none at all where there are no such."""
        values = self.cost[column] if column in COST else self.lines.get(PLACES[column], {}).get("values", [])
        return [math.nan if value is None else value for value in values[:count]]

    def value(self, column: str, count: int | None = None) -> Value:
        """Of the first rows, by default all."""
        count = self.rows if count is None else min(count, self.rows)
        if column in TOGETHER:
            found = self.together.get(str(count), {})
            mean, n = found.get(column), self.value("flip rate", count)
            enough = bool(found.get("enough", True)) or column == "CD"
            return Value(math.nan if mean is None else mean, n=round(n.mean * n.n), enough=enough)
        if column == RATIO:
            flipped, independent = self.value("flip rate", count), self.value("NAFR", count)
            return Value(independent.mean / flipped.mean if flipped.mean else math.nan, n=count)
        found = estimate(torch.tensor(self.each(column, count), dtype=torch.float64))
        return Value(found.mean, math.nan if column in COST else found.half_width, found.n)

    def nothing(self) -> float:
        """The truth error of doing nothing, on all rows."""
        reference = self.lines.get(COLUMNS["truth error"], {}).get("reference")
        return math.nan if not reference or reference["mean"] is None else reference["mean"]


Measured = Mapping[str, Result]


@dataclass(frozen=True)
class Difference:
    """By how much a method is better than another, on rows that both have.

    Attributes:
        by: the mean; above 0 where the first is better.
        half: half the width of its 95 % interval.
        n: pairs behind it.
        sure: whether it differs from 0 by more than chance.
    """

    by: float
    half: float
    n: int
    sure: bool


def difference(first: Result, second: Result, column: str) -> Difference:
    """How two methods differ in a column, row by row; of rows where one has no value, neither counts.

    What is only said of rows together is judged by a jackknife over the same tenths of both.
    """
    count, sign = min(first.rows, second.rows), -1.0 if column in LOWER else 1.0
    if column in TOGETHER:
        return _of_sets(first, second, column, count, sign)
    pairs = zip(first.each(column, count), second.each(column, count), strict=False)
    each = [sign * (one - other) for one, other in pairs if not (math.isnan(one) or math.isnan(other))]
    if not each:
        return Difference(math.nan, math.nan, 0, False)
    found = estimate(torch.tensor(each, dtype=torch.float64))
    return Difference(found.mean, found.half_width, found.n, sure(each, FEWEST))


def _of_sets(first: Result, second: Result, column: str, count: int, sign: float) -> Difference:
    one, other = (result.value(column, count) for result in (first, second))
    lists = [result.together.get(str(count), {}).get(f"{column} without") for result in (first, second)]
    n = min(one.n, other.n)
    if math.isnan(one.mean - other.mean) or None in lists or not (one.enough and other.enough):
        return Difference(sign * (one.mean - other.mean), math.nan, n, False)
    without = [math.nan if None in pair else pair[0] - pair[1] for pair in zip(*lists, strict=True)]
    error, count = jackknife(without), len(without)
    half = Estimate(count, 0.0, error * math.sqrt(count)).half_width  # as if they were as many rows with that error
    return Difference(sign * (one.mean - other.mean), half, n, abs(one.mean - other.mean) > half)


def load(place: Path, current: Mapping[str, Mapping[str, Any]] | None = None) -> dict[str, Result]:
    """What is measured so far: the truth, if it is known, and the methods in their order.

    Args:
        place: folder of the files.
        current: method -> what decides its explanations now; files that tell of others are left out.
    """
    paths = {name: place / f"{slug(name)}.json" for name in (TRUTH, *METHODS)}
    found = {name: Result(json.loads(path.read_text())) for name, path in paths.items() if path.exists()}
    if current is None:
        return found
    return {name: result for name, result in found.items() if result.about == current.get(name)}
