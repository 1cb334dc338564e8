"""Which attributes counterfactuals changed: what a classifier answers to, shortcuts among it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from causalcf.explain.explanation import Explanation

Reader = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Changes:
    """How often counterfactuals changed each attribute.

    Attributes:
        rows: counterfactuals that flipped the classifier; only these are counted.
        share: attribute -> share of them in which it is another.
        along: attribute -> mean of its change, +1 towards the target of the row and -1 away from it, where both have
            two classes: at +1 or -1 it stands for the target wherever it changed. NaN where either has more.
        nothing: share of them in which no attribute is another: the classifier answered to what no reader sees, as it
            does where the generator lets adversarial noise through.
    """

    rows: int
    share: Mapping[str, float]
    along: Mapping[str, float]
    nothing: float

    def to_dict(self) -> dict[str, object]:
        """Plain data."""
        along = {name: None if math.isnan(value) else value for name, value in self.along.items()}
        return {"rows": self.rows, "share": dict(self.share), "along": along, "nothing": self.nothing}

    def to_markdown(self) -> str:
        """A table, what changes most often first."""
        lines = [f"| attribute | changed, of {self.rows} | with the target |", "|---|---|---|"]
        for name in sorted(self.share, key=lambda name: -self.share[name]):
            lines.append(f"| {name} | {self.share[name]:.2f} | {_signed(self.along[name])} |")
        return "\n".join([*lines, f"| none of these | {self.nothing:.2f} | |"]) + "\n"


def _signed(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:+.2f}"


@torch.no_grad()
def changes(explanation: Explanation, readers: Mapping[str, Reader], batch: int = 256) -> Changes:
    """Read the attributes of images and counterfactuals, and count how often they differ where the classifier flipped.

    Args:
        explanation: of any explainer.
        readers: attribute -> what reads its class from images in [0, 1], `ToyFaces.oracles()` for example.
        batch: rows at a time.

    Raises:
        ValueError: nothing flipped, or no readers.
        TypeError: a reader that gives no classes.

    Example:
        `print(changes(explanation, data.oracles()).to_markdown())`
    """
    if not readers:
        raise ValueError('changes: expected at least one reader, got none; write {"smiling": classifier.predict}')
    flipped = explanation.flipped.nonzero()[:, 0]
    if not len(flipped):
        raise ValueError(
            f"changes: none of {len(explanation)} counterfactuals flipped the classifier; make the explainer's scales "
            "or its depth larger"
        )
    classes = explanation.target[flipped].cpu(), explanation.predicted[flipped].cpu()
    towards = 2 * explanation.target[flipped].cpu().double() - 1
    share, along, same = {}, {}, torch.ones(len(flipped), dtype=torch.bool)
    for name, reader in readers.items():
        before, after = (
            read(name, reader, images[flipped], batch) for images in (explanation.images, explanation.counterfactuals)
        )
        same &= before == after
        share[name] = (before != after).double().mean().item()
        two = all(int(found.max()) <= 1 for found in (before, after, *classes))
        along[name] = ((after - before).double() * towards).mean().item() if two else math.nan
    return Changes(len(flipped), share, along, same.double().mean().item())


def read(name: str, reader: Reader, images: Tensor, batch: int = 256) -> Tensor:
    """Classes that a reader finds in images, some rows at a time.

    Args:
        name: what messages call it.
        reader: images in [0, 1] -> int64 classes.
        images: in [0, 1].
        batch: rows at a time.
    """
    parts = [reader(images[start : start + batch]) for start in range(0, len(images), batch)]
    found = torch.cat(parts).cpu()
    if found.dtype != torch.int64 or found.shape != (len(images),):
        raise TypeError(
            f"{name}: expected int64 classes of shape ({len(images)},), got {found.dtype} of shape "
            f"{tuple(found.shape)}; write lambda images: network(images).argmax(1)"
        )
    return found
