"""Which parents of a variable listen to which others: as the graph says, as it is given, or learned."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Literal

import networkx as nx
import torch
from torch import Tensor

from causalcf.graph import CausalGraph
from causalcf.mechanisms.base import Mechanism, Noise

log = logging.getLogger(__name__)

Edges = Mapping[str, Sequence[str]]  # factor -> the factors it listens to
Structure = dict[str, list[str]] | Literal["learned"] | None


def placed(mechanism: Mechanism, graph: CausalGraph, name: str) -> Mechanism:
    """The mechanism, built for a variable of the graph and told what the graph says of its parents."""
    return mechanism.build(graph[name], {p: graph[p] for p in graph.parents(name)}, causes(graph, name))


def causes(graph: CausalGraph, name: str) -> dict[str, list[str]]:
    """Parent -> the other parents that cause it, directly or by way of variables that are no parents.

    Example:
        >>> from causalcf import CausalGraph, Continuous, Image
        >>> values = {"a": Continuous(), "b": Continuous(), "c": Continuous(), "x": Image(1, 8, 8)}
        >>> causes(CausalGraph("a -> b -> c; a -> x; c -> x", values), "x")
        {'a': [], 'c': ['a']}
    """
    parents = graph.parents(name)
    heard = {p: {cause for node in _way(graph, parents, p) for cause in graph.parents(node)} for p in parents}
    return {parent: [cause for cause in parents if cause in heard[parent]] for parent in parents}


def intervened(graph: CausalGraph, name: str, actions: Collection[str]) -> frozenset[str]:
    """The parents that their causes among the parents, and their own noise, no longer decide.

    They were intervened on themselves, or variables were by way of which they are caused, and which are no parents.

    Example:
        >>> from causalcf import CausalGraph, Continuous, Image
        >>> values = {"a": Continuous(), "b": Continuous(), "c": Continuous(), "x": Image(1, 8, 8)}
        >>> graph = CausalGraph("a -> b -> c; a -> x; c -> x", values)
        >>> [sorted(intervened(graph, "x", name)) for name in "abc"]
        [['a'], ['c'], ['c']]
    """
    parents = graph.parents(name)
    return frozenset(p for p in parents if not _way(graph, parents, p).isdisjoint(actions))


def marked(noise: Noise, parents: Collection[str], intervened: Collection[str]) -> Noise:
    """The noise, and in "do" which of the parents were intervened on."""
    like = next(iter(noise.values()))
    done = torch.tensor([name in intervened for name in parents], device=like.device)
    return {**noise, "do": done.expand(len(like), -1)}


def _way(graph: CausalGraph, parents: Sequence[str], parent: str) -> set[str]:
    """The parent, and the variables that are no parents by way of which others cause it."""
    found, open_ = {parent}, [parent]
    while open_:
        new = {cause for cause in graph.parents(open_.pop()) if cause not in parents} - found
        found |= new
        open_ += new
    return found


def given(kind: str, structure: object) -> Structure:
    """What a user asked for, if it can be a structure.

    Raises:
        TypeError: it maps no names to lists of names.
        ValueError: another word than "learned".
    """
    if structure is None:
        return None
    if structure == "learned":
        return "learned"
    if isinstance(structure, str):
        raise ValueError(
            f'{kind}: expected structure={{factor: [causes]}}, "learned" or None for the graph\'s, got {structure!r}'
        )
    if not isinstance(structure, Mapping):
        raise TypeError(f"{kind}: expected structure={{factor: [causes]}}, got {structure!r}")
    for name, heard in structure.items():
        if isinstance(heard, str) or not isinstance(heard, Sequence):
            remedy = f"[{heard!r}]" if isinstance(heard, str) else "a list"
            raise TypeError(f"{kind}: expected a list of the causes of {name} in the structure; write {remedy}")
    return {name: list(heard) for name, heard in structure.items()}


def settled(kind: str, structure: Structure, said: Edges) -> Structure:
    """The structure asked for, or what the graph says; a difference between them is logged."""
    if structure is None:
        return {name: list(heard) for name, heard in said.items() if heard}
    if structure != "learned":
        off = [
            f"{name} listens to {', '.join(structure.get(name, ())) or 'none'}, where the graph says "
            f"{', '.join(heard) or 'none'}"
            for name, heard in said.items()
            if set(heard) != set(structure.get(name, ()))
        ]
        if off:
            log.warning(
                "%s: by its structure, %s; leave structure out to take the graph's edges, or correct one of the two",
                kind,
                "; ".join(off),
            )
    return structure


def mask(kind: str, structure: Structure, names: Sequence[str]) -> Tensor | None:
    """Row k says which factors factor k listens to; None if that is learned.

    Raises:
        ValueError: no structure is known, a name that is no factor, or a cycle.
    """
    if structure == "learned":
        return None
    if structure is None:
        raise ValueError(
            f"{kind}: without a graph nothing says what its factors listen to; build it in an SCM, or give "
            'structure={factor: [causes]} or structure="learned"'
        )
    edges = [(cause, name) for name, heard in structure.items() for cause in heard]
    for factor in (*structure, *(cause for cause, _ in edges)):
        if factor not in names:
            raise ValueError(
                f"{kind}: the structure names {factor!r}, which is no parent of this image; take it out, or name one "
                f"of {', '.join(names)}"
            )
    graph = nx.DiGraph(edges)
    if not nx.is_directed_acyclic_graph(graph):
        cycle = [cause for cause, _ in nx.find_cycle(graph)]
        raise ValueError(
            f"{kind}: the structure has a cycle, {' -> '.join([*cycle, cycle[0]])}; take one of these edges out"
        )
    return torch.tensor([[float((cause, name) in edges) for cause in names] for name in names])
