"""Draw a causal graph with matplotlib alone."""

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure, SubFigure
from matplotlib.font_manager import FontProperties
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle
from matplotlib.path import Path
from matplotlib.textpath import text_to_path

from causalcf.graph import CausalGraph
from causalcf.plot.layers import Layout, Waypoint, layered
from causalcf.variables import Binary, Categorical, Continuous, Image, Variable

__all__ = ["graph"]


@dataclass(frozen=True)
class Look:
    """Colours of a kind of variable: inside, outline, name, and the line below the name."""

    kind: str
    face: str
    edge: str
    text: str
    detail: str


LOOKS: dict[type[Variable], Look] = {
    Continuous: Look("continuous", "#e8f0fb", "#3b72b9", "#17324f", "#54708f"),
    Binary: Look("binary", "#e6f4ea", "#3c8d5a", "#173d27", "#527a62"),
    Categorical: Look("categorical", "#fdf1dc", "#c4811d", "#4d3207", "#8a6a35"),
    Image: Look("image", "#343a52", "#20253a", "#ffffff", "#b9c0d6"),
}
MOSAIC = ("#8d97b8", "#5d6787", "#a9b2cf", "#5d6787", "#d5daea", "#8d97b8", "#a9b2cf", "#8d97b8", "#5d6787")
Bounds = tuple[float, float, float, float]  # left, top, width, height
LINE, ACCENT = "#7b8496", "#d1383f"
LETTERS = 32  # of the names of classes in a box

# Lengths in points, which are the units of the axes.
NAME, SMALL = 11.0, 8.0
PADDING, HEIGHT, GAP, LANE, MARGIN = 12.0, 38.0, 20.0, 8.0, 12.0
PORT, PIXEL, KEY = 9.0, 5.0, 13.0


def graph(causal_graph: CausalGraph, ax: Axes | None = None, highlight: str | Iterable[str] = ()) -> Figure:
    """Draw a causal graph from left to right: a box for every variable, an arrow for every edge.

    The line below a name is the variable's support and unit. Long edges run in lanes between the boxes.

    Args:
        causal_graph: The graph.
        ax: Axes to draw into; by default a new figure of the drawing's own size, apart from pyplot.
        highlight: Variables to emphasise, together with the edges among them.

    Returns:
        The figure. Artists have the gids ``node:<name>``, ``label:<name>`` and ``edge:<cause>-><effect>``.

    Raises:
        ValueError: If a name to emphasise is not in the graph.

    Example:
        >>> from causalcf.variables import Categorical, Image
        >>> figure = graph(CausalGraph("digit -> image", digit=Categorical(10), image=Image(1, 28, 28)))
        >>> [text.get_text() for text in figure.axes[0].texts][:2]
        ['digit', '10 classes']
    """
    emphasised = {highlight} if isinstance(highlight, str) else set(highlight)
    if not isinstance(causal_graph, CausalGraph):
        got = type(causal_graph).__name__
        raise TypeError(f"graph: expected a CausalGraph, got {got}; of a model write plot.graph(scm.graph)")
    causal_graph.require(*emphasised)
    boxes = {name: _size(causal_graph, name) for name in causal_graph}
    layout = layered(causal_graph.to_networkx(), {name: box[1] for name, box in boxes.items()}, GAP, LANE, PORT)
    spans = _spans(layout, boxes)
    looks = [look for kind, look in LOOKS.items() if kind in {type(v) for v in causal_graph.variables.values()}]

    right = max(*(end for _, end in spans.values()), _legend(looks)[-1])
    bottom = max(y + (boxes[item][1] if isinstance(item, str) else LANE) / 2 for item, y in layout.y.items())
    width, height = right + 2 * MARGIN, bottom + 2 * MARGIN + 2 * KEY
    if ax is None:
        figure = Figure(figsize=(width / 72, height / 72), dpi=150)
        FigureCanvasAgg(figure)
        ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(-MARGIN, width - MARGIN), ylim=(height - MARGIN, -MARGIN), aspect="equal")
    ax.set_axis_off()
    pen = _Pen(ax, width, height)
    for (cause, effect), path in _paths(layout, spans, boxes).items():
        pen.arrow(f"edge:{cause}->{effect}", path, {cause, effect} <= emphasised)
    for name, variable in causal_graph.variables.items():
        (left, right), tall = spans[name], boxes[name][1]
        pen.box(name, variable, (left, layout.y[name] - tall / 2, right - left, tall), name in emphasised)
    for look, left in zip(looks, _legend(looks), strict=False):
        pen.key(look, left, height - 2 * MARGIN - KEY / 2)
    return pen.figure


class _Pen:
    """Draws in points, scaled to what fits into the axes."""

    def __init__(self, ax: Axes, width: float, height: float) -> None:
        figure = ax.figure
        self.figure: Figure = figure.figure if isinstance(figure, SubFigure) else figure
        self.ax = ax
        extent = ax.get_window_extent()
        self.scale = min(extent.width / width, extent.height / height) * 72 / self.figure.dpi

    def arrow(self, gid: str, path: Path, emphasised: bool) -> None:
        arrow = FancyArrowPatch(
            path=path,
            arrowstyle="-|>,head_length=0.55,head_width=0.24",
            mutation_scale=11 * self.scale,
            color=ACCENT if emphasised else LINE,
            linewidth=(1.8 if emphasised else 1.1) * self.scale,
            capstyle="butt",
            joinstyle="miter",
            zorder=2.1 if emphasised else 2,
            gid=gid,
        )
        self.ax.add_patch(arrow)

    def box(self, name: str, variable: Variable, bounds: Bounds, emphasised: bool) -> None:
        look = LOOKS[type(variable)]
        left, top, width, height = bounds
        x, y = left + width / 2, top + height / 2
        self._rounded(bounds, 6, look, f"node:{name}", emphasised)
        if isinstance(variable, Image):
            self._mosaic(left + PADDING, y - 1.5 * PIXEL)
            x += (3 * PIXEL + PADDING / 2) / 2
        self._write(name, x, y - 6.5, NAME, look.text, gid=f"label:{name}")
        self._write(_detail(variable), x, y + 8.5, SMALL, look.detail)

    def key(self, look: Look, left: float, y: float) -> None:
        self._rounded((left, y - 4.5, KEY, 9), 2.5, look, f"key:{look.kind}", False)
        self._write(look.kind, left + KEY + 5, y, SMALL, "#4b5160", ha="left")

    def _rounded(self, bounds: Bounds, radius: float, look: Look, gid: str, emphasised: bool) -> None:
        x, y, width, height = bounds
        box = FancyBboxPatch(
            (x, y),
            width,
            height,
            boxstyle=f"round,pad=0,rounding_size={radius}",
            facecolor=look.face,
            edgecolor=ACCENT if emphasised else look.edge,
            linewidth=(2.2 if emphasised else 1.1) * self.scale,
            zorder=3,
            gid=gid,
        )
        self.ax.add_patch(box)

    def _mosaic(self, x: float, y: float) -> None:
        for index, colour in enumerate(MOSAIC):
            corner = (x + index % 3 * PIXEL, y + index // 3 * PIXEL)
            self.ax.add_patch(Rectangle(corner, PIXEL, PIXEL, facecolor=colour, linewidth=0, zorder=4))

    def _write(self, text: str, x: float, y: float, size: float, colour: str, **options: Any) -> None:
        options = {"ha": "center", "va": "center_baseline", **options}
        self.ax.text(x, y, text, size=size * self.scale, color=colour, parse_math=False, zorder=4, **options)


def _detail(variable: Variable) -> str:
    """The support and the unit of a variable, in a few characters."""
    match variable:
        case Continuous(lower, upper, unit):
            support = (
                f"{lower:g} to {upper:g}"
                if lower is not None and upper is not None
                else f"≥ {lower:g}"
                if lower is not None
                else f"≤ {upper:g}"
                if upper is not None
                else ""
            )
            return f"{support} {unit}".strip() if support else f"in {unit}" if unit else "real"
        case Binary(names=names) | Categorical(names=names) if 0 < len(", ".join(names)) <= LETTERS:
            return ", ".join(names)
        case Categorical(classes):
            return f"{classes} classes"
        case Image():
            return " × ".join(str(size) for size in variable.shape)
    return "0 or 1"


def _extent(text: str, size: float) -> float:
    return text_to_path.get_text_width_height_descent(text, FontProperties(size=size), ismath=False)[0]


def _size(causal_graph: CausalGraph, name: str) -> tuple[float, float]:
    """Width and height of a variable's box: room for its text, and for its arrows."""
    variable = causal_graph[name]
    width = max(_extent(name, NAME), _extent(_detail(variable), SMALL)) + 2 * PADDING
    if isinstance(variable, Image):
        width += 3 * PIXEL + PADDING / 2
    arrows = max(len(causal_graph.parents(name)), len(causal_graph.children(name)))
    return width, max(HEIGHT, (arrows + 1) * PORT)


def _legend(looks: list[Look]) -> list[float]:
    """Where each key of the legend begins, and where the legend ends."""
    return list(accumulate((KEY + 5 + _extent(look.kind, SMALL) + 16 for look in looks), initial=0.0))


def _spans(layout: Layout, boxes: dict[str, tuple[float, float]]) -> dict[str | Waypoint, tuple[float, float]]:
    """Left and right of every node and waypoint; columns are the further apart the steeper their edges."""
    spans: dict[str | Waypoint, tuple[float, float]] = {}
    left = 0.0
    for column in layout.columns:
        right = left + max(boxes[item][0] for item in column if isinstance(item, str))
        spans |= dict.fromkeys(column, (left, right))
        steps = [
            abs(layout.y[one] - layout.y[two])
            for route in layout.routes.values()
            for one, two in pairwise(route)
            if one in column
        ]
        left = right + min(46 + 0.2 * max(steps, default=0.0), 100)
    return spans


def _paths(
    layout: Layout,
    spans: dict[str | Waypoint, tuple[float, float]],
    boxes: dict[str, tuple[float, float]],
) -> dict[tuple[str, str], Path]:
    """The curve of every edge: level where it passes a column, bent between two columns."""
    paths = {}
    for edge, route in layout.routes.items():
        x, y = spans[route[0]][1], layout.y[route[0]] + layout.ports[route[0], route[1]][0]
        points, codes = [(x, y)], [Path.MOVETO]
        for one, item in pairwise(route):
            left, right = spans[item]
            level = layout.y[item] + layout.ports[one, item][1]
            bend = (left - x) / 2
            points += [(x + bend, y), (left - bend, level), (left, level)]
            codes += [Path.CURVE4] * 3
            if isinstance(item, Waypoint):
                points.append((right, level))
                codes.append(Path.LINETO)
            x, y = right, level
        paths[edge] = Path(points, codes)
    return paths
