"""What the JSON files of a scene say: tables, claims over seeds, and curves of the error over steps."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib.figure import Figure

from experiments.scenes.claims import caught, claims, targets
from experiments.scenes.measured import ACM, FRECHET, Measured, Result, load, over
from experiments.scenes.methods import (
    CLASSIFIER,
    CONSTANT,
    DIRECT,
    FREE,
    KEPT_LED,
    OURS,
    TOLD_DIRECT,
    chosen,
    methods,
    titled,
)
from experiments.scenes.scene import Scene

COLUMNS: dict[str, Callable[[Result], float]] = {
    "composition": lambda found: found.identity.mean,
    "1: error": lambda found: found.one.mean,
    "1: error / doing nothing": lambda found: found.share,
    "factor error / floor": lambda found: found.ratio,
    "1: Frechet": lambda found: found.realism[0],
    "1: Frechet of the true pictures": lambda found: found.realism[1],
    "led through equations": lambda found: found.caused,
    "last step: error": lambda found: found.many.mean,
    "last step: error / doing nothing": lambda found: found.many_share,
    "growth per step": lambda found: found.growth.mean,
    "there and back": lambda found: found.back.mean,
    "joint: error": lambda found: found.together("joint: error against the truth").mean,
    "sequence: error": lambda found: found.together("sequence: error against the truth").mean,
    "joint to sequence": lambda found: found.together("joint to sequence").mean,
}
PER_STEP: dict[str, Callable[[Result], list[float]]] = {
    "error, grey levels": lambda found: [value.mean for value in found.along("abducted again")],
    "error / doing nothing": lambda found: shares(found, "abducted again"),
    "ACM stand-in, share of range": lambda found: [
        value.mean for value in found.along("abducted again", ACM, "all factors")
    ],
    "PSNR, dB": lambda found: [value.mean for value in found.along("abducted again", "PSNR against the truth")],
    "Frechet distance": lambda found: [value.mean for value in found.along("abducted again", FRECHET)],
}


def shares(found: Result, part: str) -> list[float]:
    """The errors over those of doing nothing, after each step."""
    return [value.mean / found.nothing(part, f"step {step}") for step, value in enumerate(found.along(part), 1)]


def row(cells: list[str]) -> str:
    """Of a table in Markdown."""
    return "| " + " | ".join(cells) + " |"


def table(measured: Measured) -> list[str]:
    """One line per method."""
    own = ["method", "n", "seeds", "generator calls", "projector calls", "vectors back", "pulls cut short"]
    lines = [row([*own, *COLUMNS]), "|" + "---|" * (len(own) + len(COLUMNS))]
    for name, results in measured.items():
        one = next(iter(results.values()))
        cells = [name, str(one.rows), ", ".join(results), *one.calls, one.cut]
        if failed := [found.failed for found in results.values() if found.failed]:
            cells.append(failed[0])
        else:
            cells += [str(over(results, read)) for read in COLUMNS.values()]
        lines.append(row(cells))
    return lines


def factors(measured: Measured) -> list[str]:
    """The measured error of each factor that was intervened on, in its own unit; and the error of the picture."""
    first = next(iter(next(iter(measured.values())).values()))
    names = list(first.scene.ranges)
    units = {name: getattr(first.scene.data.graph[name], "unit", "") or "" for name in names}
    head = ["method", *(f"do({name}): {name}{', ' + unit if unit else ''}" for name, unit in units.items())]
    head += [f"do({name}): error / doing nothing" for name in names]
    lines = [row(head), "|" + "---|" * len(head)]
    nothing = (f"doing nothing {first.nothing('single', action):.2f}" for action in first.actions)
    lines.append(row(["floor, on the true pictures", *(f"{first.floor(name):.2g}" for name in names), *nothing]))
    for name, results in measured.items():
        known = [found for found in results.values() if not found.failed]
        if known:
            cells = [f"{statistics.mean(found.hit(factor).mean for found in known):.4f}" for factor in names]
            cells += [f"{statistics.mean(found.share_of(factor) for found in known):.3f}" for factor in names]
            lines.append(row([name, *cells]))
    return lines


def per_step(measured: Measured) -> list[str]:
    """After each step of the sequence, abducted again; means over seeds."""
    known = {
        name: [found for found in results.values() if "abducted again" in found.lines]
        for name, results in measured.items()
    }
    known = {name: results for name, results in known.items() if results}
    lines: list[str] = []
    for title, read in PER_STEP.items():
        if not known:
            break
        first = next(iter(known.values()))[0]
        steps = [f"step {step}" for step in range(1, first.steps + 1)]
        note = f", n = {first.rows}" if title == "Frechet distance" else ""
        lines += [f"## {title}{note}", "", row(["method", *steps]), "|" + "---|" * (len(steps) + 1)]
        if title == "Frechet distance":
            lines.append(row(["the true pictures", *(f"{first.truth['realism'][step]:.3f}" for step in steps)]))
        for name, results in known.items():
            means = [statistics.mean(values) for values in zip(*(read(found) for found in results), strict=True)]
            lines.append(row([name, *(f"{value:.3f}" for value in means)]))
        lines.append("")
    return lines


def shown(best: Mapping[str, float]) -> dict[str, str]:
    """Which methods the curves show, with their colours."""
    return {
        titled(OURS, best[OURS]): "#2468ad",
        titled(DIRECT, best[DIRECT]): "#7aa6d6",
        titled(TOLD_DIRECT, best[TOLD_DIRECT]): "#1b2030",
        titled(KEPT_LED, best[KEPT_LED]): "#c2679b",
        titled(CONSTANT, best[CONSTANT]): "#e2a03f",
        titled(CLASSIFIER, best[CLASSIFIER]): "#8a6bbf",
        titled(FREE, best[FREE]): "#cf3a3a",
        "CausalVAE": "#3f8f5b",
    }


def curves(measured: Measured, best: Mapping[str, float]) -> Figure:
    """Error over steps, with the noise of the first picture and of each answer."""
    figure = Figure(figsize=(8, 3.2), layout="constrained")
    titles = ("noise of the first picture (joint)", "noise abducted again (sequence)")
    for ax, part, title in zip(figure.subplots(1, 2, sharey=True), ("shared", "abducted again"), titles, strict=True):
        for name, colour in shown(best).items():
            runs = [shares(found, part) for found in measured.get(name, {}).values() if part in found.lines]
            if not runs:
                continue
            steps = range(1, len(runs[0]) + 1)
            middle = [statistics.mean(values) for values in zip(*runs, strict=True)]
            ax.plot(steps, middle, "o-", color=colour, ms=3.5, lw=1.3, label=name)
            low, high = ([side(values) for values in zip(*runs, strict=True)] for side in (min, max))
            ax.fill_between(steps, low, high, color=colour, alpha=0.15, lw=0)
            ax.set_xticks(steps)
        ax.axhline(1, color="#999999", lw=0.8, ls=":")
        ax.set_title(title, fontsize=9)
        ax.set_xlabel("interventions", fontsize=8)
        ax.tick_params(labelsize=7)
        ax.spines[["top", "right"]].set_visible(False)
    figure.axes[0].set_ylabel("error against the truth / doing nothing", fontsize=8)
    handles, labels = figure.axes[0].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize=7, frameon=False)
    return figure


def write(scene: Scene, out: Path) -> None:
    """`table.md`, `steps.md`, `claims.md` and `curves.png` of what is measured."""
    best = chosen(scene, out)
    order = list(methods(best))
    measured = load(scene, out, order)
    if not measured:
        return
    text = ["# Models of rows that nothing confounds", "", *table(measured), "", *factors(measured), ""]
    confounded = load(scene, out, order, confounded=True)
    if confounded:
        text += ["# Models of confounded rows, on rows that nothing confounds", "", *table(confounded), ""]
    (out / "table.md").write_text("\n".join(text))
    (out / "steps.md").write_text("\n".join(per_step(measured)))
    steps = next(iter(next(iter(measured.values())).values())).steps
    said = [*claims(measured, best, steps), "", *targets(measured, best), ""]
    if confounded:
        said += [*caught(measured, confounded, best), ""]
    (out / "claims.md").write_text("\n".join(said))
    curves(measured, best).savefig(out / "curves.png", dpi=160)
