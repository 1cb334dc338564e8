"""What the JSON files of measured methods say: a table, claims with verdicts, and a grid of pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from matplotlib.figure import Figure

from causalcf.explain.explanation import Explanation
from experiments.explain.methods import DISTILLED, METHODS, OWN, SOURCES, slug

ALL, FLIPPED = "all rows", "flipped rows"
Part = Literal["all", "first", "varied"]
COLUMNS: dict[str, tuple[str, str]] = {
    "flip rate": ("flip rate", ALL),
    "NA": ("flips that flip the independent classifier (NA)", FLIPPED),
    "NAFR / flip rate": ("NAFR / flip rate", ALL),
    "NAFR": ("flip rate of the independent classifier (NAFR)", ALL),
    "IoU": ("IoU with owned pixels, as many", ALL),
    "IoU above 0.1": ("IoU with owned pixels, change above 0.1", ALL),
    "truth error": ("error against the truth", ALL),
    "COUT": ("COUT", ALL),
    "MNAC": ("attributes changed (MNAC)", FLIPPED),
    "CD": ("correlation difference (CD)", FLIPPED),
    "S3": ("cosine (S3, FS)", ALL),
    "sparsity": ("sparsity", FLIPPED),
    "L1": ("L1", ALL),
    "BKL": ("BKL", ALL),
    "FID": ("FID, to all factuals", FLIPPED),
    "sFID": ("sFID, mean of 10 splits", FLIPPED),
}
DIVERSITY = ("diversity of 2, 1 - |cosine|", "rows with two flips")
COST = {"processor": "processor seconds", "forward": "evaluations", "backward": "of them differentiated"}
LOWER = {"truth error", "MNAC", "CD", "L1", "BKL", "FID", "sFID", "processor", "forward", "backward"}
CONTEST = ("flip rate", "NA", "IoU", "truth error", "processor")  # what our own is held to
EQUAL = 0.02  # of flip rates
FASTER = 20


@dataclass(frozen=True)
class Value:
    """A mean, half the width of its 95 % interval if it has one, and what doing nothing gives."""

    mean: float
    half: float = 0.0
    nothing: float = math.nan

    def __str__(self) -> str:
        if math.isnan(self.mean):
            return "-"
        digits = 3 if abs(self.mean) < 100 else 1
        return f"{self.mean:.{digits}f}" + (f" ± {self.half:.{digits}f}" if self.half else "")


class Result:
    """One measured method."""

    def __init__(self, content: Mapping[str, Any]) -> None:
        self.name, self.memory, self.machine = content["method"], content["memory"], content["machine"]
        self.folder: str = content["folder"]
        self.parts: dict[str, Mapping[str, Any]] = {part: content[part] for part in ("all", "first", "varied")}
        self.lines = {
            part: {(line["metric"], line["variable"]): line for line in found["lines"]}
            for part, found in self.parts.items()
        }

    def rows(self, part: Part = "all") -> int:
        """How many."""
        return self.parts[part]["about"]["rows"]

    def value(self, column: str, part: Part = "first") -> Value:
        """Of a column, a cost or the diversity."""
        if column in COST:
            return Value(self.parts[part]["cost"][column])
        line = self.lines["varied" if column == "diversity" else part].get(
            DIVERSITY if column == "diversity" else COLUMNS[column]
        )
        if line is None or line["estimate"]["mean"] is None:
            return Value(math.nan)
        half, reference = line["estimate"]["half_width"], line["reference"]
        held = reference["mean"] if reference and line["against"] == "doing nothing" else None
        return Value(line["estimate"]["mean"], 0.0 if half is None else half, math.nan if held is None else held)


Measured = Mapping[str, Result]


def load(place: Path) -> dict[str, Result]:
    """What is measured so far, in the order of the methods."""
    found = {name: place / f"{slug(name)}.json" for name in METHODS}
    return {name: Result(json.loads(path.read_text())) for name, path in found.items() if path.exists()}


def table(measured: Measured, part: Part) -> list[str]:
    """One line per method."""
    head = ["method", "n", *COLUMNS, *(["diversity"] if part == "first" else []), *COST.values(), "peak memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, result in measured.items():
        columns = [*COLUMNS, *(["diversity"] if part == "first" else [])]
        cells = [name, str(result.rows(part)), *(str(result.value(column, part)) for column in columns)]
        cells += [f"{result.value(column, part).mean:.{3 if column == 'processor' else 0}f}" for column in COST]
        cells.append("-" if result.memory is None else f"{result.memory:.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return lines


Verdict = Literal["held", "not held", "undecided"]


def better(first: Value, second: Value, column: str) -> Verdict:
    """Whether the first is better by more than chance: by more than the interval of the difference."""
    by = second.mean - first.mean if column in LOWER else first.mean - second.mean
    if math.isnan(by) or abs(by) <= math.hypot(first.half, second.half):
        return "undecided"
    return "held" if by > 0 else "not held"


def as_good(first: Value, second: Value, column: str) -> Verdict:
    """Whether the first is equal or better, as measured."""
    by = second.mean - first.mean if column in LOWER else first.mean - second.mean
    return "undecided" if math.isnan(by) else "held" if by >= 0 else "not held"


def faster(first: Value, second: Value, _: str) -> Verdict:
    """Whether the second takes at least twenty times as long."""
    return "held" if second.mean >= FASTER * first.mean else "not held"


def same(first: Value, second: Value, _: str) -> Verdict:
    """Whether two shares are equal, but for a few rows."""
    return "held" if abs(first.mean - second.mean) <= EQUAL else "not held"


Rule = Callable[[Value, Value, str], Verdict]


@dataclass(frozen=True)
class Claim:
    """What is said of two methods.

    Attributes:
        text: what.
        first: the method it is said of.
        second: the one it is held against.
        parts: column -> how its two values are judged; the claim holds if all do.
    """

    text: str
    first: str
    second: str
    parts: Mapping[str, Rule]


def stated() -> list[Claim]:
    """All claims but the contest."""
    vanilla, raised = "SCE-LITE-HQ, vanilla", {"NA": better}
    found = [
        Claim(
            f"MaskDiME is at least {FASTER} times faster than DiME, flips as often, and localises better",
            "MaskDiME",
            "DiME",
            {"processor": faster, "flip rate": as_good, "IoU": better},
        ),
        Claim("consensus filtering raises NA (LDCE)", "LDCE", "LDCE, no consensus", raised),
        Claim("consensus filtering raises NA (our own)", OWN, "Agreed, without consensus", raised),
        Claim("a smoothed surrogate raises NA (MaskDiME)", "MaskDiME, distilled", "MaskDiME", raised),
        *(
            Claim(f"{name} gradients raise NA over vanilla ones", f"SCE-LITE-HQ, {name}", vanilla, raised)
            for name in reversed(SOURCES)
            if name != "vanilla"
        ),
        Claim("distilled gradients raise NA over SmoothGrad's", DISTILLED, "SCE-LITE-HQ, SmoothGrad", raised),
        Claim("exclusion masks raise diversity", DISTILLED, f"{DISTILLED}, no exclusion", {"diversity": better}),
    ]
    pixels = {f"{name}, latent": name for name in METHODS}
    for name in METHODS:
        if name in pixels:
            parts: dict[str, Rule] = {"flip rate": same, "processor": better}
            found.append(
                Claim("explaining in latents is cheaper than in pixels, at equal flip rate", name, pixels[name], parts)
            )
    return found


def joined(verdicts: list[Verdict]) -> Verdict:
    """Of a claim with several parts."""
    if "not held" in verdicts:
        return "not held"
    return "undecided" if "undecided" in verdicts else "held"


def claims(measured: Measured) -> list[str]:
    """Each claim whose two sides are measured, on the rows that both have."""
    lines = ["| claim | first | second | n | as measured | verdict |", "|" + "---|" * 6]
    for claim in stated():
        if claim.first not in measured or claim.second not in measured:
            continue
        first, second = measured[claim.first], measured[claim.second]
        said, verdicts = [], []
        for column, rule in claim.parts.items():
            one, other = first.value(column), second.value(column)
            verdicts.append(rule(one, other, column))
            said.append(f"{column}: {one} against {other}, {verdicts[-1]}")
        part: Part = "varied" if "diversity" in claim.parts else "first"
        cells = [claim.text, claim.first, claim.second, str(first.rows(part)), "; ".join(said), joined(verdicts)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def contest(measured: Measured) -> list[str]:
    """Where each of our own is better than each published method, on the rows that both have."""
    published = [name for name in measured if METHODS[name].published]
    lines = [f"| our own | against | {' | '.join(CONTEST)} | verdict |", "|" + "---|" * (len(CONTEST) + 3)]
    for own in (name for name in measured if METHODS[name].ours):
        wins = []
        for other in published:
            pairs = {column: (measured[own].value(column), measured[other].value(column)) for column in CONTEST}
            known = {column: pair for column, pair in pairs.items() if not math.isnan(pair[0].mean)}
            good = all(as_good(*pair, column) == "held" for column, pair in known.items())
            wins.append(good)
            cells = [f"{pairs[column][0].mean:.3f} / {pairs[column][1].mean:.3f}" for column in CONTEST]
            lines.append(f"| {own} | {other} | {' | '.join(cells)} | {'beaten' if good else 'not beaten'} |")
        if published:
            every = "beats every published method" if all(wins) else "does not beat every published method"
            lines.append(f"| {own} | all {len(published)} | {' | '.join('' for _ in CONTEST)} | {every} |")
    return lines


def grid(measured: Measured, kept: Path, count: int = 6) -> Figure | None:
    """The first rows, and what each method made of them, with its flips."""
    shown = {name: kept / result.folder / "0-0" for name, result in measured.items()}
    found = {name: Explanation.load(path)[slice(0, count)] for name, path in shown.items() if path.is_dir()}
    if not found:
        return None
    first = next(iter(found.values()))
    figure = Figure(figsize=(1.1 * len(first) + 1.8, 1.1 * (len(found) + 1)), layout="constrained")
    axes = figure.subplots(len(found) + 1, len(first), squeeze=False)
    for line, name in enumerate(["factual", *found]):
        for column in range(len(first)):
            ax = axes[line, column]
            pictures = first.images if line == 0 else found[name].counterfactuals
            ax.imshow(pictures[column].permute(1, 2, 0).clamp(0, 1).numpy())
            ax.set_xticks([])
            ax.set_yticks([])
            flipped = line == 0 or bool(found[name].flipped[column])
            for spine in ax.spines.values():
                spine.set_color("#bbbbbb" if line == 0 else "#3f8f5b" if flipped else "#cf3a3a")
        axes[line, 0].set_ylabel(name, fontsize=6, rotation=0, ha="right", va="center")
    return figure


def write(place: Path, pictures: Path, kept: Path) -> None:
    """`table.md` and `claims.md`, and `grid.png` where pictures go."""
    measured = load(place)
    if not measured:
        return
    machine = next(iter(measured.values())).machine
    text = [
        "# All rows of each method",
        "",
        *table(measured, "all"),
        "",
        "# The first rows, which all methods share",
        "",
        *table(measured, "first"),
        "",
        f"Mean ± half a 95 % interval. Measured on {machine}; peak memory is the growth in explaining 4 rows at once.",
        "The truth error of doing nothing on each method's rows: "
        + ", ".join(sorted({f"{result.value('truth error').nothing:.3f}" for result in measured.values()}))
        + " (nan where the truth is unknown).",
    ]
    (place / "table.md").write_text("\n".join(text) + "\n")
    (place / "claims.md").write_text("\n".join([*claims(measured), "", *contest(measured)]) + "\n")
    figure = grid(measured, kept)
    if figure is not None:
        pictures.mkdir(parents=True, exist_ok=True)
        figure.savefig(pictures / "grid.png", dpi=120)
