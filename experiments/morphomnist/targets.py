"""What was aimed at, and whether it was reached."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from experiments.morphomnist.measured import Result
from experiments.morphomnist.methods import BEST, MOONSHOT


@dataclass(frozen=True)
class Target:
    """A bound on something measured.

    Attributes:
        text: what is bounded.
        value: of a result.
        low: the least it may be, given a result.
        high: the most.
    """

    text: str
    value: Callable[[Result], float]
    low: Callable[[Result], float] = lambda _: -math.inf
    high: Callable[[Result], float] = lambda _: math.inf


def of(column: str) -> Callable[[Result], float]:
    """What was measured."""
    return lambda result: result[column].mean


def floor(column: str, factor: float = 1.0, more: float = 0.0) -> Callable[[Result], float]:
    """What the oracle errs on observed rows, scaled and raised."""
    return lambda result: factor * result[column].reference + more


TARGETS = [
    Target("network evaluations", lambda result: result.cost["abduct"] + result.cost["predict"], high=lambda _: 100),
    Target("composition, 1 cycle", of("composition 1"), high=lambda _: 0.05),
    Target("composition, 10 cycles", of("composition 10"), high=lambda _: 0.5),
    Target("sd of the abducted noise", lambda result: result.spread, lambda _: 0.97, lambda _: 1.03),
    Target("do(thickness): thickness, 1.25 floors", of("do(t): t error"), high=floor("do(t): t error", 1.25)),
    Target("do(intensity): intensity, floor + 2", of("do(i): i error"), high=floor("do(i): i error", 1.0, 2.0)),
    Target("do(digit): digit", of("do(d): digit"), low=lambda _: 0.97),
    Target("do(digit): thickness, 1.5 floors", of("do(d): t error"), high=floor("do(d): t error", 1.5)),
]


def targets(results: Mapping[str, Mapping[str, Result]]) -> list[str]:
    """One line per target, method and seed."""
    lines = ["| target | method | seed | n | measured | bound | reached |", "|" + "---|" * 7]
    for name in (BEST, MOONSHOT):
        for seed, found in results.items():
            if name not in found:
                continue
            result = found[name]
            for target in TARGETS:
                value, low, high = target.value(result), target.low(result), target.high(result)
                if target.text == "network evaluations" and name == MOONSHOT:
                    high = 50
                bound = f"{low:.3f} to {high:.3f}" if math.isfinite(low + high) else ""
                bound = bound or (f"at most {high:.3f}" if math.isfinite(high) else f"at least {low:.3f}")
                said = "yes" if low <= value <= high else "no"
                cells = [target.text, name, seed, str(result.rows), f"{value:.3f}", bound, said]
                lines.append("| " + " | ".join(cells) + " |")
    return lines
