"""What the JSON files of a scene say: a table, claims over seeds, and curves of the error over steps."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from experiments.scenes.methods import CONSTANTS, METHODS, SIZES
from experiments.scenes.scene import Scene

TRUTH = "error against the truth"
BEST = "balanced, size 0.3"
LAST = 5
SHOWN = {
    BEST: "#2468ad",
    "balanced, size 0.3, no equations": "#7aa6d6",
    "constant, size 0.1": "#e2a03f",
    "Diff-SCM, size 0.1": "#8a6bbf",
    "parents, omega 1.5, 16 steps": "#cf3a3a",
    "CausalVAE": "#3f8f5b",
}


class Result:
    """One measured method of one seed."""

    def __init__(self, scene: Scene, content: Mapping[str, Any]) -> None:
        self.scene, self.cost = scene, content["evaluations"]
        self.rows = content["single"]["about"]["rows"]
        self.parts = {
            part: {(line["metric"], line["action"], line["variable"]): line for line in content[part]["lines"]}
            for part in ("single", "shared", "abducted again")
        }

    def mean(self, part: str, metric: str, action: str, variable: str, reference: bool = False) -> float:
        """What was measured, or what it is held against."""
        line = self.parts[part].get((metric, action, variable))
        found = None if line is None else line["reference"] if reference else line["estimate"]
        return math.nan if found is None or found["mean"] is None else found["mean"]

    def share(self, part: str, action: str) -> float:
        """Error against the truth, over that of doing nothing."""
        return self.mean(part, TRUTH, action, "image") / self.mean(part, TRUTH, action, "image", reference=True)

    @property
    def one(self) -> float:
        """The share after one intervention, mean over the factors."""
        return statistics.mean(self.share("single", f"do({name})") for name in self.scene.ranges)

    @property
    def hit(self) -> float:
        """The measured error of the factor intervened on over the oracle's floor, mean over the factors."""
        metric = "error of oracle"
        ratios = [
            self.mean("single", metric, f"do({name})", name)
            / self.mean("single", metric, f"do({name})", name, reference=True)
            for name in self.scene.ranges
        ]
        return statistics.mean(ratios)

    def along(self, part: str) -> list[float]:
        """The shares after each step of the sequence."""
        return [self.share(part, f"step {step}") for step in range(1, LAST + 1)]

    def realism(self, part: str, action: str) -> float:
        """Frechet distance."""
        return self.mean(part, "Frechet distance", action, "image")


COLUMNS: dict[str, Callable[[Result], float]] = {
    "composition": lambda found: found.mean("single", "composition, 1 cycle", "", "image"),
    "1 intervention: error / doing nothing": lambda found: found.one,
    "factor error / floor": lambda found: found.hit,
    "5 in sequence: error / doing nothing": lambda found: found.along("shared")[-1],
    "5, abducted again: error / doing nothing": lambda found: found.along("abducted again")[-1],
    "growth per step": lambda found: slope(found.along("shared")),
    "ACM stand-in after 5": lambda found: found.mean(
        "shared", "disagreement with the targets (in place of ACM)", f"step {LAST}", "all factors"
    ),
    "PSNR after 5, dB": lambda found: found.mean("shared", "PSNR against the truth", f"step {LAST}", "image"),
    "Frechet after 5": lambda found: found.realism("shared", f"step {LAST}"),
    "there and back": lambda found: found.mean("shared", "distance to the observation", "there and back", "image"),
}


def slope(values: list[float]) -> float:
    """Of the line through the values, per step."""
    middle = (len(values) - 1) / 2
    squares = sum((place - middle) ** 2 for place in range(len(values)))
    return sum((place - middle) * value for place, value in enumerate(values)) / squares


@dataclass(frozen=True)
class Seeds:
    """One value per seed."""

    values: tuple[float, ...]

    @property
    def mean(self) -> float:
        """Over seeds."""
        return statistics.mean(self.values)

    @property
    def sd(self) -> float:
        """Between seeds."""
        known = len(self.values) > 1 and not any(math.isnan(value) for value in self.values)
        return statistics.stdev(self.values) if known else math.nan

    def __str__(self) -> str:
        return f"{self.mean:.3f}" + (f" ± {self.sd:.3f}" if len(self.values) > 1 else "")


Measured = dict[str, dict[str, Result]]  # method -> seed -> result


def load(scene: Scene, out: Path, confounded: bool = False) -> Measured:
    """What is measured so far, in the order of the methods."""
    found: Measured = {}
    end = "-confounded" if confounded else ""
    for place in sorted(
        path for path in out.iterdir() if path.is_dir() and path.name.endswith("-confounded") == confounded
    ):
        seed = place.name.removesuffix(end)
        for path in place.glob("*.json"):
            content = json.loads(path.read_text())
            found.setdefault(content["method"], {})[seed] = Result(scene, content)
    return {name: found[name] for name in METHODS if name in found}


def over(results: Mapping[str, Result], column: str) -> Seeds:
    """One column over the seeds."""
    return Seeds(tuple(COLUMNS[column](result) for result in results.values()))


def table(measured: Measured) -> list[str]:
    """One line per method."""
    head = ["method", "n", "seeds", "generator calls", "projector calls", *COLUMNS]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, results in measured.items():
        one = next(iter(results.values()))
        calls = [f"{one.cost[part]:.0f}" for part in ("generator", "projector")]
        cells = [name, str(one.rows), ", ".join(results), *calls, *(str(over(results, column)) for column in COLUMNS)]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def best_of(measured: Measured, names: list[str], column: str) -> str | None:
    """The method with the least of a column."""
    known = [name for name in names if name in measured]
    return min(known, key=lambda name: over(measured[name], column).mean) if known else None


def claims(measured: Measured) -> list[str]:
    """Each claim, with both sides over the seeds."""
    lines = ["| claim | in | ours | other | held in seeds | verdict |", "|" + "---|" * 6]
    one, five = "1 intervention: error / doing nothing", "5 in sequence: error / doing nothing"
    ours = best_of(measured, [f"balanced, size {size:g}" for size in SIZES], one)
    constant = best_of(measured, [f"constant, size {size:g}" for size in CONSTANTS], one)
    classifier = best_of(measured, [name for name in METHODS if name.startswith("Diff-SCM")], one)
    free = best_of(measured, [name for name in METHODS if name.startswith("parents")], five)
    stated = [
        ("lambda_t beats every constant lambda", one, constant),
        ("lambda_t beats every constant lambda", five, constant),
        ("causal representations beat classifier-free guidance after 5 interventions", five, free),
        ("the error grows slower with the number of steps", "growth per step", free),
        ("causal representations beat Diff-SCM", five, classifier),
        ("causal representations beat CausalVAE", five, "CausalVAE" if "CausalVAE" in measured else None),
    ]
    for claim, column, other in stated:
        if ours is None or other is None:
            continue
        seeds = sorted(measured[ours].keys() & measured[other].keys())
        if not seeds:
            continue
        pairs = [tuple(COLUMNS[column](measured[name][seed]) for name in (ours, other)) for seed in seeds]
        wins = sum(first < second for first, second in pairs)
        sides = [Seeds(tuple(side)) for side in zip(*pairs, strict=True)]
        said = "held" if wins == len(seeds) else "not held" if wins == 0 else "undecided"
        cells = [claim, column, f"{ours}: {sides[0]}", f"{other}: {sides[1]}", f"{wins} of {len(seeds)}", said]
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def targets(measured: Measured) -> list[str]:
    """What was aimed at with the best scale, and whether it was reached."""
    ours = best_of(measured, [f"balanced, size {size:g}" for size in SIZES], "1 intervention: error / doing nothing")
    if ours is None:
        return []
    bounds = {
        "1 intervention: error / doing nothing": 0.35,
        "5 in sequence: error / doing nothing": 0.6,
        "factor error / floor": 2.0,
    }
    lines = [f"Targets, {ours}:", "", "| target | measured | bound | reached |", "|---|---|---|---|"]
    for column, bound in bounds.items():
        found = over(measured[ours], column)
        lines.append(f"| {column} | {found} | {bound:g} | {'yes' if found.mean <= bound else 'no'} |")
    return lines


def curves(measured: Measured) -> Figure:
    """Error over steps, with the noise of the first picture and of each answer."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    steps = list(range(1, LAST + 1))
    titles = ("noise of the first picture", "noise abducted again")
    for ax, part, title in zip(figure.subplots(1, 2, sharey=True), ("shared", "abducted again"), titles, strict=True):
        for name, colour in SHOWN.items():
            if name not in measured:
                continue
            runs = [result.along(part) for result in measured[name].values()]
            middle = [statistics.mean(values) for values in zip(*runs, strict=True)]
            ax.plot(steps, middle, "o-", color=colour, ms=3.5, lw=1.3, label=name)
            low, high = ([side(values) for values in zip(*runs, strict=True)] for side in (min, max))
            ax.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
        ax.axhline(1, color="#999999", lw=0.8, ls=":")
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("interventions", fontsize=8)
        ax.set_xticks(steps)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("error against the truth / doing nothing", fontsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return figure


def write(scene: Scene, out: Path) -> None:
    """`table.md`, `claims.md` and `curves.png` of what is measured."""
    measured = load(scene, out)
    if not measured:
        return
    text = ["# Models of rows that nothing confounds", "", *table(measured), ""]
    confounded = load(scene, out, confounded=True)
    if confounded:
        text += ["# Models of confounded rows, on rows that nothing confounds", "", *table(confounded), ""]
    (out / "table.md").write_text("\n".join(text))
    (out / "claims.md").write_text("\n".join([*claims(measured), "", *targets(measured)]) + "\n")
    curves(measured).savefig(out / "curves.png", dpi=160)
