"""Rows of a data set, asked for in the ways of Python, NumPy and torch."""

import numpy as np
import pytest
import torch

from causalcf.data import Flow, MorphoDigits, Pendulum, ToyFaces
from causalcf.data.indexing import positions

MASK = [False, True, False, False, True]
ASKED = {
    "a number of NumPy": (np.int64(3), [3]),
    "a tensor of no dimension": (torch.tensor(-1), [4]),
    "a list": ([4, 0, -5], [4, 0, 0]),
    "an array read backwards": (np.arange(5)[::-1], [4, 3, 2, 1, 0]),
    "a slice read backwards": (slice(None, None, -2), [4, 2, 0]),
    "bytes": (torch.tensor([0, 4], dtype=torch.uint8), [0, 4]),
    "a mask": (torch.tensor(MASK), [1, 4]),
    "a mask of NumPy": (np.array(MASK), [1, 4]),
    "a mask in a list": (MASK, [1, 4]),
}
REFUSED = {
    "no whole numbers": torch.tensor([0.0, 1.7]),
    "no whole numbers in a list": [1.5],
    "a mask of fewer rows": torch.tensor(MASK[:3]),
    "a mask of more rows": [*MASK, True],
    "a mask of columns too": torch.ones(5, 2, dtype=torch.bool),
    "a boolean": True,
    "a table": [[0, 1]],
    "text": "12",
    "nothing": None,
}


@pytest.mark.parametrize("name", ASKED)
def test_places_are_those_that_torch_would_take(name):
    index, expected = ASKED[name]
    found = positions(index, 5, "Rows", "train")
    assert (found.dtype, found.tolist()) == (torch.int64, expected)


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_neither_places_nor_a_mask_of_all_rows_is_refused(name):
    with pytest.raises(IndexError, match="Rows: expected whole numbers of rows, or a mask of 5 booleans, got "):
        positions(REFUSED[name], 5, "Rows", "train")


@pytest.mark.parametrize("index", [5, -6, [0, 5], [], slice(3, 3), torch.zeros(5, dtype=torch.bool)])
def test_rows_that_are_not_there_are_refused(index):
    with pytest.raises(IndexError, match="is not among the 5 rows of the train split"):
        positions(index, 5, "Rows", "train")


@pytest.mark.parametrize("kind", [Flow, MorphoDigits, Pendulum, ToyFaces])
@pytest.mark.parametrize("rows", [0, 1e4, 10.5, True, 1_000_000_001])
def test_numbers_of_rows_that_cannot_be_are_refused(kind, rows):
    with pytest.raises(ValueError, match=rf"{kind.__name__}: expected .* rows.* got {rows}"):
        kind("test", rows=rows)
