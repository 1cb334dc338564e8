"""The demonstration: counterfactuals of handwritten digits beside the truth, and what they are worth."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn
from tqdm import tqdm

from causalcf import mechanisms as M
from causalcf import plot
from causalcf.data import MorphoDigits
from causalcf.data.truth import Rows
from causalcf.interventions import do, scale, shift
from causalcf.mechanisms import Recipe
from causalcf.metrics import (
    Composition,
    CounterfactualError,
    Effectiveness,
    NoiseMoments,
    Report,
    Reversibility,
    evaluate,
)
from causalcf.metrics.effectiveness import Oracle
from causalcf.pretrained import load_judge
from causalcf.scm import SCM
from causalcf.storage import write_text
from causalcf.world import World

__all__ = ["MEANING", "PLAN", "demonstrate", "morphodigits", "oracles"]

PLAN = (do(thickness=shift(1.0)), do(slant=scale(-1.0)), do(intensity=shift(-40.0, clamp=True)))
PICTURES = 6  # units drawn
PASSES = {"ddim": 4.5, "edict": 2.0}  # network calls of one step of abduction, on average; for the progress bar

MEANING = {
    "composition": "Distance to the observed image after abducting and predicting with nothing changed, "
    "once or in cycles. Should be 0.",
    "reversibility": "Distance to the observed image after an intervention, a second abduction, and the "
    "intervention back to the factual value. Should be 0.",
    "noise": "Mean, mean square, and correlation of neighbouring pixels of the abducted noise. Should be 0, "
    "1 and 0: the noise that prediction was trained on.",
    "error of oracle": "What a measurement of the counterfactual image reads, against what the model meant. "
    "Held against the floor, the same measurement's error on the observed images.",
    "signed bias": "The same with a sign, of the units that were to move: positive is overshoot, negative undershoot.",
    "accuracy of oracle": "How often a classifier of the counterfactual image sees the class that the model meant.",
    "error against the truth": "Distance to the true counterfactual, which is known here. Held against doing "
    "nothing, the distance of the observed image to the true counterfactual.",
}
"""What the numbers of a report mean, by the beginning of their name."""


def oracles() -> dict[str, Oracle]:
    """What reads the attributes of MorphoDigits from its images, for effectiveness."""
    return {**MorphoDigits.oracles(), "digit": load_judge("morphodigits-digit").predict}


UNET: dict[str, Any] = {
    "widths": (64, 128),
    "attention": True,
    "patch": 2,
    "schedule": "cosine",
    "prediction": "v",
    "solver": "2m",
    "steps": 25,
    "replay": True,
}


def morphodigits(
    folder: Path,
    kind: Literal["semantic", "spatial"] = "semantic",
    steps: int = 4500,
    rows: int = 60_000,
    seed: int = 0,
) -> SCM:
    """Fit the model that ships as `morphodigits-<kind>`; killed and called again, it goes on where it was.

    Args:
        folder: of the checkpoints.
        kind: which mechanism the image has.
        steps: optimiser steps of the image's mechanism.
        rows: training rows.
        seed: of weights, order and noise.
    """
    recipe = Recipe(
        steps=steps,
        batch=64,
        learning_rate=1.5e-3,
        weight_decay=0.01,
        ema=0.999,
        precision="auto",
        checkpoint=250,
    )
    if kind == "spatial":
        image: M.Diffusion = M.SpatialDiffusion(**UNET, recipe=recipe)
    else:
        views = {"shear": 0.5, "brightness": 0.5, "stroke": 0.8}
        image = M.SemanticDiffusion(latent=32, kl_weight=0.01, encoder="image", views=views, **UNET, recipe=recipe)
    plain = Recipe(steps=1500, batch=512, learning_rate=1e-2, ema=0.99)  # as shipped: many rows need no weight decay
    flows = {name: M.Flow(recipe=plain) for name in ("thickness", "intensity", "slant")}
    digit = M.Categorical(recipe=plain.but(steps=1000, ema=0.0))
    scm = SCM(MorphoDigits.graph, {**flows, "digit": digit, "image": image})
    return scm.fit(held("train", rows), held("val", min(rows, 1000)), folder=folder, seed=seed)


def held(split: str, count: int) -> dict[str, Tensor]:
    """A split held in memory, so that nothing is drawn twice."""
    data = MorphoDigits(split, rows=count)  # pyright: ignore[reportArgumentType]
    parts = [data[start : min(start + 1000, count)] for start in range(0, count, 1000)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def demonstrate(scm: SCM, out: Path, rows: int = 24, command: str = "causalcf demo", progress: bool = True) -> Report:
    """Draw counterfactuals of unseen digits beside their truth, measure them, and write both down.

    What takes many abductions (ten cycles of composition, reversibility) is measured on a quarter of the
    rows.

    Args:
        scm: a model of MorphoDigits' graph.
        out: a folder for graph.png, counterfactuals.png and report.md.
        rows: how many rows of the test split to measure on.
        command: what to type to get the same report.
        progress: whether to show a bar.

    Raises:
        ValueError: a model of another graph, or fewer than one row.
    """
    if scm.graph != MorphoDigits.graph:
        raise ValueError(f"demo: expected a model of MorphoDigits, got one of {scm.graph!r}; use causalcf evaluate")
    if rows < 1:
        raise ValueError(f"demo: expected rows >= 1, got {rows}")
    began = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    plot.graph(scm.graph).savefig(out / "graph.png")
    data, few = MorphoDigits("test", rows=rows), MorphoDigits("test", rows=max(rows // 4, 1))
    drawn, plan = min(PICTURES, rows), len(PLAN)
    # abductions and predictions of a row, times rows; each prediction is one network call per step
    predictions = drawn * (plan + 1) + rows * (plan + 1) + len(few) * 12
    abductions = drawn * 2 + rows + len(few) * 11
    with _progress(scm, predictions, abductions, progress):
        _draw(scm, data, drawn, out / "counterfactuals.png")
        broad = evaluate(
            scm,
            data,
            PLAN,
            [
                Composition(cycles=(1,)),
                NoiseMoments(["image"]),
                Effectiveness(oracles()),
                CounterfactualError(data),
            ],
        )
        deep = evaluate(scm, few, PLAN[:1], [Composition(cycles=(10,)), Reversibility()])
    lines = sorted((*broad.lines, *deep.lines), key=lambda line: list(MEANING).index(meaning_of(line.metric)))
    report = Report(tuple(lines), {**broad.about, "rows": f"{rows}, and {len(few)} where n says so"})
    write_text(out / "report.md", _markdown(scm, report, command, time.monotonic() - began))
    return report


def meaning_of(metric: str) -> str:
    """The entry of `MEANING` that explains a metric."""
    return next(beginning for beginning in MEANING if metric.startswith(beginning))


def _draw(scm: SCM, data: MorphoDigits, count: int, path: Path) -> None:
    """The observation, one intervention after the other, and the way back through a second abduction."""
    rows = data[:count]
    worlds: list[World] = [scm.observe(rows)]
    truth: list[Rows | None] = [None]
    for action in PLAN:
        worlds.append(worlds[-1].do(action))
        truth.append(data.true_counterfactual(rows, worlds[-1].actions))
    titles = [
        "as observed",
        *[f"then {action!r}" if index else repr(action) for index, action in enumerate(PLAN)],
    ]
    changed = [name for action in PLAN for name in action]
    back = worlds[-1].reabduct().do(do(**{name: rows[name] for name in changed}))
    figure = plot.worlds(
        *worlds,
        back,
        truth=[*truth, rows],
        titles=[*titles, "back to the observed values, from a second abduction"],
        rows=count,
    )
    figure.savefig(path)


@contextmanager
def _progress(scm: SCM, predictions: int, abductions: int, shown: bool) -> Iterator[None]:
    """A bar over the images that the network is shown, which is what takes the time."""
    image = scm.mechanisms["image"]
    if not (shown and isinstance(image, M.Diffusion)):
        yield
        return
    total = int(image.steps * (predictions + PASSES.get(image.solver, 1.0) * abductions))
    layout = "{desc}: {percentage:3.0f}%|{bar}| {elapsed}<{remaining}"
    with tqdm(total=total, desc="demo", bar_format=layout) as bar:

        def count(_: nn.Module, __: tuple[Tensor, ...], output: Tensor) -> None:
            bar.update(min(len(output), total - bar.n))

        hook = image.network.register_forward_hook(count)
        try:
            yield
        finally:
            hook.remove()
        bar.update(total - bar.n)


def _markdown(scm: SCM, report: Report, command: str, seconds: float) -> str:
    size = sum(parameter.numel() for parameter in scm.parameters())
    height, width = scm.graph["image"].shape[1:]
    lines = [
        "# Counterfactuals of MorphoDigits, and whether to believe them",
        "",
        f"Made by `{command}` in {seconds:.0f} s on {platform.machine()}, {os.cpu_count()} cores, "
        f"{torch.get_num_threads()} threads, torch {torch.__version__.partition('+')[0]}. The model has "
        f"{size / 1e6:.2f} million parameters; images have {height}x{width} pixels; the rows are the "
        "first of the test split, whose handwriting was not trained on. n is the number of rows behind a number; "
        "intervals are those of the mean over rows.",
        "",
        "![the causal graph](graph.png)",
        "",
        "![counterfactuals, the truth beside them, and what changed](counterfactuals.png)",
        "",
        "## Numbers",
        "",
        report.to_markdown().rstrip(),
        "",
        "## What they mean",
        "",
        *[f"- **{name}**: {meaning}" for name, meaning in MEANING.items()],
    ]
    return "\n".join(lines) + "\n"
