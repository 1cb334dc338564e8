"""IDX files, the layout of MNIST, and the tables beside them."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Float32


def read_idx(folder: Path, name: str, dimensions: int, source: str) -> np.ndarray:
    """Read an IDX file of bytes, gzipped (`name.gz`) or not (`name`), as an array of uint8.

    Args:
        folder: where it is.
        name: its name without `.gz`.
        dimensions: 3 for images, 1 for labels.
        source: where to get it, for the message.

    Raises:
        FileNotFoundError: neither of the two is there.
        ValueError: it is no such file, or cut off.
    """
    path = next((path for path in (folder / f"{name}.gz", folder / name) if path.is_file()), None)
    if path is None:
        raise FileNotFoundError(f"{folder / name}[.gz] is missing; {source}")
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    except (EOFError, OSError, zlib.error) as error:
        raise ValueError(f"{path}: expected a complete gzip file ({error}); download it again") from None
    header = 4 + 4 * dimensions
    if data[:4] != bytes([0, 0, 8, dimensions]):
        raise ValueError(
            f"{path}: expected an IDX file of bytes in {dimensions} dimensions, which begins "
            f"00 00 08 {dimensions:02}, got {data[:4].hex(' ') or 'nothing'}; download it again"
        )
    shape = [int.from_bytes(data[start : start + 4], "big") for start in range(4, header, 4)]
    expected = header + math.prod(shape)
    if len(data) != expected:
        raise ValueError(f"{path}: expected {expected} bytes for {shape}, got {len(data)}; download it again")
    return np.frombuffer(data, dtype=np.uint8, offset=header).reshape(shape).copy()


def read_table(folder: Path, name: str, columns: Sequence[str], source: str) -> dict[str, Float32[np.ndarray, " rows"]]:
    """Read columns of numbers from a comma-separated table with a header.

    Args:
        folder: where it is.
        name: its name.
        columns: the columns wanted. One called `index`, if there is one, must count the rows from 0.
        source: where to get it, for the message.

    Raises:
        FileNotFoundError: it is not there.
        ValueError: a column is missing, a value is no finite number, or the index does not count.
    """
    path = folder / name
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing; {source}")
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = csv.reader(file)
        header = [column.strip() for column in next(rows, [])]
        if missing := [column for column in columns if column not in header]:
            raise ValueError(
                f"{path}: expected a column {missing[0]!r}, got {', '.join(header) or 'an empty file'}; "
                f"the first line must name {', '.join(columns)}"
            )
        if twice := [column for column in columns if header.count(column) > 1]:
            raise ValueError(
                f"{path}: expected one column {twice[0]!r}, got {header.count(twice[0])}; rename the others"
            )
        wanted = [place for place, column in enumerate(header) if column in (*columns, "index")]
        read = []
        for place, row in enumerate(row for row in rows if row):
            if len(row) != len(header):
                raise ValueError(f"{path}: expected {len(header)} cells in every row, got {len(row)} in row {place}")
            try:
                read.append([float(row[column]) for column in wanted])
            except ValueError as error:
                raise ValueError(f"{path}: expected numbers in row {place} ({error}); correct that row") from None
    header = [header[column] for column in wanted]
    values = np.array(read, dtype=np.float64).reshape(-1, len(header))
    if not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values).all(1))[0])
        raise ValueError(f"{path}: expected finite numbers, got {values[row]} in row {row}; correct that row")
    if "index" in header and not np.array_equal(values[:, header.index("index")], np.arange(len(values))):
        raise ValueError(f"{path}: expected an index that counts the rows from 0; sort the table as the images are")
    return {column: values[:, header.index(column)].astype(np.float32) for column in columns}
