"""Edges in every form in which they are written: pairs, mappings, text, networkx, GML, DOT."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise, product
from os import PathLike
from pathlib import Path
from typing import Any, NamedTuple

import networkx as nx

from causalcf.variables import Variable

__all__ = ["Edges", "parse_dot", "parse_gml", "parse_text", "read_edges"]

Edges = Iterable[tuple[str, str]] | Mapping[str, Iterable[str]] | nx.DiGraph | str
Pairs = list[tuple[str, str]]

QUOTED = r'"(?:[^"\\]|\\.)*"'  # of DOT
NAME = rf"(?:{QUOTED}|\w+)"


class Declaration(NamedTuple):
    """What a form says: the edges in order, the nodes that it names, and the variables that it carries."""

    pairs: Pairs
    nodes: list[str]
    variables: dict[str, Variable]


def read_edges(edges: Edges) -> Declaration:
    """Read the edges in any form that :class:`~causalcf.graph.CausalGraph` accepts.

    Raises:
        TypeError: If they are in none of them.

    Example:
        >>> read_edges({"thickness": ["intensity", "image"], "digit": []}).pairs
        [('thickness', 'intensity'), ('thickness', 'image')]
    """
    if isinstance(edges, nx.Graph):
        return _read_networkx(edges)
    if isinstance(edges, str):
        return Declaration(*parse_text(edges), {})
    if isinstance(edges, Mapping):
        return _read_mapping(edges)
    if not isinstance(edges, Iterable):
        raise TypeError(
            f"edges: expected pairs, a mapping, text or an nx.DiGraph, got {type(edges).__name__}; "
            'write [("cause", "effect"), ...]'
        )
    pairs: Pairs = []
    for edge in edges:
        if not isinstance(edge, (tuple, list)) or len(edge) != 2:
            raise TypeError(f'edges: expected pairs (cause, effect), got {edge!r}; write ("cause", "effect")')
        pairs.append((edge[0], edge[1]))
    return Declaration(pairs, _ends(pairs), {})


def parse_text(text: str) -> tuple[Pairs, list[str]]:
    """The edges and the nodes of statements like ``a, b -> c -> d``, split by ``;`` or by lines.

    Raises:
        ValueError: If a name is missing.

    Example:
        >>> parse_text("a, b -> c -> d; e")
        ([('a', 'c'), ('b', 'c'), ('c', 'd')], ['a', 'b', 'c', 'd', 'e'])
    """
    pairs: Pairs = []
    nodes: list[str] = []
    for statement in filter(None, (part.strip() for part in re.split(r"[;\n]", text))):
        steps = [[name.strip() for name in step.split(",")] for step in statement.split("->")]
        if not all(name for step in steps for name in step):
            raise ValueError(
                f'edges: expected names on both sides of every arrow and comma, got "{statement}"; '
                'write "cause, cause -> effect"'
            )
        nodes += [name for step in steps for name in step]
        for causes, effects in pairwise(steps):
            pairs += [(cause, effect) for effect in effects for cause in causes]
    return pairs, nodes


def parse_gml(text_or_path: str | PathLike[str]) -> nx.Graph:
    """The graph in GML, given as text or as a path; labels are names."""
    read = nx.parse_gml(_text(text_or_path, "["), label="id")
    labels = dict(read.nodes(data="label"))
    for node, label in labels.items():
        if label is None or list(labels.values()).count(label) > 1:
            raise ValueError(
                f'GML: expected a label of its own on every node, got {label!r} on id {node}; write label "name"'
            )
    if not isinstance(read, nx.DiGraph):
        return read
    digraph = nx.DiGraph()
    digraph.add_nodes_from(labels.values())
    # by effect: nx.relabel_nodes would lose the order of the edges into a node
    digraph.add_edges_from((labels[cause], labels[effect]) for effect in read for cause in read.predecessors(effect))
    return digraph


def parse_dot(text_or_path: str | PathLike[str]) -> nx.Graph:
    """The digraph in DOT, given as text or as a path.

    Nodes, chains of edges, quoted names and comments are read here, and attributes are skipped; all else is
    pydot's.

    Raises:
        ImportError: If pydot is needed and not installed.
        ValueError: If it is not DOT.

    Example:
        >>> parse_dot('digraph story { rankdir=LR; a -> "two words" [color=red]; }').edges
        OutEdgeView([('a', 'two words')])
    """
    text = _text(text_or_path, "{")
    # quoted text comes first and stays: an address in it has slashes that begin no comment
    comments = rf"({QUOTED})|/\*.*?\*/|//[^\n]*|^\s*#[^\n]*"
    plain = re.sub(comments, lambda found: found[1] or "", text, flags=re.DOTALL | re.MULTILINE)
    whole = re.fullmatch(rf"\s*(?:strict\s+)?digraph(?:\s+{NAME})?\s*\{{([^{{}}]*)\}}\s*", plain)
    if whole is None:
        return _parse_dot_with_pydot(text)
    digraph = nx.DiGraph()
    for statement in re.split(r"[;\n]", re.sub(rf"\[(?:{QUOTED}|[^\]\"])*\]", "", whole[1])):
        if re.fullmatch(rf"\s*|\s*(graph|node|edge)\s*|\s*{NAME}\s*=\s*{NAME}\s*", statement):
            continue
        if not re.fullmatch(rf"\s*{NAME}(\s*->\s*{NAME})*\s*", statement):
            return _parse_dot_with_pydot(text)
        nx.add_path(digraph, [step.strip('"') for step in re.findall(NAME, statement)])
    return digraph


def _read_networkx(graph: nx.Graph) -> Declaration:
    if not isinstance(graph, nx.DiGraph) or graph.is_multigraph():
        raise TypeError(
            f"edges: expected directed single edges, got a {type(graph).__name__}; "
            "build an nx.DiGraph, cause first (in GML `directed 1`, in DOT `digraph`)"
        )
    # by effect, because there networkx keeps the order in which the edges were added
    pairs = [(cause, effect) for effect in graph for cause in graph.predecessors(effect)]
    variables = {name: data["variable"] for name, data in graph.nodes(data=True) if "variable" in data}
    return Declaration(pairs, list(graph), variables)


def _read_mapping(edges: Mapping[Any, Any]) -> Declaration:
    pairs: Pairs = []
    for cause, effects in edges.items():
        if isinstance(effects, str) or not isinstance(effects, Iterable):
            raise TypeError(
                f'edges: expected a list of effects of {cause!r}, got {effects!r}; write {{"{cause}": ["{effects}"]}}'
            )
        pairs += [(cause, effect) for effect in effects]
    return Declaration(pairs, [*edges, *_ends(pairs)], {})


def _parse_dot_with_pydot(text: str) -> nx.Graph:
    try:
        import pydot  # noqa: PLC0415  # an extra
    except ImportError as error:
        raise ImportError(
            "this DOT text has more than plain nodes and edges; pip install causalcf[dot], "
            "or write one edge per line: a -> b"
        ) from error
    graphs: Any = pydot.graph_from_dot_data(text)
    if not graphs:
        raise ValueError(f'DOT: expected a digraph, got "{text.strip()[:40]}"; write "digraph {{ a -> b; }}"')
    if graphs[0].get_type() != "digraph":
        return nx.Graph()
    digraph = nx.DiGraph()
    _add_group(digraph, graphs[0].obj_dict)
    return digraph


def _add_group(digraph: nx.DiGraph, group: Mapping[str, Any]) -> list[str]:
    """Add a (sub)graph of pydot and return its nodes; networkx's own reader drops the edges in subgraphs."""
    # for pydot, defaults are a node called "node", and so is a newline at the end of the text
    names = [name.strip('"') for name in group["nodes"] if not re.fullmatch(r'node|edge|graph|"?\\[nr]"?', name)]
    for subgraphs in group["subgraphs"].values():
        names += [name for subgraph in subgraphs for name in _add_group(digraph, subgraph)]
    digraph.add_nodes_from(names)
    for ends in group["edges"]:
        causes, effects = ([end.strip('"')] if isinstance(end, str) else _add_group(digraph, end) for end in ends)
        digraph.add_edges_from(product(causes, effects))
        names += [*causes, *effects]
    return names


def _ends(pairs: Pairs) -> list[str]:
    return [name for pair in pairs for name in pair]


def _text(text_or_path: str | PathLike[str], mark: str) -> str:
    """The text itself, known by a character that any such text has, or the contents of the file."""
    if isinstance(text_or_path, str) and mark in text_or_path:
        return text_or_path
    path = Path(text_or_path).expanduser()
    if not path.is_file():
        raise ValueError(f'expected the text of a graph or the path of a file, got "{text_or_path}"; no such file')
    return path.read_text(encoding="utf-8")
