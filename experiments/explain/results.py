"""What the JSON files of measured methods say: a table, claims with verdicts, and a grid of pictures."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from causalcf.explain.explanation import Explanation
from causalcf.storage import write_text
from experiments.explain.claims import claims, contest
from experiments.explain.measured import COLUMNS, COST, RATIO, TOGETHER, Measured, Result, load
from experiments.explain.methods import METHODS

SHOWN = (*list(COLUMNS)[:3], RATIO, *list(COLUMNS)[3:], *TOGETHER, "diversity")


def table(measured: Measured, count: int | None = None) -> list[str]:
    """One line per method, of its first rows or of all.

    Args:
        measured: methods.
        count: rows; by default each method's own.
    """
    head = ["method", "n", "flipped", *SHOWN, *COST.values(), "peak memory, MB", "machine"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, result in measured.items():
        rows = result.rows if count is None else count
        flipped = result.value("flip rate", rows)
        cells = [name, str(rows), str(round(flipped.mean * flipped.n))]
        for column in SHOWN:
            value = result.value(column, rows)
            other = f" of {value.n}" if value.n and str(value.n) not in cells[1:3] else ""
            cells.append(f"{value}{other}")
        cells += [f"{result.value(column, rows).mean:.{0 if 'ward' in column else 3}f}" for column in COST]
        cells.append(held(result))
        lines.append("| " + " | ".join([*cells, result.machine]) + " |")
    return lines


def held(result: Result) -> str:
    """MB that an explanation takes, by which of two measures it was taken."""
    if result.tensors is not None:
        return f"{result.tensors:.1f}"
    return "-" if result.grown is None else f"{result.grown:.0f} of a process"


NOTES = """
Mean ± half a 95 % interval over n rows, or over those that flipped (NA, MNAC, sparsity, L1, CD, FID, sFID); where it is
of other rows, "of" says of how many, and diversity is of rows with two flips. "(few)": too few rows for a Frechet
distance. These fall with n: compare only lines of the same n. Peak memory is of tensors, in explaining 4 rows at once;
"of a process" it is by how much a process grew, as it was measured before: too coarse to tell small networks apart."""


def grid(measured: Measured, kept: Path, count: int = 6) -> Figure | None:
    """The first rows, and what each method made of them, with its flips."""
    places = {name: kept / result.folder / "0-0" for name, result in measured.items()}
    found = {name: Explanation.load(path)[slice(0, count)] for name, path in places.items() if path.is_dir()}
    if not found:
        return None
    found = {name: part[slice(0, min(map(len, found.values())))] for name, part in found.items()}
    first = next(iter(found.values()))
    figure = Figure(figsize=(1.1 * len(first) + 1.8, 1.1 * (len(found) + 1)), layout="constrained")
    axes = figure.subplots(len(found) + 1, len(first), squeeze=False)
    for line, name in enumerate(["factual", *found]):
        for column in range(len(first)):
            ax = axes[line, column]
            pictures = first.images if line == 0 else found[name].counterfactuals
            shown = pictures[column].clamp(0, 1).expand(3, -1, -1).permute(1, 2, 0)
            ax.imshow(shown.numpy(), interpolation="nearest")
            ax.set_xticks([])
            ax.set_yticks([])
            flipped = line == 0 or bool(found[name].flipped[column])
            for spine in ax.spines.values():
                spine.set_color("#bbbbbb" if line == 0 else "#3f8f5b" if flipped else "#cf3a3a")
        axes[line, 0].set_ylabel(name, fontsize=6, rotation=0, ha="right", va="center")
    return figure


def write(place: Path, pictures: Path, kept: Path, current: Mapping[str, Mapping[str, Any]]) -> None:
    """`table.md` and `claims.md`, and `grid.png` where pictures go.

    Args:
        place: folder of the JSON files.
        pictures: where the grid goes.
        kept: folder of the explanations.
        current: method -> what decides its explanations now; results of others are named, and left out.
    """
    measured = load(place, current)
    left = [name for name in METHODS if name not in measured]
    stale = [name for name in load(place) if name not in measured]
    said = ["", f"Not measured: {', '.join(left)}."] if left else []
    said += [f"Of these, measured with other weights, options or rows: {', '.join(stale)}."] if stale else []
    text = ["# All rows of each method", "", *table(measured), *NOTES.splitlines(), *said]
    if measured:
        shared = min(result.rows for result in measured.values())
        nothing = {f"{result.rows} rows": f"{result.nothing():.3f}" for result in measured.values()}
        text += ["", f"# The first {shared} rows, which all methods share", "", *table(measured, shared), ""]
        text.append("The truth error of doing nothing: " + ", ".join(f"{value} ({n})" for n, value in nothing.items()))
        text[-1] += "; nan where the truth is unknown."
    write_text(place / "table.md", "\n".join(text) + "\n")
    lines = ["# Claims", "", *claims(measured), "", "# Our own, against every published row", "", *contest(measured)]
    write_text(place / "claims.md", "\n".join([*lines, *said]) + "\n")
    figure = grid(measured, kept)
    if figure is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        figure.savefig(pictures / "grid.png", dpi=120)
