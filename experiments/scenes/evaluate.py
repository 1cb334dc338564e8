"""Measure what leads a scene's counterfactuals, after one intervention and along sequences of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.diffusion.gradient import Pulls
from causalcf.mechanisms.led import LedDiffusion
from causalcf.metrics import (
    Composition,
    CounterfactualError,
    Effectiveness,
    Frechet,
    NoiseMoments,
    Report,
    Tally,
    evaluate,
    evaluate_sequence,
)
from causalcf.storage import write_text
from experiments.scenes.judge import Judge, load_judge
from experiments.scenes.methods import Method, chosen, methods
from experiments.scenes.results import write
from experiments.scenes.scene import Scene
from experiments.scenes.strips import strip
from experiments.scenes.train import name as folder_of
from experiments.scenes.truth import REFERENCE, Caused, Known, Seen, Truth

TRAIN = 4000  # rows that equations of other graphs are fitted to
PARTS = {"shared": False, "abducted again": True}  # how sequences are read -> whether noise is abducted again
ROWS_OF = ("error against the truth", "error of oracle", "composition", "distance to the observation", "disagreement")


def counted(scm: cf.SCM, rows: Mapping[str, Tensor], action: cf.Do) -> dict[str, float]:
    """Of a row, in abduction and in one prediction: generator calls, projector calls, vectors taken backwards."""
    image, count = scm.mechanism("image"), len(rows["id"])
    if not isinstance(image, LedDiffusion):
        return {"abduct": 2, "predict": 1, "read": 0, "read in prediction": 0, "vectors": 0}
    seen = {"network": 0, "projector": 0}

    def count_rows(part: str) -> Any:
        def hook(_: Any, __: Any, output: Tensor) -> None:
            seen[part] += len(output)

        return hook

    hooks = [image.get_submodule(part).register_forward_hook(count_rows(part)) for part in seen]
    image.pulls = Pulls()
    world = scm.observe(rows)
    world.noise["image"]
    before = dict(seen)
    world.do(action)["image"]
    for hook in hooks:
        hook.remove()
    found = {"abduct": before["network"], "predict": seen["network"] - before["network"], "read": seen["projector"]}
    found |= {"read in prediction": seen["projector"] - before["projector"], "vectors": image.pulls.vectors}
    return {part: number / count for part, number in found.items()}


def digest(folders: Iterable[Path], about: object) -> str:
    """Of the weights in some folders, and of what else decides the numbers."""
    found = hashlib.sha256(json.dumps(about, default=str, sort_keys=True).encode())
    for path in sorted(path for folder in folders for path in folder.rglob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def kept(path: Path, asked: str, rows: int) -> bool:
    """Whether a file holds what was asked in this way, on as many rows."""
    if not path.exists():
        return False
    content = json.loads(path.read_text())
    return content["asked"] == asked and content["rows"] == rows


def refuse_others(place: Path, steps: int) -> None:
    """Raise if a folder has results of sequences of another length, which no table can hold beside these."""
    for path in sorted(place.glob("*.json")):
        if (other := json.loads(path.read_text())["steps"]) != steps:
            raise SystemExit(
                f"{path} is of a sequence of {other} interventions, and steps={steps} is asked for; give these a "
                f"folder of their own, --out {place.parent}/steps-{steps}"
            )


def plain(report: Report) -> list[dict[str, Any]]:
    """The lines, with the rows behind those that methods are compared by."""
    lines = report.to_dict()["lines"]
    for line, found in zip(lines, report.lines, strict=True):
        if found.values is not None and line["metric"].startswith(ROWS_OF):
            line["values"] = [float(f"{value:.4g}") for value in found.values.tolist()]
    return lines


def pulled(scm: cf.SCM) -> dict[str, float] | None:
    """How many pulls the limit cut short since this was last asked, and the longest that was asked for."""
    image = scm.mechanism("image")
    if not isinstance(image, LedDiffusion) or image.by == "parents":
        return None
    pulls, image.pulls = image.pulls, Pulls()
    return {"count": pulls.count, "cut": pulls.cut, "longest": pulls.longest}


class Measured:
    """Measures methods of a scene on the same rows.

    Args:
        truth: the rows, and what is right.
        judge: whose features the Frechet distance is measured in.
        real: pictures that nothing confounds.
        batch: rows at a time.

    Attributes:
        pictures: way of reading a sequence -> step -> the answers of the method that was measured last.
    """

    def __init__(self, truth: Truth, judge: Judge, real: Tensor, batch: int) -> None:
        self.truth, self.batch = truth, batch
        self.judge, self.real = judge, real
        self.oracles = truth.scene.data.oracles()
        self.pictures: dict[str, dict[str, Tensor]] = {}

    def single(self, scm: cf.SCM) -> dict[str, Any]:
        """After one intervention on each factor."""
        truth = self.truth
        metrics: list[Tally] = [Composition(cycles=(1,)), NoiseMoments(["image"]), Effectiveness(self.oracles)]
        metrics += [CounterfactualError(truth.data), Frechet(self.judge.embedding, self.real)]
        metrics.append(Caused(list(truth.scene.structure)))
        pulled(scm)
        report = evaluate(scm, truth.data, truth.single, metrics, batch=self.batch, seed=truth.seed)
        return {"lines": plain(report), "pulls": pulled(scm)}

    def sequences(self, scm: cf.SCM) -> dict[str, Any]:
        """Along the plan, with the noise of the first picture, abducted again, and the one against the other."""
        truth, found = self.truth, {}
        for part, again in PARTS.items():
            seen = Seen()
            further: list[Tally] = [seen, Frechet(self.judge.embedding, self.real)]
            pulled(scm)
            report = evaluate_sequence(
                scm,
                truth.data,
                truth.plan,
                oracles=self.oracles,
                metrics=further,
                reabduct=again,
                batch=self.batch,
                seed=truth.seed,
            )
            found[part] = {"lines": plain(report), "pulls": pulled(scm)}
            self.pictures[part] = seen.pictures
        found["together"] = {"lines": truth.together(*self.pictures.values())}
        return found

    def measure(self, scm: cf.SCM, method: Method) -> dict[str, Any]:
        """All of a method; what explodes is a result too."""
        truth = self.truth
        try:
            few = truth.data[: min(len(truth.data), 20)]
            first = next(iter(truth.single.values())).at(slice(0, len(few["id"])), len(truth.data))
            content: dict[str, Any] = {"evaluations": counted(scm, few, first), "single": self.single(scm)}
            if method.main:
                content |= self.sequences(scm)
        except FloatingPointError as error:
            return {"failed": f"gradient explosion: {error}"}
        return content


@torch.no_grad()
def measure(
    scene: Scene,
    models: Path,
    out: Path,
    rows: int,
    only: list[str] | None,
    batch: int,
    seed: int,
    confounding: float,
    steps: int,
) -> None:
    """Write one JSON file per method that has its weights; those that were asked in the same way are kept.

    Args:
        scene: the scene.
        models: folder of the models' folders.
        out: where the files go.
        rows: test rows, of factors that nothing confounds.
        only: names of methods; all by default.
        batch: rows at a time.
        seed: of the interventions, and of the models.
        confounding: of the rows that the models were trained on.
        steps: interventions of a sequence.
    """
    if not 1 <= steps <= 10:
        raise ValueError(f"expected a sequence of 1 to 10 interventions, got {steps}")
    data = Known(scene.rows("test", rows=rows), rows)
    truth = Truth(scene, data, steps, seed)
    train = scene.rows("train", rows=TRAIN, seed=seed, confounding=confounding)
    labels = {**train.columns(list(scene.ranges)), "id": torch.arange(TRAIN)}
    judge, real = models / f"{scene.name}-judge", scene.rows("train", rows=REFERENCE, seed=200)[:]["image"]
    measured = Measured(truth, load_judge(judge), real, batch)
    right = {"floors": truth.floors(), "realism": truth.realism(measured.judge, real)}
    place, every = out / f"{seed}{'-confounded' if confounding else ''}", methods(chosen(scene, out))
    place.mkdir(parents=True, exist_ok=True)
    refuse_others(place, steps)
    for name in every if only is None else only:
        method, path = every[name], place / f"{slug(name)}.json"
        weights = models / folder_of(scene, method.kind, confounding, seed)
        if not weights.is_dir():
            continue
        with torch.enable_grad():
            scm = method.made(cf.SCM.load(weights), scene, labels)
        config = scm.mechanism("image").config()
        asked = digest([weights, judge], [name, method.main, config, list(scm.graph.edges), seed, steps, len(real)])
        if kept(path, asked, rows):
            continue
        about = {"method": name, "asked": asked, "rows": rows, "seed": seed, "steps": steps, "config": config}
        content = {**about, "truth": right, **measured.measure(scm, method)}
        write_text(path, json.dumps(content) + "\n")
        if "abducted again" in content and not confounding:
            answers = measured.pictures["abducted again"]
            true = {step: truth.after[step]["image"] for step in answers}
            titles = [f"{number}. do({factor})" for number, factor in enumerate(scene.sequence(steps), 1)]
            (out / "strips").mkdir(exist_ok=True)
            picture = strip(data.content["image"], answers, true, titles)
            picture.savefig(out / "strips" / f"{slug(name)}{f'-{seed}' if seed else ''}.png", dpi=120)
        print(name, content.get("failed", ""), flush=True)
    write(scene, out)


def slug(name: str) -> str:
    """A file name."""
    return "".join(letter if letter.isalnum() or letter == "." else "-" for letter in name)
