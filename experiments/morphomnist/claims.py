"""The claims of the paper, and our own, with the numbers of both sides and a verdict."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from experiments.morphomnist.measured import Result, Value
from experiments.morphomnist.methods import DROPPED, FIFTY, OMEGAS, UNAIDED

PRINTED = 5e-4  # what is less is 0.000 in print
Columns = tuple[tuple[str, bool], ...]  # a column of the table, and whether less of it is better
IDENTITY: Columns = (("do(t): identity", True), ("do(t): to the truth", True), ("do(i): to the truth", True))
RETRACED: Columns = (("composition 1", True), ("do(t): identity, to the reconstruction", True), *IDENTITY)
BACK: Columns = (("do(t): reversibility", True), ("do(d): reversibility", True))
BIAS: Columns = (("do(t): t bias", True), ("do(i): i bias", True))
EFFECT: Columns = (("do(d): digit", False), ("do(t): t error", True), ("do(i): i error", True))


@dataclass(frozen=True)
class Claim:
    """That one method does better than another in some columns.

    Attributes:
        text: what is claimed.
        where: under which conditions.
        better: the method that should do better.
        other: the other.
        columns: in what, and whether less is better.
    """

    text: str
    where: str
    better: str
    other: str
    columns: Columns


def stated() -> Iterator[Claim]:
    """All claims."""
    for omega in (1.0, *OMEGAS):
        semantic, spatial = (f"{model}: 2M, 24{at(omega)}" for model in ("semantic", "spatial"))
        where = f"2M, 24, omega {omega:g}"
        yield Claim("semantic beats spatial on identity at equal omega", where, semantic, spatial, RETRACED)
    for model in ("spatial", "semantic"):
        plain = f"{model}: 2M, 24"
        for omega in OMEGAS:
            where, scaled = f"{model}, 2M, 24, omega {omega:g} against 1", plain + at(omega)
            yield Claim("omega raises effectiveness", where, scaled, plain, EFFECT)
            yield Claim("omega costs identity", where, plain, scaled, RETRACED)
    for model, omega in DROPPED:
        kept, dropped = (f"{model}{kind}: 2M, 24, omega {omega:g}" for kind in ("", "-dropout"))
        where = f"{model}, dropout 0.1 against 0.5, omega {omega:g}"
        yield Claim("lower dropout raises effectiveness", where, kept, dropped, EFFECT)
        yield Claim("lower dropout costs identity", where, dropped, kept, IDENTITY)
    for omega in OMEGAS:
        where, aligned = f"semantic, omega {omega:g}", f"CTA, 24, omega {omega:g}, 10 passes"
        same = f"semantic: DDIM with fixed point, 24{at(omega)}"
        yield Claim("dynamic abduction restores identity, same solver", where, aligned, same, RETRACED)
        yield Claim("dynamic abduction has more signed bias, same solver", where, same, aligned, BIAS)
        plain, replayed = (f"semantic: {solver}, 24{at(omega)}" for solver in ("2M", "2M with replay"))
        yield Claim("dynamic abduction restores identity", where, aligned, plain, RETRACED)
        yield Claim("replay beats dynamic abduction", where, replayed, aligned, RETRACED + EFFECT + BIAS)
        for repair in ("factual reference", "guided inversion"):
            other = f"{plain}, {repair}"
            yield Claim(f"replay beats a {repair}", where, replayed, other, RETRACED + EFFECT)
            yield Claim(f"a {repair} beats dynamic abduction", where, other, aligned, RETRACED + EFFECT)
    for few in (FIFTY, UNAIDED):
        for omega in (1.5, 2.0):
            where, aligned = f"{few}, against omega {omega:g}", f"CTA, 24, omega {omega:g}, 10 passes"
            yield Claim("few steps beat dynamic abduction", where, few, aligned, RETRACED + EFFECT + BIAS + BACK)
    calibrated, fixed = (f"spatial-long: 2M with replay, 24, omega {scale}" for scale in ("calibrated", "1.15"))
    where, aligned = f"{calibrated}, against omega 2", "CTA, 24, omega 2, 10 passes"
    yield Claim("a calibrated scale beats dynamic abduction", where, calibrated, aligned, RETRACED + EFFECT + BIAS)
    where = f"{calibrated}, against omega 1.15"
    yield Claim("a calibrated scale beats one for all rows", where, calibrated, fixed, RETRACED + EFFECT + BIAS)
    few = "semantic: 2M with replay, 12, omega 1.5"
    where, aligned = "semantic, omega 1.5, 49 evaluations against CTA's", "CTA, 24, omega 1.5, 10 passes"
    yield Claim("replay has the identity of dynamic abduction", where, few, aligned, RETRACED + EFFECT + BIAS)
    reversible = ("bidirectional DDIM, 24", "bidirectional DDIM, 24, mixing 0.8", "BELM, 24", "EDICT, 24")
    for solver in ("DDIM with fixed point, 50", *reversible, "2M, 24"):
        exact, explicit = (f"spatial-long: {name}" for name in (solver, "explicit DDIM, 50"))
        where = f"spatial-long, omega 1, {solver}"
        yield Claim("exact inversion beats explicit inversion", where, exact, explicit, RETRACED + EFFECT)
    for model in ("spatial-long", "semantic"):
        exact, explicit = f"{model}: 2M with replay, 24", f"{model}: explicit DDIM, 50"
        columns = RETRACED + EFFECT[1:]
        where = f"{model}, omega 1, 2M with replay, 24"
        yield Claim("exact inversion beats explicit inversion", where, exact, explicit, columns)


def at(omega: float) -> str:
    """The end of a method's name."""
    return "" if omega == 1 else f", omega {omega:g}"


def verdict(first: Value, second: Value, lower: bool = True) -> str:
    """Whether the first is better than the second by more than chance, row by row, and by what can be seen in print."""
    difference = first.less(second)
    if not difference.sure or abs(difference.mean) < PRINTED:
        return "undecided"
    return "held" if (difference.mean < 0) == lower else "not held"


def common(one: Value, other: Value) -> tuple[Value, Value]:
    """Both, of the rows that both have."""
    count = min(len(one.rows), len(other.rows))
    return one.first(count), other.first(count)


def signed(value: Value) -> str:
    """A difference and its interval."""
    return f"{value.mean:+.3f} ± {value.half:.3f}"


def claims(results: Mapping[str, Mapping[str, Result]]) -> list[str]:
    """Each claim in each column, over the seeds that measured both sides.

    Args:
        results: seed -> method -> what was measured.
    """
    lines = ["| claim | where | in | better? | than | by | n | seeds | verdict |", "|" + "---|" * 9]
    for claim in stated():
        both = {seed: found for seed, found in results.items() if {claim.better, claim.other} <= found.keys()}
        for column, lower in claim.columns:
            pairs = {seed: (found[claim.better][column], found[claim.other][column]) for seed, found in both.items()}
            if column.endswith("bias"):
                pairs = {seed: (one.size(), other.size()) for seed, (one, other) in pairs.items()}
            pairs = {seed: pair for seed, pair in pairs.items() if not any(math.isnan(side.mean) for side in pair)}
            pairs = {seed: common(*pair) for seed, pair in pairs.items()}
            if not pairs:
                continue
            said = {verdict(*pair, lower) for pair in pairs.values()}
            better, than = (" / ".join(map(str, side)) for side in zip(*pairs.values(), strict=True))
            by = " / ".join(signed(first.less(second)) for first, second in pairs.values())
            rows = (min(both[seed][side].behind(column) for side in (claim.better, claim.other)) for seed in pairs)
            cells = [claim.text, claim.where, column, better, than, by, ", ".join(map(str, rows)), ", ".join(pairs)]
            lines.append(f"| {' | '.join(cells)} | {said.pop() if len(said) == 1 else 'undecided'} |")
    return lines
