"""What the measured JSON files say: a table, the claims, curves and grids of pictures."""

from __future__ import annotations

import math
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullLocator, StrMethodFormatter, SymmetricalLogLocator

import causalcf as cf
from causalcf.data import MorphoMNIST
from causalcf.plot.sheet import Caption, Group, Panel, pictures, sheet
from experiments.asked import written
from experiments.morphomnist.claims import claims
from experiments.morphomnist.measured import KEPT, MEASURED, READ, SOUND, Result, load
from experiments.morphomnist.methods import BEST, CHOSEN, FIFTY, METHODS, OMEGAS
from experiments.morphomnist.models import folder
from experiments.morphomnist.targets import targets


def published(composition: tuple[float, float], thickness: str, intensity: str, digit: str) -> dict[str, float]:
    """A method of Melistas et al. (2024): effectiveness under do(thickness), do(intensity) and do(digit)."""
    cells = {"composition 1": composition[0], "composition 10": composition[1]}
    for column, values in (("t error, CNN", thickness), ("i error, CNN", intensity), ("digit", digit)):
        cells |= {f"do({do}): {column}": float(value) for do, value in zip("tid", values.split(), strict=True)}
    return cells


PUBLISHED = {
    "VAE (Melistas et al., 2024)": published(
        (2.600, 7.698), "0.109 0.333 0.139", "3.15 5.33 4.64", "0.989 0.988 0.775"
    ),
    "HVAE (Melistas et al., 2024)": published(
        (0.438, 1.550), "0.086 0.224 0.117", "1.99 3.52 2.10", "0.985 0.935 0.972"
    ),
    "GAN (Melistas et al., 2024)": published(
        (3.807, 11.697), "0.228 0.680 0.393", "9.43 15.14 12.39", "0.961 0.966 0.451"
    ),
}
ELSEWHERE = (
    "Published by Melistas et al. (2024), under an intervention drawn at random per batch and in other features, so "
    "that no column compares: minimality (CLD) VAE 0.268, HVAE 0.272, GAN 0.286; FID VAE 10.1, HVAE 5.4, GAN 35.6."
)
PARTS = {
    "Composition, reversibility, error against the truth, noise": SOUND,
    "Effectiveness, measured on the images; no network judges": MEASURED,
    "Effectiveness, read by networks: a CNN for t and i, a classifier for the digit, as in the published tables": READ,
    "Identity (grey levels), minimality and realism (Frechet distance in the classifier's features)": KEPT,
}


COMPOSED = "composition, grey levels"
SIDES = (  # under one intervention: how well it is followed, what that costs, and their labels
    ("do(t): t error", "thickness error, px", "do(t): to the truth", "to the truth, grey levels"),
    ("do(i): i error", "intensity error, grey levels", "do(i): to the truth", "to the truth, grey levels"),
    ("do(d): digit", "digit read as intended", "do(d): CLD", "minimality (CLD), less is better"),
)
LINES = {
    "spatial": ("spatial: 2M, 24{}", "#2468ad", "-", "o"),
    "spatial, replay": ("spatial: 2M with replay, 24{}", "#2468ad", "--", "s"),
    "semantic": ("semantic: 2M, 24{}", "#cf3a3a", "-", "o"),
    "semantic, replay": ("semantic: 2M with replay, 24{}", "#cf3a3a", "--", "s"),
    "semantic, factual reference": ("semantic: 2M, 24{}, factual reference", "#e2a03f", ":", "^"),
    "semantic, guided inversion": ("semantic: 2M, 24{}, guided inversion", "#8a6fb0", ":", ">"),
    "semantic, CTA": ("CTA, 24{}, 10 passes", "#3f8f5b", "-.", "v"),
}
POINTS = {
    "spatial-long, steered, 50 evaluations in all": (FIFTY, "#111111", "*"),
    "HVAE, fine-tuned": ("HVAE, fine-tuned", "#777777", "D"),
}


def write_all(out: Path, models: Path, predictors: Path, grids: Path) -> None:
    """The table of each seed, the claims and curves of the first, and grids of pictures."""
    places = sorted(path for path in out.iterdir() if path.is_dir())
    results = {place.name: load(place) for place in places}
    text = [table(found, seed) for seed, found in results.items() if found]
    (out / "table.md").write_text("\n".join(text))
    (out / "claims.md").write_text("\n".join(claims(results)) + "\n")
    (out / "targets.md").write_text("\n".join(targets(results)) + "\n")
    first = results.get("0", {})
    if first:
        curves(first).savefig(out / "curves.png", dpi=160)
        grids.mkdir(parents=True, exist_ok=True)
        for variable in ("thickness", "intensity", "digit"):
            grid(list(first), models, predictors, out / "0" / "interventions.json", variable).savefig(
                grids / f"do-{variable}.png", dpi=160
            )


def table(results: dict[str, Result], seed: str) -> str:
    """All methods of a seed, one line each, in several parts; the published ones below."""
    lines = [f"# Seed {seed}", ""]
    for title, columns in PARTS.items():
        first = columns is SOUND
        head = ["method", "n", *(["n of cycles", "evaluations", "of readers", "sd of u"] if first else []), *columns]
        lines += [f"## {title}", "", "| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        for name, result in results.items():
            cells = [name, str(result.rows)]
            if first:
                cells += [str(result.few), result.calls, result.readings, number(result.spread)]
            cells += [number(result[column].mean) for column in columns]
            lines.append("| " + " | ".join(cells) + " |")
        for name, values in PUBLISHED.items():
            if not values.keys() & columns.keys():
                continue
            cells = [name, "-", *(["-", "2 + 1", "-", "-"] if first else [])]
            cells += [number(values.get(column, math.nan)) for column in columns]
            lines.append("| " + " | ".join(cells) + " |")
        for rows in sorted({result.rows for result in results.values()}):
            held: dict[str, float] = {}
            for result in results.values():
                known = {column: result[column].reference for column in columns if result.rows == rows}
                held = {name: value for name, value in known.items() if not math.isnan(value)} | held
            if held:
                text = "; ".join(f"{column} {value:.3f}" for column, value in held.items())
                lines += ["", f"Held against, n = {rows} (observed rows; doing nothing for truth and CLD): {text}."]
        lines += ["", ELSEWHERE, ""] if columns is KEPT else [""]
    return "\n".join(lines)


def number(value: float) -> str:
    """Three digits, or a dash for what is not known."""
    return "-" if math.isnan(value) else f"{value:.3f}"


def curves(results: dict[str, Result]) -> Figure:
    """Composition and error against the truth, over effectiveness, along omega."""
    figure = Figure(figsize=(10, 6.6), layout="constrained")
    axes = figure.subplots(2, 3)
    for column, (effect, label, kept, name) in enumerate(SIDES):
        for ax, cost, side in zip(axes[:, column], ("composition 1", kept), (COMPOSED, name), strict=True):
            for kind, (pattern, colour, style, marker) in LINES.items():
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
            for kind, (key, colour, marker) in POINTS.items():
                if key in results:
                    x, y = results[key][effect].mean, results[key][cost].mean
                    size = 11 if marker == "*" else 5
                    ax.plot([x], [y], color=colour, marker=marker, ms=size, ls="none", label=kind, zorder=5)
            ax.set_xlabel(label, fontsize=8)
            ax.set_ylabel(side, fontsize=8)
            ax.tick_params(labelsize=7)
            ax.spines[["top", "right"]].set_visible(False)
            if not label.startswith("digit"):
                ax.set_xscale("log")
                ax.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                ax.xaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
                ax.xaxis.set_minor_locator(NullLocator())
            if side == COMPOSED:
                ax.set_yscale("symlog", linthresh=1)
                ax.yaxis.set_major_locator(SymmetricalLogLocator(base=10, linthresh=1, subs=(1.0, 2.0, 5.0)))
                ax.set_ylim(bottom=-0.1)
            elif side.endswith("grey levels"):
                ax.set_yscale("log")
                ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
                ax.yaxis.set_minor_locator(NullLocator())
            ax.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    handles, labels = axes[0, 0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, fontsize=7, frameon=False)
    return figure


def grid(names: list[str], models: Path, predictors: Path, plan: Path, variable: str, rows: int = 8) -> Figure:
    """Rows of test images under one intervention, one column per method that has its weights, beside the truth."""
    data = MorphoMNIST(folder("morphomnist"), "test", mnist=folder("mnist"))
    seen = data[:rows]
    values = written(plan)[variable][:rows]
    tensor = seen[variable].new_tensor(values)
    action = cf.do(**{variable: tensor})
    texts = [[Caption(f"{value:g}" if variable == "digit" else f"{value:.1f}")] for value in values]
    groups = [Group("observed", [Panel("image:0", "", pictures(seen["image"]), texts)])]
    if data.knows(action):
        true = data.true_counterfactual(seen, action)["image"]
        groups.append(Group("truth", [Panel("truth:0", "", pictures(true))]))
    shown = [BEST, f"semantic: {CHOSEN}", "semantic: 2M, 24, omega 3", "HVAE", "HVAE, fine-tuned", "VAE"]
    for index, name in enumerate(shown):
        method = METHODS[name]
        weights = models / f"morphomnist-{method.model}"
        if name in names and weights.is_dir():
            scm = method.made(cf.SCM.load(weights), predictors)
            image = scm.observe(seen).do(action)["image"]
            groups.append(Group(name, [Panel(f"method:{index}", "", pictures(image))]))
    return sheet(groups, f"below the first column: do({variable})")
