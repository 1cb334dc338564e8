import pickle

import numpy as np
import pytest
import torch
from PIL import Image as Picture

import causalcf as cf
from causalcf.data import Folder
from causalcf.data.folder import resized

GRAPH = cf.CausalGraph(
    "age -> scan; sex -> scan; marker -> scan",
    age=cf.Continuous(lower=0.0, unit="y"),
    sex=cf.Binary(names=("F", "M")),
    marker=cf.Categorical(names=("none", "circle", "triangle")),
    scan=cf.Image(1, 6, 4),
)
HEADER = "path,age,sex,marker,split\n"
LINES = ("b/two.png,63.5,M,circle,train\n", "a one.png,40,F,none,test\n", "b/three.png,1e1,F,2,train\n")


@pytest.fixture
def place(tmp_path):
    """A table and three grey pictures, the second of 16 bits; pixel values are known."""
    (tmp_path / "b").mkdir()
    (tmp_path / "table.csv").write_text(HEADER + "".join(LINES))
    Picture.fromarray(np.full((6, 4), 51, np.uint8)).save(tmp_path / "b/two.png")
    Picture.fromarray(np.full((6, 4), 13107, np.uint16)).save(tmp_path / "a one.png")
    Picture.fromarray(np.arange(24, dtype=np.uint8).reshape(6, 4)).save(tmp_path / "b/three.png")
    return tmp_path


def folder(place, **options):
    return Folder(place / "table.csv", GRAPH, **{"columns": {"scan": "path"}, **options})


def test_rows_are_what_the_table_and_the_pictures_say(place):
    rows = folder(place)[:]
    assert rows["age"].tolist() == [63.5, 40.0, 10.0]
    assert rows["sex"].tolist() == [1, 0, 0]
    assert rows["marker"].tolist() == [1, 0, 2]
    assert rows["scan"].shape == (3, 1, 6, 4)
    assert torch.equal(rows["scan"][0], torch.full((1, 6, 4), 51 / 255))
    assert torch.allclose(rows["scan"][1], torch.full((1, 6, 4), 0.2), atol=1e-6)
    assert torch.equal(rows["scan"][2, 0].flatten(), torch.arange(24) / 255)
    assert GRAPH.check_rows(rows).keys() == rows.keys()


def test_any_index_gives_the_same_rows_and_columns_read_no_picture(place, monkeypatch):
    data = folder(place)
    assert len(data) == 3
    for index in ([2, 0], torch.tensor([2, 0]), [-1, -3], slice(2, None, -2)):
        assert torch.equal(data[index]["scan"], data[:]["scan"][[2, 0]])
        assert torch.equal(data[index]["id"], data[:]["id"][[2, 0]])
    assert pickle.loads(pickle.dumps(data))[1]["age"].tolist() == [40.0]
    assert torch.equal(data.columns(["scan"])["scan"], data[:]["scan"])
    monkeypatch.setattr("causalcf.data.folder.read_pixels", lambda *_: pytest.fail("a picture was read"))
    assert data.columns(["age", "id"])["age"].tolist() == [63.5, 40.0, 10.0]


def test_ids_belong_to_pictures_whatever_rows_are_left_out(place):
    everyone, trained = folder(place), folder(place, where=lambda row: row["split"] == "train")
    assert trained.columns(["age"])["age"].tolist() == [63.5, 10.0]
    assert torch.equal(trained.ids, everyone.ids[[0, 2]])
    assert len(set(everyone.ids.tolist())) == 3
    (place / "table.csv").write_text(HEADER + "".join(LINES[::-1]))
    assert torch.equal(folder(place).ids, everyone.ids[[2, 1, 0]])


def test_rows_with_empty_cells_are_refused_or_left_out_and_counted(place):
    (place / "table.csv").write_text(HEADER + LINES[0] + "a one.png,,F,none,test\n" + "b/three.png,9,,circle,train\n")
    with pytest.raises(ValueError, match=r"age is empty in row 1, and 2 of 3 rows .*missing=\"drop\""):
        folder(place)
    data = folder(place, missing="drop")
    assert (len(data), data.left_out) == (1, 2)
    assert data[:]["age"].tolist() == [63.5]


def test_a_mapping_or_a_frame_is_a_table_too(place):
    cells = {"age": [1, 2.5], "sex": [1, 0], "marker": ["none", 1], "scan": ["b/two.png", "a one.png"]}

    class Frame:
        columns = tuple(cells)

        def __getitem__(self, name):
            return np.array(cells[name], dtype=object)

    for table in (cells, Frame()):
        rows = Folder(table, GRAPH, images=place)[:]
        assert rows["age"].tolist() == [1.0, 2.5]
        assert rows["sex"].tolist() == [1, 0]
        assert rows["marker"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (["-1", "1"], [0, 1]),
        (["-1", "-1"], [0, 0]),
        (["1", "1"], [1, 1]),
        (["True", "False"], [1, 0]),
        (["no", "Yes"], [0, 1]),
        ([0.0, 1.0], [0, 1]),
    ],
)
def test_what_is_absent_or_present_may_be_written_in_many_ways(written, expected):
    graph = cf.CausalGraph("smiling -> age", smiling=cf.Binary(), age=cf.Continuous())
    rows = Folder({"smiling": written, "age": [1, 2]}, graph)[:]
    assert rows["smiling"].tolist() == expected
    assert rows["id"].tolist() == [0, 1]


def test_a_function_reads_what_is_written_otherwise(place):
    (place / "table.csv").write_text(HEADER + "b/two.png,063Y,M,circle,train\n")
    rows = folder(place, read={"age": lambda cell: float(cell.removesuffix("Y"))})[:]
    assert rows["age"].tolist() == [63.0]
    with pytest.raises(ValueError, match=r"table.csv: age is '063Y' in row 0: could not convert"):
        folder(place)


def test_a_function_may_give_names_of_classes_and_no_half_ones(place):
    read = {"marker": {"circle": "triangle", "none": "none", "2": 1.0}.get}
    assert folder(place, read=read)[:]["marker"].tolist() == [2, 0, 1]
    with pytest.raises(ValueError, match="marker is 'circle' in row 0: expected a whole number"):
        folder(place, read={"marker": lambda _: 1.5})
    with pytest.raises(ValueError, match="unknown variable 'agge'"):
        folder(place).columns(["agge"])


def test_pictures_of_another_size_keep_their_middle_or_their_shape():
    wide = torch.zeros(1, 2, 8)
    wide[..., 2:6] = 1.0  # the middle half
    assert torch.equal(resized(wide, (2, 4), "crop"), torch.ones(1, 2, 4))
    padded = resized(wide, (4, 4), "pad")
    assert padded.sum((0, 2)).tolist() == pytest.approx([0.0, 2.0, 0.0, 0.0], abs=0.1)
    assert resized(wide, (4, 2), "stretch").shape == (1, 4, 2)
    noisy = torch.rand(3, 17, 9)
    for how in ("crop", "pad", "stretch"):
        assert resized(noisy, (8, 8), how).shape == (3, 8, 8)
        assert resized(noisy, (5, 30), how).shape == (3, 5, 30)
    assert resized(noisy, (1, 1), "stretch").flatten().tolist() == pytest.approx(noisy.mean((1, 2)).tolist(), abs=0.1)


def test_folder_resizes_where_it_is_told_to(place):
    Picture.fromarray(np.full((12, 8), 51, np.uint8)).save(place / "b/two.png")
    data = folder(place)
    with pytest.raises(ValueError, match=r"b/two.png is 8 wide and 12 high, scan is Image.*resize="):
        data[:]
    assert torch.allclose(folder(place, resize="crop")[0]["scan"], torch.full((1, 1, 6, 4), 0.2), atol=1e-6)


@pytest.mark.parametrize(
    ("text", "options", "error", "message"),
    [
        (
            HEADER + "b/two.png,1,M,square,train\n",
            {},
            ValueError,
            "marker is 'square' in row 0: .* one of none, c",
        ),
        (HEADER + "b/two.png,1,X,none,train\n", {}, ValueError, "sex is 'X' in row 0: expected one of F, M"),
        (HEADER + "b/two.png,1,M,1.5,train\n", {}, ValueError, "marker is '1.5' in row 0: expected a whole number"),
        (HEADER + "b/two.png,-1,M,none,train\n", {}, ValueError, "age: expected values >= 0.0 y, got -1.0 in row 0"),
        (HEADER + "b/four.png,1,M,none,train\n", {}, FileNotFoundError, "there is no picture .*four.png; .*images="),
        (HEADER + "b/two.png,1,M\n", {}, ValueError, "expected 5 cells in every row, got 3 in row 0"),
        (HEADER.replace("sex", "age"), {}, ValueError, "got 'age' twice; rename one"),
        (HEADER.replace("sex", "Sex") + LINES[0], {}, ValueError, "a column 'sex' for sex, .*columns={\"sex\""),
        (HEADER + LINES[0], {"where": lambda row: False}, ValueError, "no row is left"),
        (HEADER + LINES[0], {"where": lambda row: row["part"]}, ValueError, "`where` asks for 'part'; its columns"),
        (HEADER + LINES[0], {"columns": {"scann": "path"}}, ValueError, "unknown variable 'scann'.*'scan'"),
        (HEADER + LINES[0], {"missing": "skip"}, ValueError, "missing to be one of refuse, drop"),
        (HEADER + LINES[0], {"resize": "fit"}, ValueError, "resize to be one of never, stretch, crop, pad"),
    ],
)
def test_what_cannot_be_read_is_named(place, text, options, error, message):
    (place / "table.csv").write_text(text)
    with pytest.raises(error, match=message):
        folder(place, **options)


def test_colours_are_not_made_grey_unasked(place):
    Picture.fromarray(np.array([[[9, 0, 0]] * 4] * 6, np.uint8)).save(place / "b/two.png")
    with pytest.raises(ValueError, match=r"b/two.png has colours, scan is Image"):
        folder(place)[0]
    with pytest.raises(FileNotFoundError, match="there is no table"):
        Folder(place / "tabel.csv", GRAPH)
    with pytest.raises(TypeError, match=r"expected the path of a .csv file"):
        Folder(3, GRAPH)


def test_a_model_is_fitted_and_asked_on_a_folder(place):
    graph = cf.CausalGraph("sex -> age", sex=cf.Binary(names=("F", "M")), age=cf.Continuous())
    rows = [("M" if row % 2 else "F", 10.0 + row % 2 + 0.1 * (row % 7)) for row in range(64)]
    data = Folder({"sex": [sex for sex, _ in rows], "age": [age for _, age in rows]}, graph)
    scm = cf.SCM(graph, {"age": cf.mechanisms.Flow(recipe=cf.Recipe(steps=200))})
    scm.fit(data)
    world = scm.observe(data[:4])
    assert torch.equal(world.do(sex="F")["sex"], torch.zeros(4, dtype=torch.int64))
    assert (world.do(sex="F")["age"] - world["age"]).tolist() == pytest.approx([0.0, -1.0, 0.0, -1.0], abs=0.2)


def test_twelve_bits_in_sixteen_are_suspected_and_read_where_they_are_meant(place):
    Picture.fromarray(np.full((6, 4), 2047, np.uint16)).save(place / "a one.png")
    with pytest.warns(UserWarning, match=r"a one.png, a file of 16 bits, has grey levels up to 2047 only.*white=4095"):
        dark = folder(place)[1]["scan"]
    assert dark.max() < 0.04
    assert folder(place, white=4095)[1]["scan"].max().item() == pytest.approx(2047 / 4095)
    with pytest.raises(ValueError, match=r"a one.png has grey levels up to 2047, and white is to be 1000"):
        folder(place, white=1000)[1]
