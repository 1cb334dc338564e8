"""Claims and targets of a scene, decided by differences of the same rows."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise, permutations

from experiments.scenes.measured import Measured, Result, Value, combined, over
from experiments.scenes.methods import (
    CLASSIFIER,
    CONSTANT,
    CONSTANTS,
    DIRECT,
    FREE,
    KEPT,
    KEPT_LED,
    OURS,
    SIZES,
    TOLD,
    titled,
)

Read = Callable[[Result], Value]


@dataclass(frozen=True)
class Verdict:
    """A claim that one number is less than another, in every seed.

    Attributes:
        claim: in words.
        sides: what was compared.
        differences: per seed, ours less the other; infinite where one of them exploded, not a number where one of them
            is not measured.
    """

    claim: str
    sides: str
    differences: tuple[Value, ...]

    @property
    def said(self) -> str:
        """Held if the interval lies below 0 in every seed, not held if it lies above in one."""
        if not self.differences or any(math.isnan(found.mean) for found in self.differences):
            return "not measured"
        wins = [found.mean + _half(found) < 0 for found in self.differences]
        if all(wins):
            return "held"
        return "not held" if any(found.mean - _half(found) > 0 for found in self.differences) else "undecided"

    def __str__(self) -> str:
        shown = ", ".join(map(str, self.differences)) or "-"
        return f"| {self.claim} | {self.sides} | {shown} | {self.said} |"


def _half(value: Value) -> float:
    return math.inf if math.isnan(value.half) else value.half


def less(measured: Measured, claim: str, what: str, read: Read, ours: str, other: str) -> Verdict:
    """That ours has less of something than another method, row by row."""
    own, others = (measured.get(name, {}) for name in (ours, other))
    seeds = sorted({*own, *others}) if own and others else []
    found = tuple(_difference(own.get(seed), others.get(seed), read) for seed in seeds)
    return Verdict(claim, f"{what}: {ours} less {other}", found)


def _difference(own: Result | None, other: Result | None, read: Read) -> Value:
    if own is None or other is None:
        return Value(math.nan)
    if own.failed or other.failed:
        return Value(math.inf if own.failed else -math.inf, 0.0)  # what exploded has lost
    return read(own).less(read(other))


def interpolated(sweep: list[Result], identity: float) -> Value | None:
    """The error after one intervention that a sweep has where doing nothing changes this much.

    Where the sweep changes less even at its strongest, its strongest, which is infinite if a size of it exploded; where
    it always changes more, nothing.
    """
    known = sorted((one for one in sweep if one.failed is None), key=lambda one: one.identity.mean)
    exploded = len(known) < len(sweep)
    if known and known[0].identity.mean > identity:
        return None
    for low, high in pairwise(known):
        start, end = low.identity.mean, high.identity.mean
        if start <= identity <= end:
            share = 0.0 if end == start else (identity - start) / (end - start)
            return combined([low.one, high.one], [1 - share, share])
    return Value(math.inf, 0.0) if exploded else known[-1].one if known else None


def constants(measured: Measured) -> list[Verdict]:
    """Each constant against the sweep of self-adjusting scales where both change as much by doing nothing."""
    found = []
    for size in CONSTANTS:
        name = titled(CONSTANT, size)
        others, sweeps = measured.get(name, {}), [measured.get(titled(OURS, own), {}) for own in SIZES]
        seeds = sorted({*others, *(seed for own in sweeps for seed in own)}) if others else []
        differences = [_against([own[seed] for own in sweeps if seed in own], others.get(seed)) for seed in seeds]
        sides = f"1 intervention, at equal composition: balanced sweep less {name}"
        found.append(Verdict("lambda_t beats a constant", sides, tuple(differences)))
    return found


def _against(sweep: list[Result], constant: Result | None) -> Value:
    if constant is None or not sweep:
        return Value(math.nan)
    if constant.failed and any(own.failed is None for own in sweep):
        return Value(-math.inf, 0.0)
    ours = interpolated(sweep, constant.identity.mean)
    if ours is None:
        return Value(math.nan)
    return ours.less(constant.one) if math.isfinite(ours.mean) else ours


def all_of(claim: str, parts: list[Verdict]) -> str:
    """Held only if all parts are."""
    said = [part.said for part in parts]
    verdict = "not held" if "not held" in said else "held" if set(said) == {"held"} else "undecided"
    return f"| {claim} | all of the {len(parts)} above | {said.count('held')} held | {verdict} |"


def claims(measured: Measured, best: Mapping[str, float], steps: int) -> list[str]:
    """Each claim, with the differences per seed."""
    ours, free, classifier, kept, both = (titled(name, best[name]) for name in (OURS, FREE, CLASSIFIER, KEPT, KEPT_LED))
    direct, *told = (titled(name, best[name]) for name in (DIRECT, *TOLD))
    led = (ours, direct, *told)
    one, many = "1 intervention, grey levels", f"{steps} in sequence, grey levels"
    growth = "growth of the error per step, grey levels"
    against_constants = constants(measured)
    most = f"causal representations are more accurate than classifier-free guidance after {steps} interventions"
    verdicts = [
        *(less(measured, most, many, lambda found: found.many, own, free) for own in led),
        *(
            less(measured, "error grows slower with the number of steps", growth, lambda found: found.growth, own, free)
            for own in led
        ),
        *(
            less(measured, "more accurate than classifier-free guidance", one, lambda found: found.one, own, free)
            for own in told
        ),
        *(
            less(measured, "more accurate than Diff-SCM", text, read, own, classifier)
            for own in (ours, direct)
            for text, read in ((one, lambda found: found.one), (many, lambda found: found.many))
        ),
        *(
            less(measured, f"more accurate than {other}", text, read, own, other)
            for own, other in ((ours, "CausalVAE"), (both, "CausalVAE"), (kept, free), (both, kept))
            for text, read in ((one, lambda found: found.one), (many, lambda found: found.many))
        ),
        *(
            less(measured, f"better than {how}", one, lambda found: found.one, ours, other)
            for how, other in {
                "by reading caused factors": direct,
                "with a wrong graph": "balanced, wrong graph",
                "with a wrong model": "balanced, wrong model",
            }.items()
        ),
    ]
    head = ["| claim | compared | difference per seed, row by row | verdict |", "|---|---|---|---|"]
    every = all_of("lambda_t beats every constant lambda at equal identity", against_constants)
    return [*head, *map(str, against_constants), every, *map(str, verdicts)]


def caught(clean: Measured, confounded: Measured, best: Mapping[str, float]) -> list[str]:
    """Whether a model of confounded rows, which may merely correlate, is told by what its interventions drag along.

    Each of the two factors that are drawn together is asked what moving it does to the other.
    """
    lines = ["| model of confounded rows | moved | drags along, less the model of clean rows | caught |"]
    lines.append("|---|---|---|---|")
    for name in (*(titled(kind, best[kind]) for kind in (OURS, FREE, CLASSIFIER)), "CausalVAE"):
        seeds = [seed for seed in confounded.get(name, {}) if seed in clean.get(name, {})]
        pairs = [(confounded[name][seed], clean[name][seed]) for seed in seeds]
        for moved, other in permutations(pairs[0][0].scene.turns) if pairs else ():
            found = [
                bad.drift(moved, other).less(good.drift(moved, other))
                for bad, good in pairs
                if not (bad.failed or good.failed)
            ]
            said = len(found) == len(pairs) and all(value.mean - _half(value) > 0 for value in found)
            shown = ", ".join(map(str, found)) or "exploded"
            lines.append(f"| {name} | do({moved}): {other} | {shown} | {'yes' if said else 'no'} |")
    return lines


def targets(measured: Measured, best: Mapping[str, float]) -> list[str]:
    """What was aimed at with the sizes that were chosen on validation rows, and whether it was reached."""
    return [line for name in (OURS, DIRECT, *TOLD) for line in _targets(measured, titled(name, best[name]))]


def _targets(measured: Measured, ours: str) -> list[str]:
    results = {seed: found for seed, found in measured.get(ours, {}).items() if found.failed is None}
    exploded = [seed for seed in measured.get(ours, {}) if seed not in results]
    if not results:
        return [f"Targets, {ours}: exploded in every seed; none is reached.", ""] if exploded else []
    first = next(iter(results.values()))
    bounds: dict[str, tuple[Callable[[Result], float], float]] = {
        "1 intervention: error / doing nothing": (lambda found: found.share, 0.35),
        f"{first.steps} in sequence: error / doing nothing": (lambda found: found.many_share, 0.6),
    }
    for name in first.scene.ranges:
        unit = f"floor {first.floor(name):.2g} {first.scene.data.graph[name].unit}".strip()  # type: ignore[attr-defined]
        bounds[f"do({name}): error of {name} / floor ({unit})"] = (
            lambda found, name=name: found.hit(name).mean / found.floor(name),
            2.0,
        )
    bounds["projector calls per guided step"] = (_per_step("read in prediction"), 1.0)
    bounds["vectors taken backwards through the projector per guided step"] = (_per_step("vectors"), 1.0)
    about = f"; it exploded in seed {', '.join(exploded)}, so none is reached" if exploded else ""
    lines = [f"Targets, {ours}{about}:", "", "| target | measured | bound | reached |", "|---|---|---|---|"]
    for text, (read, bound) in bounds.items():
        found = over(results, read)
        lines.append(f"| {text} | {found} | {bound:g} | {'yes' if found.mean <= bound and not exploded else 'no'} |")
    return [*lines, ""]


def _per_step(part: str) -> Callable[[Result], float]:
    return lambda found: found.cost[part] / found.config["steps"]
