"""A sheet of small pictures: groups side by side, one line per unit, one scale for all changes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import numpy as np
from jaxtyping import Float
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.colors import LinearSegmentedColormap, Normalize
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties
from matplotlib.lines import Line2D
from matplotlib.textpath import text_to_path
from torch import Tensor

__all__ = ["CHANGE", "GREY_LEVELS", "Caption", "Group", "Panel", "change", "pictures", "sheet", "wrapped"]

GREY_LEVELS = 255.0
SHADES = ("#0b2f6b", "#2468ad", "#8fc1e3", "#ffffff", "#f6b195", "#cf3a3a", "#6d0a1c")
CHANGE = LinearSegmentedColormap.from_list("change", SHADES, N=257)  # odd, so that no change is pure white

# Lengths in inches, type sizes in points.
MARGIN, NARROW, WIDE, BELOW = 0.1, 0.05, 0.24, 0.1  # BELOW: between one line of pictures and the next
TITLE, HEADING, SMALL, LEADING = 7.5, 6.0, 5.8, 1.3
BAR, BAR_HEIGHT, SCALE = 1.5, 0.075, "change, in grey levels of 0 to 255"
INK, MUTED, RULE = "#1b2030", "#858b9b", "#b6bbc8"


@dataclass(frozen=True)
class Caption:
    """A few characters below a picture, set strong where they deserve a look."""

    text: str
    strong: bool = False


@dataclass(frozen=True)
class Panel:
    """A column of pictures.

    Args:
        gid: what its axes are called, followed by `:<line>`.
        heading: one word above it.
        values: pictures in [0, 1], or changes in grey levels, one per line.
        captions: the captions of every line.
        signed: whether the values are changes.
    """

    gid: str
    heading: str
    values: Float[np.ndarray, "line height width *rgb"]
    captions: Sequence[Sequence[Caption]] = ()
    signed: bool = False


@dataclass(frozen=True)
class Group:
    """Columns that belong together under one title."""

    title: str
    panels: Sequence[Panel]


def pictures(
    images: Float[Tensor, "batch channel height width"],
) -> Float[np.ndarray, "line height width *rgb"]:
    """Images as matplotlib shows them: grey, or with colours last."""
    values = images.detach().float().cpu().clamp(0, 1).numpy()
    return np.moveaxis(values, 1, -1) if values.shape[1] == 3 else values.mean(1)


def change(
    after: Float[Tensor, "batch channel height width"], before: Float[Tensor, "batch channel height width"]
) -> Float[np.ndarray, "line height width"]:
    """`255 (after - before)` of the channel with the largest change of each pixel: a new hue is a change as well."""
    difference = GREY_LEVELS * (after.detach().double().cpu() - before.detach().double().cpu())
    return difference.gather(1, difference.abs().argmax(1, keepdim=True))[:, 0].numpy()


def sheet(groups: Sequence[Group], legend: str = "", cell: float = 0.8) -> Figure:
    """Draw groups of columns side by side, with a colour bar that holds for all changes.

    Args:
        groups: from left to right; all panels have the same lines and sizes.
        legend: what the captions stand for, set below.
        cell: the width of a picture, inches.

    Returns:
        A figure apart from pyplot. Axes have the gids `<panel's gid>:<line>`, and `scale` is the colour bar.
    """
    return _Sheet(groups, legend, cell).draw()


class _Sheet:
    def __init__(self, groups: Sequence[Group], legend: str, cell: float) -> None:
        self.groups, self.cell = groups, cell
        panels = [panel for group in groups for panel in group.panels]
        self.lines, height, width = panels[0].values.shape[:3]
        self.tall = cell * height / width
        captions = [line for panel in panels for line in panel.captions]
        widest = max((_small(caption.text) for line in captions if len(line) > 1 for caption in line), default=0.0)
        self.abreast = 2 if widest < cell / 2 - 0.02 else 1
        most = max(map(len, captions), default=0)
        self.caption = -(-most // self.abreast) * _line(SMALL)
        signed = [np.abs(panel.values).max() for panel in panels if panel.signed]
        self.limit = max(float(max(signed)), 1.0) if signed else 0.0

        spans = [cell * len(group.panels) + NARROW * (len(group.panels) - 1) for group in groups]
        starts = list(accumulate((span + WIDE for span in spans), initial=MARGIN))
        self.spans = list(zip(starts, spans, strict=False))
        self.width = starts[-1] - WIDE + MARGIN
        self.titles = [
            wrapped(group.title, span + NARROW, TITLE, bold=True) for group, span in zip(groups, spans, strict=True)
        ]
        self.above = max(len(title) for title in self.titles) * _line(TITLE) + 0.06
        self.heading = _line(HEADING) + 0.02 if any(panel.heading for panel in panels) else 0.0
        self.top = MARGIN + self.above + self.heading + 0.03
        self.body = self.lines * (self.tall + self.caption + BELOW)

        self._measure_foot(legend, bool(signed))

    def _measure_foot(self, legend: str, scale: bool) -> None:
        """The legend, and right of it the colour bar with its name; or below, where it is narrow."""
        room = self.width - 2 * MARGIN
        bar = BAR + 0.1 + _extent(SCALE, SMALL) if scale else 0.0
        self.named = bar <= room
        if not self.named:
            legend = f"{legend}\n{SCALE}".strip()
        self.stacked = scale and bool(legend) and (not self.named or _extent(legend, SMALL) + 0.3 + bar > room)
        self.legend = wrapped(legend, room, SMALL) if legend else []
        text = len(self.legend) * _line(SMALL)
        tall = BAR_HEIGHT + _line(SMALL) + 0.03 if scale else 0.0
        self.height = self.top + self.body + 0.04 + MARGIN + (text + 0.06 + tall if self.stacked else max(text, tall))

    def draw(self) -> Figure:
        self.figure = Figure(figsize=(self.width, self.height), dpi=150, facecolor="white")
        FigureCanvasAgg(self.figure)
        for group, title, (start, span) in zip(self.groups, self.titles, self.spans, strict=True):
            self._head(title, start, span)
            for index, panel in enumerate(group.panels):
                left = start + index * (self.cell + NARROW)
                following = left + self.cell + NARROW if index < len(group.panels) - 1 else start + span + WIDE
                self._column(panel, left, min(following, self.width))
        self._foot()
        return self.figure

    def _head(self, title: Sequence[str], start: float, span: float) -> None:
        bottom = MARGIN + self.above - 0.06
        for index, text in enumerate(reversed(title)):
            self._write(text, start + span / 2, bottom - index * _line(TITLE), TITLE, INK, ha="center", weight="bold")
        y = 1 - (bottom + 0.035) / self.height
        ends = [start / self.width, (start + span) / self.width]
        self.figure.add_artist(Line2D(ends, [y, y], color=RULE, linewidth=0.7))

    def _column(self, panel: Panel, left: float, following: float) -> None:
        """Draw a panel; its captions may reach as far as what follows."""
        if panel.heading:
            self._write(
                panel.heading,
                left + self.cell / 2,
                self.top - 0.045,
                HEADING,
                MUTED,
                ha="center",
                style="italic",
            )
        for line, values in enumerate(panel.values):
            top = self.top + line * (self.tall + self.caption + BELOW)
            axes = self.figure.add_axes(self._box(left, top, self.cell, self.tall), gid=f"{panel.gid}:{line}")
            if panel.signed:
                axes.imshow(values, cmap=CHANGE, vmin=-self.limit, vmax=self.limit, interpolation="nearest")
            else:
                axes.imshow(values, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
            axes.set(xticks=[], yticks=[])
            for spine in axes.spines.values():
                spine.set(color=RULE, linewidth=0.4)
            for index, caption in enumerate(panel.captions[line] if panel.captions else ()):
                x = left + (index % self.abreast) * self.cell / 2
                y = top + self.tall + 0.015 + (index // self.abreast + 1) * _line(SMALL)
                strong = {"color": INK, "weight": "bold"} if caption.strong else {"color": MUTED}
                self._write(_elided(caption.text, following - x - 0.03, caption.strong), x, y, SMALL, **strong)

    def _foot(self) -> None:
        top = self.top + self.body + 0.04
        for index, text in enumerate(self.legend):
            self._write(text, MARGIN, top + (index + 1) * _line(SMALL), SMALL, MUTED)
        if not self.limit:
            return
        top += len(self.legend) * _line(SMALL) + 0.06 if self.stacked else 0.02
        left = self.width - MARGIN - BAR
        if self.named:
            self._write(SCALE, left - 0.1, top + BAR_HEIGHT, SMALL, MUTED, ha="right")
        axes = self.figure.add_axes(self._box(left, top, BAR, BAR_HEIGHT), gid="scale")
        colours = ScalarMappable(Normalize(-self.limit, self.limit), CHANGE)
        bar = self.figure.colorbar(colours, cax=axes, orientation="horizontal")
        ends = [-self.limit, 0.0, self.limit]
        bar.set_ticks(ends, labels=[f"{end:+.0f}".replace("-", "−") if end else "0" for end in ends])
        bar.outline.set(edgecolor=RULE, linewidth=0.4)  # pyright: ignore[reportCallIssue]
        axes.tick_params(labelsize=SMALL, length=1.5, width=0.4, pad=1.5, color=RULE, labelcolor=MUTED)
        for label, side in zip(axes.get_xticklabels(), ("left", "center", "right"), strict=True):
            label.set_horizontalalignment(side)

    def _box(self, left: float, top: float, width: float, height: float) -> tuple[float, float, float, float]:
        return (
            left / self.width,
            1 - (top + height) / self.height,
            width / self.width,
            height / self.height,
        )

    def _write(self, text: str, x: float, baseline: float, size: float, color: str, **options: Any) -> None:
        self.figure.text(
            x / self.width,
            1 - baseline / self.height,
            text,
            size=size,
            color=color,
            parse_math=False,
            **options,
        )


def _line(size: float) -> float:
    return LEADING * size / 72


def _extent(text: str, size: float, bold: bool = False) -> float:
    font = FontProperties(size=size, weight="bold" if bold else "normal")
    return text_to_path.get_text_width_height_descent(text, font, ismath=False)[0] / 72


def _small(text: str) -> float:
    return _extent(text, SMALL, bold=True)


def _elided(text: str, room: float, bold: bool) -> str:
    """A small text without its middle, as far as that is wider than the room."""
    short, kept = text, len(text)
    while kept > 1 and _extent(short, SMALL, bold) > room:
        kept -= 1
        short = f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"
    return short


def wrapped(text: str, room: float, size: float, bold: bool = False) -> list[str]:
    """The text in lines no wider than the room; words that are wider are broken."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        current = ""
        for word in (piece for whole in paragraph.split(" ") for piece in _pieces(whole, room, size, bold)):
            longer = f"{current} {word}".strip()
            if current and _extent(longer, size, bold) > room:
                lines.append(current)
                current = word
            else:
                current = longer
        lines.append(current)
    return lines


def _pieces(word: str, room: float, size: float, bold: bool) -> list[str]:
    """A word in pieces no wider than the room, broken behind an underscore, if there is one, or else anywhere."""
    pieces: list[str] = []
    while len(word) > 1 and _extent(word, size, bold) > room:
        fits = next((n for n in range(len(word) - 1, 1, -1) if _extent(word[:n], size, bold) <= room), 1)
        end = word.rfind("_", 0, fits) + 1 or fits
        pieces.append(word[:end])
        word = word[end:]
    return [*pieces, word]
