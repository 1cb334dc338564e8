"""Draw what worlds look like: a line per unit, a column per world, and what changed in red and blue."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import torch
from matplotlib.figure import Figure
from torch import Tensor

from causalcf.assignments import Intervention
from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.plot.sheet import GREY_LEVELS, Caption, Group, Panel, change, pictures, sheet
from causalcf.variables import Discrete
from causalcf.world import World

__all__ = ["worlds"]

LETTERS = 4  # of a symbol
CLASS = 9  # letters of the name of a class
DECIMALS = 4  # of a value; of smaller ones the power of ten is written
CAPTIONS = 6  # variables below a picture; of more, those that change come first


def worlds(
    *worlds: World,
    node: str | None = None,
    rows: int = 6,
    truth: Sequence[Mapping[str, Tensor] | None] | None = None,
    titles: Sequence[str] | None = None,
) -> Figure:
    """Draw an image in several worlds of the same units: one line per unit, one column per world.

    Beside every world but the first stands its effect map, the change against the first: red where the image
    became brighter, blue where it became darker, white where nothing changed, on one scale for the whole
    figure. Below each picture are the other variables' values, strong where they differ from the first
    world's; below an effect map is the mean absolute change.

    Args:
        worlds: the factual world, then counterfactual ones.
        node: the image variable; by default the only one.
        rows: how many units to draw, from the first on.
        truth: for every world the true values by name, or None where they are unknown. A true image is drawn
            beside the model's, with the mean absolute error in grey levels of 0 to 255.
        titles: of the columns; by default what was done last.

    Returns:
        A figure apart from pyplot. Axes have the gids `image:<world>:<line>`, `truth:...`, `effect:...` and
        `scale`.

    Raises:
        TypeError: the node is no image, or something else than a world was given.
        ValueError: an unknown node, or numbers of worlds, truths, titles or units that do not match.

    Example:
        `worlds(world, thick, seven, node="image").savefig("worlds.png")`
    """
    node = node or (worlds[0].scm.graph.image() if worlds and isinstance(worlds[0], World) else "image")
    _check(worlds, node, rows, truth, titles)
    first, count = worlds[0], min(rows, len(worlds[0]))
    truths = [None] * len(worlds) if truth is None else [None if t is None else t.get(node) for t in truth]
    captions = _Captions(worlds, count)
    factual = first[node][:count]
    groups = []
    for index, world in enumerate(worlds):
        image, true = world[node][:count], truths[index]
        panels = [Panel(f"image:{index}", "", pictures(image), captions.of(world))]
        if index:
            if true is not None:
                true = _checked(true, first, node, index)[:count]
                below = [[Caption(f"error {value:.1f}")] for value in _distance(image, true)]
                panels.append(Panel(f"truth:{index}", "truth", pictures(true), below))
            below = [[Caption(f"change {value:.1f}")] for value in _distance(image, factual)]
            panels.append(Panel(f"effect:{index}", "effect", change(image, factual), below, signed=True))
            panels[0] = Panel(panels[0].gid, "model", panels[0].values, panels[0].captions)
        title = _title(worlds[index - 1] if index else None, world) if titles is None else titles[index]
        groups.append(Group(title, panels))
    means = ["error: mean distance to the truth"] if any(t is not None for t in truths[1:]) else []
    means += ["change: mean distance to the first column"] if len(worlds) > 1 else []
    return sheet(groups, "; ".join([*captions.legend, *means]))


def _check(
    worlds: Sequence[World],
    node: str,
    rows: int,
    truth: Sequence[Mapping[str, Tensor] | None] | None,
    titles: Sequence[str] | None,
) -> None:
    if not worlds:
        raise ValueError("worlds: expected the factual world first, got none; write worlds(world, world.do(...))")
    for index, world in enumerate(worlds):
        if not isinstance(world, World):
            raise TypeError(
                f"worlds: expected a World at place {index}, got {type(world).__name__}; "
                "write scm.observe(rows), or pass rows as truth=[...]"
            )
        if len(world) != len(worlds[0]) or world.scm.graph != worlds[0].scm.graph:
            raise ValueError(
                f"worlds: expected worlds of the same units, but {worlds[0]!r} comes with {world!r}; "
                "observe the rows once, and derive all worlds from that by do"
            )
        if not torch.equal(world.units.ids.cpu(), worlds[0].units.ids.cpu()):
            row = int((world.units.ids.cpu() != worlds[0].units.ids.cpu()).nonzero()[0])
            raise ValueError(
                f"worlds: row {row} of the world at place {index} is another unit than that of the first; observe the "
                "rows once, and derive all worlds from that by do"
            )
    graph = worlds[0].scm.graph
    graph.require(node)
    if node not in graph.images:
        raise TypeError(
            f"worlds: {node} is {graph[node]}, which is no picture; "
            f"the graph's images are {', '.join(graph.images) or 'none'}"
        )
    if rows < 1:
        raise ValueError(f"worlds: expected rows >= 1, got {rows}")
    for what, given, filler in (
        ("truth", truth, "None where it is unknown"),
        ("titles", titles, "a text for each"),
    ):
        if given is not None and len(given) != len(worlds):
            raise ValueError(
                f"worlds: expected {what} of {len(worlds)} worlds, got {len(given)}; give {filler}, "
                "the factual world included"
            )


def _checked(true: Tensor, first: World, node: str, index: int) -> Tensor:
    expected = first[node]
    if tuple(true.shape) != tuple(expected.shape):
        raise ValueError(
            f"worlds: truth[{index}] expected {node} of shape {tuple(expected.shape)}, "
            f"got {tuple(true.shape)}; "
            "give the true values of all units in the world, in their order"
        )
    return true.to(expected)


def _distance(one: Tensor, other: Tensor) -> list[float]:
    """Mean absolute difference of every picture, in grey levels."""
    return (GREY_LEVELS * (one - other).abs().flatten(1).mean(1)).tolist()


def _title(before: World | None, world: World) -> str:
    """What was done last: the interventions that the world before did not have."""
    if not world.actions:
        return "as observed" if before is None else "nothing done"
    known = before.actions if before is not None else Do({})
    if not all(_begins(world.actions.get(name, ()), steps) for name, steps in known.items()):
        return repr(world.actions)
    added = {name: steps[len(known.get(name, ())) :] for name, steps in world.actions.items()}
    latest = Do({name: steps for name, steps in added.items() if steps})
    if not latest:
        return repr(world.actions)
    return f"then {latest!r}" if known else repr(latest)


def _begins(steps: Sequence[Intervention], earlier: Sequence[Intervention]) -> bool:
    # by identity: interventions may hold tensors, and a world hands its own on to the worlds made from it
    same = (one is other for one, other in zip(steps, earlier, strict=False))
    return len(steps) >= len(earlier) and all(same)


class _Captions:
    """The values of the variables that are numbers or classes, for some worlds' first rows."""

    def __init__(self, worlds: Sequence[World], count: int) -> None:
        self.first, self.count = worlds[0], count
        graph = self.first.scm.graph
        names = [name for name in graph if not graph[name].shape]
        if len(names) > CAPTIONS:
            moved = [name for name in names if any(self._moved(world, name).any() for world in worlds)]
            names = sorted(names, key=lambda name: name not in moved)[:CAPTIONS]
            names = [name for name in graph if name in names]
        self.symbols = _symbols(names)
        self.digits = {name: _digits(torch.stack([world[name][:count] for world in worlds])) for name in names}
        self.legend = _legend(graph, self.symbols)

    def of(self, world: World) -> list[list[Caption]]:
        """The captions of every row."""
        moved = {name: self._moved(world, name).tolist() for name in self.symbols}
        values = {name: world[name][: self.count].tolist() for name in self.symbols}
        return [
            [
                Caption(f"{symbol} {self._value(name, values[name][row])}", moved[name][row])
                for name, symbol in self.symbols.items()
            ]
            for row in range(self.count)
        ]

    def _value(self, name: str, value: float) -> str:
        variable = self.first.scm.graph[name]
        if isinstance(variable, Discrete):
            label = variable.label(int(value))
            return label if len(label) <= CLASS else f"{label[: CLASS - 1]}…"
        return _number(value, self.digits[name])

    def _moved(self, world: World, name: str) -> Tensor:
        now, then = world[name][: self.count], self.first[name][: self.count]
        scale = max(float(then.abs().max()), float(now.abs().max()))
        return (now - then).abs() > 1e-6 * (min(scale, 1.0) + then.abs())


def _symbols(names: Sequence[str]) -> dict[str, str]:
    """For every name the shortest beginning that no other name has, or a number where that is long."""
    symbols = {}
    for place, name in enumerate(names, 1):
        others = [other for other in names if other != name]
        sizes = (size for size in range(1, len(name)) if not any(o.startswith(name[:size]) for o in others))
        size = next(sizes, len(name))
        symbols[name] = name[:size] if size <= LETTERS else f"#{place}"
    return symbols


def _digits(values: Tensor) -> int:
    """Decimals that leave two significant digits of the greatest value; none for classes."""
    greatest = float(values.abs().max())
    if not values.is_floating_point() or greatest == 0:
        return 0
    return max(1 - math.floor(math.log10(greatest)), 0)


def _number(value: float, digits: int) -> str:
    text = f"{value:.{digits}f}" if abs(value) < 1e5 and digits <= DECIMALS else f"{value:.2g}"
    return text.removeprefix("-") if float(text) == 0 else text.replace("-", "−")


def _legend(graph: CausalGraph, symbols: Mapping[str, str]) -> list[str]:
    units = {name: getattr(graph[name], "unit", "") for name in symbols}
    entries = {name: f"{name} ({unit})" if unit else name for name, unit in units.items()}
    return [f"{symbol}: {entries[name]}" for name, symbol in symbols.items() if entries[name] != symbol]
