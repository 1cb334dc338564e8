import io
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import causalcf as cf
from causalcf.data import CelebA, CelebAHQ
from graphs.celeba import graph as story

NAMES = ("5_o_Clock_Shadow", "Mouth_Slightly_Open", "Smiling", "Young")
ROWS = {1: (-1, 1, 1, 1), 162_770: (-1, -1, 1, -1), 162_771: (1, -1, -1, 1), 202_599: (-1, 1, -1, -1)}
GRAPH = cf.CausalGraph(
    "smiling -> mouth; mouth, smiling, old -> face",
    **{name: cf.Binary() for name in ("smiling", "mouth", "old")},
    face=cf.Image(3, 6, 6),
)
OWN = {
    "columns": {"mouth": "Mouth_Slightly_Open", "old": "Young"},
    "read": {"old": lambda young: -young},
    "middle": 12,
}


def lines(files):
    return f"{len(files)}\n{' '.join(NAMES)}\n" + "".join(
        f"{file}  {'  '.join(map(str, row))}\n" for file, row in zip(files, ROWS.values(), strict=True)
    )


def photograph(path, number, size=(14, 16)):
    """Black, but for the middle 12 x 12, which is grey."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    pixels[2:14, 1:13] = number % 200
    path.parent.mkdir(parents=True, exist_ok=True)
    Picture.fromarray(pixels).save(path, format="PNG")


@pytest.fixture
def place(tmp_path):
    for number in ROWS:
        photograph(tmp_path / "img_align_celeba" / f"{number:06d}.jpg", number)
    (tmp_path / "list_attr_celeba.txt").write_text(lines([f"{number:06d}.jpg" for number in ROWS]))
    return tmp_path


def test_splits_are_those_of_the_numbers_and_attributes_those_of_the_list(place):
    found = {split: CelebA(place, GRAPH, split, **OWN) for split in ("train", "val", "test")}
    assert {split: len(data) for split, data in found.items()} == {"train": 2, "val": 1, "test": 1}
    rows = found["train"][:]
    assert rows["smiling"].tolist() == [1, 1]
    assert rows["mouth"].tolist() == [1, 0]
    assert rows["old"].tolist() == [0, 1]
    assert found["val"][:]["smiling"].tolist() == [0]
    assert torch.allclose(rows["face"][1], torch.full((3, 6, 6), (162_770 % 200) / 255), atol=1e-6)
    assert len(set(torch.cat([data.columns(["id"])["id"] for data in found.values()]).tolist())) == 4
    assert repr(found["val"]) == "CelebA(CelebA, 1 rows)"


def test_a_condition_sees_all_attributes_by_their_own_names(place):
    young = CelebA(place, GRAPH, "train", where=lambda row: row["Young"] > 0, **OWN)
    assert len(young) == 1


def test_the_layouts_of_archives_and_of_tables_with_commas_are_read_alike(place, tmp_path):
    other = tmp_path / "other"
    (other / "Anno").mkdir(parents=True)
    table = (place / "list_attr_celeba.txt").read_text().splitlines()
    text = [f"image_id,{','.join(NAMES)}", *(",".join(line.split()) for line in table[2:])]
    (other / "Anno" / "list_attr_celeba.csv").write_text("\n".join(text) + "\n")
    (other / "Img" / "img_align_celeba").mkdir(parents=True)
    (place / "img_align_celeba").rename(other / "Img" / "img_align_celeba" / "img_align_celeba")
    rows = CelebA(other, GRAPH, **OWN)[:]
    assert rows["mouth"].tolist() == [1, 0]
    assert rows["face"].max() == (162_770 % 200) / 255


def test_faces_in_high_quality_are_in_the_split_of_their_photograph(tmp_path):
    files = [f"{index}.jpg" for index in range(4)]
    for index in range(4):
        photograph(tmp_path / "CelebA-HQ-img" / files[index], index, (14, 16))
    (tmp_path / "CelebAMask-HQ-attribute-anno.txt").write_text(lines(files))
    origin = [(number - 1, f"{number:06d}.jpg") for number in reversed(ROWS)]
    body = "".join(f"{index}\t\t{number}\t\t{file}\n" for index, (number, file) in enumerate(origin))
    mapping = tmp_path / "CelebA-HQ-to-CelebA-mapping.txt"
    mapping.write_text("idx   orig_idx   orig_file\n" + body)
    assert len(CelebAHQ(tmp_path, GRAPH, "train", **OWN)) == 2
    assert CelebAHQ(tmp_path, GRAPH, "test", **OWN)[:]["mouth"].tolist() == [1]
    whole = CelebAHQ(tmp_path, GRAPH, "test", **{**OWN, "middle": None})[:]["face"]
    assert whole.shape == (1, 3, 6, 6)
    mapping.write_text("idx   orig_idx   orig_file\n" + body.splitlines()[0] + "\n")
    with pytest.raises(ValueError, match=r"says of 3 files not which photograph they are: 1\.jpg"):
        CelebAHQ(tmp_path, GRAPH, **OWN)


def test_what_is_not_there_is_named(place, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"no list_attr_celeba\.txt or list_attr_celeba\.csv in .*nowhere"):
        CelebA(tmp_path / "nowhere", GRAPH)
    with pytest.raises(ValueError, match="expected split to be one of train, val, test, got 'all'"):
        CelebA(place, GRAPH, "all", **OWN)
    with pytest.raises(ValueError, match="CelebA: expected a column 'old' for old, got file, 5_o_Clock_Shadow, Mouth"):
        CelebA(place, GRAPH, columns={"mouth": "Mouth_Slightly_Open"})
    with pytest.raises(ValueError, match=r"is 14 wide and 16 high, and holds no square of middle=15; write a smaller"):
        CelebA(place, GRAPH, **{**OWN, "middle": 15})[:]
    (place / "img_align_celeba" / "000001.jpg").unlink()
    with pytest.raises(FileNotFoundError, match="CelebA: there is no picture"):
        CelebA(place, GRAPH, **OWN)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("1\nSmiling\n000001.jpg 1 1\n", "expected a file and 1 numbers in row 0, got 3 words"),
        ("1\nSmiling\n000001.jpg yes\n", "expected -1 or 1 for each attribute: .*'yes'"),
        ("1\nSmiling\nme.jpg 1\n", "expected photographs to be called by their numbers, as 000001.jpg, got me.jpg"),
        ("1\nSmiling\n202599.jpg 1\n", "has no photograph of the train split"),
        ("", "list_attr_celeba.txt: it lists no photograph"),
    ],
)
def test_a_list_that_is_none_is_refused(place, text, said):
    (place / "list_attr_celeba.txt").write_text(text)
    with pytest.raises(ValueError, match=said):
        CelebA(place, GRAPH, **OWN)


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
def test_photographs_in_the_official_layout_fit_the_story(tmp_path):
    held = np.load(Path(os.environ["CAUSALCF_DATA"]) / "celeba" / "celeba_6500_89x109.npz")
    (tmp_path / "img_align_celeba").mkdir()
    text = ["6", " ".join(map(str, held["attr_names"]))]
    for row in range(6):
        name = f"{int(held['id'][row]):06d}.jpg"
        jpeg = held["jpeg"][held["offset"][row] : held["offset"][row + 1]].tobytes()
        (tmp_path / "img_align_celeba" / name).write_bytes(jpeg)
        text.append(f"{name} {' '.join(map(str, held['attr'][row]))}")
    (tmp_path / "list_attr_celeba.txt").write_text("\n".join(text) + "\n")
    rows = CelebA(tmp_path, story, middle=75)[:]  # photographs are half as large here
    names = list(held["attr_names"])
    for name in ("Smiling", "Mouth_Slightly_Open", "Bald"):
        assert rows[name.lower()].tolist() == [int(value > 0) for value in held["attr"][:6, names.index(name)]]
    first = Picture.open(io.BytesIO(held["jpeg"][: held["offset"][1]].tobytes())).convert("RGB")
    left, top = (first.width - 75) // 2, (first.height - 75) // 2
    own = first.crop((left, top, left + 75, top + 75)).resize((64, 64), Picture.Resampling.BILINEAR)
    seen = torch.from_numpy(np.asarray(own, np.float32) / 255).movedim(-1, 0)
    assert (rows["image"][0] - seen).abs().mean() < 0.004
    assert cf.SCM(story).graph.check_rows(rows).keys() == rows.keys()
