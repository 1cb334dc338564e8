"""Measure what leads a scene's counterfactuals, after one intervention and along sequences of five."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.metrics import (
    Composition,
    CounterfactualError,
    Effectiveness,
    Frechet,
    NoiseMoments,
    Tally,
    evaluate,
    evaluate_sequence,
)
from causalcf.training.predictors import load_predictor
from causalcf.units import Units
from experiments.scenes.methods import METHODS
from experiments.scenes.results import write
from experiments.scenes.scene import Scene
from experiments.scenes.train import name as folder_of

TRAIN = 4000  # rows that equations of other graphs are fitted to
REFERENCE = 1000  # rows behind the Frechet distance


class Known:
    """The first rows of a data set, drawn once, which know their truth."""

    def __init__(self, data: Any, count: int) -> None:
        self.content = data[:count]
        self.knows, self.true_counterfactual = data.knows, data.true_counterfactual

    def __len__(self) -> int:
        return len(self.content["id"])

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.content.items()}


def drawn(scene: Scene, ids: Tensor, name: str, seed: int, place: int = 0) -> Tensor:
    """One target per row."""
    low, high = scene.ranges[name]
    return (low + (high - low) * Units(ids, seed).uniform(f"plan.{place}.{name}")).float()


def counted(scm: cf.SCM, rows: dict[str, Tensor], action: cf.Do) -> dict[str, float]:
    """Evaluations of a row by the generator and by what reads noisy images, in abduction and one prediction."""
    image = scm.mechanism("image")
    if not isinstance(image, M.Diffusion):
        return {"generator": 2, "projector": 0}
    seen = {"generator": 0, "projector": 0}

    def count(part: str) -> Any:
        def hook(_: Any, __: Any, output: Tensor) -> None:
            seen[part] += len(output)

        return hook

    parts = {"generator": image.network, "projector": image.get_submodule("projector")}
    hooks = [network.register_forward_hook(count(part)) for part, network in parts.items()]
    scm.observe(rows).do(action)["image"]
    for hook in hooks:
        hook.remove()
    return {part: count / len(rows["id"]) for part, count in seen.items()}


@torch.no_grad()
def measure(
    scene: Scene, models: Path, out: Path, rows: int, only: list[str] | None, batch: int, seed: int, confounding: float
) -> None:
    """Write one JSON file per method that has its weights; those that exist are kept.

    Args:
        scene: the scene.
        models: folder of the models' folders.
        out: where the files go.
        rows: test rows, of factors that nothing confounds.
        only: names of methods; all by default.
        batch: rows at a time.
        seed: of the interventions, and of the models.
        confounding: of the rows that the models were trained on.
    """
    data = Known(scene.data("test", rows=rows), rows)
    train = scene.data("train", rows=TRAIN, seed=seed, confounding=confounding)
    judge, real = load_predictor(models / f"{scene.name}-judge"), train[:REFERENCE]["image"]
    seen = {**train.columns(list(scene.ranges)), "id": torch.arange(TRAIN)}
    ids, place = data.content["id"], out / f"{seed}{'-confounded' if confounding else ''}"
    place.mkdir(parents=True, exist_ok=True)
    single = {f"do({name})": cf.do(**{name: drawn(scene, ids, name, seed)}) for name in scene.ranges}
    plan = [cf.do(**{name: drawn(scene, ids, name, seed, step + 1)}) for step, name in enumerate(scene.order)]
    for name in METHODS if only is None else only:
        method, path = METHODS[name], place / f"{''.join(c if c.isalnum() or c == '.' else '-' for c in name)}.json"
        weights = models / folder_of(scene, method.kind, confounding, seed)
        if path.exists() or not weights.is_dir():
            continue
        asked, oracles = method.made(cf.SCM.load(weights), scene, seen), scene.data.oracles()
        few = data[: min(rows, 20)]
        content: dict[str, Any] = {
            "method": name,
            "evaluations": counted(asked, few, single[next(iter(single))].at(slice(0, len(few["id"])), rows)),
        }
        metrics: list[Tally] = [Composition(cycles=(1,)), NoiseMoments(["image"]), Effectiveness(oracles)]
        metrics += [CounterfactualError(data), Frechet(judge.features, real)]
        content["single"] = evaluate(asked, data, single, metrics, batch=batch, seed=seed).to_dict()
        for key, again in (("shared", False), ("abducted again", True)):
            realism = [Frechet(judge.features, real)]
            report = evaluate_sequence(
                asked, data, plan, oracles=oracles, metrics=realism, reabduct=again, batch=batch, seed=seed
            )
            content[key] = report.to_dict()
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(name, flush=True)
    write(scene, out)
