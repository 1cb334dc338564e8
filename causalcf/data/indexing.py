"""How rows of a data set are asked for: by positions of any form, or as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor

Index = int | slice | Sequence[int] | Tensor
AT_ONCE = 1024  # rows drawn together


def positions(index: Index, rows: int, name: str, split: str) -> Int[Tensor, " batch"]:
    """The places from 0 on that a slice, a list, a tensor or a mask of them means; an integer means one.

    Args:
        index: as written by the user; negative places count from the end.
        rows: how many there are.
        name: of the data set.
        split: of it.

    Raises:
        IndexError: places beyond the rows, or none.

    Example:
        >>> positions(slice(-2, None), 5, "Rows", "train").tolist()
        [3, 4]
    """
    if isinstance(index, slice):
        index = range(*index.indices(rows))
    elif isinstance(index, Tensor) and index.dtype == torch.bool:
        index = index.nonzero()[:, 0]
    position = torch.as_tensor([index] if isinstance(index, int) else list(index), dtype=torch.int64)
    if len(position) == 0 or position.min() < -rows or position.max() >= rows:
        raise IndexError(f"{name}: row {index} is not among the {rows} rows of the {split} split")
    return position % rows


def drawn_columns(
    data: Any, names: Sequence[str], undrawn: Callable[[Int[Tensor, " batch"]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Some columns of all rows of a data set that draws its images; nothing is drawn unless the image is among them.

    Args:
        data: the data set.
        names: of the columns.
        undrawn: places -> all columns but the image.
    """
    if "image" in names:
        parts = [data[start : start + AT_ONCE] for start in range(0, len(data), AT_ONCE)]
        return {name: torch.cat([part[name] for part in parts]) for name in names}
    rows = undrawn(torch.arange(len(data)))
    return {name: rows[name] for name in names}
