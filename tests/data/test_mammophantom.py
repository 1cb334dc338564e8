"""MammoPhantom: attributes follow their causes, and the picture shows them and nothing else."""

import pytest
import torch

import graphs.mammophantom
from causalcf import do, shift
from causalcf.data import MammoPhantom
from causalcf.data.phantom_gauges import Film
from causalcf.data.phantoms import Woman
from causalcf.units import Units

ROWS = 200


@pytest.fixture(scope="module")
def data():
    return MammoPhantom("test", rows=ROWS)


@pytest.fixture(scope="module")
def rows(data):
    return data[:]


@pytest.fixture(scope="module")
def many():
    return MammoPhantom("train", rows=40_000).columns(["age", "density", "mass", "circle", "triangle"])


def share(column, where=slice(None)):
    return column[where].double().mean().item()


def test_rows_fit_the_story(data, rows):
    assert data.graph == MammoPhantom.graph == graphs.mammophantom.graph
    assert data.graph.check_rows(rows).keys() == {*data.graph, "id"}
    wide = MammoPhantom("val", size=96, rows=3)
    assert wide.graph.check_rows(wide[:])["image"].shape == (3, 1, 96, 96)
    assert MammoPhantom.graph["image"].shape == (1, 64, 64)


def test_a_row_is_the_same_however_it_is_read(data, rows):
    for index, picked in (([7, 3], [7, 3]), (slice(7, 2, -4), [7, 3]), (-1, [ROWS - 1])):
        assert all(torch.equal(data[index][name], rows[name][picked]) for name in rows)
    assert torch.equal(data.columns(["density"])["density"], rows["density"])
    assert not torch.equal(MammoPhantom("test", rows=ROWS, seed=1)[:2]["image"], rows["image"][:2])
    assert not torch.equal(MammoPhantom("train", rows=ROWS)[:2]["image"], rows["image"][:2])


def test_attributes_follow_their_causes(many):
    young, old = many["age"] < 50, many["age"] > 70
    assert share(many["age"]) == pytest.approx(60, abs=0.3)
    assert share(many["density"], young) - share(many["density"], old) > 15
    assert share(many["mass"], young) == pytest.approx(0.1 + 0.005 * 5, abs=0.01)
    assert share(many["mass"], old) == pytest.approx(0.1 + 0.005 * 35, abs=0.015)
    mass = many["mass"].bool()
    assert share(many["triangle"], mass) == pytest.approx(0.7, abs=0.02)
    assert share(many["triangle"], ~mass) == pytest.approx(0.05, abs=0.01)
    assert share(many["circle"]) == pytest.approx(0.25, abs=0.01)
    assert share(many["circle"], mass) == pytest.approx(share(many["circle"], ~mass), abs=0.02)


def test_pictures_are_read_as_they_were_drawn(data, rows):
    read = {name: oracle(rows["image"]) for name, oracle in data.oracles().items()}
    for name in ("mass", "circle", "triangle"):
        assert (read[name] == rows[name]).double().mean() >= 0.99, name
        assert read[name].dtype == torch.int64
    assert (read["density"] - rows["density"]).abs().mean() < 3
    assert torch.corrcoef(torch.stack([read["density"], rows["density"]]))[0, 1] > 0.98


def test_the_breast_is_found(rows):
    woman = Woman.of(Units(rows["id"], 0), 64)
    for found, true in zip(Film(rows["image"]).shape, (woman.deep, woman.high, woman.y), strict=True):
        assert (found - true).abs().mean() < 0.6


def test_what_is_dense_is_grown_and_stays_where_it_was(data, rows):
    few = {name: value[:20] for name, value in rows.items()}
    dense = data.true_counterfactual(few, do(density=70.0, mass=0, circle=0, triangle=0))["image"]
    sparse = data.true_counterfactual(few, do(density=20.0, mass=0, circle=0, triangle=0))["image"]
    assert (dense - sparse).min() > -1e-6
    assert (dense - sparse).flatten(1).amax(1).min() > 0.1


@pytest.mark.parametrize("name", ["mass", "circle", "triangle"])
def test_what_is_put_there_changes_its_own_place_only(data, rows, name):
    there, gone = (data.true_counterfactual(rows, do(**{"triangle": 0, name: value}))["image"] for value in (1, 0))
    changed = (there - gone)[:, 0].abs() > 1e-6
    assert 4 < changed.flatten(1).sum(1).double().mean() < 200
    x, y = torch.meshgrid(torch.arange(64) + 0.5, 63.5 - torch.arange(64), indexing="xy")
    place = Woman.of(Units(rows["id"], 0), 64).places[:, ["mass", "circle", "triangle"].index(name)]
    far = torch.hypot(x - place[:, :1, None], y - place[:, 1:, None]) > 8
    assert not (changed & far).any()


def test_true_counterfactuals_follow_the_graph(data, rows):
    older = data.true_counterfactual(rows, do(age=shift(10.0, clamp=True)))
    moved = rows["age"] < 70
    assert torch.equal(older["age"][moved], rows["age"][moved] + 10)
    assert (older["density"] <= rows["density"] + 1e-4).all()
    assert (older["mass"] >= rows["mass"]).all()
    assert older["circle"] is rows["circle"]
    bare = data.true_counterfactual(rows, do(triangle=0))
    assert bare["mass"] is rows["mass"]
    assert (data.oracles()["triangle"](bare["image"]) == 0).all()
    same = data.true_counterfactual(rows, do(circle=rows["circle"]))
    assert torch.equal(same["image"], rows["image"])


def test_what_cannot_be_drawn_is_refused(data, rows):
    for options, said in (
        ({"split": "dev"}, "split"),
        ({"size": 32}, "size of 64 pixels or more"),
        ({"rows": 0}, "rows"),
    ):
        with pytest.raises(ValueError, match=said):
            MammoPhantom(**options)
    with pytest.raises(ValueError, match=r"the true counterfactual of .* is unknown; it exists for age, density"):
        data.true_counterfactual(rows, do(image=rows["image"]))
    with pytest.raises(ValueError, match="MammoPhantom"):
        data.true_counterfactual({name: value for name, value in rows.items() if name != "id"}, do(age=50.0))
