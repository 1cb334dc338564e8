"""How rows of a data set are asked for: by positions of any form, or as columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
        said = f"row {index}" if len(position) == 1 else "none" if not len(position) else "one of these places"
        raise IndexError(f"{name}: {said} is not among the {rows} rows of the {split} split")
    return position % rows


def check_count(name: str, rows: int) -> None:
    """Raise a ValueError where a data set of this name cannot draw so many rows."""
    whole(name, 1, rows=rows)
    if rows > MOST:
        raise ValueError(f"{name}: expected at most a thousand million rows, got {rows}")


def row_ids(name: str, rows: Mapping[str, Tensor]) -> Int[Tensor, " batch"]:
    """The ids of rows of a data set that draws them again.

    Raises:
        ValueError: rows without an id.
        TypeError: ids that are no whole numbers.
    """
    if "id" not in rows:
        raise ValueError(f"{name}: rows need their 'id' to be redrawn; pass rows as the data set gave them")
    if rows["id"].is_floating_point():
        raise TypeError(f"{name}: expected ids as whole numbers, got {rows['id'].dtype}; pass them as they were given")
    return rows["id"]


def own_places(name: str, ids: Int[Tensor, " batch"], offset: int, rows: int, split: str) -> Int[Tensor, " batch"]:
    """The places of rows by their ids.

    Raises:
        ValueError: an id that is of no row here.
    """
    place = ids.cpu() - offset
    strange = (place < 0) | (place >= rows)
    if strange.any():
        first = int(ids.cpu()[strange][0])
        raise ValueError(f"{name}: id {first} is no row of the {split} split; use the data set the rows came from")
    return place


def drawn_columns(
    data: Any, names: Sequence[str], undrawn: Callable[[Int[Tensor, " batch"]], dict[str, Tensor]]
) -> dict[str, Tensor]:
    """Some columns of all rows of a data set that draws its images; nothing is drawn unless the image is among them.

    Args:
        data: the data set.
        names: of the columns.
        undrawn: places -> all columns but the image.

    Raises:
        TypeError: one name rather than a list of them.
        ValueError: a name of no column.
    """
    if isinstance(names, str):
        raise TypeError(f"{type(data).__name__}: expected a list of columns, got {names!r}; write columns([{names!r}])")
    data.graph.require(*(name for name in names if name != "id"))
    if "image" in names:
        parts = [data[start : start + AT_ONCE] for start in range(0, len(data), AT_ONCE)]
        return {name: torch.cat([part[name] for part in parts]) for name in names}
    rows = undrawn(torch.arange(len(data)))
    return {name: rows[name] for name in names}
