"""How rows of a data set are asked for: by positions of any form, or as columns."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from causalcf.numbers import whole

Index = int | slice | Sequence[int] | np.ndarray | Tensor
AT_ONCE = 1024  # rows drawn together
MOST = 1_000_000_000  # rows of a split, whose ids are this far from those of another


def positions(index: Index, rows: int, name: str, split: str) -> Int[Tensor, " batch"]:
    """The places from 0 on that a slice, a list, an array, a tensor or a mask of them means; an integer means one.

    Args:
        index: as written by the user; negative places count from the end, a mask has a boolean for each row.
        rows: how many there are.
        name: of the data set.
        split: of it.

    Raises:
        IndexError: places beyond the rows, or none; what is neither places nor such a mask.

    Example:
        >>> positions(slice(-2, None), 5, "Rows", "train").tolist()
        [3, 4]
    """
    if isinstance(index, slice):
        index = range(*index.indices(rows))
    place = np.asarray(index.cpu() if isinstance(index, Tensor) else index)
    if place.dtype == bool and place.shape == (rows,):
        place = place.nonzero()[0]
    if place.size and (place.dtype.kind not in "iu" or place.ndim > 1):
        raise IndexError(
            f"{name}: expected whole numbers of rows, or a mask of {rows} booleans, got {place.dtype} of shape "
            f"{place.shape}; write data[[0, 2]], or data[mask] with a boolean for each row"
        )
    position = torch.from_numpy(np.atleast_1d(place).astype(np.int64))
    if len(position) == 0 or position.min() < -rows or position.max() >= rows:
        raise IndexError(f"{name}: row {index} is not among the {rows} rows of the {split} split")
    return position % rows


def check_count(name: str, rows: int) -> None:
    """Raise a ValueError where a data set of this name cannot draw so many rows."""
    whole(name, 1, rows=rows)
    if rows > MOST:
        raise ValueError(f"{name}: expected at most a thousand million rows, got {rows}")


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
