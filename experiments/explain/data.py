"""The two sets of faces whose classifiers are explained: drawn ones, where the truth is known, and photographs."""

from __future__ import annotations

import io
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image as Picture
from torch import Tensor

import causalcf as cf
from causalcf.data import ToyFaces

Split = Literal["train", "val", "test"]
SIDE = 64
ROWS = {"toyfaces": 20_000, "celeba": 5_500}  # to train on
KNOWN = ("male", "young", "smiling", "mouth_slightly_open", "blond_hair", "bangs", "eyeglasses", "wearing_hat")
MIRRORED = 1_000_000  # added to the id of a row, where it comes again
LAST = {"train": 5_500, "val": 6_000, "test": 6_500}  # ids of photographs, counted from 1


class Held:
    """Rows that are drawn or decoded once, and kept as bytes.

    Args:
        rows: columns, with `"image"` in bytes.
        graph: whose nodes they are.
        attributes: the columns that are attributes.
        mirrored: whether every row comes again with left and right exchanged.
    """

    def __init__(
        self, rows: Mapping[str, Tensor], graph: cf.CausalGraph, attributes: Sequence[str], mirrored: bool = False
    ) -> None:
        self.rows, self.graph, self.attributes, self.mirrored = dict(rows), graph, tuple(attributes), mirrored

    def __len__(self) -> int:
        return len(self.rows["id"]) * (2 if self.mirrored else 1)

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        place = torch.arange(len(self))[index]
        count = len(self.rows["id"])
        found = {name: column[place % count] for name, column in self.rows.items()}
        image = found["image"].float() / 255
        flip = place >= count
        image = torch.where(flip.reshape(-1, 1, 1, 1), image.flip(3), image)
        return {**found, "image": image, "id": found["id"] + MIRRORED * flip}

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows."""
        whole = self[:] if "image" in names else {name: column.repeat(1 + self.mirrored) for name, column in self.table}
        return {name: whole[name] for name in names}

    def modelled(self) -> Held:
        """The same rows, without the attributes that the graph does not know."""
        rows = {name: column for name, column in self.rows.items() if name == "id" or name in self.graph}
        return Held(rows, self.graph, [name for name in self.attributes if name in self.graph], self.mirrored)

    @property
    def table(self) -> list[tuple[str, Tensor]]:
        """All columns but the image."""
        return [(name, column) for name, column in self.rows.items() if name != "image"]


@dataclass(frozen=True)
class Faces:
    """A set of faces with the attribute whose classifier is explained.

    Attributes:
        name: of the set.
        query: the attribute.
    """

    name: str
    query: str = "smiling"

    def __post_init__(self) -> None:
        if self.name not in ROWS:
            raise SystemExit(f"--data: expected one of {', '.join(ROWS)}, got {self.name!r}")

    def train(self, rows: int | None = None) -> Held:
        """The rows to train on."""
        count = ROWS[self.name] if rows is None else rows
        return drawn(count) if self.name == "toyfaces" else photographed("train", count, mirrored=True)

    def labels(self) -> dict[str, Tensor]:
        """The attributes of the training rows."""
        if self.name != "toyfaces":
            return labelled("train")
        names = [name for name in ToyFaces.graph if name != "image"]
        return ToyFaces("train", rows=ROWS[self.name]).columns(names)

    def split(self, split: Split, rows: int) -> dict[str, Tensor]:
        """Rows of a split, as they are."""
        return ToyFaces(split, rows=rows)[:] if self.name == "toyfaces" else photographed(split, rows)[:]


def drawn(rows: int) -> Held:
    """Training rows of ToyFaces."""
    data = ToyFaces("train", rows=rows)
    parts = []
    for start in range(0, rows, 500):
        part = data[start : start + 500]
        parts.append({**part, "image": (255 * part["image"]).round().to(torch.uint8)})
    whole = {name: torch.cat([part[name] for part in parts]) for name in parts[0]}
    return Held(whole, data.graph, [name for name in data.graph if name != "image"])


def photographed(split: Split, rows: int, mirrored: bool = False) -> Held:
    """Rows of CelebA: the middle square of the aligned photographs, and their attributes.

    Reads `$CAUSALCF_DATA/celeba/celeba_6500_89x109.npz`: `jpeg`, the files one after the other, `offset`, where each
    begins, `attr`, -1 or 1, and `attr_names`, of the first 6500 photographs.
    """
    held, ids = _read(), _places(split, rows)
    jpeg, offset = held["jpeg"], held["offset"]
    images = torch.stack([_square(jpeg[offset[i] : offset[i + 1]].tobytes()) for i in ids.tolist()])
    columns = labelled(split, rows)
    nodes = {name: cf.Binary() for name in KNOWN}
    graph = cf.CausalGraph([(name, "image") for name in KNOWN], {**nodes, "image": cf.Image(3, SIDE, SIDE)})
    return Held({**columns, "image": images, "id": ids}, graph, list(columns), mirrored)


def labelled(split: Split, rows: int = 5_500) -> dict[str, Tensor]:
    """The attributes of rows of CelebA, 0 or 1."""
    held, ids = _read(), _places(split, rows)
    names = [str(name).lower() for name in held["attr_names"]]
    return {name: torch.from_numpy((held["attr"][ids, k] > 0).astype(np.int64)) for k, name in enumerate(names)}


def _places(split: Split, rows: int) -> Tensor:
    first = {"train": 0, "val": LAST["train"], "test": LAST["val"]}[split]
    return torch.arange(first, min(first + rows, LAST[split]))


def _read() -> Any:
    root = os.environ.get("CAUSALCF_DATA")
    if not root:
        raise SystemExit("set CAUSALCF_DATA to the folder that holds celeba/")
    return np.load(Path(root) / "celeba" / "celeba_6500_89x109.npz")


def _square(jpeg: bytes) -> Tensor:
    """The middle square, 64 pixels wide."""
    picture = Picture.open(io.BytesIO(jpeg)).convert("RGB")
    wide, high = picture.size
    top = (high - wide) // 2
    small = picture.crop((0, top, wide, top + wide)).resize((SIDE, SIDE), Picture.Resampling.LANCZOS)
    return torch.from_numpy(np.array(small)).permute(2, 0, 1)
