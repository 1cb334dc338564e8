"""Measure every way of explaining the same classifier on the same rows, with the same generator.

    python -m experiments.explain.evaluate --data toyfaces
    CAUSALCF_DATA=folder python -m experiments.explain.evaluate --data celeba --rows 200

Writes one JSON file per method as soon as it is measured, and then the table, the claims and the grid of pictures.
Explanations are kept in parts beside the models, so that it can be killed and started again at any time; they and the
pictures of `celeba` show people, and stay where they are made.
"""

from __future__ import annotations

import hashlib
import json
import platform
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import ToyFaces
from causalcf.diffusion.masks import moved
from causalcf.explain.explanation import Explanation
from causalcf.explain.generator import Generator
from causalcf.metrics.explanation_report import explanation_scores
from causalcf.metrics.explanation_sets import attribute_correlations
from causalcf.metrics.report import Report
from causalcf.networks.classifier import Predictor
from causalcf.training.predictors import load_predictor
from experiments.benchmarks.memory import PROCESS, held
from experiments.explain.data import Faces, Split
from experiments.explain.latents import load
from experiments.explain.methods import METHODS, Kit, Method, slug
from experiments.explain.models import generator
from experiments.explain.results import write

SPENT = "processor-seconds.txt"


@dataclass(frozen=True)
class Bench:
    """What all methods share.

    Attributes:
        faces: the data set.
        rows: the rows that are explained.
        kit: classifier and surrogate.
        drawing: the generator, of pixels, and of codes if there is one.
        judge: the smoothed classifier of another seed, for NA and NAFR.
        attributes: a network that reads attributes, in whose features realism, similarity and concepts are.
        named: the attributes, in the order in which the oracle gives them.
        correlation: of each of them with the query, among training rows.
        chosen: options of families of methods, as `tune` chose them.
    """

    faces: Faces
    rows: dict[str, Tensor]
    kit: Kit
    drawing: dict[bool, Generator]
    judge: Predictor
    attributes: Predictor
    named: tuple[str, ...]
    correlation: Tensor
    chosen: Mapping[str, Mapping[str, Any]]

    def oracle(self, images: Tensor) -> Tensor:
        """Probabilities of the attributes; measured where they were drawn, and read by a network elsewhere."""
        if self.faces.name != "toyfaces":
            return self.attributes(images).sigmoid()
        oracles = ToyFaces("test").oracles()
        return torch.stack([oracles[name](images).float() for name in self.named], 1)

    def truth(self, target: Tensor) -> tuple[Tensor | None, Tensor | None]:
        """The pixels that the query owns, and what the rows would have been, where that is known."""
        if self.faces.name != "toyfaces":
            return None, None
        data, part = ToyFaces("test"), {name: values[: len(target)] for name, values in self.rows.items()}
        action = cf.do(**{self.faces.query: target})
        return data.owns(part, self.faces.query), data.true_counterfactual(part, action)["image"]

    @torch.no_grad()
    def scores(self, found: Explanation, name: str) -> Report:
        """Everything but diversity, of explanations of the first rows."""
        owned, truth = self.truth(found.target)
        return explanation_scores(
            found.images,
            found.counterfactuals,
            self.kit.classifier(found.images),
            self.kit.classifier(found.counterfactuals),
            found.target,
            label=self.rows[self.faces.query][: len(found)],
            classifier=self.kit.classifier,
            independent=self.judge,
            oracle=self.oracle,
            query=self.named.index(self.faces.query),
            data_correlation=self.correlation,
            encoder=self.attributes.features,
            concepts=self.attributes,
            method=name,
            owned=owned,
            truth=truth,
        )

    @torch.no_grad()
    def varied(self, first: Explanation, second: Explanation, name: str) -> Report:
        """Diversity of two explanations of the first rows."""
        classifier, count = self.kit.classifier, len(second)
        first = first[slice(0, count)]
        return explanation_scores(
            first.images,
            first.counterfactuals,
            classifier(first.images),
            classifier(first.counterfactuals),
            first.target,
            concepts=self.attributes,
            others=[(second.counterfactuals, classifier(second.counterfactuals))],
            method=name,
        )


def explained(
    method: Method, bench: Bench, count: int, folder: Path, part: int, number: int, first: Explanation | None
) -> tuple[Explanation, Tensor]:
    """Explanations of the first rows, kept in parts, and the processor time of each.

    Args:
        method: the way.
        bench: what all share.
        count: rows.
        folder: where parts are kept.
        part: rows of a part.
        number: 0 for the first explanation of each row, 1 for the second.
        first: the first one, whose changes the second keeps out of where the method can.
    """
    explainer = method.explainer(bench.kit, bench.chosen)
    explainer.seed += number
    parts, seconds = [], []
    for start in range(0, count, part):
        place, rows = folder / f"{number}-{start}", slice(start, min(start + part, count))
        if not place.is_dir():
            images, ids = bench.rows["image"][rows], bench.rows["id"][rows]
            shut = None
            if first is not None and method.apart:
                shut = moved(first[rows].counterfactuals, images, 0.02, 5)
            generator, classifier = bench.drawing[method.latent], method.asked(bench.kit)
            began = time.process_time()
            found = explainer.explain(classifier, generator, images, ids=ids, locked=shut)
            spent = (time.process_time() - began) / len(images)
            unfinished = place.with_suffix(".part")
            found.save(unfinished, pictures=False)
            (unfinished / SPENT).write_text(f"{spent}\n")
            unfinished.rename(place)
        parts.append(Explanation.load(place))
        seconds.append(torch.full((len(parts[-1]),), float((place / SPENT).read_text())))
    return Explanation.joined(parts), torch.cat(seconds)


def peak(method: Method, bench: Bench, rows: int) -> float | None:
    """MB by which explaining a few rows at once exceeds what was resident before; None where no kernel records it."""
    record = PROCESS / "clear_refs"
    if not record.exists():
        return None
    explainer = method.explainer(bench.kit, bench.chosen)
    explainer.batch, explainer.scales = rows, explainer.scales[:1]
    record.write_text("5")
    before = held("VmRSS")
    explainer.explain(method.asked(bench.kit), bench.drawing[method.latent], bench.rows["image"][:rows])
    return held("VmHWM") - before


def prepared(
    faces: Faces, models: Path, rows: dict[str, Tensor], chosen: Mapping[str, Mapping[str, Any]] | None = None
) -> tuple[Bench, str]:
    """What all methods share, and a digest of its weights."""
    names = ("classifier", "surrogate", "judge", "attributes")
    readers = {name: load_predictor(models / f"{faces.name}-readers" / name) for name in names}
    for reader in readers.values():
        reader.requires_grad_(False)
    labels = faces.labels()
    drawing = {False: generator(cf.SCM.load(models / f"{faces.name}-spatial"), faces.query, labels)}
    weights = [f"{faces.name}-spatial", *(f"{faces.name}-readers/{name}" for name in names)]
    if (models / f"{faces.name}-latent").is_dir():
        codec = load(models / f"{faces.name}-autoencoder")
        drawing[True] = generator(cf.SCM.load(models / f"{faces.name}-latent"), faces.query, labels, codec)
    bench = Bench(
        faces,
        rows,
        Kit(readers["classifier"], readers["surrogate"]),
        drawing,
        readers["judge"],
        readers["attributes"],
        tuple(labels),
        attribute_correlations(torch.stack(list(labels.values()), 1).float(), list(labels).index(faces.query)),
        {} if chosen is None else chosen,
    )
    found = hashlib.sha256()
    for folder in weights:
        found.update((models / folder / "weights.safetensors").read_bytes())
    return bench, found.hexdigest()[:12]


def main(
    data: str = "toyfaces",
    rows: int = 500,
    few: int = 100,
    again: int = 50,
    only: list[str] | None = None,
    models: Path = Path("runs"),
    out: Path | None = None,
    part: int = 20,
    split: Split = "test",
) -> None:
    """Measure, and write what the results say.

    Args:
        data: toyfaces or celeba.
        rows: rows to explain.
        few: rows of the methods that are not the main ones; the main ones are reported on these too.
        again: rows with a second explanation, for diversity.
        only: names of methods; all by default.
        models: folder of what `train` wrote; explanations are kept there too, in `<data>-explanations`.
        out: where JSON files, table, claims and grid go; by default `experiments/explain/results/<data>`.
        part: rows that are explained and kept at a time.
        split: of the rows.
    """
    faces = Faces(data)
    place = Path("experiments/explain/results") / data if out is None else out
    place.mkdir(parents=True, exist_ok=True)
    options = json.loads((place / "options.json").read_text()) if (place / "options.json").exists() else {}
    chosen = {family: found["options"] for family, found in options.items()}
    bench, digest = prepared(faces, models, faces.split(split, rows), chosen)
    kept = models / f"{data}-explanations" / f"{split}-{digest}"
    for name in METHODS if only is None else only:
        method, path = METHODS[name], place / f"{slug(name)}.json"
        if method.latent not in bench.drawing:
            continue
        count = rows if method.main else min(rows, few)
        about = json.dumps([digest, name, method.explainer(bench.kit, chosen).options()])
        folder = f"{slug(name)}-{hashlib.sha256(about.encode()).hexdigest()[:12]}"
        if path.exists() and _measured_already(json.loads(path.read_text()), folder, count):
            continue
        memory = peak(method, bench, 4)
        found, spent = explained(method, bench, count, kept / folder, part, 0, None)
        second, _ = explained(method, bench, min(again, count), kept / folder, part, 1, found)
        content = measured(name, bench, found, spent, second, min(few, count))
        content |= {"memory": memory, "weights": digest, "folder": folder}
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(f"{name}: {found}", flush=True)
    write(place, place if data == "toyfaces" else kept, kept)


def _measured_already(content: Mapping[str, Any], folder: str, count: int) -> bool:
    """Whether a file tells of the same weights, options and rows."""
    return content["folder"] == folder and content["all"]["about"]["rows"] == count


def measured(
    name: str, bench: Bench, found: Explanation, spent: Tensor, second: Explanation, few: int
) -> dict[str, Any]:
    """What is reported of a method."""

    def over(rows: slice) -> dict[str, Any]:
        part = found[rows]
        cost = {what: getattr(part, what).double().mean().item() for what in ("seconds", "forward", "backward")}
        cost |= {"processor": spent[rows].double().mean().item(), "scale": part.scale.double().mean().item()}
        return {"cost": cost, **bench.scores(part, name).to_dict()}

    return {
        "method": name,
        "options": found.about,
        "machine": f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}",
        "all": over(slice(0, len(found))),
        "first": over(slice(0, few)),
        "varied": bench.varied(found, second, name).to_dict(),
    }


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
