"""What the measured JSON files say: a table, the claims, curves and grids of pictures."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

import causalcf as cf
from causalcf.data import MorphoMNIST
from causalcf.plot.sheet import Caption, Group, Panel, pictures, sheet
from experiments.morphomnist.methods import BEST, METHODS, OMEGAS
from experiments.morphomnist.models import folder

COLUMNS: dict[str, tuple[str, str, str]] = {
    "composition 1": ("composition, 1 cycle", "", "image"),
    "composition 10": ("composition, 10 cycles", "", "image"),
    "do(t): t error": ("error of oracle", "do(thickness)", "thickness"),
    "do(t): t bias": ("signed bias", "do(thickness)", "thickness"),
    "do(t): t error, CNN": ("error of CNN", "do(thickness)", "thickness"),
    "do(i): i error": ("error of oracle", "do(intensity)", "intensity"),
    "do(i): i bias": ("signed bias", "do(intensity)", "intensity"),
    "do(i): i error, CNN": ("error of CNN", "do(intensity)", "intensity"),
    "do(d): digit": ("accuracy of oracle", "do(digit)", "digit"),
    "do(d): t error": ("error of oracle", "do(digit)", "thickness"),
    "do(d): t error, CNN": ("error of CNN", "do(digit)", "thickness"),
    "do(t): to the truth": ("error against the truth", "do(thickness)", "image"),
    "do(i): to the truth": ("error against the truth", "do(intensity)", "image"),
    "do(t): reversibility": ("reversibility, 1 cycle", "do(thickness)", "image"),
    "do(i): reversibility": ("reversibility, 1 cycle", "do(intensity)", "image"),
    "do(t): CLD": ("minimality (CLD), corrected", "do(thickness)", "thickness"),
    "do(t): CLD, published": ("minimality (CLD), published", "do(thickness)", "thickness"),
    "do(d): CLD": ("minimality (CLD), corrected", "do(digit)", "digit"),
    "do(t): identity": ("identity, to the observation", "do(thickness)", "image"),
    "do(t): identity, to the reconstruction": ("identity, to the reconstruction", "do(thickness)", "image"),
    "do(d): Frechet": ("Frechet distance", "do(digit)", "image"),
}
PUBLISHED = {
    "VAE (Melistas et al., 2024)": {
        "composition 1": 2.600,
        "composition 10": 7.698,
        "do(t): t error, CNN": 0.109,
        "do(i): i error, CNN": 5.33,
        "do(d): digit": 0.775,
        "do(d): t error, CNN": 0.139,
    },
    "HVAE (Melistas et al., 2024)": {
        "composition 1": 0.438,
        "composition 10": 1.550,
        "do(t): t error, CNN": 0.086,
        "do(i): i error, CNN": 3.52,
        "do(d): digit": 0.972,
        "do(d): t error, CNN": 0.117,
    },
    "GAN (Melistas et al., 2024)": {
        "composition 1": 3.807,
        "composition 10": 11.697,
        "do(t): t error, CNN": 0.228,
        "do(i): i error, CNN": 15.14,
        "do(d): digit": 0.451,
        "do(d): t error, CNN": 0.393,
    },
}


def slug(name: str) -> str:
    """A file name."""
    return "".join(letter if letter.isalnum() or letter == "." else "-" for letter in name.replace(": ", "-"))


@dataclass(frozen=True)
class Value:
    """A mean and half the width of its 95 % interval."""

    mean: float
    half: float
    reference: float = math.nan

    def __str__(self) -> str:
        return f"{self.mean:.3f} ± {self.half:.3f}"


class Result:
    """One measured method."""

    def __init__(self, content: dict[str, Any]) -> None:
        self.name, self.cost = content["method"], content["evaluations"]
        self.rows = content["about"]["rows"]
        self.lines = {(line["metric"], line["action"], line["variable"]): line for line in content["lines"]}

    def __getitem__(self, column: str) -> Value:
        line = self.lines.get(COLUMNS[column])
        if line is None:
            return Value(math.nan, math.nan)
        reference = line["reference"]
        half = line["estimate"]["half_width"]
        return Value(line["estimate"]["mean"], half, reference["mean"] if reference else math.nan)

    @property
    def spread(self) -> float:
        """Standard deviation of the abducted noise."""
        square, mean = (self.lines.get((f"noise {moment}", "", "image")) for moment in ("mean square", "mean"))
        if square is None or mean is None:
            return math.nan
        return math.sqrt(square["estimate"]["mean"] - mean["estimate"]["mean"] ** 2)

    @property
    def calls(self) -> str:
        """Network evaluations of a row."""
        back = f" ({self.cost['backward']:.0f} backward)" if self.cost["backward"] else ""
        return f"{self.cost['abduct']:.0f} + {self.cost['predict']:.0f}{back}"


def load(place: Path) -> dict[str, Result]:
    """What is measured so far, in the order of the methods."""
    found = {name: place / f"{slug(name)}.json" for name in METHODS}
    return {name: Result(json.loads(path.read_text())) for name, path in found.items() if path.exists()}


def write_all(out: Path, models: Path, predictors: Path, grids: Path) -> None:
    """The table of each seed, the claims and curves of the first, and grids of pictures."""
    places = sorted(path for path in out.iterdir() if path.is_dir())
    results = {place.name: load(place) for place in places}
    text = [table(found, seed) for seed, found in results.items() if found]
    (out / "table.md").write_text("\n".join(text))
    first = results.get("0", {})
    if first:
        (out / "claims.md").write_text("\n".join(claims(first)) + "\n")
        curves(first).savefig(out / "curves.png", dpi=160)
        grids.mkdir(parents=True, exist_ok=True)
        for variable in ("thickness", "intensity", "digit"):
            grid(list(first), models, predictors, out / "0" / "interventions.json", variable).savefig(
                grids / f"do-{variable}.png", dpi=160
            )


def table(results: dict[str, Result], seed: str) -> str:
    """All methods of a seed, one line each; the published ones below."""
    head = ["method", "n", "calls", *COLUMNS, "sd of u"]
    lines = [f"## Seed {seed}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, result in results.items():
        cells = [name, str(result.rows), result.calls]
        cells += ["-" if math.isnan(result[column].mean) else f"{result[column].mean:.3f}" for column in COLUMNS]
        cells.append("-" if math.isnan(result.spread) else f"{result.spread:.3f}")
        lines.append("| " + " | ".join(cells) + " |")
    for name, values in PUBLISHED.items():
        cells = [name, "-", "1 + 1", *(f"{values[column]:.3f}" if column in values else "-" for column in COLUMNS), "-"]
        lines.append("| " + " | ".join(cells) + " |")
    one = next(iter(results.values()))
    held = {column: one[column].reference for column in COLUMNS if not math.isnan(one[column].reference)}
    lines += ["", "Held against (the oracle on observed rows; doing nothing for the truth and minimality):"]
    return "\n".join([*lines, "; ".join(f"{name} {value:.3f}" for name, value in held.items()) + ".", ""])


def verdict(first: Value, second: Value, lower: bool = True) -> str:
    """Whether the first is better than the second by more than their intervals."""
    apart = abs(first.mean - second.mean) > first.half + second.half
    if not apart:
        return "undecided"
    return "held" if (first.mean < second.mean) == lower else "not held"


def claims(results: dict[str, Result]) -> list[str]:
    """Each claim with the numbers of both sides."""
    lines = ["| claim | where | first | second | verdict |", "|---|---|---|---|---|"]

    def compare(claim: str, where: str, a: str, b: str, columns: Sequence[tuple[str, bool]]) -> None:
        if a not in results or b not in results:
            return
        for column, lower in columns:
            first, second = results[a][column], results[b][column]
            if math.isnan(first.mean) or math.isnan(second.mean):
                continue
            lines.append(f"| {claim} | {where}; {column} | {first} | {second} | {verdict(first, second, lower)} |")

    identity = [(f"{name}", True) for name in ("do(t): identity", "do(t): to the truth", "do(i): to the truth")]
    for omega in (1.0, *OMEGAS):
        end = "" if omega == 1 else f", omega {omega:g}"
        compare(
            "semantic beats spatial on identity at equal omega",
            f"2M, 24, omega {omega:g}",
            f"semantic: 2M, 24{end}",
            f"spatial: 2M, 24{end}",
            [("composition 1", True), *identity],
        )
    for model in ("spatial", "semantic"):
        effect = [("do(d): digit", False), ("do(t): t error", True), ("do(i): i error", True)]
        for omega in (1.5, 3.0):
            where = f"{model}, 2M, 24, omega {omega:g} against 1"
            one, other = f"{model}: 2M, 24", f"{model}: 2M, 24, omega {omega:g}"
            compare("omega raises effectiveness", where, other, one, effect)
            compare("omega costs identity", where, one, other, [("composition 1", True), *identity])
        dropped = f"{model}-dropout: 2M, 24, omega 1.5"
        where = f"{model}, dropout 0.1 against 0.5, omega 1.5"
        compare("lower dropout raises effectiveness", where, f"{model}: 2M, 24, omega 1.5", dropped, effect)
        compare("lower dropout costs identity", where, dropped, f"{model}: 2M, 24, omega 1.5", identity)
    for omega in (1.5, 2.0, 3.0):
        cta, end = f"CTA, 24, omega {omega:g}, 10 passes", f", omega {omega:g}"
        where = f"semantic, omega {omega:g}"
        identities = [("composition 1", True), *identity]
        compare("dynamic abduction restores identity", where, cta, f"semantic: 2M, 24{end}", identities)
        ours = f"semantic: 2M with replay, 24{end}"
        both = [*identities, ("do(t): t error", True), ("do(i): i error", True), ("do(d): digit", False)]
        compare("replay beats trajectory alignment", where, ours, cta, both)
        compare("replay beats a factual reference", where, ours, f"semantic: 2M, 24{end}, factual reference", both)
    for model in ("spatial", "semantic"):
        exact, explicit = f"{model}: 2M with replay, 24", f"{model}: explicit DDIM, 50"
        both = [("composition 1", True), ("do(t): t error", True), ("do(i): i error", True), *identity]
        compare("exact inversion beats explicit inversion", f"{model}, omega 1", exact, explicit, both)
    return lines


def curves(results: dict[str, Result]) -> Figure:
    """Composition and error against the truth, over effectiveness, along omega."""
    figure = Figure(figsize=(10, 6.4), layout="constrained")
    axes = figure.subplots(2, 3)
    kinds = {
        "spatial": ("spatial: 2M, 24{}", "#2468ad", "-", "o"),
        "spatial, replay": ("spatial: 2M with replay, 24{}", "#2468ad", "--", "s"),
        "semantic": ("semantic: 2M, 24{}", "#cf3a3a", "-", "o"),
        "semantic, replay": ("semantic: 2M with replay, 24{}", "#cf3a3a", "--", "s"),
        "semantic, factual reference": ("semantic: 2M, 24{}, factual reference", "#e2a03f", ":", "^"),
        "semantic, CTA": ("CTA, 24{}, 10 passes", "#3f8f5b", "-.", "v"),
    }
    sides = [
        ("do(t): t error", "thickness error, px", "do(t): to the truth"),
        ("do(i): i error", "intensity error, grey levels", "do(i): to the truth"),
        ("do(d): digit", "digit read as intended", "do(d): Frechet"),
    ]
    for column, (effect, label, truth) in enumerate(sides):
        for line, (cost, name) in enumerate(
            (("composition 1", "composition, grey levels"), (truth, truth.split(": ")[1] + ", grey levels"))
        ):
            ax = axes[line, column]
            for kind, (pattern, colour, style, marker) in kinds.items():
                points = []
                for omega in (1.0, *OMEGAS):
                    key = pattern.format("" if omega == 1 else f", omega {omega:g}")
                    if key in results and not math.isnan(results[key][cost].mean):
                        points.append((results[key][effect].mean, results[key][cost].mean, omega))
                if points:
                    xs, ys = [x for x, _, _ in points], [y for _, y, _ in points]
                    ax.plot(xs, ys, style, color=colour, marker=marker, ms=4, lw=1.2, label=kind)
                    for x, y, omega in points:
                        ax.annotate(f"{omega:g}", (x, y), textcoords="offset points", xytext=(3, 3), fontsize=6)
            ax.set_xlabel(label, fontsize=8)
            ax.set_ylabel("Frechet distance" if "Frechet" in cost else name, fontsize=8)
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right"]].set_visible(False)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return figure


def grid(names: list[str], models: Path, predictors: Path, plan: Path, variable: str, rows: int = 8) -> Figure:
    """Rows of test images under one intervention, one column per model at omega 1, beside the truth."""
    data = MorphoMNIST(folder("morphomnist"), "test", mnist=folder("mnist"))
    seen = data[:rows]
    values = json.loads(plan.read_text())[variable][:rows]
    tensor = seen[variable].new_tensor(values)
    action = cf.do(**{variable: tensor})
    texts = [[Caption(f"{value:g}" if variable == "digit" else f"{value:.1f}")] for value in values]
    groups = [Group("observed", [Panel("image:0", "", pictures(seen["image"]), texts)])]
    if data.knows(action):
        true = data.true_counterfactual(seen, action)["image"]
        groups.append(Group("truth", [Panel("truth:0", "", pictures(true))]))
    shown = [BEST, "semantic: 2M with replay, 24", "semantic: 2M, 24, omega 3", "HVAE", "HVAE, fine-tuned", "VAE"]
    for index, name in enumerate(shown):
        if name in names:
            method = METHODS[name]
            scm = method.made(cf.SCM.load(models / f"morphomnist-{method.model}"), predictors)
            image = scm.observe(seen).do(action)["image"]
            groups.append(Group(name, [Panel(f"method:{index}", "", pictures(image))]))
    return sheet(groups, f"below the first column: do({variable})")
