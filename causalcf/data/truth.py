"""Structural causal models that are known: the true counterfactual of a row, in closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from causalcf.assignments import Node
from causalcf.graph import CausalGraph
from causalcf.interventions import Do, do
from causalcf.units import Units, unit_ids

Rows = Mapping[str, Tensor]


@dataclass(frozen=True)
class Equation:
    """A structural equation `value = predict(noise, parents)` with its inverse `noise = abduct(value, parents)`."""

    abduct: Callable[[Tensor, Rows], Tensor]
    predict: Callable[[Tensor, Rows], Tensor]


def root(value: Tensor, parents: Rows) -> Tensor:
    """The equation of a variable without parents: its value is its noise."""
    return value


ROOT = Equation(root, root)


def drawn(units: Units, name: str, predict: Callable[[Tensor, Rows], Tensor]) -> Equation:
    """The equation of a variable whose noise is a uniform number of each unit, whatever its factual value was."""
    return Equation(lambda _, __: units.uniform(name), predict)


def as_do(action: Do | Mapping[str, Any]) -> Do:
    """What is done, of `do(...)` or of a mapping name -> what one would write there."""
    return action if isinstance(action, Do) else do(**action)


def true_counterfactual(
    graph: CausalGraph, equations: Mapping[str, Equation], rows: Rows, action: Do, seed: int = 0
) -> dict[str, Tensor]:
    """Abduct, act and predict with known equations, one variable after the other.

    Args:
        graph: the causal graph.
        equations: one equation per variable.
        rows: the factual rows, name -> tensor, batch first.
        action: what is intervened on.
        seed: for interventions that draw, as in `SCM.observe`.

    Returns:
        The counterfactual rows, with the ids of `rows`. A variable that the action does not reach is the same tensor as
        in `rows`.

    Raises:
        ValueError: an unknown variable, or rows that lack one.
    """
    graph.require(*action)
    if missing := [name for name in graph.nodes if name not in rows]:
        raise ValueError(f"the rows lack {', '.join(missing)}; pass rows as the data set gave them")
    reached = set(action) | set(graph.descendants(action))
    units = Units(unit_ids(rows), seed)
    values = {name: rows[name] for name in graph.nodes}
    for name in graph.nodes:
        if name not in reached:
            continue
        factual = {parent: rows[parent] for parent in graph.parents(name)}
        parents = {parent: values[parent] for parent in graph.parents(name)}

        def natural(name: str = name, factual: Rows = factual, parents: Rows = parents) -> Tensor:
            equation = equations[name]
            return equation.predict(equation.abduct(rows[name], factual), parents)

        if name in action:
            device, dtype = rows[name].device, rows[name].dtype
            dtype = dtype if dtype.is_floating_point else None
            node = Node(name, graph[name], natural, parents, units, device, *([dtype] if dtype else []))
            values[name] = action.apply(node)
        else:
            values[name] = natural()
    return {**values, "id": rows["id"]} if "id" in rows else values
