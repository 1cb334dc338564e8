"""Faces whose smile can be told by something else: drawn ones, and photographs left out so that few men smile."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import ToyFaces
from causalcf.networks.classifier import Classifier
from causalcf.training.predictors import load_predictor
from experiments.explain.data import Held, photographed

LABEL = "smiling"
SMALL: dict[str, Any] = {  # of MaskDiME: first the smallest change that may do
    "steps": 50,
    "depth": 30,
    "share": 0.02,
    "scales": (0.5, 1.0, 2.0, 4.0, 8.0, 16.0),
}
Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Biased:
    """Rows in which a shortcut tells the label, and what is needed to find that out.

    Attributes:
        train: the rows.
        fair: as many rows without the shortcut.
        unbiased: test rows without the shortcut.
        readers: attribute -> what reads it from images.
        teacher: who judges counterfactuals.
        exchanged: ids of training rows -> their images with the other value of the shortcut; None if nobody knows.
    """

    train: Held
    fair: Held
    unbiased: Held
    readers: Mapping[str, Reader]
    teacher: Reader
    exchanged: Callable[[Tensor], Tensor] | None = None


def kept(data: ToyFaces) -> Held:
    """Drawn rows, drawn once."""
    parts = []
    for start in range(0, len(data), 500):
        part = data[start : start + 500]
        parts.append({**part, "image": (255 * part["image"]).round().to(torch.uint8)})
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Held(whole, data.graph, [name for name in data.graph if name != "image"])


def drawn(shortcut: str, strength: float, rows: int, tested: int, seed: int) -> Biased:
    """ToyFaces in which an attribute, or a marker, follows the smile; exact readers judge.

    Args:
        shortcut: "marker" or an attribute.
        strength: how closely it follows.
        rows: to train on.
        tested: without the shortcut.
        seed: of the rows.
    """
    tied = ToyFaces("train", rows=rows, seed=seed, shortcut=shortcut, target=LABEL, strength=strength)
    free = {"shortcut": shortcut, "target": LABEL, "seed": seed}
    readers, held = tied.oracles(), kept(tied)

    def exchanged(ids: Tensor) -> Tensor:
        place = (ids[:, None] == held.rows["id"]).long().argmax(1)
        part = {name: column[place] for name, column in held.rows.items()}
        return tied.true_counterfactual(part, cf.do(**{shortcut: 1 - part[shortcut]}))["image"].float()

    return Biased(
        held,
        kept(ToyFaces("train", rows=rows, **free)),
        kept(ToyFaces("test", rows=tested, **free)),
        readers,
        readers[LABEL],
        exchanged,
    )


def judges(runs: Path) -> tuple[Path, Path]:
    """The folders of who stands in for the teacher, and for exact readers, of photographs."""
    return runs / "celeba-readers" / "independent", runs / "celeba-readers" / "attributes"


def photographs(shortcut: str, strength: float, rows: int, tested: int, seed: int, runs: Path) -> Biased:
    """CelebA, of which rows are left out until the label is the opposite of an attribute as often as is asked.

    Classifiers of the attributes stand in for exact readers, and one of the smile, trained on all rows, for the
    teacher: `runs/celeba-readers`, of `experiments.explain.train`.

    Args:
        shortcut: an attribute, "male" for example.
        strength: correlation with the label, negative: of 1, no men smile and all women do.
        rows: at most so many to train on.
        tested: at most so many, as often each of the four combinations.
        seed: of the choice.
        runs: folder of the readers.
    """
    own, attributes = map(load_predictor, judges(runs))
    assert isinstance(own, Classifier) and isinstance(attributes, Classifier)
    train, val, test = (photographed(split, 10_000) for split in ("train", "val", "test"))
    names = train.attributes

    def reader(place: int) -> Reader:
        return lambda images: (attributes(images)[:, place] > 0).long()

    every = {name: torch.cat([held.rows[name] for held in (val, test)]) for name in val.rows}
    biased = chosen(train.rows, shortcut, (1 + strength) / 2, rows, seed)
    return Biased(
        Held(biased, train.graph, names),
        Held(chosen(train.rows, shortcut, 0.5, len(biased["id"]), seed), train.graph, names),
        Held(chosen(every, shortcut, 0.5, tested, seed), train.graph, names),
        {name: reader(names.index(name)) for name in train.graph if name in names},
        own.predict,
    )


def chosen(rows: Mapping[str, Tensor], shortcut: str, opposite: float, count: int, seed: int) -> dict[str, Tensor]:
    """As many rows as there are, up to a number, with the label and the shortcut each there in half of them.

    Args:
        rows: columns.
        shortcut: an attribute.
        opposite: share of the rows in which it is not the label.
        count: at most so many rows.
        seed: of the choice.
    """
    group = 2 * rows[LABEL] + rows[shortcut]
    shares = {0: (1 - opposite) / 2, 1: opposite / 2, 2: opposite / 2, 3: (1 - opposite) / 2}
    places = {which: (group == which).nonzero()[:, 0] for which in shares}
    count = min([count, *(int(len(places[which]) / share) for which, share in shares.items() if share)])
    generator = torch.Generator().manual_seed(seed)
    taken = []
    for which, share in shares.items():
        order = torch.randperm(len(places[which]), generator=generator)
        taken.append(places[which][order[: int(count * share)]])
    index = torch.cat(taken)
    return {name: column[index] for name, column in rows.items()}
