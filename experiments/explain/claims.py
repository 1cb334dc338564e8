"""Claims about pairs of methods, and what our own combinations are held to, decided on differences row by row."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from experiments.explain.measured import Difference, Measured, Result, difference
from experiments.explain.methods import DISTILLED, METHODS, OWN, SOURCES, VANILLA

Verdict = Literal["held", "not held", "undecided", "not measured"]
Rule = Callable[[Result, Result, str], Verdict]
CONTEST = ("flip rate", "NA", "IoU", "truth error", "L1", "sFID", "processor")  # what our own is held to
MARGIN = 0.02  # of flip rates that count as equal
KNOWING = ("IoU", "truth error")  # columns that are there only where the truth is known
FASTER = 20
TIMING = 0.1  # differences of processor time up to this share are those of a busy machine


def better(first: Result, second: Result, column: str) -> Verdict:
    """Whether the first is better by more than chance."""
    found = difference(first, second, column)
    return "undecided" if not found.sure else "held" if found.by > 0 else "not held"


def as_good(first: Result, second: Result, column: str) -> Verdict:
    """Whether the first is better, or worse by no more than a margin, at either end of the interval."""
    found = difference(first, second, column)
    if math.isnan(found.by):
        return "undecided"
    return (
        "held" if found.by - found.half >= -MARGIN else "not held" if found.by + found.half < -MARGIN else "undecided"
    )


def ratio(first: Result, second: Result, column: str) -> float:
    """How many times as much the second costs, on the rows that both have."""
    count = min(first.rows, second.rows)
    return second.value(column, count).mean / first.value(column, count).mean


def faster(first: Result, second: Result, column: str) -> Verdict:
    """Whether the second takes at least twenty times as long."""
    return "held" if ratio(first, second, column) >= FASTER else "not held"


def cheaper(first: Result, second: Result, column: str) -> Verdict:
    """Whether the first takes less time, by more than what a busy machine makes of it."""
    found = ratio(first, second, column)
    return "held" if found > 1 + TIMING else "not held" if found < 1 / (1 + TIMING) else "undecided"


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
    raised: dict[str, Rule] = {"NA": better}
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
            Claim(f"{name} gradients raise NA over vanilla ones", f"SCE-LITE-HQ, {name}", VANILLA, raised)
            for name in reversed(SOURCES)
            if name != "vanilla"
        ),
        Claim("distilled gradients raise NA over SmoothGrad's", DISTILLED, "SCE-LITE-HQ, SmoothGrad", raised),
        Claim(
            "integrated gradients raise NA over SmoothGrad's",
            "SCE-LITE-HQ, IntegratedGradients",
            "SCE-LITE-HQ, SmoothGrad",
            raised,
        ),
        Claim("exclusion masks raise diversity", DISTILLED, f"{DISTILLED}, no exclusion", {"diversity": better}),
    ]
    cheap: dict[str, Rule] = {"flip rate": as_good, "processor": cheaper}
    for name in METHODS:
        if f"{name}, latent" in METHODS:
            text = "explaining in latents is cheaper than in pixels, at equal or better flip rate"
            found.append(Claim(text, f"{name}, latent", name, cheap))
    return found


def joined(verdicts: list[Verdict]) -> Verdict:
    """Of a claim with several parts."""
    if "not held" in verdicts:
        return "not held"
    return "undecided" if "undecided" in verdicts else "held"


def claims(measured: Measured) -> list[str]:
    """Each claim, decided on the rows that both sides have."""
    lines = [
        "| claim | first | second | first against second | the first is better by | n | verdict |",
        "|" + "---|" * 7,
    ]
    for claim in stated():
        head = [claim.text, claim.first, claim.second]
        if claim.first not in measured or claim.second not in measured:
            lines.append(f"| {' | '.join([*head, '-', '-', '-', 'not measured'])} |")
            continue
        first, second = measured[claim.first], measured[claim.second]
        parts = {column: rule for column, rule in claim.parts.items() if known(first, second, column)}
        verdicts: dict[str, Verdict] = {column: rule(first, second, column) for column, rule in parts.items()}
        unknown = [f"{column}: unknown" for column in claim.parts if column not in parts]
        cells = [
            "; ".join(against(first, second, column) for column in dict.fromkeys([*parts, "flip rate"])),
            "; ".join([*(f"{column}: {by(first, second, column)}, {verdicts[column]}" for column in parts), *unknown]),
            "; ".join(f"{column}: {behind(first, second, column)}" for column in parts),
        ]
        lines.append(f"| {' | '.join([*head, *cells, joined(list(verdicts.values()))])} |")
    return lines


def known(first: Result, second: Result, column: str) -> bool:
    """Whether a column can decide: what needs the truth cannot where neither has a value."""
    count = min(first.rows, second.rows)
    values = (result.value(column, count).mean for result in (first, second))
    return column not in KNOWING or not all(map(math.isnan, values))


def against(first: Result, second: Result, column: str) -> str:
    """The values of both, on the first rows that both have."""
    count = min(first.rows, second.rows)
    return f"{column}: {first.value(column, count)} against {second.value(column, count)}"


def by(first: Result, second: Result, column: str) -> str:
    """By how much the first is better: how many times, of what it costs."""
    if column == "processor":
        return f"{ratio(first, second, column):.1f} times"
    found = difference(first, second, column)
    return "-" if math.isnan(found.by) else f"{found.by:+.3f}" + spread(found)


def spread(found: Difference) -> str:
    """Half the interval of a difference, if it has one."""
    return "" if math.isnan(found.half) else f" ± {found.half:.3f}"


def behind(first: Result, second: Result, column: str) -> int:
    """The rows behind a comparison: those in which both have a value."""
    return min(first.rows, second.rows) if column == "processor" else difference(first, second, column).n


def counted(own: Result, other: Result, column: str) -> bool:
    """Whether a column decides; L1 only where no truth is known, as the truth itself changes something."""
    return column != "L1" or math.isnan(own.nothing() + other.nothing())


Mark = Literal["+", "=", "-", ""]


def mark(own: Result, other: Result, column: str) -> Mark:
    """Whether our own is better, worse or neither; empty where neither has a value. Who has none loses."""
    count = min(own.rows, other.rows)
    missing = [math.isnan(result.value(column, count).mean) for result in (own, other)]
    if any(missing):
        return "" if all(missing) else "-" if missing[0] else "+"
    found = cheaper(own, other, column) if column == "processor" else better(own, other, column)
    return {"held": "+", "not held": "-"}.get(found, "=")  # pyright: ignore[reportReturnType]


def beaten(own: Result, other: Result, columns: Sequence[str] = CONTEST) -> bool:
    """Whether our own is better in at least one column, and worse in none."""
    marks = [mark(own, other, column) for column in columns if counted(own, other, column)]
    return "+" in marks and "-" not in marks


def contest(measured: Measured, columns: Sequence[str] = CONTEST) -> list[str]:
    """Where each of our own is better than each published method, on the rows that both have."""
    ours = [name for name, method in METHODS.items() if method.ours]
    published = [name for name, method in METHODS.items() if method.published]
    others = [name for name in published if name in measured]
    absent = [name for name in published if name not in measured]
    lines = [f"| our own | against | n | {' | '.join(columns)} | verdict |", "|" + "---|" * (len(columns) + 4)]
    best, won = [], {}
    for own in (name for name in ours if name in measured):
        wins = [beaten(measured[own], measured[other], columns) for other in others]
        for other, win in zip(others, wins, strict=True):
            pair = measured[own], measured[other]
            cells = [
                own,
                other,
                str(min(result.rows for result in pair)),
                *(_cell(*pair, column) for column in columns),
            ]
            lines.append(f"| {' | '.join(cells)} | {'beaten' if win else 'not beaten'} |")
        won[own] = sum(wins)
        best += [own] if others and all(wins) else []
    lines += ["", LEGEND, ""]
    lines += [f"- {own}: beats {count} of {len(others)} published rows" for own, count in won.items()]
    lines += [f"- {name}: not measured" for name in ours if name not in measured]
    return [*lines, "", f"**{_overall(best, others, absent)}**"]


LEGEND = (
    "Each cell: our own / the other, means over the first n rows; + better, - worse, = neither by more than chance, "
    f"row by row (processor time: by more than {TIMING:.0%}). Who has no value where the other has one is worse. "
    "Beaten: our own is better in one column at least, and worse in none; what stands in brackets does not count: L1 "
    "where the truth is known, which changes something too; the truth error says how far off from it a method is."
)


def _cell(own: Result, other: Result, column: str) -> str:
    count = min(own.rows, other.rows)
    values = [result.value(column, count) for result in (own, other)]
    if not (sign := mark(own, other, column)):
        return "-"
    sign = sign if counted(own, other, column) else f"({sign})"
    few = "" if all(value.enough for value in values) else " (few)"
    return " / ".join("-" if math.isnan(value.mean) else f"{value.mean:.3f}" for value in values) + f" {sign}{few}"


def _overall(best: list[str], others: list[str], absent: list[str]) -> str:
    left = f" Not measured: {', '.join(absent)}." if absent else ""
    if not others:
        return f"Whether a combination of our own beats every published row: not measured.{left}"
    every = f"all {len(others)} published rows" if not absent else f"all {len(others)} published rows measured so far"
    if not best:
        return f"No combination of our own beats {every}.{left}"
    return f"{', '.join(best)}: {'beat' if len(best) > 1 else 'beats'} {every}.{left}"
