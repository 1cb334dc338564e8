"""Sequences in pictures: what was observed, and what a model and the truth say after each step."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch
from matplotlib.image import imsave
from torch import Tensor

GAP = 2  # pixels between pictures


def strip(observed: Tensor, answers: Mapping[str, Tensor], truth: Mapping[str, Tensor], units: int = 3) -> Tensor:
    """One picture, shape `(height, width, 3)`: per unit a row of the model's answers, and below it one of the truth.

    Args:
        observed: the first pictures.
        answers: step -> the model's pictures.
        truth: step -> the true ones.
        units: how many rows of the data are shown.
    """
    rows = []
    for unit in range(min(units, len(observed))):
        for pictures in (answers, truth):
            rows.append(_beside([observed[unit], *(images[unit] for images in pictures.values())], 2))
    return _beside(rows, 1).clamp(0, 1).permute(1, 2, 0)


def _beside(pictures: list[Tensor], dim: int) -> Tensor:
    shape = list(pictures[0].shape)
    shape[dim] = GAP
    gap = torch.ones(shape)
    parts = [part for picture in pictures for part in (picture.float().cpu(), gap)]
    return torch.cat(parts[:-1], dim)


def save(path: Path, picture: Tensor) -> None:
    """Write a PNG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    imsave(path, (255 * picture).round().byte().numpy())
