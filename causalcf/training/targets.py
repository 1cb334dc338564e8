"""What predictors learn: a column of classes or of values, checked before anything is trained."""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from causalcf.rows import Dataset

PART = 1024  # rows read at once where a column cannot be read alone


def classes_of(rows: Dataset, target: str, classes: int, node: str = "image") -> Int[Tensor, " rows"]:
    """The column `target`, int64 classes 0 to `classes - 1`.

    Raises:
        ValueError: it is not there, or holds something else.
    """
    found = _column(rows, target, node)
    if found.dtype != torch.int64 or found.ndim != 1:
        raise ValueError(
            f"{target}: expected int64 classes 0 to {classes - 1}, one per row, got {_described(found)}; convert it "
            f"with .long(), or use fit_regressor(rows, {target!r}) if it is continuous"
        )
    if len(odd := ((found < 0) | (found >= classes)).nonzero()):
        row = int(odd[0])
        more = f", or give classes={int(found.max()) + 1}" if found.max() >= classes else ""
        raise ValueError(
            f"{target}: expected classes 0 to {classes - 1}, got {int(found[row])} in row {row}; number them from "
            f"0{more}"
        )
    return found


def values_of(rows: Dataset, target: str, node: str = "image") -> Float[Tensor, " rows"]:
    """The column `target`, finite floating values.

    Raises:
        ValueError: it is not there, or holds something else.
    """
    found = _column(rows, target, node)
    if not found.is_floating_point() or found.ndim != 1:
        raise ValueError(
            f"{target}: expected floating values, one per row, got {_described(found)}; convert it with .float(), or "
            f"use fit_classifier(rows, {target!r}, classes) if it is a class"
        )
    if len(odd := (~found.isfinite()).nonzero()):
        row = int(odd[0])
        raise ValueError(f"{target}: expected finite values, got {found[row].item()} in row {row}; leave such rows out")
    return found


def _column(rows: Dataset, target: str, node: str) -> Tensor:
    """All of a column, without the images where the rows can be asked so."""
    if len(rows) < 2:
        raise ValueError(f"{target}: expected at least 2 rows, got {len(rows)}; give the training rows")
    first = rows[0:1]
    for name in (node, target):
        if name not in first:
            raise ValueError(f"no column {name!r}; the rows have {', '.join(sorted(first))}: give one of them")
    if hasattr(rows, "columns"):
        return rows.columns((target,))[target]  # type: ignore[attr-defined]
    return torch.cat([rows[start : start + PART][target] for start in range(0, len(rows), PART)])


def _described(column: Tensor) -> str:
    return f"{str(column.dtype).removeprefix('torch.')} of shape {tuple(column.shape)}"
