"""What `do` can do to a variable: values, shifts, scalings, policies, distributions, replaced mechanisms."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from numbers import Real
from typing import Any, cast

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from causalcf.units import Units
from causalcf.variables import Continuous, Variable

Parents = Mapping[str, Tensor]


@dataclass(frozen=True)
class Node:
    """The place where an intervention acts: which variable, in which world, for which units.

    Attributes:
        name: the variable's name.
        variable: its type and support.
        natural: a call that gives the value the variable would take in this world; not called unless needed.
        parents: the values of its parents in this world.
        units: whose noise may be drawn.
        device: where the value must be.
        dtype: the floating dtype of this world.
    """

    name: str
    variable: Variable
    natural: Callable[[], Tensor]
    parents: Parents
    units: Units
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    dtype: torch.dtype = torch.float32


class Intervention(ABC):
    """Replaces the structural equation of one variable.

    Interventions on one variable compose in the order they are written: each sees, as `node.natural`, what the ones
    before it left. One that never calls `node.natural` overrides them.
    """

    @abstractmethod
    def apply(self, node: Node) -> Tensor:
        """The variable's value under this intervention, shape `(B, *variable.shape)`."""

    @abstractmethod
    def describe(self, name: str) -> str:
        """A short text for tables and plots, for example `thickness += 1.5`."""

    def at(self, index: Any, count: int) -> Intervention:
        """The same intervention for a part of `count` rows; only interventions that hold rows differ."""
        return self


@dataclass(frozen=True)
class Value(Intervention):
    """Sets the variable to a number for every row, or to a tensor with one value per row."""

    value: float | Tensor

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        count, shape = len(node.units), node.variable.shape
        value = self.value
        if isinstance(value, Tensor) and value.ndim == len(shape) + 1:
            if len(value) != count:
                raise ValueError(
                    f"{node.name}: do() got {len(value)} values for {count} rows; "
                    "give one number for all rows or one value per row"
                )
            if value.is_floating_point() and isinstance(node.variable, Continuous):
                value = value.to(node.dtype)
            return value.to(node.device)
        if isinstance(value, Tensor) and value.ndim == len(shape):
            filled = value.expand(count, *shape)
            return filled.to(node.device, node.dtype if value.is_floating_point() else value.dtype)
        if isinstance(value, Tensor) or shape:
            came = f"shape {tuple(value.shape)}" if isinstance(value, Tensor) else repr(value)
            raise ValueError(f"{node.name}: do() expected a tensor of shape {(count, *shape)}, got {came}")
        if isinstance(node.variable, Continuous):
            return torch.full((count,), float(value), dtype=node.dtype, device=node.device)
        if float(value) != int(value):
            raise ValueError(
                f"{node.name}: do() expected an integer, because the variable is {node.variable}, got {value}; "
                f"write do({node.name}={round(float(value))})"
            )
        return torch.full((count,), int(value), dtype=torch.int64, device=node.device)

    def describe(self, name: str) -> str:  # noqa: D102
        return (
            f"{name} = given rows" if isinstance(self.value, Tensor) and self.value.ndim else f"{name} = {self.value:g}"
        )

    def at(self, index: Any, count: int) -> Intervention:  # noqa: D102
        return Value(_at(self.value, index, count))


def _move(node: Node, moved: Callable[[Tensor], Tensor], clamp: bool, written: str) -> Tensor:
    if not isinstance(node.variable, Continuous):
        raise TypeError(
            f"{node.name}: {written} needs a Continuous variable, {node.name} is {node.variable}; "
            f"give a value, do({node.name}=...), or a policy of its parents"
        )
    value = moved(node.natural())
    if clamp and (node.variable.lower, node.variable.upper) == (None, None):
        return value
    if clamp:
        return value.clamp(node.variable.lower, node.variable.upper)
    try:
        return node.variable.check(node.name, value)
    except ValueError as error:
        raise ValueError(f"{written} leaves the support. {error}; or write {written[:-1]}, clamp=True)") from None


@dataclass(frozen=True)
class Shift(Intervention):
    """Adds to the value that the variable would take in this world."""

    by: float | Tensor
    clamp: bool = False

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        return _move(node, lambda value: value + self.by, self.clamp, f"shift({_short(self.by)})")

    def describe(self, name: str) -> str:  # noqa: D102
        return f"{name} += {_short(self.by)}"

    def at(self, index: Any, count: int) -> Intervention:  # noqa: D102
        return Shift(_at(self.by, index, count), self.clamp)


@dataclass(frozen=True)
class Scale(Intervention):
    """Multiplies the value that the variable would take in this world."""

    by: float | Tensor
    clamp: bool = False

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        return _move(node, lambda value: value * self.by, self.clamp, f"scale({_short(self.by)})")

    def describe(self, name: str) -> str:  # noqa: D102
        return f"{name} *= {_short(self.by)}"

    def at(self, index: Any, count: int) -> Intervention:  # noqa: D102
        return Scale(_at(self.by, index, count), self.clamp)


@dataclass(frozen=True)
class Policy(Intervention):
    """Sets the variable to a function of its parents' values in this world."""

    rule: Callable[[Parents], Any]

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        value = self.rule(_Parents(node.name, node.parents))
        if not isinstance(value, Tensor):
            value = torch.as_tensor(value)
        if isinstance(node.variable, Continuous) and not value.is_floating_point():
            value = value.to(node.dtype)
        return Value(value).apply(node)

    def describe(self, name: str) -> str:  # noqa: D102
        rule = getattr(self.rule, "__name__", "policy")
        return f"{name} = {'policy' if rule == '<lambda>' else rule}(parents)"


class _Parents(dict[str, Tensor]):
    """The parents a policy may look at; asking for anything else says what there is."""

    def __init__(self, name: str, parents: Parents) -> None:
        super().__init__(parents)
        self._name = name

    def __missing__(self, key: str) -> Tensor:
        raise ValueError(
            f"{self._name}: the policy asked for {key!r}, which is no parent of {self._name}; "
            f"its parents are {', '.join(self) or 'none'}"
        )


@dataclass(frozen=True)
class Draw(Intervention):
    """Draws the variable from a distribution, independently for each unit."""

    distribution: Distribution

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        law, key = self.distribution, f"{node.name}.do"
        if law.batch_shape or law.event_shape:
            raise ValueError(
                f"{node.name}: do() expected a distribution of one scalar, got batch shape {tuple(law.batch_shape)} "
                f"and event shape {tuple(law.event_shape)}"
            )
        value = draw(law, node.units, key).to(node.device)
        return value.to(node.dtype) if isinstance(node.variable, Continuous) else value.long()

    def describe(self, name: str) -> str:  # noqa: D102
        return f"{name} ~ {self.distribution}"


def draw(law: Distribution, units: Units, key: str) -> Tensor:
    """One draw per unit from a distribution of a scalar: by its quantile function where torch has one."""
    if isinstance(law, Bernoulli):
        return (units.uniform(key) < law.probs.cpu()).to(law.probs.dtype)
    if isinstance(law, Categorical):
        return (units.gumbel(key, law.logits.shape[-1:]) + law.logits.cpu()).argmax(-1)
    try:
        return law.icdf(units.uniform(key))
    except NotImplementedError:
        seeds = units.integers(key, 2**62)
        with torch.random.fork_rng(devices=[]):
            values = []
            for seed in seeds.tolist():
                torch.manual_seed(seed)
                values.append(law.sample())
        return torch.stack(values)


@dataclass(frozen=True)
class Resample(Intervention):
    """Sets each unit's variable to a value drawn from a list, for example the training column."""

    values: Tensor

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        chosen = node.units.integers(f"{node.name}.do", len(self.values)).to(self.values.device)
        return Value(self.values[chosen]).apply(node)

    def describe(self, name: str) -> str:  # noqa: D102
        return f"{name} resampled"


@dataclass(frozen=True)
class Replace(Intervention):
    """Swaps the variable's mechanism for another, with noise of its own drawn from the new mechanism's prior."""

    mechanism: Any

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        if not self.mechanism.built:
            raise ValueError(
                f"{node.name}: the replacing {type(self.mechanism).__name__} knows no parents yet; "
                "take a fitted mechanism from another SCM, scm.mechanisms[...], or one given in closed form"
            )
        noise = self.mechanism.noise(node.units, f"{node.name}.do")
        return self.mechanism.predict(noise, node.parents)

    def describe(self, name: str) -> str:  # noqa: D102
        return f"{name} by {type(self.mechanism).__name__}"


def _at(number: float | Tensor, index: Any, count: int) -> float | Tensor:
    """The part of a tensor that holds `count` rows; a number is for all rows."""
    return number[index] if isinstance(number, Tensor) and number.ndim and len(number) == count else number


def _short(number: float | Tensor) -> str:
    if isinstance(number, Tensor):
        return f"{number.item():+g}" if number.ndim == 0 else "given rows"
    return f"{number:g}"


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
    return Resample(values)


def as_intervention(name: str, action: Any) -> Intervention:
    """The intervention a user means by what he wrote after `name=`."""
    if isinstance(action, Intervention):
        return action
    if hasattr(action, "as_intervention"):
        return action.as_intervention()
    if isinstance(action, Real | Tensor):
        if not torch.as_tensor(action).isfinite().all():
            raise ValueError(f"{name}: do() expected finite values, got {action}")
        return Value(action if isinstance(action, Tensor) else float(action))
    if isinstance(action, Distribution):
        return Draw(action)
    if hasattr(action, "predict") and hasattr(action, "noise"):
        return Replace(action)
    if callable(action):
        return Policy(cast("Callable[[Parents], Any]", action))
    raise TypeError(
        f"{name}: do() takes a number, a tensor, shift(...), scale(...), resample(...), a policy of the parents, "
        f"a distribution or a mechanism, got {type(action).__name__}"
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
        actions: variable name -> a number, a tensor with one value per row, `shift`, `scale`, `resample`, a policy (a
            function of the parents' values), a distribution, a mechanism, another world (the value the variable takes
            there), or a list of these, applied in order.

    Raises:
        ValueError: nothing is intervened on, or a value is not finite.
        TypeError: an action is of no known kind.

    Example:
        >>> do(thickness=4.0, intensity=lambda pa: 20.0 * pa["thickness"])
        do(thickness = 4, intensity = policy(parents))
    """
    if not actions:
        raise ValueError("do() intervenes on nothing; name at least one variable, for example do(thickness=4.0)")
    steps = {name: action if isinstance(action, list | tuple) else (action,) for name, action in actions.items()}
    empty = [name for name, action in steps.items() if not action]
    if empty:
        raise ValueError(f"{empty[0]}: do() got an empty list of interventions; leave the variable out instead")
    return Do({name: tuple(as_intervention(name, step) for step in action) for name, action in steps.items()})
