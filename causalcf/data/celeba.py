"""CelebA and CelebA-HQ, as their authors lay them out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final, get_args

from causalcf.data.folder import Folder, Resize
from causalcf.graph import CausalGraph

Split = Literal["train", "val", "test"]
LAST = {"train": 162_770, "val": 182_637, "test": 202_599}  # number of the last photograph of each split
INNER = ("", "Anno", "Img")  # folders of the archives
FILE = "file"  # the column of paths
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"

Cells = Mapping[str, Sequence[Any]]


@final
class CelebA(Folder):
    """CelebA: aligned photographs of faces, 178 wide and 218 high, and forty attributes that are there or not.

    A variable of the graph is the attribute of its name, in small letters or not: `smiling` is `Smiling`. Where it has
    another name, say which, `columns={"mouth": "Mouth_Slightly_Open"}`, and where it is the opposite, how it is read,
    `read={"old": lambda young: -young}` with `columns={"old": "Young"}`. The official partition goes by the numbers of
    the photographs, and so do splits here. The data are for research that is not commercial, and stay where they are.

    Source: Liu et al., "Deep Learning Face Attributes in the Wild", 2015, https://arxiv.org/abs/1411.7766.

    Args:
        folder: holds `img_align_celeba/` and `list_attr_celeba.txt`, or a `.csv` of that name, itself or in the `Img/`
            and `Anno/` of the archives.
        graph: of attributes and an image.
        split: "train" (162,770 photographs), "val" (19,867) or "test" (19,962).
        middle: as in `Folder`; 150 leaves out most of what is not face.
        resize: as in `Folder`.
        options: further ones of `Folder`.

    Raises:
        FileNotFoundError: the folder has another layout.
        ValueError: as `Folder`, or an attribute is neither in the graph's words nor named.

    Example:
        `CelebA("data/celeba", graphs.celeba.graph, "train")[:64]`
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        graph: CausalGraph,
        split: Split = "train",
        *,
        middle: int | None = 150,
        resize: Resize = "crop",
        **options: Any,
    ) -> None:
        table = attributes(found("CelebA", folder, "list_attr_celeba.txt", "list_attr_celeba.csv"))
        images = found("CelebA", folder, "img_align_celeba")
        inner = images / images.name  # of some archives
        cells = within("CelebA", table, {file: numbered(file) for file in table[FILE]}, split)
        own = {"images": inner if inner.is_dir() else images, "middle": middle, "resize": resize, "called": "CelebA"}
        super().__init__(cells, graph, **{**own, **options, "columns": named(cells, graph, options.get("columns"))})


@final
class CelebAHQ(Folder):
    """CelebA-HQ: 30,000 faces of CelebA in high quality, with their attributes, as CelebAMask-HQ hands them on.

    A face belongs to the split of the photograph that it was made from. All else is as with `CelebA`.

    Source: Karras et al., "Progressive Growing of GANs", 2018, https://arxiv.org/abs/1710.10196, for the faces; Lee et
    al., "MaskGAN", 2020, https://arxiv.org/abs/1907.11922, for the layout.

    Args:
        folder: holds `CelebA-HQ-img/`, `CelebAMask-HQ-attribute-anno.txt` and `CelebA-HQ-to-CelebA-mapping.txt`.
        graph: of attributes and an image.
        split: "train", "val" or "test".
        middle: as in `Folder`; None is all of the face.
        resize: as in `Folder`.
        options: further ones of `Folder`.

    Raises:
        FileNotFoundError: the folder has another layout.
        ValueError: as `CelebA`.
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        graph: CausalGraph,
        split: Split = "train",
        *,
        middle: int | None = None,
        resize: Resize = "crop",
        **options: Any,
    ) -> None:
        table = attributes(found("CelebAHQ", folder, "CelebAMask-HQ-attribute-anno.txt"))
        lines = found("CelebAHQ", folder, MAPPING).read_text().splitlines()[1:]
        origin = {f"{words[0]}.jpg": numbered(words[-1]) for words in map(str.split, lines) if words}
        cells = within("CelebAHQ", table, origin, split)
        images = found("CelebAHQ", folder, "CelebA-HQ-img")
        own = {"images": images, "middle": middle, "resize": resize, "called": "CelebAHQ"}
        super().__init__(cells, graph, **{**own, **options, "columns": named(cells, graph, options.get("columns"))})


def found(what: str, folder: str | PathLike[str], *names: str) -> Path:
    """The first of some files that is in a folder, or in those of the archives."""
    places = [Path(folder) / inner / name for name in names for inner in INNER]
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(
        f"{what}: there is no {' or '.join(names)} in {folder}; unpack the archives of its authors there, which the "
        f"class names"
    )


def attributes(path: Path) -> dict[str, list[Any]]:
    """Columns of a list of attributes, and of their files, in the authors' layout or in commas.

    The authors write how many rows there are, then the names, then a row per photograph, all with blanks between.
    """
    comma = "," if path.suffix == ".csv" else None
    lines = [line.split(comma) for line in path.read_text().splitlines() if line.strip()]
    names, body = (lines[0][1:], lines[1:]) if comma and lines else (lines[1] if len(lines) > 1 else [], lines[2:])
    if not body:
        raise ValueError(f"{path.name}: it lists no photograph")
    for row, line in enumerate(body):
        if len(line) != len(names) + 1:
            raise ValueError(
                f"{path.name}: expected a file and {len(names)} numbers in row {row}, got {len(line)} words"
            )
    try:
        numbers = zip(*(map(int, line[1:]) for line in body), strict=True)
        columns = {name.strip(): list(column) for name, column in zip(names, numbers, strict=True)}
    except ValueError as error:
        raise ValueError(f"{path.name}: expected -1 or 1 for each attribute: {error}") from None
    return {FILE: [line[0].strip() for line in body], **columns}


def numbered(file: str) -> int:
    """The number that a photograph is called by."""
    try:
        return int(Path(file).stem)
    except ValueError:
        raise ValueError(f"expected photographs to be called by their numbers, as 000001.jpg, got {file}") from None


def within(what: str, table: Cells, number: Mapping[str, int], split: Split) -> dict[str, list[Any]]:
    """The rows of one split, by the numbers of their photographs in CelebA."""
    if split not in get_args(Split):
        raise ValueError(f"{what}: expected split to be one of {', '.join(get_args(Split))}, got {split!r}")
    if unknown := [file for file in table[FILE] if file not in number]:
        raise ValueError(f"{what}: {MAPPING} says of {len(unknown)} files not which photograph they are: {unknown[0]}")
    ends = [0, *LAST.values()]
    place = list(LAST).index(split)
    rows = [row for row, file in enumerate(table[FILE]) if ends[place] < number[file] <= ends[place + 1]]
    if not rows:
        raise ValueError(f"{what}: the list of attributes has no photograph of the {split} split")
    return {name: [column[row] for row in rows] for name, column in table.items()}


def named(cells: Cells, graph: CausalGraph, columns: Mapping[str, str] | None) -> dict[str, str]:
    """Which column each variable is in."""
    known = {name.lower(): name for name in cells}
    own = {name: FILE if name in graph.images else known.get(name.lower(), name) for name in graph}
    return {**own, **(columns or {})}
