"""What the JSON files of a scene hold, by the columns of its tables."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from causalcf.metrics.tally import Estimate
from experiments.paired import half_of
from experiments.scenes.scene import Scene

TRUTH = "error against the truth"
COMPOSITION = "composition, 1 cycle"
ORACLE = "error of oracle"
ACM = "disagreement with the targets (in place of ACM)"
BACK = "distance to the observation"
FRECHET = "Frechet distance"


@dataclass(frozen=True)
class Value:
    """A mean, half the width of its 95 % interval, and the rows behind it, where they are kept."""

    mean: float
    half: float = math.nan
    rows: tuple[float, ...] = ()

    def less(self, other: Value) -> Value:
        """The difference, row by row where both have as many."""
        if len(self.rows) != len(other.rows) or len(self.rows) < 2:
            return Value(self.mean - other.mean, self.half + other.half)
        return of_rows([first - second for first, second in zip(self.rows, other.rows, strict=True)])

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + ("" if math.isnan(self.half) else f" ± {self.half:.3f}")


def of_rows(rows: Sequence[float]) -> Value:
    """The mean of some rows."""
    if not rows:
        return Value(math.nan)
    found = Estimate(len(rows), statistics.mean(rows), statistics.stdev(rows) if len(rows) > 1 else math.nan)
    return Value(found.mean, found.half_width, tuple(rows))


def combined(values: Sequence[Value], weights: Sequence[float]) -> Value:
    """The weighted sum, row by row where all have as many."""
    counts = {len(value.rows) for value in values}
    if len(counts) == 1 and counts != {0}:
        return of_rows([sum(map(float.__mul__, weights, rows)) for rows in zip(*(v.rows for v in values), strict=True)])
    return Value(sum(weight * value.mean for weight, value in zip(weights, values, strict=True)))


def mean(values: Sequence[Value]) -> Value:
    """Of several."""
    return combined(values, [1 / len(values)] * len(values))


def slope(values: Sequence[Value]) -> Value:
    """Of the line through the values, per step."""
    middle = (len(values) - 1) / 2
    squares = sum((place - middle) ** 2 for place in range(len(values)))
    return combined(values, [(place - middle) / squares for place in range(len(values))])


class Result:
    """One measured method of one seed."""

    def __init__(self, scene: Scene, content: Mapping[str, Any]) -> None:
        self.scene, self.content = scene, content
        self.failed: str | None = content.get("failed")
        self.cost: Mapping[str, float] = content.get("evaluations", {})
        self.rows, self.steps, self.config = content["rows"], content["steps"], content["config"]
        self.truth = content["truth"]
        self.lines = {
            part: {(line["metric"], line["action"], line["variable"]): line for line in content[part]["lines"]}
            for part in ("single", "shared", "abducted again", "together")
            if part in content
        }

    def value(self, part: str, metric: str, action: str, variable: str = "image", reference: bool = False) -> Value:
        """What was measured, or what it is held against."""
        line = self.lines.get(part, {}).get((metric, action, variable))
        found = None if line is None else line["reference"] if reference else line["estimate"]
        if line is None or found is None or found["mean"] is None:
            return Value(math.nan)
        return Value(found["mean"], half_of(found), () if reference else tuple(line.get("values", ())))

    def nothing(self, part: str, action: str) -> float:
        """The error of doing nothing."""
        return self.value(part, TRUTH, action, reference=True).mean

    @property
    def actions(self) -> list[str]:
        """The interventions on one factor."""
        return [f"do({name})" for name in self.scene.ranges]

    @property
    def one(self) -> Value:
        """Error against the truth after one intervention, mean over the factors, grey levels."""
        return mean([self.value("single", TRUTH, action) for action in self.actions])

    @property
    def share(self) -> float:
        """Error after one intervention over that of doing nothing, both means over the factors."""
        return self.one.mean / statistics.mean(self.nothing("single", action) for action in self.actions)

    def share_of(self, name: str) -> float:
        """The same of one factor alone."""
        action = f"do({name})"
        return self.value("single", TRUTH, action).mean / self.nothing("single", action)

    @property
    def identity(self) -> Value:
        """What doing nothing changes: abducted and predicted."""
        return self.value("single", COMPOSITION, "")

    def hit(self, name: str) -> Value:
        """The measured error of a factor that was intervened on, in its unit."""
        return self.value("single", ORACLE, f"do({name})", name)

    def floor(self, name: str) -> float:
        """The same on the true pictures, as bytes store them."""
        return self.truth["floors"][f"do({name})"][name]

    @property
    def ratio(self) -> float:
        """Error of the factor intervened on over its floor, mean over the factors."""
        return statistics.mean(self.hit(name).mean / self.floor(name) for name in self.scene.ranges)

    @property
    def realism(self) -> tuple[float, float]:
        """The Frechet distance after one intervention, mean over the factors, and that of the true pictures."""
        found = statistics.mean(self.value("single", FRECHET, action).mean for action in self.actions)
        return found, statistics.mean(self.truth["realism"][action] for action in self.actions)

    def drift(self, moved: str, other: str) -> Value:
        """The measured error of one root when another is intervened on, which must not move it; its unit."""
        return self.value("single", ORACLE, f"do({moved})", other)

    def along(self, part: str, metric: str = TRUTH, variable: str = "image") -> list[Value]:
        """After each step of the sequence."""
        return [self.value(part, metric, f"step {step}", variable) for step in range(1, self.steps + 1)]

    @property
    def many(self) -> Value:
        """Error against the truth after the last step, abducted again, grey levels."""
        return self.value("abducted again", TRUTH, f"step {self.steps}")

    @property
    def many_share(self) -> float:
        """The same over that of doing nothing."""
        return self.many.mean / self.nothing("abducted again", f"step {self.steps}")

    @property
    def growth(self) -> Value:
        """How much the error grows per step, abducted again, grey levels."""
        return slope(self.along("abducted again"))

    @property
    def back(self) -> Value:
        """Distance to the first picture once all is set back, abducted again."""
        return self.value("abducted again", BACK, "there and back")

    def together(self, metric: str) -> Value:
        """Joint against sequential after the last step at which both have one truth."""
        steps = [f"step {step}" for step in range(self.steps, 0, -1)]
        known = [step for step in steps if ("joint to sequence", step, "image") in self.lines.get("together", {})]
        return self.value("together", metric, known[0]) if known else Value(math.nan)

    @property
    def caused(self) -> float:
        """Share of rows, with the factors that are not intervened on, that were led through equations."""
        caused = self.scene.structure
        pairs = [(action, name) for action in self.actions for name in caused if action != f"do({name})"]
        found = [self.value("single", "led through its equation", *pair).mean for pair in pairs]
        return statistics.mean(found) if found else math.nan

    @property
    def cut(self) -> str:
        """Pulls that the limit cut short, and the longest that was asked for, in standard deviations of the noise."""
        pulls = self.content.get("single", {}).get("pulls")
        if not pulls or not pulls["count"]:
            return "-"
        return f"{pulls['cut']} of {pulls['count']}, longest {pulls['longest']:.3g}"

    @property
    def calls(self) -> list[str]:
        """Generator calls in abduction and prediction; of what reads, calls in all and vectors taken backwards."""
        if not self.cost:
            return ["-"] * 3
        cost = self.cost
        return [f"{cost['abduct']:.0f} + {cost['predict']:.0f}", f"{cost['read']:.0f}", f"{cost['vectors']:.0f}"]


Measured = dict[str, dict[str, Result]]  # method -> seed -> result


def load(scene: Scene, out: Path, order: Sequence[str], confounded: bool = False) -> Measured:
    """What is measured so far, in the order of the methods."""
    found: Measured = {}
    end = "-confounded" if confounded else ""
    for place in sorted(path for path in out.iterdir() if path.is_dir() and path.name.removesuffix(end).isdigit()):
        if place.name.endswith("-confounded") != confounded:
            continue
        for path in place.glob("*.json"):
            content = json.loads(path.read_text())
            found.setdefault(content["method"], {})[place.name.removesuffix(end)] = Result(scene, content)
    return {name: found[name] for name in order if name in found}


@dataclass(frozen=True)
class Seeds:
    """One number per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.values)

    def __str__(self) -> str:
        known = len(self.values) > 1 and not any(math.isnan(value) for value in self.values)
        return f"{self.mean:.3f}" + (f" ± {statistics.stdev(self.values):.3f}" if known else "")


def over(results: Mapping[str, Result], read: Callable[[Result], float]) -> Seeds:
    """One number over the seeds; of those that did not explode."""
    found = tuple(read(result) for result in results.values() if result.failed is None)
    return Seeds(found or (math.nan,))
