"""`do`: what a user writes, and the set of interventions it makes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Distribution

from causalcf.assignments import Draw, Intervention, Node, Parents, Policy, Replace, Resample, Scale, Shift, Value


def shift(by: float | Tensor, *, clamp: bool = False) -> Shift:
    """Add `by` to the value the variable would take in this world; `clamp` keeps it inside the support.

    Example:
        >>> do(thickness=shift(+1.5))
        do(thickness += 1.5)
    """
    return Shift(by, clamp)


def scale(by: float | Tensor, *, clamp: bool = False) -> Scale:
    """Multiply the value the variable would take in this world; `clamp` keeps it inside the support."""
    return Scale(by, clamp)


def resample(values: Tensor) -> Resample:
    """Draw each unit's value from `values`, shape `(n, ...)`; the draw belongs to the unit, not to the batch."""
    if not isinstance(values, Tensor) or values.ndim == 0 or len(values) == 0:
        came = f"one of shape {tuple(values.shape)}" if isinstance(values, Tensor) else type(values).__name__
        raise ValueError(
            f"resample: expected a tensor of one or more values, shape (n, ...), got {came}; write torch.tensor([...])"
        )
    return Resample(values)


def as_intervention(name: str, action: Any) -> Intervention:
    """The intervention a user means by what he wrote after `name=`."""
    if isinstance(action, Intervention):
        return action
    if hasattr(action, "as_intervention"):
        return action.as_intervention()
    if isinstance(action, Real | Tensor | str):
        if not isinstance(action, str) and not torch.as_tensor(action).isfinite().all():
            raise ValueError(f"{name}: do() expected finite values, got {action}")
        return Value(action if isinstance(action, Tensor | str) else float(action))
    if isinstance(action, Distribution):
        return Draw(action)
    if hasattr(action, "predict") and hasattr(action, "noise"):
        return Replace(action)
    if callable(action):
        return Policy(cast("Callable[[Parents], Any]", action))
    raise TypeError(
        f"{name}: do() takes a number, the name of a class, a tensor, shift(...), scale(...), resample(...), a policy "
        f"of the parents, a distribution or a mechanism, got {type(action).__name__}"
    )


class Do(Mapping[str, tuple[Intervention, ...]]):
    """A set of interventions: for each variable named, the interventions on it in their order.

    Build it with `do(...)`; join two with `first.then(second)`.
    """

    def __init__(self, actions: Mapping[str, tuple[Intervention, ...]]) -> None:
        self._actions = dict(actions)

    def __getitem__(self, name: str) -> tuple[Intervention, ...]:
        return self._actions[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._actions)

    def __len__(self) -> int:
        return len(self._actions)

    def __repr__(self) -> str:
        return f"do({', '.join(step.describe(name) for name, steps in self.items() for step in steps)})"

    def then(self, later: Do) -> Do:
        """These interventions, and afterwards those of `later`."""
        names = dict.fromkeys([*self, *later])
        return Do({name: self.get(name, ()) + later.get(name, ()) for name in names})

    def at(self, index: Any, count: int) -> Do:
        """The same interventions for some of `count` rows: per-row values are indexed, all else is kept."""
        return Do({name: tuple(step.at(index, count) for step in steps) for name, steps in self.items()})

    def apply(self, node: Node) -> Tensor:
        """The value of one variable after all interventions on it, checked against its support."""
        for step in self[node.name]:
            before = node
            value = node.variable.check(node.name, step.apply(before), rows=len(node.units))
            node = Node(
                node.name,
                node.variable,
                lambda value=value: value,
                node.parents,
                node.units,
                node.device,
                node.dtype,
            )
        return node.natural()


def do(**actions: Any) -> Do:
    """Declare interventions: `do(thickness=4.0)`, `do(thickness=shift(1.5), digit=7)`.

    Args:
        actions: variable name -> a number, the name of a class, a tensor with one value per row, `shift`, `scale`,
            `resample`, a policy (a function of the parents' values), a distribution, a mechanism, another world (the
            value the variable takes there), or a list of these, applied in order.

    Raises:
        ValueError: nothing is intervened on, a value is not finite, or a list of numbers stands for rows.
        TypeError: an action is of no known kind.

    Example:
        >>> do(thickness=4.0, intensity=lambda pa: 20.0 * pa["thickness"])
        do(thickness = 4, intensity = policy(parents))
    """
    if not actions:
        raise ValueError("do() intervenes on nothing; name at least one variable, for example do(thickness=4.0)")
    for name, action in actions.items():
        if (
            isinstance(action, list | tuple)
            and len(action) > 1
            and all(isinstance(step, Real | str) for step in action)
        ):
            names = any(isinstance(step, str) for step in action)
            rows = f"graph[{name!r}].encode({name!r}, [...])" if names else "torch.tensor([...])"
            raise ValueError(
                f"{name}: do() got a list of {'names' if names else 'numbers'}, each of which would override the one "
                f"before it; for one value per row write {name}={rows}"
            )
    steps = {name: action if isinstance(action, list | tuple) else (action,) for name, action in actions.items()}
    empty = [name for name, action in steps.items() if not action]
    if empty:
        raise ValueError(f"{empty[0]}: do() got an empty list of interventions; leave the variable out instead")
    return Do({name: tuple(as_intervention(name, step) for step in action) for name, action in steps.items()})


def joined(action: Do | None, actions: Mapping[str, Any]) -> Do:
    """What `do(action, **actions)` asks of a model or a world: first what `do(...)` returned, then the keywords.

    Raises:
        ValueError: nothing to do.
        TypeError: a mapping or anything else in the place of what `do(...)` returns.
    """
    if action is None:
        return do(**actions)
    if not isinstance(action, Do):
        raise TypeError(
            f"do() expected what do(...) returns, or name=value, got {type(action).__name__}; "
            "write do(name=value), or do(**values) for a mapping of values"
        )
    return action.then(do(**actions)) if actions else action
