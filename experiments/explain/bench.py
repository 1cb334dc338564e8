"""What all methods share: rows, networks and generators; and what is said of their explanations."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import ToyFaces
from causalcf.explain.explanation import Explanation
from causalcf.explain.generator import Generator
from causalcf.metrics.explanation_report import explanation_scores
from causalcf.metrics.explanation_sets import (
    attribute_correlations,
    correlation_difference,
    fid,
    split_fid,
    split_fid_without,
)
from causalcf.metrics.report import Report
from causalcf.networks.classifier import Predictor
from causalcf.training.predictors import load_predictor
from experiments.explain.data import Faces, Split
from experiments.explain.families import FAMILIES, Options
from experiments.explain.latents import load
from experiments.explain.methods import METHODS, Kit, family_of
from experiments.explain.models import generator

READERS = ("classifier", "surrogate", "judge", "attributes")
AXES, BASIS = 16, 200  # principal axes of the features in which realism is, and validation rows they are of


@dataclass(frozen=True)
class Asked:
    """What explaining rows takes.

    Attributes:
        rows: the rows that are explained.
        kit: classifier and surrogate.
        drawing: the generator, of pixels, and of codes if there is one.
        judge: the smoothed classifier of another seed, for NA and NAFR.
        target: the class that is wanted of each row; None for the other of two.
    """

    rows: dict[str, Tensor]
    kit: Kit
    drawing: dict[bool, Generator]
    judge: Predictor
    target: Tensor | None = field(default=None, kw_only=True)


@dataclass(frozen=True)
class Bench(Asked):
    """What all methods share.

    Attributes:
        faces: the data set.
        attributes: a network that reads attributes, in whose features similarity, and in whose outputs concepts are.
        axes: principal axes of these features, in which realism is.
        named: the attributes, in the order in which the oracle gives them.
        correlation: of each of them with the query, among training rows.
        chosen: options of families of methods, as `tune` chose them.
        split: of the rows.
    """

    faces: Faces
    attributes: Predictor
    axes: Tensor
    named: tuple[str, ...]
    correlation: Tensor
    chosen: Mapping[str, Options]
    split: Split = field(default="test", kw_only=True)

    @property
    def query(self) -> int:
        """Which of the attributes the classifier reads."""
        return self.named.index(self.faces.query)

    def oracle(self, images: Tensor) -> Tensor:
        """Probabilities of the attributes; measured where they were drawn, and read by a network elsewhere."""
        if not self.knows:
            return self.attributes(images).sigmoid()
        oracles = ToyFaces("test").oracles()
        return torch.stack([oracles[name](images).float() for name in self.named], 1)

    def realism(self, images: Tensor) -> Tensor:
        """The features in which Frechet distances are: few, so that these can be told from few rows."""
        return torch.cat([self.attributes.features(part) for part in images.split(64)]).double() @ self.axes

    @property
    def knows(self) -> bool:
        """Whether there is a truth."""
        return self.faces.name == "toyfaces"

    def truth(self, target: Tensor) -> tuple[Tensor, Tensor]:
        """The pixels that the query owns in the first rows, and what these would have been, where that is known."""
        data, part = ToyFaces(self.split), {name: values[: len(target)] for name, values in self.rows.items()}
        action = cf.do(**{self.faces.query: target})
        return data.owns(part, self.faces.query), data.true_counterfactual(part, action)["image"]

    @torch.no_grad()
    def scores(self, found: Explanation, name: str) -> Report:
        """Everything but diversity, of explanations of the first rows."""
        owned, truth = self.truth(found.target) if self.knows else (None, None)
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
            query=self.query,
            data_correlation=self.correlation,
            encoder=self.attributes.features,
            realism=self.realism,
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

    @torch.no_grad()
    def together(self, found: Explanation) -> dict[str, Any]:
        """What is said of explanations only taken together; `enough` are there if half of them are twice the axes."""
        flipped, real, other = found.flipped, self.realism(found.images), self.realism(found.counterfactuals)
        before, after = (self.oracle(images)[flipped] for images in (found.images, found.counterfactuals))
        return {
            "FID": fid(real, other[flipped]),
            "sFID": split_fid(real, other, flipped).mean,
            "sFID without": split_fid_without(real, other, flipped),
            "CD": correlation_difference(before, after, self.correlation, self.query).value,
            "enough": int(flipped.sum()) >= 4 * self.axes.shape[1],
        }


def principal(features: Tensor, count: int) -> Tensor:
    """The axes along which features vary most, one per column."""
    features = features.double()
    axes = torch.linalg.svd(features - features.mean(0), full_matrices=False).Vh
    return axes[:count].T.contiguous()


def digests(data: str, models: Path) -> dict[bool, str]:
    """Of all weights that decide what is explained and how it is judged: in pixels, and in codes if there are any."""
    pixels = [f"{data}-readers/{name}" for name in READERS] + [f"{data}-spatial"]
    if missing := [folder for folder in pixels if not (models / folder).is_dir()]:
        raise SystemExit(f"{models / missing[0]} is missing; run: python -m experiments.explain.train --data {data}")
    found = {False: _digest(models / folder for folder in pixels)}
    if codes := coding(data, models):
        found[True] = _digest(models / folder for folder in (*pixels, *codes))
    return found


def coding(data: str, models: Path) -> list[str]:
    """The autoencoder and the generator of its codes, if both are trained."""
    codes = [f"{data}-autoencoder", f"{data}-latent"]
    return codes if all((models / folder).is_dir() for folder in codes) else []


def _digest(folders: Iterable[Path]) -> str:
    found = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*") if path.is_file()):
        found.update(path.name.encode() + path.read_bytes())
    return found.hexdigest()[:12]


def selected(path: Path, data: str, weights: Mapping[bool, str], names: Iterable[str]) -> dict[str, Options]:
    """The options of families, from the file that `tune` wrote: those chosen with the weights and grids of now.

    Args:
        path: of the file.
        data: the data set.
        weights: digests.
        names: of methods whose options must be there.

    Raises:
        SystemExit: they are not.
    """
    content = json.loads(path.read_text()) if path.exists() else {}
    if stale := [family for family in dict.fromkeys(map(family_of, names)) if not current(content, family, weights)]:
        raise SystemExit(
            f"{path} has no options of {', '.join(stale)} that were chosen with the weights and the grid of now; "
            f"run: python -m experiments.explain.tune --data {data}"
        )
    return {family: content[family]["options"] for family in FAMILIES if current(content, family, weights)}


def current(content: Mapping[str, Any], family: str, weights: Mapping[bool, str]) -> bool:
    """Whether options of a family were chosen with these weights, and of the grid that it has now."""
    now = {"weights": weights.get(METHODS[family].latent, "none"), "grid": FAMILIES[family].digest()}
    return now.items() <= content.get(family, {}).items()


def prepared(faces: Faces, models: Path, split: Split, rows: int, chosen: Mapping[str, Options] | None = None) -> Bench:
    """What all methods share, from the folders that `train` wrote.

    Args:
        faces: the data set.
        models: folder of these folders.
        split: of the rows that are explained.
        rows: the first of them.
        chosen: options of families.
    """
    readers = {name: load_predictor(models / f"{faces.name}-readers" / name) for name in READERS}
    for reader in readers.values():
        reader.requires_grad_(False)
    labels = faces.labels()
    drawing = {False: generator(cf.SCM.load(models / f"{faces.name}-spatial"), faces.query, labels)}
    if codes := coding(faces.name, models):
        autoencoder, latent = (models / folder for folder in codes)
        drawing[True] = generator(cf.SCM.load(latent), faces.query, labels, load(autoencoder))
    with torch.no_grad():
        features = readers["attributes"].features(faces.split("val", BASIS)["image"])
    return Bench(
        faces.split(split, rows),
        Kit(readers["classifier"], readers["surrogate"]),
        drawing,
        readers["judge"],
        faces,
        readers["attributes"],
        principal(features, AXES),
        tuple(labels),
        attribute_correlations(torch.stack(list(labels.values()), 1).float(), list(labels).index(faces.query)),
        {} if chosen is None else chosen,
        split=split,
    )
