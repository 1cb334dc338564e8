"""Invented rows in the layout of the open release; its own may not be handed on."""

import csv

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import causalcf as cf
from causalcf.data import EMBED
from causalcf.data.embed import FINDINGS, IMAGES, share
from graphs.embed import graph as story

ROOT = "/mnt/NAS2/mammo/anon_dicom/cohort_1"
GRAPH = cf.CausalGraph(
    "age -> density; density, view, cancer -> scan",
    age=cf.Continuous(lower=0.0),
    density=cf.Categorical(names=("a", "b", "c", "d")),
    view=cf.Binary(names=("CC", "MLO")),
    cancer=cf.Binary(),
    scan=cf.Image(1, 8, 6),
)
PATIENT, MAN, UNREAD = [str(number) for number in range(10**6, 10**6 + 50) if share(str(number)) == "train"][:3]
TESTED = next(str(number) for number in range(10**6, 10**7) if share(str(number)) == "test")


def image(name, patient=PATIENT, side="L", view="CC", **changed):
    """One row of the table of pictures."""
    row = {
        "empi_anon": patient,
        "acc_anon": f"{patient}01.0",
        "FinalImageType": "2D",
        "ImageLateralityFinal": side,
        "ViewPosition": view,
        "SeriesDescription": f"{side} {view}",
        "spot_mag": "",
        "anon_dicom_path": f"{ROOT}/{patient}/1.2/3.4/{name}.dcm",
        "ManufacturerModelName": "Selenia Dimensions",
        "Manufacturer": "HOLOGIC, Inc.",
    }
    return {**row, **changed}


def finding(side="", patient=PATIENT, **changed):
    """One row of the clinical table."""
    row = {
        "empi_anon": patient,
        "acc_anon": f"{patient}01",
        "tissueden": "2.0",
        "side": side,
        "path_severity": "",
        "age_at_study": "61.5",
        "GENDER_DESC": "Female",
    }
    return {**row, **changed}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


def release(place, images, findings):
    """The tables, and a picture of 16 bits for each row, whose left half is white."""
    write(place / "tables" / IMAGES, images)
    write(place / "tables" / FINDINGS, findings)
    pixels = np.zeros((16, 12), np.uint16)
    pixels[:, :6] = 65535
    for row in images:
        file = place / "images/png/1024x768" / row["empi_anon"] / f"{row['anon_dicom_path'].split('/')[-1][:-4]}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Picture.fromarray(pixels).save(file)
    return place


def test_a_picture_knows_what_its_exam_says_of_its_breast(tmp_path):
    images = [image("left"), image("right", side="R", view="MLO"), image("other", TESTED)]
    findings = [
        finding(),
        finding("L", path_severity="4.0"),
        finding("R", path_severity="1.0"),
        finding("R", path_severity="4.0"),
        finding(patient=TESTED, tissueden="4", age_at_study="40", path_severity="0"),
    ]
    rows = EMBED(release(tmp_path, images, findings), GRAPH)[:]
    assert rows["age"].tolist() == [61.5, 61.5]
    assert rows["density"].tolist() == [1, 1]
    assert rows["view"].tolist() == [0, 1]
    assert rows["cancer"].tolist() == [0, 1]
    assert torch.equal(rows["scan"][0, 0, :, :2], torch.ones(8, 2))
    assert torch.equal(rows["scan"][0, 0, :, 4:], torch.zeros(8, 2))
    tested = EMBED(tmp_path, GRAPH, "test")[:]
    assert (tested["density"].item(), tested["age"].item(), tested["cancer"].item()) == (3, 40.0, 1)
    right = EMBED(tmp_path, GRAPH, where=lambda row: row["side"] == "R" and row["patient"] == PATIENT)
    assert right[:]["view"].tolist() == [1]


@pytest.mark.parametrize(
    "changed",
    [
        {"FinalImageType": "cview"},
        {"spot_mag": "1"},
        {"ViewPosition": "ML"},
        {"ViewPosition": "", "SeriesDescription": "L XCCL"},
        {"SeriesDescription": "L XCCL"},
        {"acc_anon": "9"},
    ],
)
def test_pictures_that_the_literature_leaves_out_are_left_out(tmp_path, changed):
    data = EMBED(release(tmp_path, [image("kept"), image("out", **changed)], [finding()]), GRAPH)
    assert [path.rsplit("/")[-1] for path in data._files["scan"]] == ["kept.png"]


def test_men_what_is_said_of_the_other_breast_and_what_is_not_known_is_left_out(tmp_path):
    women = [image("kept"), image("kept"), image("right", side="R")]
    images = [*women, image("man", MAN), image("unread", UNREAD)]
    findings = [finding("L"), finding(patient=MAN, GENDER_DESC="Male"), finding(patient=UNREAD, tissueden="5")]
    data = EMBED(release(tmp_path, images, findings), GRAPH)
    assert [name.rsplit("/")[-1] for name in data._files["scan"]] == ["kept.png"]
    assert data.left_out == 1


def test_a_view_that_is_not_told_is_that_of_the_series(tmp_path):
    told = image("told", ViewPosition="", SeriesDescription="R MLO", side="R")
    assert EMBED(release(tmp_path, [told], [finding()]), GRAPH)[:]["view"].tolist() == [1]


def test_markers_are_those_of_their_own_table(tmp_path):
    place = release(tmp_path, [image("circled"), image("bare"), image("unseen")], [finding()])
    columns = ("circle marker", "triangle marker", "breast implant", "devices", "compression")
    seen = [
        {"image_path": f"{PATIENT}/{name}.png", **dict.fromkeys(columns, "0"), "circle marker": circle}
        for name, circle in (("circled", "1"), ("bare", "0"))
    ]
    write(place / "manual.csv", seen)
    data = EMBED(place, story, markers="manual.csv")
    rows = data[:]
    assert data.left_out == 1
    assert rows["circle"].tolist() == [1, 0]
    assert rows["triangle"].tolist() == [0, 0]
    assert rows["scanner"].tolist() == [0, 0]
    assert rows["image"].shape == (2, 1, 192, 192)
    with pytest.raises(ValueError, match="EMBED: expected a column 'circle' for circle, got file, patient, exam, side"):
        EMBED(place, story)


def test_what_is_not_there_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=rf"EMBED: there is no table .*{FINDINGS}"):
        EMBED(tmp_path, GRAPH)
    place = release(tmp_path, [image("one")], [finding()])
    with pytest.raises(ValueError, match="expected split to be one of train, val, test, got 'dev'"):
        EMBED(place, GRAPH, "dev")
    write(place / "tables" / FINDINGS, [{"empi_anon": "1"}])
    with pytest.raises(ValueError, match=rf"{FINDINGS} has no column acc_anon, tissueden, side"):
        EMBED(place, GRAPH)
    write(place / "tables" / FINDINGS, [finding(patient="7")])
    with pytest.raises(ValueError, match="EMBED: no picture of the train split is left"):
        EMBED(place, GRAPH)


def test_patients_are_shared_out_as_said():
    drawn = [share(str(number)) for number in range(10_000, 20_000)]
    shares = {split: drawn.count(split) / len(drawn) for split in ("train", "val", "test")}
    assert shares == pytest.approx({"train": 0.6, "val": 0.15, "test": 0.25}, abs=0.02)
