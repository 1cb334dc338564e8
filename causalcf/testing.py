"""Assertions for your own test suite: what a structural causal model must satisfy on your rows.

Each raises `AssertionError` with the variable, the worst row and the distance, in the variable's own unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from numbers import Real
from typing import Any

import torch
from torch import Tensor

from causalcf.interventions import Do, do, shift
from causalcf.scm import SCM
from causalcf.variables import Continuous

__all__ = ["assert_composition", "assert_effectiveness", "assert_locality", "assert_reversibility", "assert_sound"]

Rows = Mapping[str, Tensor]


def assert_composition(scm: SCM, rows: Rows, atol: float = 1e-4, nodes: Sequence[str] | None = None) -> None:
    """Doing nothing changes nothing: `CF(x, pa; null) = x`, by a forced abduction and prediction.

    Args:
        scm: the model.
        rows: evidence on every variable.
        atol: largest distance allowed, in each variable's own unit; a mean over pixels for images.
        nodes: which variables; by default all.

    Example:
        >>> import causalcf as cf, torch
        >>> graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
        >>> known = cf.mechanisms.Gaussian
        >>> scm = cf.SCM(graph, {"a": known(weights={}), "b": known(weights={"a": 2.0})})
        >>> assert_composition(scm, {"a": torch.ones(3), "b": torch.zeros(3)})
    """
    world = scm.observe(rows)
    for name in _chosen(scm, nodes):
        _near(f"composition of {name}", world.recomputed(name), world[name], atol)


def assert_reversibility(
    scm: SCM, rows: Rows, action: Do, atol: float = 1e-4, nodes: Sequence[str] | None = None
) -> None:
    """Abducting the counterfactual and undoing the intervention leads back: `CF(CF(x; a*); a) = x`."""
    world = scm.observe(rows)
    away = world.do(action)
    back = away.reabduct().do(do(**{name: world[name] for name in action}))
    for name in _chosen(scm, nodes):
        _near(f"reversibility of {action!r} at {name}", back[name], world[name], atol)


def assert_effectiveness(scm: SCM, rows: Rows, name: str, value: Any) -> None:
    """The intervened variable takes the value, and nothing that it depends on moves."""
    world = scm.observe(rows)
    moved = world.do(**{name: value})
    if not isinstance(value, Tensor | Real):
        raise TypeError(f"{name}: expected the value that it is to take, a number or a tensor, got {value!r}")
    wanted = torch.as_tensor(value, dtype=moved[name].dtype, device=moved[name].device).expand_as(moved[name])
    _near(f"effectiveness of do({name})", moved[name], wanted, 0.0)
    causes = scm.graph.ancestors(name)
    for cause in (node for node in scm.graph if node in causes):
        _near(f"do({name}) at {cause}, on which {name} depends,", moved[cause], world[cause], 0.0)


def assert_locality(scm: SCM, rows: Rows, action: Do) -> None:
    """What no intervention reaches is the very same tensor."""
    world = scm.observe(rows)
    moved = world.do(action)
    reached = {*action, *scm.graph.descendants(action)}
    for name in scm.graph:
        if name not in reached and moved[name] is not world[name]:
            raise AssertionError(f"locality of {action!r}: {name} does not descend from it, and was computed anew")


def assert_sound(scm: SCM, rows: Rows, atol: float = 1e-3) -> None:
    """All of the above, with every continuous variable shifted by a thousandth of its spread in the rows."""
    assert_composition(scm, rows, atol)
    for name in scm.graph:
        if not isinstance(scm.graph[name], Continuous):
            continue
        world = scm.observe(rows)
        nudge = 1e-3 * float(world[name].std(correction=0))  # of a single row too
        action = do(**{name: shift(nudge, clamp=True)})
        assert_locality(scm, rows, action)
        assert_reversibility(scm, rows, action, atol)
        assert_effectiveness(scm, rows, name, world[name].flip(0))


def _chosen(scm: SCM, nodes: Sequence[str] | None) -> Sequence[str]:
    for name in nodes or ():
        scm.graph.require(name)
    return tuple(scm.graph) if nodes is None else nodes


def _near(what: str, found: Tensor, wanted: Tensor, atol: float) -> None:
    apart = (found.double() - wanted.double()).abs().flatten(1 if found.ndim > 1 else 0)
    apart = apart.mean(1) if apart.ndim > 1 else apart
    worst = int(apart.argmax())
    if not apart[worst] <= atol:
        raise AssertionError(
            f"{what}: row {worst} is {apart[worst].item():.3g} away, allowed are {atol:g} "
            f"(mean over rows {apart.mean().item():.3g})"
        )
