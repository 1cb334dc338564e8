"""Worlds: what would have been, for units whose noise is known."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from causalcf.assignments import Intervention, Node, Value
from causalcf.interventions import Do, joined
from causalcf.mechanisms.base import Noise
from causalcf.mechanisms.structure import intervened
from causalcf.rows import moved
from causalcf.units import Units
from causalcf.variables import Variable

if TYPE_CHECKING:
    from causalcf.scm import SCM


class ExogenousNoise(Mapping[str, Noise]):
    """The noise of some units, abducted node by node when it is first asked for, and shared by all their worlds.

    Args:
        scm: whose mechanisms explain the evidence.
        units: the units.
        evidence: their observed values; without them the noise is drawn from its prior.
    """

    def __init__(self, scm: SCM, units: Units, evidence: Mapping[str, Tensor] | None) -> None:
        self._scm, self._units, self._evidence = scm, units, evidence
        self._known: dict[str, Noise] = {}

    def __getitem__(self, name: str) -> Noise:
        if name not in self._known:
            self._known[name] = _finite(name, self._abducted(name), "abducted noise")
        return self._known[name]

    @torch.no_grad()
    def _abducted(self, name: str) -> Noise:
        mechanism = self._scm.mechanism(name)
        if self._evidence is None:
            return mechanism.noise(self._units, name)
        parents = {parent: self._evidence[parent] for parent in self._scm.graph.parents(name)}
        with _named(name):
            return mechanism.abduct(self._evidence[name], parents, self._units, name)

    def __iter__(self) -> Iterator[str]:
        return iter(self._scm.graph)

    def __len__(self) -> int:
        return len(self._scm.graph)


@dataclass(frozen=True)
class _InWorld(Intervention):
    """The value a variable takes in another world: a nested counterfactual."""

    world: World
    index: Any = None  # of rows, where it is asked for a part of them

    def apply(self, node: Node) -> Tensor:
        index = slice(None) if self.index is None else self.index
        units = self.world.units.ids[index]
        if len(units) != len(node.units):
            raise ValueError(f"{node.name}: the other world has {len(units)} rows, this one {len(node.units)}")
        if not torch.equal(units, node.units.ids):
            raise ValueError(f"{node.name}: the other world is one of other units; observe the same rows in both")
        return self.world[node.name][index]

    def at(self, index: Any, count: int) -> Intervention:
        return replace(self, index=index) if len(self.world) == count else self

    def describe(self, name: str) -> str:
        return f"{name} as in {self.world.actions or 'the factual world'}"


class World(Mapping[str, Tensor]):
    """The values that every variable takes for some units, with their noise held fixed.

    Worlds come from `SCM.observe` and from `World.do`; all worlds of an observation share its noise. A value is
    computed when it is read, and kept. What an intervention does not reach is the same tensor as in the world it was
    done in.

    Attributes:
        scm: the model.
        units: the units.
        noise: their exogenous noise, by node.
        actions: everything done since the observation.
    """

    def __init__(
        self,
        scm: SCM,
        units: Units,
        noise: ExogenousNoise,
        evidence: Mapping[str, Tensor] | None = None,
        *,
        before: World | None = None,
        actions: Do | None = None,
        reached: frozenset[str] | None = None,
    ) -> None:
        self.scm, self.units, self.noise = scm, units, noise
        self.actions = Do({}) if actions is None else actions
        self._before = before
        self._reached = frozenset() if reached is None else reached
        self._values: dict[str, Tensor] = {} if evidence is None else dict(evidence)
        self._again: dict[str, Tensor] = {}  # what the null intervention leads to, which several measures ask for

    @classmethod
    def observed(cls, scm: SCM, units: Units, rows: Mapping[str, Tensor]) -> World:
        """The factual world of rows that fit the graph; see `SCM.observe`."""
        evidence = moved({name: rows[name] for name in scm.graph}, scm.device, scm.dtype)
        return cls(scm, units, ExogenousNoise(scm, units, evidence), evidence)

    def __getitem__(self, name: str) -> Tensor:
        """The value of a variable in this world, shape `(B, *shape)`."""
        self.scm.graph.require(name)
        for unknown in self._unknown(name):
            source = self._source(unknown)
            self._values[unknown] = self._compute(unknown) if source is self else source[unknown]
        return self._values[name]

    def _unknown(self, name: str) -> list[str]:
        """What has to be computed for a variable, causes first: without recursion, which ends at long chains."""
        found: set[str] = set()
        open_ = [name]
        while open_:
            node = open_.pop()
            if node not in self._values and node not in found:
                found.add(node)
                open_ += self.scm.graph.parents(node) if self._source(node) is self else ()
        return [node for node in self.scm.graph if node in found] if len(found) > 1 else list(found)

    def _source(self, name: str) -> World:
        """The latest world in which a variable is known, or was reached by an intervention."""
        world = self
        while world._before is not None and name not in world._reached and name not in world._values:
            world = world._before
        return world

    @torch.no_grad()
    def _compute(self, name: str) -> Tensor:
        variable = self.scm.graph[name]
        parents = {parent: self[parent] for parent in self.scm.graph.parents(name)}

        def natural() -> Tensor:
            mechanism = self.scm.mechanism(name)
            noise = mechanism.act(self.noise[name], intervened(self.scm.graph, name, self.actions))
            with _named(name):
                predicted = mechanism.predict(noise, parents)
            value = _shaped(name, variable, predicted, len(self))
            return _finite(name, {"value": value}, "predicted value")["value"]

        if name not in self.actions:
            return natural()
        node = Node(name, variable, natural, parents, self.units, self.scm.device, self.scm.dtype)
        return self.actions.apply(node)

    def __iter__(self) -> Iterator[str]:
        return iter(self.scm.graph)

    def __len__(self) -> int:
        """The number of units."""
        return len(self.units)

    def __contains__(self, name: object) -> bool:
        return name in self.scm.graph

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)

    def __repr__(self) -> str:
        return f"World of {len(self)} units, {self.actions if self.actions else 'as observed'}"

    def do(self, action: Do | None = None, /, *, recompute: bool = False, **actions: Any) -> World:
        """The world after further interventions, on the same units with the same noise.

        Interventions on one variable compose in order: two `shift(1)` give +2, and a value overrides what came before.
        Setting a variable to its factual value still cuts its incoming edges.

        Args:
            action: what `do(...)` returned.
            recompute: predict every variable again from its noise, also those that no intervention reaches; with
                nothing else this is the null intervention whose error is called composition.
            actions: variable -> what to do to it, as in `causalcf.do`.

        Raises:
            ValueError: an unknown variable, or nothing to do.

        Example:
            `world.do(thickness=shift(1.5)).do(digit=7)["image"]`
        """
        steps = Do({}) if action is None and recompute and not actions else joined(action, actions)
        graph = self.scm.graph
        graph.require(*steps)
        self.scm.check_actions(steps)
        reached = frozenset(graph) if recompute else frozenset(steps) | graph.descendants(tuple(steps))
        world = World(self.scm, self.units, self.noise, before=self, actions=self.actions.then(steps), reached=reached)
        if recompute and not steps:
            world._values = self._again
        return world

    def recomputed(self, name: str) -> Tensor:
        """A variable predicted again from its noise, its causes as they are: the null intervention, for it alone.

        `do(recompute=True)` predicts the causes again too, and what their mechanisms lose is lost below them.
        """
        graph = self.scm.graph
        graph.require(name)
        if all(self.scm.mechanism(cause).exact for cause in graph.ancestors(name)):
            return self.do(recompute=True)[name]  # which several measures share
        return self.do(Do({parent: (Value(self[parent]),) for parent in graph.parents(name)}))[name]

    def values(self) -> dict[str, Tensor]:  # type: ignore[override]
        """All variables' values and the units' ids, as rows that `SCM.observe` takes."""
        return {**{name: self[name] for name in self}, "id": self.units.ids}

    def reabduct(self) -> World:
        """The world in which these values were observed: what was done is a fact, and noise is abducted from them.

        What abduction leaves to chance is drawn anew; with the draws that led to these values it would explain them by
        more than they show.

        Example:
            `thick = world.do(thickness=4.0).reabduct()`
        """
        return World.observed(
            self.scm, replace(self.units, turn=self.units.turn + 1), self.scm.graph.check_rows(self.values())
        )

    def as_intervention(self) -> Intervention:
        """`other.do(m=this)`: hold m at the value it takes in this world."""
        return _InWorld(self)


def _shaped(name: str, variable: Variable, value: Tensor, rows: int) -> Tensor:
    """A prediction, unless an equation broadcast it, or made numbers where the variable has classes."""
    shape, classes = (rows, *variable.shape), not variable.dtype.is_floating_point
    if tuple(value.shape) == shape and (value.dtype == variable.dtype if classes else value.is_floating_point()):
        if classes:
            try:
                variable.check(name, value)
            except ValueError as error:
                raise ValueError(f"{error} (as its mechanism predicted; correct the equation)") from None
        return value
    kind = "torch.int64" if classes else "floats"
    raise ValueError(
        f"{name}: expected its mechanism to predict {kind} of shape {shape}, got {value.dtype} of shape "
        f"{tuple(value.shape)}; correct the equation, or `predict`"
    )


@contextmanager
def _named(name: str) -> Iterator[None]:
    """Under which what a mechanism says is not finite has the variable's name."""
    try:
        yield
    except FloatingPointError as error:
        if str(error).startswith(f"{name}: "):
            raise
        raise type(error)(f"{name}: {error}") from error


def _finite(name: str, values: Noise, what: str) -> Noise:
    for value in values.values():
        if value.is_floating_point() and not value.isfinite().all():
            row = int((~value.isfinite()).reshape(len(value), -1).any(1).nonzero()[0])
            raise FloatingPointError(
                f"{name}: the {what} of row {row} is not finite; the mechanism was asked too far from what it was "
                "fitted to: check that row and the intervention, or fit on data that covers it"
            )
    return values
