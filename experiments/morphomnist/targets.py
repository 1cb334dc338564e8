"""What was aimed at, and whether it was reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.morphomnist.measured import Result
from experiments.morphomnist.methods import BEST, FIFTY, LEAST, TWELVE, UNAIDED


@dataclass(frozen=True)
class Target:
    """A bound on something measured.

    Attributes:
        text: what is bounded.
        value: of a result.
        low: the least it may be, given a result.
        high: the most.
        rows: behind the number.
    """

    text: str
    value: Callable[[Result], float]
    low: Callable[[Result], float] = lambda _: -math.inf
    high: Callable[[Result], float] = lambda _: math.inf
    rows: Callable[[Result], int] = lambda result: result.rows


def of(column: str) -> Callable[[Result], float]:
    """What was measured."""
    return lambda result: result[column].mean


def floor(column: str, factor: float = 1.0, more: float = 0.0) -> Callable[[Result], float]:
    """What the oracle errs on observed rows, scaled and raised."""
    return lambda result: factor * result[column].reference + more


def calls(result: Result) -> float:
    """Rows shown to the denoiser."""
    return result.cost["abduct"] + result.cost["predict"]


def all_calls(result: Result) -> float:
    """Rows shown to any network, forwards and backwards."""
    return sum(result.cost.values())


SHOWN = (BEST, TWELVE, LEAST, FIFTY, UNAIDED)
TARGETS = [
    Target("evaluations of the denoiser", calls, high=lambda _: 100),
    Target("evaluations of all networks, forwards and backwards", all_calls, high=lambda _: 100),
    Target("composition, 1 cycle", of("composition 1"), high=lambda _: 0.05),
    Target("composition, 10 cycles", of("composition 10"), high=lambda _: 0.5, rows=lambda result: result.few),
    Target("sd of the abducted noise", lambda result: result.spread, lambda _: 0.97, lambda _: 1.03),
    Target("do(thickness): thickness, 1.25 floors", of("do(t): t error"), high=floor("do(t): t error", 1.25)),
    Target("do(intensity): intensity, floor + 2", of("do(i): i error"), high=floor("do(i): i error", 1.0, 2.0)),
    Target("do(digit): digit", of("do(d): digit"), low=lambda _: 0.97),
    Target("do(digit): thickness, 1.5 floors", of("do(d): t error"), high=floor("do(d): t error", 1.5)),
]


def targets(results: Mapping[str, Mapping[str, Result]]) -> list[str]:
    """One line per target, method and seed, and what is left of signed bias."""
    lines = ["| target | method | seed | n | measured | bound | reached |", "|" + "---|" * 7]
    for name in SHOWN:
        for seed, found in results.items():
            if name not in found:
                continue
            result = found[name]
            for target in TARGETS:
                value, low, high = target.value(result), target.low(result), target.high(result)
                if target.text.startswith("evaluations") and name != BEST:
                    high = 50
                bound = f"{low:.3f} to {high:.3f}" if math.isfinite(low + high) else ""
                bound = bound or (f"at most {high:.3f}" if math.isfinite(high) else f"at least {low:.3f}")
                said = "yes" if low <= value <= high else "no"
                cells = [target.text, name, seed, str(target.rows(result)), f"{value:.3f}", bound, said]
                lines.append("| " + " | ".join(cells) + " |")
    lines += ["", "| signed bias | method | seed | n | measured | none? |", "|" + "---|" * 6]
    for name in SHOWN:
        for seed, found in results.items():
            for column in ("do(t): t bias", "do(i): i bias"):
                if name in found:
                    value = found[name][column]
                    cells = [column, name, seed, str(found[name].rows), str(value)]
                    lines.append(f"| {' | '.join(cells)} | {'yes' if abs(value.mean) <= value.half else 'no'} |")
    return lines
