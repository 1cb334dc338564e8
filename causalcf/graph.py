"""The causal graph: which variable listens to which, and what each of them is."""

import difflib
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from types import MappingProxyType
from typing import Any, final

import networkx as nx
import torch
from torch import Tensor

from causalcf.edges import Edges, parse_dot, parse_gml, read_edges
from causalcf.variables import Variable, variable_from_config

__all__ = ["RESERVED", "CausalGraph"]

RESERVED = frozenset({"id", "recompute", "seed"})
"""Names that rows, `do` and `observe` use themselves."""


@final
class CausalGraph:
    """A directed acyclic graph whose nodes are typed variables; it never changes.

    The edges may be written in four ways:

    - pairs ``[("thickness", "intensity"), ("digit", "image")]``, cause first;
    - a mapping from a cause to its effects (networkx's convention), ``{"thickness": ["intensity"]}``;
    - text, ``"thickness -> intensity -> image; thickness, digit -> image"``, split by ``;`` or by lines;
    - a :class:`networkx.DiGraph`, whose node attribute ``variable`` is used where no keyword is given.

    The parents of a node keep the order in which its edges are declared. Nodes are in topological order, and
    where that leaves a choice in the order in which the variables are given.

    Args:
        edges: The edges. A variable in none of them is an isolated node.
        variables: Variables by name, for names that are not identifiers.
        **named: Variables by name.

    Raises:
        TypeError: If the edges are in no such form, or a variable is not a :class:`Variable`.
        ValueError: If there is a cycle (printed), an edge twice, a node without a variable, a reserved name.

    Example:
        >>> from causalcf.variables import Categorical, Continuous, Image
        >>> graph = CausalGraph(
        ...     "thickness -> intensity; thickness, intensity, digit -> image",
        ...     thickness=Continuous(lower=0.0, unit="px"),
        ...     intensity=Continuous(lower=0.0, upper=255.0),
        ...     digit=Categorical(10),
        ...     image=Image(1, 28, 28),
        ... )
        >>> graph.parents("image")
        ('thickness', 'intensity', 'digit')
        >>> sorted(graph.descendants("thickness"))
        ['image', 'intensity']
        >>> CausalGraph.from_json(graph.to_json()) == graph
        True
    """

    __slots__ = ("_digraph", "_edges", "_parents", "_variables")
    _digraph: nx.DiGraph
    _edges: tuple[tuple[str, str], ...]
    _parents: dict[str, tuple[str, ...]]
    _variables: Mapping[str, Variable]

    def __init__(self, edges: Edges, /, variables: Mapping[str, Variable] | None = None, **named: Variable) -> None:
        if isinstance(variables, Variable):
            raise ValueError('variables: a node of this name goes into the mapping; write variables={"variables": ...}')
        pairs, nodes, attributes = read_edges(edges)
        given = {**attributes, **(variables or {})}
        if twice := [name for name in named if variables and name in variables]:
            raise ValueError(f"{twice[0]!r} is in `variables` and a keyword; give it once")
        given |= named
        if not given and not nodes:
            raise ValueError("the graph is empty; write CausalGraph(edges, name=Continuous(), ...)")
        for name in (*given, *nodes):
            _check_name(name)
        for name, variable in given.items():
            if not isinstance(variable, Variable):
                raise TypeError(
                    f"{name}: expected a variable, got {variable!r}; write {name}=Continuous(), for example"
                )
        _check_edges(pairs)
        _check_complete(nodes, given)

        digraph = nx.DiGraph()
        for name, variable in given.items():
            digraph.add_node(name, variable=variable)
        digraph.add_edges_from(pairs)
        if not nx.is_directed_acyclic_graph(digraph):
            cycle = [edge[0] for edge in nx.find_cycle(digraph)]
            raise ValueError(
                f"the graph has a cycle, {' -> '.join([*cycle, cycle[0]])}; "
                "remove one of these edges: a structural causal model is acyclic"
            )
        declared = {name: index for index, name in enumerate(given)}
        order = nx.lexicographical_topological_sort(digraph, key=declared.__getitem__)
        fields = {
            "_digraph": digraph,
            "_edges": tuple(pairs),
            "_parents": {name: tuple(digraph.predecessors(name)) for name in given},
            "_variables": MappingProxyType({name: given[name] for name in order}),
        }
        for field, value in fields.items():
            object.__setattr__(self, field, value)

    @classmethod
    def from_gml(
        cls,
        text_or_path: str | PathLike[str],
        /,
        variables: Mapping[str, Variable] | None = None,
        **named: Variable,
    ) -> "CausalGraph":
        """The graph in GML, given as text or as the path of a file; the nodes' labels are their names.

        Example:
            >>> from causalcf.variables import Binary
            >>> nodes = 'node [id 0 label "a"] node [id 1 label "b"]'
            >>> text = f"graph [directed 1 {nodes} edge [source 0 target 1]]"
            >>> CausalGraph.from_gml(text, a=Binary(), b=Binary()).edges
            (('a', 'b'),)
        """
        return cls(parse_gml(text_or_path), variables, **named)

    @classmethod
    def from_dot(
        cls,
        text_or_path: str | PathLike[str],
        /,
        variables: Mapping[str, Variable] | None = None,
        **named: Variable,
    ) -> "CausalGraph":
        """The digraph in DOT (Graphviz), given as text or as the path of a file.

        Nodes, chains of edges, quoted names, comments and attributes (skipped) are read here; for groups,
        subgraphs and ports pydot is needed.

        Raises:
            ImportError: If pydot is needed and not installed.

        Example:
            >>> from causalcf.variables import Binary
            >>> CausalGraph.from_dot("digraph { a -> b [color=red]; }", a=Binary(), b=Binary()).edges
            (('a', 'b'),)
        """
        return cls(parse_dot(text_or_path), variables, **named)

    @property
    def nodes(self) -> tuple[str, ...]:
        """The names, causes before effects."""
        return tuple(self._variables)

    @property
    def edges(self) -> tuple[tuple[str, str], ...]:
        """Pairs of a cause and an effect, as declared."""
        return self._edges

    @property
    def variables(self) -> Mapping[str, Variable]:
        """Read-only mapping from name to variable, causes before effects."""
        return self._variables

    @property
    def images(self) -> tuple[str, ...]:
        """The names of the image variables."""
        return tuple(name for name, variable in self._variables.items() if len(variable.shape) == 3)

    def image(self) -> str:
        """The name of the only image variable.

        Raises:
            ValueError: none, or several.
        """
        if len(self.images) != 1:
            which = f"several images, {', '.join(self.images)}" if self.images else "no image"
            raise ValueError(f"the graph has {which}; say which variable is meant, node=...")
        return self.images[0]

    def parents(self, name: str) -> tuple[str, ...]:
        """The direct causes of a variable, in the order of their declaration."""
        self.require(name)
        return self._parents[name]

    def children(self, name: str) -> tuple[str, ...]:
        """The direct effects of a variable, in topological order."""
        self.require(name)
        return tuple(node for node in self._variables if name in self._parents[node])

    def ancestors(self, name: str) -> frozenset[str]:
        """Every direct or indirect cause of a variable."""
        self.require(name)
        return frozenset(nx.ancestors(self._digraph, name))

    def descendants(self, names: str | Iterable[str]) -> frozenset[str]:
        """Every direct or indirect effect of any of these variables.

        One of the names is among them only if another one of the names reaches it.
        """
        names = (names,) if isinstance(names, str) else tuple(names)
        self.require(*names)
        return frozenset().union(*(nx.descendants(self._digraph, name) for name in names))

    def require(self, *names: str) -> None:
        """Raise a ValueError that suggests a close match if one of the names is not in the graph."""
        for name in names:
            if name not in self._variables:
                close = difflib.get_close_matches(str(name), self.nodes, n=1)
                hint = f"; did you mean {close[0]!r}?" if close else ""
                raise ValueError(f"unknown variable {name!r}; the graph has {', '.join(self.nodes)}{hint}")

    def check_rows(self, rows: Mapping[str, Tensor], names: Iterable[str] | None = None) -> dict[str, Tensor]:
        """Return the named variables of `rows`, and ``"id"`` if it is there, if they are valid and complete.

        Args:
            rows: Tensors by name, batch first; ``"id"`` (int64, one per row) says which unit a row is.
            names: The variables to insist on; all of them by default.

        Raises:
            TypeError: If a dtype is wrong.
            ValueError: If a variable is unknown, missing or invalid, or the numbers of rows differ.

        Example:
            >>> from causalcf.variables import Binary
            >>> graph = CausalGraph("a -> b", a=Binary(), b=Binary())
            >>> graph.check_rows({"a": torch.tensor([0, 1])})
            Traceback (most recent call last):
            ValueError: missing evidence: b; every row needs a value for a, b
        """
        if not isinstance(rows, Mapping):
            raise TypeError(
                f"rows: expected a mapping from names to tensors, got {type(rows).__name__}; "
                f'write {{"{self.nodes[0]}": tensor, ...}}'
            )
        names = self.nodes if names is None else (names,) if isinstance(names, str) else tuple(names)
        self.require(*names, *(name for name in rows if name != "id"))
        if missing := [name for name in names if name not in rows]:
            raise ValueError(f"missing evidence: {', '.join(missing)}; every row needs a value for {', '.join(names)}")
        checked = {name: self._variables[name].check(name, rows[name]) for name in names}
        if "id" in rows:
            checked["id"] = check_id(rows["id"])
        if len({len(value) for value in checked.values()}) > 1:
            sizes = ", ".join(f"{name} has {len(value)}" for name, value in checked.items())
            raise ValueError(f"expected the same number of rows everywhere, but {sizes}; index all of them alike")
        return checked

    def to_networkx(self) -> nx.DiGraph:
        """A copy as a :class:`networkx.DiGraph` with the node attribute ``variable``."""
        digraph = nx.DiGraph()
        digraph.add_nodes_from((name, {"variable": variable}) for name, variable in self._variables.items())
        digraph.add_edges_from(self._edges)
        return digraph

    def to_config(self) -> dict[str, Any]:
        """A JSON-able description. Nodes and edges are lists, so that no tool can lose their order."""
        nodes = [{"name": name, "variable": variable.to_config()} for name, variable in self._variables.items()]
        return {"nodes": nodes, "edges": [list(edge) for edge in self._edges]}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> "CausalGraph":
        """The graph that :meth:`to_config` described."""
        variables = {node["name"]: variable_from_config(node["variable"]) for node in config["nodes"]}
        return cls([(cause, effect) for cause, effect in config["edges"]], variables)

    def to_json(self) -> str:
        """The graph as JSON text."""
        return json.dumps(self.to_config(), indent=2)

    @classmethod
    def from_json(cls, text: str) -> "CausalGraph":
        """The graph that :meth:`to_json` wrote."""
        return cls.from_config(json.loads(text))

    def __getitem__(self, name: str) -> Variable:
        self.require(name)
        return self._variables[name]

    def __contains__(self, name: object) -> bool:
        return name in self._variables

    def __iter__(self) -> Iterator[str]:
        return iter(self._variables)

    def __len__(self) -> int:
        return len(self._variables)

    def _key(self) -> tuple[tuple[str, Variable, tuple[str, ...]], ...]:
        # not the edges: their order matters only among the parents of one node
        return tuple((name, variable, self._parents[name]) for name, variable in self._variables.items())

    def __eq__(self, other: object) -> bool:
        return self._key() == other._key() if isinstance(other, CausalGraph) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._key())

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"a CausalGraph does not change; build another one to have another {name}")

    def __reduce__(self) -> tuple[Any, ...]:
        return CausalGraph.from_config, (self.to_config(),)

    def __repr__(self) -> str:
        lines = (
            f"    {name}: {variable}" + (f" <- {', '.join(parents)}" if parents else "")
            for name, variable, parents in self._key()
        )
        return "\n".join(["CausalGraph(", *lines, ")"])


def _check_name(name: Any) -> None:
    if not isinstance(name, str):
        raise TypeError(f"names of variables: expected strings, got {name!r}; write {str(name)!r}")
    if name in RESERVED:
        reserved = ", ".join(sorted(RESERVED))
        raise ValueError(f"{name!r} is a reserved name (as are all of {reserved}); write {name}_ for example")
    if not name or name != name.strip() or any(letter in "/\\." or not letter.isprintable() for letter in name):
        word = re.sub(r"\W+", "_", name).strip("_") or "a word"
        raise ValueError(
            "names of variables: expected text without slashes, dots and outer spaces, because files are "
            f"called by them, got {name!r}; write {word!r}"
        )


def _check_edges(pairs: list[tuple[str, str]]) -> None:
    seen: set[tuple[str, str]] = set()
    for cause, effect in pairs:
        if cause == effect:
            raise ValueError(f"{cause} -> {effect} is a loop; a variable cannot be its own cause: remove the edge")
        if (cause, effect) in seen:
            raise ValueError(f"the edge {cause} -> {effect} is there twice; write it once")
        seen.add((cause, effect))


def _check_complete(nodes: Iterable[str], variables: Mapping[str, Variable]) -> None:
    for name in nodes:
        if name not in variables:
            isolated = [given for given in variables if given not in nodes]
            close = difflib.get_close_matches(name, isolated, n=1)
            hint = f" (you gave {close[0]!r}, which has no edge: is it the same?)" if close else ""
            line = f"{name}=Continuous()" if name.isidentifier() else f'variables={{"{name}": Continuous()}}'
            raise ValueError(f"the node {name!r} has no variable{hint}; write CausalGraph(..., {line})")


def check_id(value: Any, name: str = "id") -> Tensor:
    """The ids of rows, if they are int64, one per row: in fewer bits they would decide other noise.

    Args:
        value: of the user.
        name: what messages call it.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor, got {type(value).__name__}; write torch.arange(rows)")
    if value.dtype != torch.int64:
        raise TypeError(f"{name}: expected torch.int64, got {value.dtype}; write {name}.long()")
    if value.ndim != 1:
        raise ValueError(f"{name}: expected shape (B,), got {tuple(value.shape)}; give one number per row")
    return value
