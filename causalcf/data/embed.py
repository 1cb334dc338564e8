"""EMBED, the Emory breast imaging data set: its tables, joined, and pictures that were exported as PNG."""

from __future__ import annotations

import csv
from collections.abc import Collection, Iterator, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, Literal, final, get_args

from causalcf.data.folder import Folder, Resize
from causalcf.data.photographs import name_digest
from causalcf.graph import CausalGraph

Split = Literal["train", "val", "test"]
IMAGES = "EMBED_OpenData_metadata_reduced.csv"
FINDINGS = "EMBED_OpenData_clinical_reduced.csv"
DENSITY = {"1": "a", "2": "b", "3": "c", "4": "d"} | {letter.upper(): letter for letter in "abcd"}  # 5 is of men
CANCER = ("0", "1")  # invasive or not, of path_severity
MARKS = {"circle": "circle marker", "triangle": "triangle marker", "implant": "breast implant"}
MARKS |= {name: name for name in ("devices", "compression")}
VIEWS = ("CC", "MLO")
TEST, VAL = 25, 40  # per cent of the patients: 25 to test, the next 15 to choose on

Line = Mapping[str, str]


@final
class EMBED(Folder):
    r"""EMBED: mammograms of four density classes and several scanners, one row per picture.

    Variables of the graph may be called

    - `age`, in years at the exam, and `density`, a to d as read by the radiologist;
    - `view`, "CC" or "MLO", `side`, "L" or "R", and `scanner`, the model's name;
    - `cancer`, whether a biopsy of this breast found one; a breast without a biopsy counts as without;
    - `circle`, `triangle`, `implant`, `devices` and `compression`, where the table of `markers` is given.

    Pictures are those that the literature takes: two-dimensional ones of women, CC or MLO, without spot magnification.
    All pictures of a patient are in one split. What an exam says of a breast is that of its findings on this side, or
    on both. The agreement of EMBED allows no copies, and no models trained on it to be handed on.

    Source: Jeong et al., "The EMory BrEast imaging Dataset (EMBED)", 2023, https://doi.org/10.1148/ryai.220047.

    Args:
        folder: holds `tables/`, with the two reduced tables of the open release.
        graph: of some of these variables and an image.
        split: "train", "val" (15 % of the patients) or "test" (25 %), by a digest of the patient's number.
        pictures: folder of `<empi_anon>/<name of the DICOM file>.png`, of 8 or 16 bits, the breast to the left, from
            `folder` on.
        markers: table of what is seen on the skin, `manual_annotations_new.csv` of
            https://github.com/biomedia-mira/mammo-artifacts, from `folder` on; rows that it lacks are left out.
        missing: as in `Folder`, with the default to leave rows out in which something is not known.
        resize: as in `Folder`.
        options: further ones of `Folder`; `where` sees the columns that are named above, and `patient` and `exam`.

    Raises:
        FileNotFoundError: a table or a picture is not there.
        ValueError: as `Folder`, or a table lacks a column.

    Example:
        `EMBED("data/embed", graphs.embed.graph, "train", markers="manual_annotations_new.csv")[:8]`
    """

    def __init__(
        self,
        folder: str | PathLike[str],
        graph: CausalGraph,
        split: Split = "train",
        *,
        pictures: str = "images/png/1024x768",
        markers: str | None = None,
        missing: Literal["refuse", "drop"] = "drop",
        resize: Resize = "pad",
        **options: Any,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"EMBED: expected split to be one of {', '.join(get_args(Split))}, got {split!r}")
        place = Path(folder)
        marked = None if markers is None else marks(place / markers)
        images, findings = place / "tables" / IMAGES, place / "tables" / FINDINGS
        found = [row for row in joined(images, findings, marked) if share(row["patient"]) == split]
        if not found:
            raise ValueError(f"EMBED: no picture of the {split} split is left of {IMAGES} and {FINDINGS}")
        cells = {name: [row[name] for row in found] for name in found[0]}
        columns = dict.fromkeys(graph.images, "file") | dict(options.get("columns") or {})
        own = {"images": place / pictures, "missing": missing, "resize": resize, "called": "EMBED"}
        super().__init__(cells, graph, **{**own, **options, "columns": columns})


def lines(path: Path, columns: Collection[str]) -> Iterator[dict[str, str]]:
    """Some columns of a table, row by row."""
    if not path.is_file():
        raise FileNotFoundError(f"EMBED: there is no table {path}; the open release holds it, under tables/")
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        lacking = [name for name in columns if name not in (reader.fieldnames or ())]
        if lacking:
            raise ValueError(f"EMBED: {path.name} has no column {', '.join(lacking)}; its release may be another")
        yield from ({name: (line[name] or "").strip() for name in columns} for line in reader)


def whole(number: str) -> str:
    """A number as it was before a table with gaps made it a fraction: 12.0 is 12."""
    return number.removesuffix(".0")


def marks(path: Path) -> dict[str, dict[str, str]]:
    """What is seen on the skin, by the file of the picture."""
    return {
        line["image_path"]: {name: whole(line[column]) for name, column in MARKS.items()}
        for line in lines(path, ("image_path", *MARKS.values()))
    }


def joined(
    images: Path, findings: Path, marked: Mapping[str, Mapping[str, str]] | None
) -> Iterator[dict[str, str | None]]:
    """One row per picture that counts, with what its exam says of this breast."""
    said: dict[tuple[str, str], list[dict[str, str]]] = {}
    told = ("empi_anon", "acc_anon", "tissueden", "side", "path_severity", "age_at_study", "GENDER_DESC")
    for line in lines(findings, told):
        said.setdefault((whole(line["empi_anon"]), whole(line["acc_anon"])), []).append(line)
    shown = ("empi_anon", "acc_anon", "FinalImageType", "ImageLateralityFinal", "ViewPosition", "SeriesDescription")
    seen = set()
    for line in lines(images, (*shown, "spot_mag", "anon_dicom_path", "ManufacturerModelName")):
        patient, exam, side = whole(line["empi_anon"]), whole(line["acc_anon"]), line["ImageLateralityFinal"]
        file = f"{patient}/{Path(line['anon_dicom_path']).stem}.png"
        view = viewed(line)
        own = [row for row in said.get((patient, exam), ()) if row["side"] in (side, "B", "")]
        skipped = line["FinalImageType"] != "2D" or line["spot_mag"] or not view or not own or file in seen
        if skipped or any(row["GENDER_DESC"].startswith("M") for row in own):
            continue
        seen.add(file)
        row: dict[str, str | None] = {"file": file, "patient": patient, "exam": exam, "side": side, "view": view}
        row |= {
            "scanner": line["ManufacturerModelName"],
            "age": next(filter(None, (r["age_at_study"] for r in own)), None),
        }
        row["density"] = DENSITY.get(next(filter(None, (whole(r["tissueden"]) for r in own)), ""))
        row["cancer"] = str(int(any(whole(r["path_severity"]) in CANCER for r in own)))
        yield row if marked is None else {**row, **dict.fromkeys(MARKS), **marked.get(file, {})}


def viewed(line: Line) -> str:
    """The view of a picture, which its series says where it does not; nothing if it is another than CC or MLO."""
    series = line["SeriesDescription"].upper().split()
    words = [line["ViewPosition"].upper()] if line["ViewPosition"] else series
    return "" if "XCCL" in series else next((view for view in VIEWS if view in words), "")


def share(patient: str | None) -> Split:
    """The split that a patient's pictures are in."""
    place = name_digest(str(patient)) % 100
    return "test" if place < TEST else "val" if place < VAL else "train"
