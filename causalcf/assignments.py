"""Single interventions: what can take the place of one structural equation."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.distributions import Bernoulli, Categorical, Distribution

from causalcf.hardware import seeded
from causalcf.units import Units
from causalcf.variables import Continuous, Discrete, Variable

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


def coded(name: str, variable: Variable, label: str) -> Tensor:
    """The class that a variable's label names, shape `()`."""
    if not isinstance(variable, Discrete):
        raise TypeError(f"{name}: do() expected a number, as the variable is {variable}, got {label!r}")
    return variable.encode(name, [label])[0]


@dataclass(frozen=True)
class Value(Intervention):
    """Sets the variable to a number or the class of a name for every row, or to a tensor with one value per row."""

    value: float | str | Tensor

    def apply(self, node: Node) -> Tensor:  # noqa: D102
        count, shape = len(node.units), node.variable.shape
        value = self.value
        if isinstance(value, str):
            value = coded(node.name, node.variable, value)
        if isinstance(value, Tensor) and value.ndim == len(shape) + 1:
            if len(value) != count:
                raise ValueError(
                    f"{node.name}: do() got {len(value)} values for {count} rows; "
                    "give one number for all rows or one value per row"
                )
            if value.is_floating_point() and node.variable.dtype.is_floating_point:
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

    def check(self, name: str, variable: Variable) -> None:
        """Raise a TypeError or a ValueError if the variable can take no such value, in whatever world."""
        value = self.value
        rows = len(value) if isinstance(value, Tensor) and value.ndim == len(variable.shape) + 1 else 1
        node = Node(name, variable, lambda: torch.empty(0), {}, Units(torch.arange(rows), 0))
        variable.check(name, self.apply(node), rows=rows)

    def describe(self, name: str) -> str:  # noqa: D102
        if isinstance(self.value, str):
            return f"{name} = {self.value}"
        return (
            f"{name} = given rows" if isinstance(self.value, Tensor) and self.value.ndim else f"{name} = {self.value:g}"
        )

    def at(self, index: Any, count: int) -> Intervention:  # noqa: D102
        return Value(self.value if isinstance(self.value, str) else _at(self.value, index, count))


def _move(node: Node, moved: Callable[..., Tensor], by: float | Tensor, clamp: bool, written: str) -> Tensor:
    if not isinstance(node.variable, Continuous):
        raise TypeError(
            f"{node.name}: {written} needs a Continuous variable, {node.name} is {node.variable}; "
            f"give a value, do({node.name}=...), or a policy of its parents"
        )
    natural = node.natural()
    if isinstance(by, Tensor):
        if by.ndim and by.shape != natural.shape:
            raise ValueError(
                f"{node.name}: {written} got shape {tuple(by.shape)} for {len(natural)} rows; "
                "give one number for all rows or one value per row"
            )
        by = by.to(natural)
    value = moved(natural, by)
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
        return _move(node, torch.add, self.by, self.clamp, f"shift({_short(self.by)})")

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
        return _move(node, torch.mul, self.by, self.clamp, f"scale({_short(self.by)})")

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
        if node.variable.dtype.is_floating_point:
            return value.to(node.dtype)
        if value.is_floating_point() and (value != value.round()).any():
            raise ValueError(
                f"{node.name}: do() expected a distribution of integers, because the variable is {node.variable}, "
                f"got {law}; draw from a Categorical or a Bernoulli"
            )
        return value.long()

    def describe(self, name: str) -> str:  # noqa: D102
        return f"{name} ~ {self.distribution}"


def on_device(law: Distribution, device: torch.device) -> Distribution:
    """A distribution of a scalar with its parameters on a device."""
    own = {name: getattr(law, name) for name in law.arg_constraints if name in vars(law)}
    if all(value.device == device for value in own.values()):
        return law
    if "logits" in own:
        own.pop("probs", None)  # the same, said in another way
    return type(law)(**{name: value.to(device) for name, value in own.items()})


def draw(law: Distribution, units: Units, key: str) -> Tensor:
    """One draw per unit from a distribution of a scalar: by its quantile function where torch has one."""
    if isinstance(law, Bernoulli):
        return (units.uniform(key) < law.probs.to(units.ids.device)).to(law.probs.dtype)
    if isinstance(law, Categorical):
        return (units.gumbel(key, law.logits.shape[-1:]) + law.logits.to(units.ids.device)).argmax(-1)
    try:
        return law.icdf(units.uniform(key))
    except NotImplementedError:
        seeds = units.integers(key, 2**62)
        values = []
        for seed in seeds.tolist():
            with seeded(seed):
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
    """The part of a tensor that holds `count` rows; a number, or an image (C, H, W), is for all rows."""
    if isinstance(number, Tensor) and number.ndim not in (0, 3) and len(number) == count:
        return number[index]
    return number


def _short(number: float | Tensor) -> str:
    if isinstance(number, Tensor):
        return f"{number.item():+g}" if number.ndim == 0 else "given rows"
    return f"{number:g}"
