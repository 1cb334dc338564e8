"""Reports: measured numbers with their intervals, as a table and as data."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from causalcf.metrics.tally import Estimate, estimate


@dataclass(frozen=True)
class Line:
    """One number of a report.

    Attributes:
        metric: what was measured.
        action: the intervention; empty where there is none.
        variable: on which variable.
        unit: of the number; images are compared on the scale of 0 to 255.
        estimate: n, mean and standard deviation.
        against: what to hold it against, "floor" or "doing nothing".
        reference: the estimate of that.
        values: what the estimate is the mean of, where there is such a thing: one per row, NaN if it does not count.
    """

    metric: str
    action: str
    variable: str
    unit: str
    estimate: Estimate
    against: str = ""
    reference: Estimate | None = None
    values: Tensor | None = field(default=None, repr=False, compare=False)


TINY = 1e-6  # what is smaller is taken for rounding
SCALED = ("grey 0-255", "share", "sd", "sd^2")  # units in which three decimals show all that matters
HEAD = ("metric", "intervention", "variable", "n", "mean", "95% interval", "unit", "held against")


@dataclass(frozen=True)
class Report:
    """The numbers of `evaluate`; prints as a table.

    Attributes:
        lines: the numbers.
        about: what was measured and how, by name.
        ids: of the rows, in their order, where rows were measured.
        plan: the interventions by the names that the table shows.
    """

    lines: tuple[Line, ...]
    about: Mapping[str, Any]
    ids: Tensor | None = field(default=None, repr=False, compare=False)
    plan: Mapping[str, str] = field(default_factory=dict, repr=False, compare=False)

    def __getitem__(self, key: tuple[str, str, str]) -> Line:
        """The line of a metric, an intervention and a variable, as they stand in the table."""
        for line in self.lines:
            if (line.metric, line.action, line.variable) == key:
                return line
        known = sorted({(line.metric, line.action, line.variable) for line in self.lines})
        raise KeyError(f"the report has no {key}; it has {known}")

    def to_dict(self) -> dict[str, Any]:
        """Plain data, for JSON, which has no number that is not finite: None stands for it.

        A Frechet distance, for example, has neither `sd` nor `half_width`.
        """
        lines = [
            {
                **{name: getattr(line, name) for name in ("metric", "action", "variable", "unit", "against")},
                "estimate": line.estimate._asdict() | {"half_width": line.estimate.half_width},
                "interval": _ends(line.estimate, line.unit),
                "reference": line.reference._asdict() if line.reference else None,
            }
            for line in self.lines
        ]
        return _plain({"about": self.about, "lines": lines})

    def against(self, other: Report) -> dict[tuple[str, str, str], Estimate]:
        """Differences to another report of the same rows and plan, row by row: this one's numbers less the other's.

        Two models that are asked about the same rows err together, so the interval of a difference of rows is narrower
        than those of the two means suggest.

        Args:
            other: of the same rows, in the same order; the rows that both have count, from the first on.

        Returns:
            Metric, intervention and variable, as they stand in the table -> mean, sd and n of the differences.

        Raises:
            ValueError: reports of other rows, of another seed, or of other interventions under the same names.

        Example:
            `ours.against(theirs)["error against the truth", "do(t)", "image"].half_width`
        """
        if self.about.get("seed") != other.about.get("seed"):
            raise ValueError(
                f"against: the reports are of seeds {self.about.get('seed')} and {other.about.get('seed')}; compare "
                "rows that were asked the same, evaluate(..., seed=0)"
            )
        self._check_alike(other)
        theirs = {(line.metric, line.action, line.variable): line.values for line in other.lines}
        found = {}
        for line in self.lines:
            values = theirs.get((line.metric, line.action, line.variable))
            if line.values is not None and values is not None:
                count = min(len(line.values), len(values))
                found[line.metric, line.action, line.variable] = estimate(line.values[:count] - values[:count])
        return found

    def _check_alike(self, other: Report) -> None:
        """Raise unless both are of the same rows, as far as both go, and of the same interventions."""
        if self.ids is not None and other.ids is not None:
            count = min(len(self.ids), len(other.ids))
            if (apart := (self.ids[:count] != other.ids[:count]).nonzero()).numel():
                raise ValueError(
                    f"against: row {int(apart[0, 0])} of the one report is another unit than that of the other; "
                    "measure both on the same rows, in the same order"
                )
        if unlike := [name for name in self.plan if other.plan.get(name, self.plan[name]) != self.plan[name]]:
            ours, theirs = self.plan[unlike[0]], other.plan[unlike[0]]
            raise ValueError(
                f"against: {unlike[0]!r} is {ours} in the one report and {theirs} in the other; compare answers to the "
                "same question"
            )

    def cells(self) -> list[tuple[str, ...]]:
        """The table's cells, without its head."""
        return [
            (
                line.metric,
                line.action or "-",
                line.variable,
                str(line.estimate.n),
                _number(line.estimate.mean, line.unit),
                _interval(line.estimate, line.unit),
                line.unit,
                f"{line.against} {_number(line.reference.mean, line.unit)}" if line.reference else "",
            )
            for line in self.lines
        ]

    def __str__(self) -> str:
        table = [HEAD, *self.cells()]
        widths = [max(len(row[column]) for row in table) for column in range(len(HEAD))]
        text = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in table]
        text.insert(1, "  ".join("-" * width for width in widths))
        return "\n".join([", ".join(f"{key}: {value}" for key, value in self.about.items()), "", *text])

    def to_markdown(self) -> str:
        """The table in Markdown."""
        rows = [HEAD, ("---",) * len(HEAD), *self.cells()]
        plain = ([" ".join(cell.split()).replace("|", "\\|") for cell in row] for row in rows)
        table = "\n".join("| " + " | ".join(row) + " |" for row in plain)
        return ", ".join(f"{key}: {value}" for key, value in self.about.items()) + "\n\n" + table + "\n"


def _plain(value: Any) -> Any:
    """The same, with None for numbers that are not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(part) for name, part in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _ends(estimate: Estimate, unit: str) -> tuple[float, float] | None:
    """The 95 % interval of a mean: Student's; Wilson's of what rows do or do not."""
    n, mean, sd = estimate
    if math.isnan(sd):
        return None
    if unit == "share" and abs(sd**2 * (n - 1) / n - mean * (1 - mean)) < 1e-9:
        z = 1.959964**2 / n
        middle, away = (mean + z / 2) / (1 + z), math.sqrt(z * mean * (1 - mean) + z * z / 4) / (1 + z)
        return max(middle - away, 0.0), min(middle + away, 1.0)
    away = estimate.half_width
    least, most = (0.0, 1.0) if unit == "share" else (-math.inf, math.inf)
    return max(mean - away, least), min(mean + away, most)


def _interval(estimate: Estimate, unit: str) -> str:
    ends = _ends(estimate, unit)
    return "-" if ends is None else f"{_number(ends[0], unit)} .. {_number(ends[1], unit)}"


def _number(value: float, unit: str) -> str:
    """Three decimals, fewer of what is large; and two digits of what they would not show in the unit of a variable."""
    if abs(value) >= 100:
        return f"{value:.1f}"
    if unit in SCALED or abs(value) >= 0.0005 or abs(value) < TINY:
        return f"{round(value, 3) + 0.0:.3f}"  # and no -0.000
    return f"{value:.2g}"
