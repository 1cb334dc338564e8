"""The structural causal model: a graph with a mechanism at every node."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Any, Self

import torch
from torch import Tensor, nn

from causalcf import storage
from causalcf.assignments import Replace, Value
from causalcf.graph import CausalGraph
from causalcf.interventions import Do, joined
from causalcf.mechanisms import Binary, Categorical, Flow, Mechanism, SpatialDiffusion
from causalcf.mechanisms.structure import placed
from causalcf.numbers import whole
from causalcf.program import program
from causalcf.rows import Dataset, Table, moved
from causalcf.training.fit import fit_mechanism
from causalcf.units import Units, unit_ids
from causalcf.variables import Variable
from causalcf.world import ExogenousNoise, World

DEFAULTS: dict[str, type[Mechanism]] = {
    "Continuous": Flow,
    "Binary": Binary,
    "Categorical": Categorical,
    "Image": SpatialDiffusion,
}


def default_mechanism(variable: Variable) -> Mechanism:
    """The mechanism a variable of this type gets if none is named: the same one every time."""
    return DEFAULTS[type(variable).__name__]()


class SCM(nn.Module):
    """A causal graph whose every variable has a mechanism `x = f(pa, u)`, with independent noise u.

    `sample` is seeing, `do(...).sample` is doing, `observe(rows).do(...)` is imagining: Pearl's three rungs.

    Args:
        graph: the causal graph.
        mechanisms: variable -> mechanism; the others get the default of their type, see `check`.

    Example:
        >>> from causalcf import CausalGraph, Continuous, do, mechanisms as M
        >>> graph = CausalGraph("a -> b", a=Continuous(), b=Continuous())
        >>> known = {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 2.0}, scale=0.1)}
        >>> scm = SCM(graph, known)
        >>> world = scm.observe({"a": torch.tensor([1.0]), "b": torch.tensor([2.5])})
        >>> world.do(a=3.0)["b"]
        tensor([6.5000])
    """

    def __init__(self, graph: CausalGraph, mechanisms: Mapping[str, Mechanism] | None = None) -> None:
        super().__init__()
        if not isinstance(graph, CausalGraph):
            raise TypeError(f"SCM: expected a CausalGraph, got {type(graph).__name__}; write CausalGraph(edges, ...)")
        given = dict(mechanisms or {})
        graph.require(*given)
        self.graph, self.actions = graph, Do({})
        nodes = []
        for name in graph:
            mechanism = given.get(name) or default_mechanism(graph[name])
            if not isinstance(mechanism, Mechanism):
                raise TypeError(f"{name}: expected a mechanism, for example mechanisms.Flow(), got {mechanism!r}")
            try:
                nodes.append(placed(mechanism, graph, name))
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from None
        self._nodes = nn.ModuleList(nodes)
        self.eval()

    # ---- what is in it

    @property
    def mechanisms(self) -> dict[str, Mechanism]:
        """The mechanisms by name, in causal order."""
        return dict(zip(self.graph, self._nodes, strict=True))  # type: ignore[arg-type]

    def mechanism(self, name: str) -> Mechanism:
        """The fitted mechanism of a node, ready to abduct and predict."""
        self.graph.require(name)
        mechanism = self.mechanisms[name]
        if not mechanism.fitted:
            raise RuntimeError(
                f"{name}: its {type(mechanism).__name__} is not fitted yet; call scm.fit(train), or load a fitted model"
            )
        return mechanism.eval()

    @property
    def device(self) -> torch.device:
        """Where the tensors are."""
        return next((m.device for m in self.mechanisms.values()), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of values: float32, or float64 after `scm.double()`."""
        floats = (t.dtype for t in [*self.parameters(), *self.buffers()] if t.is_floating_point())
        return next(floats, torch.float32)

    def check(self) -> str:
        """A table of the nodes: their parents, mechanisms and what these can do."""
        head = ("node", "parents", "mechanism", "fitted", "exact", "density", "abduction")
        lines: list[tuple[str, ...]] = [head]
        for name, mechanism in self.mechanisms.items():
            given = ["yes" if value else "no" for value in (mechanism.fitted, mechanism.exact, mechanism.has_density)]
            kind = "posterior draw" if mechanism.stochastic_abduction else "deterministic"
            lines.append((name, ", ".join(self.graph.parents(name)) or "-", type(mechanism).__name__, *given, kind))
        widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def __repr__(self) -> str:
        """The table of `check`, and not every layer of every network."""
        lines = (f"    {line}" for line in self.check().splitlines())
        return "\n".join(["SCM(", *lines, ")"])

    # ---- learning

    def fit(
        self,
        train: Mapping[str, Tensor] | Dataset,
        val: Mapping[str, Tensor] | Dataset | None = None,
        *,
        folder: str | Path | None = None,
        only: str | tuple[str, ...] | list[str] | None = None,
        seed: int = 0,
        progress: bool = True,
    ) -> Self:
        """Fit every mechanism on its own; killed and called again with the same arguments, it goes on where it was.

        Args:
            train: rows, or a data set that gives rows for a list of positions.
            val: further rows, on which the loss is shown but nothing is learned.
            folder: where checkpoints go; by default `runs/<digest of model, data and seed>`.
            only: the nodes to fit; all by default. The others may follow later, in the same folder.
            seed: decides initial weights, order of rows and noise: the same seed gives the same weights.
            progress: whether to show a bar per node.

        Raises:
            ValueError: rows that do not fit the graph, or a folder that holds the fit of something else.
            FloatingPointError: a loss that is not finite; says where the last good checkpoint is.
        """
        if self.actions:
            raise ValueError(f"fit: this is the model after {self.actions}; fit the model you called .do() on")
        names = tuple(self.graph) if only is None else (only,) if isinstance(only, str) else tuple(only)
        self.graph.require(*names)
        tables = Table(train, self.graph, "train"), None if val is None else Table(val, self.graph, "val")
        described = storage.describe(self)
        print_of = {"model": described, "data": tables[0].fingerprint(tuple(self.graph)), "seed": seed}
        path = storage.fit_folder(folder, print_of)
        for name in names:
            fit_mechanism(
                self.mechanisms[name],
                name,
                self.graph.parents(name),
                *tables,
                folder=path / name,
                seed=seed,
                progress=progress,
            )
        return self

    # ---- the three rungs

    def sample(self, rows: int, seed: int = 0, only: Collection[str] | None = None) -> dict[str, Tensor]:
        """Rung 1: rows drawn from the model (rung 2, if it was made by `do`), with their ids 0, 1, ...

        Args:
            rows: how many.
            seed: of their noise.
            only: the variables that are wanted; what they do not listen to is not drawn. All by default.
        """
        whole("sample", 1, rows=rows)
        only = (only,) if isinstance(only, str) else only
        self.graph.require(*(only or ()))
        units = Units(torch.arange(rows, device=self.device), seed)
        noise = ExogenousNoise(self, units, None)
        world = World(self, units, noise, before=None, actions=self.actions, reached=frozenset(self.graph))
        return world.values() if only is None else {**{name: world[name] for name in only}, "id": units.ids}

    def do(self, action: Do | None = None, /, **actions: Any) -> SCM:
        """Rung 2: the model in which these interventions have been made; mechanisms are shared, not copied."""
        steps = joined(action, actions)
        self.graph.require(*steps)
        self.check_actions(steps)
        intervened = copy.copy(self)
        intervened.actions = self.actions.then(steps)
        return intervened

    def observe(self, rows: Mapping[str, Tensor], seed: int = 0) -> World:
        """Rung 3: the world these rows came from; noise is abducted, node by node, when it is needed.

        Args:
            rows: a value for every variable, batch first; `"id"` (int64) names the units.
            seed: with a unit's id, decides what abduction leaves to chance. Rows without id are told apart by content.
                Answers of a world are asked again by `World.reabduct`, by chance of its own.

        Raises:
            ValueError: missing evidence, a wrong shape, a value that is not finite or outside of the support.
            TypeError: a wrong dtype.
        """
        if self.actions:
            raise ValueError(
                f"observe: this is the model after {self.actions}, in which the rows were not seen; "
                "observe with the original model, then world.do(...)"
            )
        if self.dtype not in (torch.float32, torch.float64):
            raise TypeError(
                f"observe: the model computes in {self.dtype}, in which no noise can be abducted; write scm.float(), "
                'and for speed scm.using(image={"precision": "auto"})'
            )
        checked = self.graph.check_rows(rows)
        return World.observed(self, Units(unit_ids(checked).to(self.device), seed), checked)

    def counterfactual(self, rows: Mapping[str, Tensor], action: Do, seed: int = 0) -> dict[str, Tensor]:
        """Abduction, action and prediction in one call: rows in, rows out."""
        return self.observe(rows, seed).do(action).values()

    def log_prob(self, rows: Mapping[str, Tensor], on: list[str] | None = None) -> dict[str, Tensor]:
        """Log density of each variable given its parents, node by node.

        Args:
            rows: values, batch first.
            on: the variables; by default all whose mechanism has a density.

        Raises:
            ValueError: a variable in `on` whose mechanism has no density.
        """
        names = [n for n, m in self.mechanisms.items() if m.has_density] if on is None else list(on)
        self.graph.require(*names)
        for name in names:
            if not self.mechanisms[name].has_density:
                raise ValueError(
                    f"{name}: {type(self.mechanisms[name]).__name__} has no density; "
                    f"leave it out, on={[n for n, m in self.mechanisms.items() if m.has_density]}"
                )
        wanted = dict.fromkeys(p for n in names for p in (*self.graph.parents(n), n))
        checked = self.graph.check_rows(rows, wanted)
        checked = moved(checked, self.device, self.dtype)
        return {
            name: self.mechanism(name).log_prob(checked[name], {p: checked[p] for p in self.graph.parents(name)})
            for name in names
            if name not in self.actions
        }

    def check_actions(self, action: Do) -> None:
        """Raise if a replacing mechanism is not fitted or belongs elsewhere, or no world could have such a value."""
        for name, steps in action.items():
            for step in steps:
                if isinstance(step, Value):
                    step.check(name, self.graph[name])
            for mechanism in (step.mechanism for step in steps if isinstance(step, Replace)):
                if not (mechanism.fitted if mechanism.built else mechanism.known):
                    raise RuntimeError(
                        f"{name}: the replacing {type(mechanism).__name__} is not fitted; take a fitted mechanism "
                        "from another SCM, scm.mechanisms[...], or one given in closed form"
                    )
                if not mechanism.built:
                    placed(mechanism, self.graph, name)
                wanted = {p: self.graph[p] for p in self.graph.parents(name)}
                if mechanism.variable != self.graph[name] or dict(mechanism.parents) != wanted:
                    raise ValueError(
                        f"{name}: the replacing mechanism models {mechanism.variable} given "
                        f"{list(mechanism.parents)}; {name} is {self.graph[name]} given {list(wanted)}"
                    )

    def using(self, /, **mechanisms: Mechanism | Mapping[str, Any]) -> SCM:
        """The same model with other options of some mechanisms, or other mechanisms; nothing is copied or refitted.

        Args:
            mechanisms: variable -> options to change, as for `Mechanism.but`, or a built mechanism of that variable.

        Example:
            `scm.using(image={"steps": 100, "omega": 1.5})`
        """
        self.graph.require(*mechanisms)
        nodes = self.mechanisms
        for name, change in mechanisms.items():
            if not isinstance(change, Mechanism | Mapping):
                raise TypeError(f'{name}: using() takes options, {name}={{"bins": 9}}, or a mechanism, got {change!r}')
            try:
                nodes[name] = change if isinstance(change, Mechanism) else nodes[name].but(**change)
            except (TypeError, ValueError) as error:
                raise type(error)(f"{name}: {error}") from None
            wanted = {parent: self.graph[parent] for parent in self.graph.parents(name)}
            if not nodes[name].built or (nodes[name].variable, nodes[name].parents) != (self.graph[name], wanted):
                raise ValueError(_misplaced(name, nodes[name], self.graph[name], wanted))
        changed = copy.copy(self)
        changed._modules = {**self._modules, "_nodes": nn.ModuleList(nodes.values())}
        return changed

    # ---- bridges

    def to_pyro(self) -> Callable[[int], dict[str, Tensor]]:
        """The model as an ordinary Pyro program `model(rows)`.

        Attributes are sample sites of their own names. A variable without density, such as an image, is deterministic,
        and its exogenous noise is sampled at sites `<name>.<noise>`. So is a variable intervened on, and the value it
        would have taken is sampled at `<name>.natural` where an intervention asks for it. Pyro's `do`, `condition` and
        `Predictive` apply; as in any Pyro program, what is random is drawn anew at each call.
        """
        return program(self)

    def save(self, folder: str | Path, *, overwrite: bool = False, half: bool = False) -> None:
        """Write the model to a folder: graph.json, config.json, weights.safetensors; nothing is pickled.

        Args:
            folder: where; made if it is not there.
            overwrite: whether an earlier model in this folder may be replaced.
            half: keep weights in half precision, for shipping.
        """
        storage.save(self, Path(folder), overwrite=overwrite, half=half)

    @classmethod
    def load(
        cls,
        folder: str | Path,
        *,
        graph: CausalGraph | None = None,
        mechanisms: Mapping[str, Mechanism] | None = None,
    ) -> SCM:
        """Read a model from a folder.

        Args:
            folder: as `save` wrote it.
            graph: the graph it should have; a difference is an error.
            mechanisms: those that cannot be saved (`Functional`), given again.

        Raises:
            FileNotFoundError: no model there.
            ValueError: a file that is truncated, foreign, or of another graph.
        """
        described = storage.read(Path(folder), graph)
        built = storage.mechanisms(described, Path(folder), mechanisms or {})
        scm = cls(described.graph, built)
        storage.load_weights(scm, Path(folder))
        return scm


def _misplaced(name: str, mechanism: Mechanism, variable: Variable, parents: Mapping[str, Variable]) -> str:
    """What is wrong with a mechanism that was not built for this variable and these parents."""
    kind = type(mechanism).__name__
    if not mechanism.built:
        return (
            f"{name}: this {kind} was not built for any variable; change options of the fitted mechanism, "
            f"{name}={{...}}, or make SCM(graph, {{{name!r}: {kind}(...)}}) and fit it"
        )
    own = f"{mechanism.variable} given {', '.join(mechanism.parents) or 'nothing'}"
    here = f"{variable} given {', '.join(parents) or 'nothing'}"
    others = [f"its {p} is {v}, not {parents[p]}" for p, v in mechanism.parents.items() if v != parents.get(p, v)]
    reads = ", or keep it in its own model and put it before another generator, .leading(...)"
    return (
        f"{name}: this {kind} models {'; '.join([own, *others])}, and here {name} is {here}; fit a {kind} on these "
        f"parents{reads if hasattr(mechanism, 'leading') else ''}"
    )
