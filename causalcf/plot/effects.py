"""Draw the parts of an effect: maps for an image, a strip of units for a number."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import Tensor

from causalcf.effects import Effects
from causalcf.plot.sheet import GREY_LEVELS, INK, MUTED, RULE, Caption, Group, Panel, change, pictures, sheet, wrapped

__all__ = ["effects"]

WIDTH, ROOM = 5.2, 3.6  # of a figure of strips, and of its texts; inches
PARTS = {
    "total": "all that changes",
    "direct": "mediators held",
    "indirect": "mediators alone",
    "interaction": "the rest",
}
COLOURS = {"total": "#343a52", "direct": "#3b72b9", "indirect": "#c4811d", "interaction": "#8d97b8"}


def effects(effects: Effects, rows: int = 6) -> Figure:
    """Draw the total, direct, indirect and interaction effect, unit by unit.

    For an image: the factual and the counterfactual picture, and a map of each effect, red where it adds and
    blue where it takes away, on one scale; below a map is its mean absolute value in grey levels of 0 to 255.
    For a number: a dot for every unit and a bar at the mean.

    Args:
        effects: from `causalcf.decompose`.
        rows: how many units to draw of an image; of a number all are drawn.

    Returns:
        A figure apart from pyplot. For an image axes have the gids `factual:<line>`, `counterfactual:<line>`,
        `total:<line>`, ... and `scale`; for a number the axes' collections are `total`, `direct`, ...

    Raises:
        ValueError: fewer than one row.

    Example:
        `effects(decompose(world, do(thickness=shift(1.5)), on="image")).savefig("effects.png")`
    """
    if not isinstance(effects, Effects):
        raise TypeError(f"effects: expected what cf.decompose(...) returns, got {type(effects).__name__}")
    if rows < 1:
        raise ValueError(f"effects: expected rows >= 1, got {rows}")
    return _maps(effects, rows) if effects.factual.ndim == 4 else _strips(effects)


def _about(effects: Effects) -> str:
    through = f"mediated by {', '.join(effects.mediators)}" if effects.mediators else "no mediators"
    return f"{effects.action!r} on {effects.on}, {through}"


def _maps(effects: Effects, rows: int) -> Figure:
    groups = []
    for name in ("factual", "counterfactual"):
        groups.append(Group(name, [Panel(name, "predicted", pictures(getattr(effects, name)[:rows]))]))
    for name, meaning in PARTS.items():
        part = getattr(effects, name)[:rows]
        values = change(part, part.new_zeros(()).expand_as(part))
        below = [[Caption(f"mean {size:.1f}")] for size in (GREY_LEVELS * part.abs()).flatten(1).mean(1).tolist()]
        groups.append(Group(name, [Panel(name, meaning, values, below, signed=True)]))
    return sheet(groups, _about(effects), cell=1.0)


def _strips(effects: Effects) -> Figure:
    figure = Figure(figsize=(WIDTH, 2.5), dpi=150, facecolor="white", layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.axvline(0, color=RULE, linewidth=0.8, zorder=1)
    for place, (name, meaning) in enumerate(PARTS.items()):
        values = _column(getattr(effects, name))
        height = place + _spread(len(values))
        dots = axes.scatter(values, height, s=9, color=COLOURS[name], alpha=0.45, linewidths=0, zorder=2, gid=name)
        dots.set_label(name)
        mean = float(values.mean())
        axes.plot([mean, mean], [place - 0.33, place + 0.33], color=COLOURS[name], linewidth=2.2, zorder=3)
        axes.annotate(
            f"{mean:+.3g}".replace("-", "−"),
            (1, place),
            xytext=(4, 0),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            size=7.5,
            color=INK,
            va="center",
        )
        axes.annotate(
            meaning,
            (0, place),
            xytext=(-6, -8),
            xycoords=("axes fraction", "data"),
            textcoords="offset points",
            size=6,
            style="italic",
            color=MUTED,
            ha="right",
            va="center",
        )
    axes.set_yticks(range(len(PARTS)), labels=list(PARTS))
    axes.set_ylim(len(PARTS) - 0.5, -0.5)
    below = f"effect on {effects.on}, {len(effects.factual)} units; bars and numbers are means"
    axes.set_xlabel("\n".join(wrapped(below, ROOM, 7)), size=7, parse_math=False)
    above = "\n".join(wrapped(_about(effects), ROOM, 8, bold=True))
    axes.set_title(above, size=8, weight="bold", color=INK, loc="left", parse_math=False)
    axes.xaxis.set_major_formatter("{x:g}")  # with a power of ten in each, so that none stands in the corner
    axes.locator_params(axis="x", nbins=6)
    axes.tick_params(axis="y", length=0, labelsize=8, labelcolor=INK, pad=6)
    axes.tick_params(axis="x", labelsize=7, labelcolor=MUTED, color=RULE, length=2)
    for side, spine in axes.spines.items():
        spine.set_visible(side == "bottom")
        spine.set(color=RULE, linewidth=0.8)
    return figure


def _column(values: Tensor) -> Float[np.ndarray, " unit"]:
    return values.detach().double().cpu().numpy()


def _spread(count: int) -> Float[np.ndarray, " unit"]:
    """Heights within a strip, the same every time: multiples of the golden ratio are never close together."""
    return 0.5 * ((np.arange(count) * 0.6180339887498949) % 1.0 - 0.5)
