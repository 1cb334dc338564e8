"""A layered layout of a directed acyclic graph: columns, few crossings, lanes for long edges."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise

import networkx as nx

__all__ = ["Layout", "Waypoint", "layered"]

SWEEPS, ROUNDS, STEADY = 12, 200, 500.0


@dataclass(frozen=True)
class Waypoint:
    """Where the long edge from `cause` to `effect` passes through the column `layer`."""

    cause: str
    effect: str
    layer: int


Item = str | Waypoint
Link = tuple[Item, Item]  # from one column to the next


@dataclass(frozen=True)
class Layout:
    """Where everything is; heights grow downwards.

    Args:
        columns: Nodes and waypoints of each column, from left to right and from top to bottom.
        y: The centre of each node and waypoint.
        routes: For each edge its cause, its waypoints and its effect.
        ports: For each link of a route, how far below the centre it leaves the one end and meets the other.
    """

    columns: tuple[tuple[Item, ...], ...]
    y: dict[Item, float]
    routes: dict[tuple[str, str], tuple[Item, ...]]
    ports: dict[Link, tuple[float, float]]

    @property
    def crossings(self) -> int:
        """How many pairs of edges cross."""
        return _crossings(self.columns, self.ports)


def layered(digraph: nx.DiGraph, heights: Mapping[str, float], gap: float, lane: float, port: float) -> Layout:
    """Lay a directed acyclic graph out in columns, the topological generations.

    A long edge gets a waypoint in each column that it passes, and so a lane of its own between the nodes.
    Each column is ordered by the barycentres of its neighbours (Sugiyama, Tagawa and Toda, 1981, "Methods for
    visual understanding of hierarchical system structures"); of all sweeps, the one with the fewest crossings
    is kept.

    Args:
        digraph: The graph, with nodes in the order of their declaration.
        heights: The height of each node.
        gap: The least distance between two nodes of a column.
        lane: The height of a waypoint; less room lies around it than around a node.
        port: The distance of two edges where they meet a node.

    Example:
        >>> layout = layered(nx.DiGraph(["ab", "bc", "ac"]), dict.fromkeys("abc", 1), gap=1, lane=0, port=0)
        >>> layout.columns
        (('a',), ('b', Waypoint(cause='a', effect='c', layer=1)), ('c',))
    """
    layer = {node: depth for depth, nodes in enumerate(nx.topological_generations(digraph)) for node in nodes}
    routes: dict[tuple[str, str], tuple[Item, ...]] = {}
    columns: list[list[Item]] = [[] for _ in range(max(layer.values()) + 1)]
    for node in digraph:
        columns[layer[node]].append(node)
    for cause, effect in digraph.edges:
        passed = [Waypoint(cause, effect, depth) for depth in range(layer[cause] + 1, layer[effect])]
        for waypoint in passed:
            columns[waypoint.layer].append(waypoint)
        routes[cause, effect] = (cause, *passed, effect)
    links = [link for route in routes.values() for link in pairwise(route)]
    ordered = _order(columns, links)
    ports = _ports(ordered, links, port)
    return Layout(ordered, _place(ordered, ports, heights, routes.values(), gap=gap, lane=lane), routes, ports)


def _neighbours(links: Iterable[Link]) -> tuple[dict[Item, list[Item]], dict[Item, list[Item]]]:
    left: dict[Item, list[Item]] = {}
    right: dict[Item, list[Item]] = {}
    for one, two in links:
        right.setdefault(one, []).append(two)
        left.setdefault(two, []).append(one)
    return left, right


def _ranks(columns: Iterable[Sequence[Item]]) -> dict[Item, int]:
    return {item: rank for column in columns for rank, item in enumerate(column)}


def _crossings(columns: Iterable[Sequence[Item]], links: Iterable[Link]) -> int:
    rank = _ranks(columns)
    column = {item: index for index, items in enumerate(columns) for item in items}
    return sum(
        column[a] == column[c] and (rank[a] - rank[c]) * (rank[b] - rank[d]) < 0
        for (a, b), (c, d) in combinations(links, 2)
    )


def _order(columns: list[list[Item]], links: Iterable[Link]) -> tuple[tuple[Item, ...], ...]:
    left, right = _neighbours(links)
    best, fewest = [list(column) for column in columns], _crossings(columns, links)
    current = [list(column) for column in columns]
    for sweep in range(SWEEPS):
        forwards = sweep % 2 == 0
        near = left if forwards else right
        for column in current if forwards else reversed(current):
            rank = _ranks(current)
            column.sort(key=lambda item: _mean([rank[other] for other in near.get(item, [item])]))
        if (count := _crossings(current, links)) < fewest:
            best, fewest = [list(column) for column in current], count
    for column in best:  # what barycentres leave: swaps of two neighbours
        for index in range(len(column) - 1):
            column[index : index + 2] = reversed(column[index : index + 2])
            if (count := _crossings(best, links)) < fewest:
                fewest = count
            else:
                column[index : index + 2] = reversed(column[index : index + 2])
    return tuple(tuple(column) for column in best)


def _ports(columns: Sequence[Sequence[Item]], links: Iterable[Link], port: float) -> dict[Link, tuple[float, float]]:
    """Fasten the links of a node in the order of their other ends, so that none cross there."""
    rank = _ranks(columns)
    left, right = _neighbours(links)

    def offset(item: Item, others: list[Item]) -> float:
        return port * (sorted(others, key=rank.__getitem__).index(item) - (len(others) - 1) / 2)

    return {(one, two): (offset(two, right[one]), offset(one, left[two])) for one, two in links}


def _place(
    columns: Sequence[Sequence[Item]],
    ports: Mapping[Link, tuple[float, float]],
    heights: Mapping[str, float],
    routes: Iterable[Sequence[Item]],
    *,
    gap: float,
    lane: float,
) -> dict[Item, float]:
    def offsets(column: Sequence[Item]) -> list[float]:
        """Positions of a column packed as tightly as allowed."""
        sizes = [lane if isinstance(item, Waypoint) else heights[item] + gap / 2 for item in column]
        packed = [0.0]
        for one, two in pairwise(sizes):
            packed.append(packed[-1] + (one + two) / 2 + gap / 2)
        return packed

    y: dict[Item, float] = {}
    for column in columns:
        packed = offsets(column)
        y |= {item: position - packed[-1] / 2 for item, position in zip(column, packed, strict=True)}
    pulls: dict[Item, list[tuple[Item, float, float]]] = {item: [] for item in y}
    for (one, two), (leaving, meeting) in ports.items():
        pulls[one].append((two, meeting - leaving, 1.0))
        pulls[two].append((one, leaving - meeting, 1.0))
    lanes: dict[Item, list[Item]] = {}
    for route in routes:
        lanes |= {item: [*route[1:-1]] for item in route[1:-1]}
    for sweep in range(ROUNDS):
        for column in columns if sweep % 2 == 0 else reversed(columns):
            wanted, weights = [], []
            for item in column:
                near = pulls[item] or [(item, 0.0, 1.0)]
                if item in lanes:  # first find a height for the whole lane, then keep it level
                    steady = 1.0 if 2 * sweep < ROUNDS else STEADY
                    near = [*near, *((other, 0.0, steady) for other in lanes[item])]
                weights.append(sum(weight for _, _, weight in near))
                wanted.append(sum((y[other] + shift) * weight for other, shift, weight in near) / weights[-1])
            y |= dict(zip(column, _monotone(wanted, weights, offsets(column)), strict=True))
    top = min(y[item] - (lane if isinstance(item, Waypoint) else heights[item]) / 2 for item in y)
    return {item: position - top for item, position in y.items()}


def _monotone(wanted: Sequence[float], weights: Sequence[float], packed: Sequence[float]) -> list[float]:
    """The positions nearest to the wanted ones that keep the order and the distances of `packed`.

    That is an isotonic regression on ``wanted - packed``, by pooling adjacent violators.
    """
    pools: list[tuple[float, float, int]] = []  # mean, weight, members
    for want, weight, offset in zip(wanted, weights, packed, strict=True):
        mean, total, members = want - offset, weight, 1
        while pools and pools[-1][0] > mean:
            other, mass, more = pools.pop()
            mean, total, members = (
                (mean * total + other * mass) / (total + mass),
                total + mass,
                members + more,
            )
        pools.append((mean, total, members))
    flat = [mean for mean, _, members in pools for _ in range(members)]
    return [mean + offset for mean, offset in zip(flat, packed, strict=True)]


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
