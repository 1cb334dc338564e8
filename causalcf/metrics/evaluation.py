"""`evaluate`: one call that measures whether a model's answers are sound."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
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
from causalcf.metrics.report import Line, Report
from causalcf.metrics.reversibility import Reversibility
from causalcf.metrics.tally import Estimate, Label, Tally, node_of
from causalcf.metrics.truth import CounterfactualError
from causalcf.numbers import whole
from causalcf.rows import Dataset, Table
from causalcf.scm import SCM
from causalcf.units import Units, unit_ids
from causalcf.world import World


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
    return Report(collect(metrics), about, all_ids(ids), {name: repr(action) for name, action in actions.items()})


def numbered(rows: Mapping[str, Tensor], seen: Counter[bytes]) -> dict[str, Tensor]:
    """Rows with ids, which do not depend on how they are cut into batches.

    Args:
        rows: of a batch.
        seen: what rows without an id held in the batches before.
    """
    return {**rows, "id": unit_ids(rows, seen)}


def all_ids(ids: Sequence[Tensor]) -> Int[Tensor, " rows"]:
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
