"""A user's own data: a table with one row per unit, and its pictures in a folder."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.indexing import Index, positions
from causalcf.data.photographs import as_tensor, coloured, is_text, name_digest, read_pixels
from causalcf.graph import CausalGraph
from causalcf.numbers import whole
from causalcf.variables import Continuous, Discrete, Image

Resize = Literal["never", "stretch", "crop", "pad"]
Missing = Literal["refuse", "drop"]
Cells = Mapping[str, Sequence[Any]]
WORDS = {"false": 0, "true": 1, "no": 0, "yes": 1}  # what a table calls absent and present


class Folder:
    """Rows of a table, each with its pictures; pictures are read when a row is.

    A column holds the values of the variable of its name. A number may be written in any way that Python reads; a class
    by its number from 0 or, where the variable names its classes, by its name; absent and present also as `False` and
    `True`, `no` and `yes`, or -1 and 1. An image's column holds the path of a PNG or JPEG file of 8 or 16 bits, from
    the folder on. A row's id, which decides its noise, is a digest of the path of its first picture; so it stays what
    it is where rows are left out or come in another order.

    Args:
        table: a .csv or .tsv file whose first line names the columns, a data frame, or a mapping name -> cells.
        graph: whose variables the columns are; further columns are left alone.
        images: folder that paths of pictures start from; by default that of the table.
        columns: variable -> the column it is in, where that has another name.
        read: variable -> a function of a cell that gives a number or the name of a class, where cells are written
            otherwise: `{"age": lambda cell: float(cell[:-1])}` for "063Y".
        where: a function of a row's cells, name -> cell, that says whether the row belongs to these data:
            `lambda row: row["split"] == "train"`.
        missing: "refuse" raises where a cell of the graph is empty; "drop" leaves such rows out.
        resize: what to do with pictures of another size: "never" raises; "stretch" changes width and height apart;
            "crop" keeps the middle in the shape wanted; "pad" puts black beside what is narrow.
        middle: side of the square in the middle of each picture that alone is read, before it is resized.
        white: grey level that is white in pictures of 16 bits: 4095 where a scanner of 12 bits wrote them.
        called: what messages call the table; by default its file.

    Attributes:
        left_out: how many rows an empty cell left out.
        ids: of the rows.

    Raises:
        FileNotFoundError: there is no table, or a picture is not there.
        ValueError: a column is missing, a cell cannot be read, or no row is left.

    Example:
        >>> from causalcf import Categorical, Continuous
        >>> graph = CausalGraph("marker -> size", marker=Categorical(names=("none", "circle")), size=Continuous())
        >>> Folder({"marker": ["circle", "none"], "size": ["2.5", "3"]}, graph)[:]
        {'marker': tensor([1, 0]), 'size': tensor([2.5000, 3.0000]), 'id': tensor([0, 1])}
    """

    def __init__(
        self,
        table: str | PathLike[str] | Cells | Any,
        graph: CausalGraph,
        *,
        images: str | PathLike[str] | None = None,
        columns: Mapping[str, str] | None = None,
        read: Mapping[str, Callable[[Any], Any]] | None = None,
        where: Callable[[dict[str, Any]], bool] | None = None,
        missing: Missing = "refuse",
        resize: Resize = "never",
        middle: int | None = None,
        white: int = 65535,
        called: str | None = None,
    ) -> None:
        if missing not in get_args(Missing):
            raise ValueError(f"Folder: expected missing to be one of {', '.join(get_args(Missing))}, got {missing!r}")
        if resize not in get_args(Resize):
            raise ValueError(f"Folder: expected resize to be one of {', '.join(get_args(Resize))}, got {resize!r}")
        graph.require(*(columns or {}), *(read or {}))
        whole("Folder", 1, white=white, **({} if middle is None else {"middle": middle}))
        cells, file, place = _cells(table)
        self.name = called or file
        self.graph: CausalGraph = graph
        self.resize: Resize = resize
        self.white, self.middle = white, middle
        self.folder = place if images is None else Path(images)
        wanted = {name: (columns or {}).get(name, name) for name in graph}
        for name, column in wanted.items():
            if column not in cells:
                raise ValueError(
                    f"{self.name}: expected a column {column!r} for {name}, got {', '.join(cells) or 'none'}; "
                    f'name the one it is in, columns={{"{name}": "..."}}'
                )
        chosen = _chosen(cells, where, self.name)
        empty = {row for column in wanted.values() for row in chosen if _is_empty(cells[column][row])}
        if empty and missing == "refuse":
            row = min(empty)
            column = next(column for column in wanted.values() if _is_empty(cells[column][row]))
            raise ValueError(
                f"{self.name}: {column} is empty in row {row}, and {len(empty)} of {len(chosen)} rows have an empty "
                'cell; fill them, or write missing="drop" to leave these rows out'
            )
        self.left_out = len(empty)
        chosen = [row for row in chosen if row not in empty]
        if not chosen:
            raise ValueError(f"{self.name}: no row is left; look at `where`, and at empty cells")
        self._files = {name: [str(cells[wanted[name]][row]) for row in chosen] for name in graph.images}
        self._values = {
            name: self._column(name, [cells[column][row] for row in chosen], chosen, (read or {}).get(name))
            for name, column in wanted.items()
            if name not in graph.images
        }
        files = next(iter(self._files.values()), None)
        self.ids = torch.tensor(chosen if files is None else [name_digest(file) for file in files])
        self._check_files()

    def _column(
        self, name: str, cells: Sequence[Any], rows: Sequence[int], read: Callable[[Any], Any] | None
    ) -> Tensor:
        """A column as its variable wants it."""
        variable = self.graph[name]
        values = []
        for row, cell in zip(rows, cells, strict=True):
            try:
                values.append(_read(cell if read is None else read(cell), variable))
            except Exception as error:
                raise ValueError(f"{self.name}: {name} is {cell!r} in row {row}: {error}") from error
        if isinstance(variable, Discrete) and variable.classes == 2 and -1 in values and set(values) <= {-1, 1}:
            values = [int(value > 0) for value in values]
        return variable.check(f"{self.name}: {name}", torch.tensor(values).to(variable.dtype))

    def _check_files(self) -> None:
        for files in self._files.values():
            for file in files:
                if not is_text(file):
                    raise ValueError(f"{self.name}: {file!r} is not in the encoding of this machine; rename it")
                if not (self.folder / file).is_file():
                    raise FileNotFoundError(
                        f"{self.name}: there is no picture {self.folder / file}; paths start from {self.folder}, write "
                        "images=... where they start from another folder"
                    )

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """Rows by a slice, a list of positions or a tensor of them; an integer gives a batch of one."""
        place = positions(index, len(self), "Folder", self.name)
        rows = {name: column[place] for name, column in self._values.items()}
        for name, files in self._files.items():
            rows[name] = torch.stack([self._picture(name, files[row]) for row in place.tolist()])
        return {**{name: rows[name] for name in self.graph}, "id": self.ids[place]}

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows; no picture is read unless it is among them."""
        self.graph.require(*(name for name in names if name != "id"))
        known = {**self._values, "id": self.ids}
        pictures = [name for name in names if name in self._files]
        read = {name: torch.stack([self._picture(name, file) for file in self._files[name]]) for name in pictures}
        return {name: read[name] if name in read else known[name] for name in names}

    def _picture(self, name: str, file: str) -> Float[Tensor, "channel height width"]:
        image = self.graph[name]
        assert isinstance(image, Image)
        pixels = read_pixels(self.folder / file, self.name, self.white)
        if image.channels not in (1, 3):
            raise ValueError(f"{name}: PNG and JPEG files have 1 or 3 channels, {name} is {image}")
        if image.channels == 1 and coloured(pixels):
            raise ValueError(f"{self.name}: {file} has colours, {name} is {image}; declare 3 channels, or make it grey")
        read, size = as_tensor(pixels, image.channels), (image.height, image.width)
        if self.middle is not None:
            read = self._middle_of(read, file)
        if read.shape[1:] == size:
            return read
        if self.resize == "never":
            high, wide = read.shape[1:]
            raise ValueError(
                f"{self.name}: {file} is {wide} wide and {high} high, {name} is {image}; declare that size, or write "
                'resize="crop", "pad" or "stretch"'
            )
        return resized(read, size, self.resize)

    def _middle_of(self, picture: Tensor, file: str) -> Tensor:
        assert self.middle is not None
        high, wide = picture.shape[1:]
        if min(high, wide) < self.middle:
            raise ValueError(
                f"{self.name}: {file} is {wide} wide and {high} high, and holds no square of middle={self.middle}; "
                "write a smaller one, or None for the whole picture"
            )
        top, left = (high - self.middle) // 2, (wide - self.middle) // 2
        return picture[:, top : top + self.middle, left : left + self.middle]

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.name}, {len(self)} rows)"


def resized(
    image: Float[Tensor, "channel height width"], size: tuple[int, int], how: Resize
) -> Float[Tensor, "channel high wide"]:
    """An image in another size, smoothed where it becomes smaller.

    Args:
        image: in [0, 1].
        size: height and width wanted.
        how: as in `Folder`.

    Example:
        >>> resized(torch.ones(1, 4, 8), (2, 2), "pad").round()
        tensor([[[1., 1.],
                 [0., 0.]]])
        >>> resized(torch.linspace(0, 1, 8).view(1, 1, 8), (1, 1), "stretch")
        tensor([[[0.5000]]])
    """
    high, wide = image.shape[1:]
    scales = size[0] / high, size[1] / wide
    if how == "crop":
        scale = max(scales)
        inner = min(high, round(size[0] / scale)), min(wide, round(size[1] / scale))
        top, left = (high - inner[0]) // 2, (wide - inner[1]) // 2
        image = image[:, top : top + inner[0], left : left + inner[1]]
    within = size
    if how == "pad":
        scale = min(scales)
        within = max(1, min(size[0], round(high * scale))), max(1, min(size[1], round(wide * scale)))
    made = torch.nn.functional.interpolate(image[None], within, mode="bilinear", antialias=True)[0].clamp(0, 1)
    below, right = size[0] - within[0], size[1] - within[1]
    return torch.nn.functional.pad(made, (right // 2, right - right // 2, below // 2, below - below // 2))


def _cells(table: Any) -> tuple[dict[str, Sequence[Any]], str, Path]:
    """Columns of a table, what to call it, and the folder that paths in it start from."""
    if not isinstance(table, str | PathLike):
        if not isinstance(table, Mapping) and not hasattr(table, "columns"):
            raise TypeError(
                f"Folder: expected the path of a .csv file, a data frame or a mapping name -> cells, got "
                f"{type(table).__name__}"
            )
        names: Iterable[Any] = table if isinstance(table, Mapping) else table.columns
        cells: dict[str, Sequence[Any]] = {str(name): list(table[name]) for name in names}
        lengths = {name: len(column) for name, column in cells.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"Folder: expected columns of one length, got {lengths}")
        return cells, "table", Path()
    path = Path(table)
    if not path.is_file():
        raise FileNotFoundError(f"Folder: there is no table {path}; give a .csv file with a line of names above")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            lines = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",")
            header = [name.strip() for name in next(lines, [])]
            body = [line for line in lines if line]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path.name}: it is no table of text ({error}); save it as .csv in UTF-8") from None
    if len(set(header)) < len(header):
        twice = next(name for name in header if header.count(name) > 1)
        raise ValueError(f"{path.name}: expected another name for each column, got {twice!r} twice; rename one")
    for row, line in enumerate(body):
        if len(line) != len(header):
            raise ValueError(f"{path.name}: expected {len(header)} cells in every row, got {len(line)} in row {row}")
    return {name: [line[place].strip() for line in body] for place, name in enumerate(header)}, path.name, path.parent


def _chosen(cells: Cells, where: Callable[[dict[str, Any]], bool] | None, name: str) -> list[int]:
    """The rows that belong to the data."""
    count = len(next(iter(cells.values()), ()))
    if where is None:
        return list(range(count))
    try:
        return [row for row in range(count) if where({column: cells[column][row] for column in cells})]
    except KeyError as error:
        raise ValueError(f"{name}: `where` asks for {error}; its columns are {', '.join(cells)}") from None


def _is_empty(cell: Any) -> bool:
    """Whether there is nothing in a cell; a class may be called "none"."""
    if isinstance(cell, float) and math.isnan(cell):
        return True
    return cell is None or (isinstance(cell, str) and cell.strip() == "")


def _read(cell: Any, variable: Continuous | Discrete | Any) -> float | int:
    """A cell as a number of this variable."""
    if isinstance(variable, Continuous):
        return float(cell)
    text = str(cell).strip()
    if text in variable.names:
        return variable.names.index(text)
    if variable.classes == 2 and text.lower() in WORDS and not variable.names:
        return WORDS[text.lower()]
    try:
        number = float(text)
    except ValueError:
        known = ", ".join(variable.names) or f"0 to {variable.classes - 1}"
        kind = type(variable).__name__
        more = "" if variable.names else f"; declare {kind}(names=...) for classes that have names"
        raise ValueError(f"expected one of {known}{more}") from None
    if number != int(number):
        raise ValueError("expected a whole number, as it is a class")
    return int(number)
