"""`evaluate`: one call that measures whether a model's answers are sound, and the report it returns."""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from tqdm import tqdm

from causalcf.assignments import Node, Value
from causalcf.interventions import Do
from causalcf.metrics.composition import Composition
from causalcf.metrics.effectiveness import Effectiveness, Oracle
from causalcf.metrics.moments import NoiseMoments
from causalcf.metrics.reversibility import Reversibility
from causalcf.metrics.tally import Estimate, Label, Tally, estimate, node_of
from causalcf.metrics.truth import CounterfactualError
from causalcf.numbers import whole
from causalcf.rows import Dataset, Table
from causalcf.scm import SCM
from causalcf.units import Units, unit_ids
from causalcf.world import World


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
        return f"{value:.3f}"
    return f"{value:.2g}"


def begin(metrics: Sequence[Tally], few: World) -> None:
    """Forget what was measured before, and raise where such observed rows cannot be measured."""
    for metric in metrics:
        metric.reset()
        metric.trial(few)


def collect(metrics: Sequence[Tally]) -> tuple[Line, ...]:
    """The lines of a report: numbers, each with its reference if there is one."""
    lines = []
    for metric in metrics:
        found: dict[Label, Estimate] = metric.compute()
        for label, measured in found.items():
            if label.reference and label.action:
                continue
            against, reference = "", None
            for other, value in found.items():
                same = (other.metric, other.variable) == (label.metric, label.variable)
                if other.reference and same and other.action in (label.action, "") and not label.reference:
                    against, reference = other.reference, value
            name = f"{label.metric}, {label.reference}" if label.reference else label.metric
            values = torch.cat(metric.rows[label]) if label in metric.rows else None
            lines.append(Line(name, label.action, label.variable, label.unit, measured, against, reference, values))
    return tuple(lines)


def evaluate(
    scm: SCM,
    test: Mapping[str, Tensor] | Dataset,
    plan: Sequence[Do] | Mapping[str, Do],
    metrics: Sequence[Tally] | None = None,
    *,
    oracles: Mapping[str, Oracle] | None = None,
    node: str | None = None,
    batch: int = 64,
    seed: int = 0,
    progress: bool = False,
) -> Report:
    """Measure whether a model's counterfactuals are sound.

    Args:
        scm: the model.
        test: rows it has not seen.
        plan: the interventions, in a list or by the names that tables should show.
        metrics: what to measure, each from the start; by default composition (1 and 10 cycles), reversibility and the
            moments of the noise; effectiveness if there are oracles; the error against the truth if the data set knows
            it.
        oracles: variable -> what reads it from an image, for effectiveness, which they add to the metrics.
        node: the image variable, by default the only one, of effectiveness and the default metrics.
        batch: rows at a time; the numbers do not depend on it.
        seed: of what abduction leaves to chance.
        progress: whether to show a bar.

    Returns:
        A report; `print(report)`, `report.to_dict()`, `report.to_markdown()`.

    Raises:
        TypeError: a plan that is neither a list of interventions nor interventions by name.
        ValueError: an empty plan, interventions that tables cannot tell apart, an unknown variable, a value outside of
            its support, rows that do not fit the graph, an oracle or an encoder that does not take its images; all
            before anything is sampled.
    """
    whole("evaluate", 1, batch=batch)
    actions = _named(plan)
    table = Table(test, scm.graph, "test")
    count = len(table)
    for action in actions.values():
        _check(scm, action, count)
    if node is not None:
        scm.graph.require(node)
    if metrics is None:
        metrics = default_metrics(scm, test, oracles, node)
    elif oracles:
        metrics = [*metrics, Effectiveness(oracles, node_of(scm.graph, node))]
    metrics = _listed(metrics)
    begin(metrics, scm.observe(table[:2], seed))
    seen: Counter[bytes] = Counter()
    ids: list[Tensor] = []
    with tqdm(total=count, desc="evaluate", unit="row", disable=not progress) as bar:
        for start in range(0, count, batch):
            index = slice(start, min(start + batch, count))
            rows = numbered(table[index], seen)
            ids.append(rows["id"].cpu())
            world = scm.observe(rows, seed)
            for metric in metrics:
                metric.update(world)
            for name, action in actions.items():
                part = action.at(index, count)
                counterfactual = world.do(part)
                for metric in metrics:
                    metric.update(world, part, name, counterfactual)
            bar.update(len(world))
    about = {
        "rows": count,
        "seed": seed,
        "images compared on": "0-255",
        "dtype": str(scm.dtype).removeprefix("torch."),
    }
    return Report(collect(metrics), about, known(ids), {name: repr(action) for name, action in actions.items()})


def numbered(rows: Mapping[str, Tensor], seen: Counter[bytes]) -> dict[str, Tensor]:
    """Rows with ids, which do not depend on how they are cut into batches.

    Args:
        rows: of a batch.
        seen: what rows without an id held in the batches before.
    """
    return {**rows, "id": unit_ids(rows, seen)}


def known(ids: Sequence[Tensor]) -> Int[Tensor, " rows"]:
    """The ids of all rows; warns where some come again, as such rows are not independent."""
    found = torch.cat(list(ids))
    if (units := len(found.unique())) < len(found):
        warnings.warn(
            f"the {len(found)} rows are of {units} units, as their ids say; rows of one unit share its noise, and "
            "intervals, which take rows to be independent, are too narrow",
            stacklevel=3,
        )
    return found


def _listed(metrics: Any) -> list[Tally]:
    """Metrics as a list, and a TypeError where they are something else."""
    found = list(metrics) if isinstance(metrics, Iterable) else [metrics]
    for metric in found:
        if not isinstance(metric, Tally):
            made = f"; write {metric.__name__}()" if isinstance(metric, type) else ""
            raise TypeError(f"evaluate: expected metrics in a list, for example [Composition()], got {metric!r}{made}")
    if not isinstance(metrics, Iterable):
        raise TypeError(f"evaluate: expected metrics in a list; write metrics=[{type(metrics).__name__}(...)]")
    return found


def _named(plan: Any) -> dict[str, Do]:
    """The interventions of a plan by the names that tables show."""
    named = isinstance(plan, Mapping)
    steps = list(plan.values() if named else plan) if isinstance(plan, Iterable) else [plan]
    if isinstance(plan, Do) or not all(isinstance(step, Do) for step in steps):
        raise TypeError(
            "evaluate: expected a plan of interventions, in a list, [do(a=1.0), do(b=2.0)], or by name, "
            f'{{"up": do(a=shift(1.0))}}, got {plan!r}'
        )
    if not steps:
        raise ValueError("evaluate: the plan is empty; give at least one intervention, plan=[do(...)]")
    names = list(plan) if named else [repr(step) for step in steps]
    if twice := [name for name in names if names.count(name) > 1]:
        raise ValueError(
            f"evaluate: tables would show {len(twice)} interventions of the plan as {twice[0]!r}; name them, "
            'plan={"first": do(...), "second": do(...)}'
        )
    return dict(zip(names, steps, strict=True))


def _check(scm: SCM, action: Do, rows: int) -> None:
    """Raise where an action can be seen to fail before it is done."""
    scm.graph.require(*action)
    scm.check_actions(action)
    units = Units(torch.arange(rows, device=scm.device))
    for name, steps in action.items():
        variable = scm.graph[name]
        for step in steps:
            if isinstance(step, Value):
                node = Node(name, variable, lambda: torch.empty(0), {}, units, scm.device, scm.dtype)
                variable.check(name, step.apply(node))


def default_metrics(
    scm: SCM, test: Any, oracles: Mapping[str, Oracle] | None = None, node: str | None = None
) -> list[Tally]:
    """The metrics of `evaluate` if none are named."""
    node = node_of(scm.graph, node)
    metrics: list[Tally] = [Composition(node), Reversibility(node), NoiseMoments()]
    if oracles:
        metrics.append(Effectiveness(oracles, node))
    if hasattr(test, "true_counterfactual"):
        metrics.append(CounterfactualError(test))
    return metrics
