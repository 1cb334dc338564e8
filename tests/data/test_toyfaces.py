"""ToyFaces: attributes follow their causes, the picture shows each of them, and each owns what it changes."""

import itertools
import math
from collections import Counter

import pytest
import torch

import graphs.toyfaces
from causalcf import do
from causalcf.data import ToyFaces, portraits
from causalcf.data.drawing import Canvas
from causalcf.data.faces import ATTRIBUTES, draw
from causalcf.data.portraits import ellipse, lens
from causalcf.data.sitters import Sitter
from causalcf.metrics import Effectiveness
from causalcf.units import Units

EDGES = {
    "mouth_open": ("smiling", 0.1, 0.8),
    "beard": ("male", 0.02, 0.5),
    "lipstick": ("male", 0.6, 0.05),
    "earrings": ("male", 0.5, 0.1),
    "eyeglasses": ("old", 0.2, 0.6),
}
ROOTS = {"male": 0.5, "old": 0.4, "smiling": 0.5, "blond": 0.4, "bangs": 0.4, "hat": 0.3}


@pytest.fixture(scope="module")
def data():
    return ToyFaces("test", rows=300)


@pytest.fixture(scope="module")
def rows(data):
    return data[:60]


@pytest.fixture(scope="module")
def marked():
    return ToyFaces("test", rows=300, seed=3, shortcut="marker", target="smiling", strength=0.8)


@pytest.fixture(scope="module")
def many():
    return ToyFaces("train", rows=40_000).columns([*ATTRIBUTES, "id"])


def mean(column):
    return column.double().mean().item()


def correlation(first, second):
    return torch.corrcoef(torch.stack([first, second]).double())[0, 1].item()


def test_rows_fit_the_graph(data, rows, marked):
    assert ToyFaces.graph == data.graph == graphs.toyfaces.graph
    assert set(data.graph) == {*ATTRIBUTES, "image"}
    assert set(data.graph.check_rows(rows)) == {*data.graph, "id"}
    assert rows["image"].dtype == torch.float32
    assert all(rows[name].dtype == torch.int64 for name in (*ATTRIBUTES, "id"))
    marked.graph.check_rows(marked[:3])
    wide = ToyFaces("test", size=96, rows=5)
    wide.graph.check_rows(wide[:])
    assert ToyFaces.graph["image"].shape == (3, 64, 64)


def test_a_row_is_the_same_however_it_is_read(data, rows):
    mask = torch.zeros(300, dtype=torch.bool)
    mask[[3, 7]] = True
    for index, picked in (([7, 3], [7, 3]), (torch.tensor([7, 3]), [7, 3]), (slice(7, 2, -4), [7, 3]), (mask, [3, 7])):
        part = data[index]
        for name in rows:
            assert torch.equal(part[name], rows[name][picked]), name
    assert torch.equal(data[7]["image"], rows["image"][7:8])
    assert torch.equal(data[-1]["id"], data[299]["id"])
    assert torch.equal(ToyFaces("test", rows=10_000)[:5]["image"], rows["image"][:5])
    for name, column in data.columns(ATTRIBUTES).items():
        assert torch.equal(column[:60], rows[name])
    assert torch.equal(ToyFaces("test", rows=60).columns(["image"])["image"], rows["image"])


def test_seeds_and_splits_have_other_faces(data, rows):
    other = ToyFaces("test", rows=300, seed=1)
    for name, column in data.columns(ATTRIBUTES).items():
        assert 0.2 < mean(column != other.columns(ATTRIBUTES)[name]) < 0.8
    another = other.draw(rows["id"], rows)
    assert (another - rows["image"]).abs().flatten(1).mean(1).min() > 0.02
    ids = torch.cat([ToyFaces(split, rows=100).columns(["id"])["id"] for split in ("train", "val", "test")])
    assert len(ids.unique()) == 300


def test_attributes_are_as_frequent_as_said(many):
    for name, chance in ROOTS.items():
        assert mean(many[name]) == pytest.approx(chance, abs=0.01)
    for name, (cause, without, given) in EDGES.items():
        assert mean(many[name][many[cause] == 0]) == pytest.approx(without, abs=0.015)
        assert mean(many[name][many[cause] == 1]) == pytest.approx(given, abs=0.015)
    assert {(cause, name) for name, (cause, *_) in EDGES.items()} == {
        edge for edge in ToyFaces.graph.edges if edge[1] != "image"
    }


def test_what_no_edge_ties_is_independent(many):
    graph = ToyFaces.graph
    for first, second in itertools.combinations(ATTRIBUTES, 2):
        ancestors = [graph.ancestors(name) | {name} for name in (first, second)]
        if not ancestors[0] & ancestors[1]:
            assert abs(correlation(many[first], many[second])) < 0.02, (first, second)


def test_a_smile_opens_the_mouth_of_those_whose_number_says_so(data, rows):
    noise = Units(rows["id"], seed=0).uniform("mouth_open")
    merry, grave = (data.true_counterfactual(rows, do(smiling=value)) for value in (1, 0))
    assert torch.equal(merry["mouth_open"], (noise < 0.8).long())
    assert torch.equal(grave["mouth_open"], (noise < 0.1).long())
    assert (merry["mouth_open"] >= rows["mouth_open"]).all()
    assert mean(merry["mouth_open"] > grave["mouth_open"]) > 0.5
    shut = data.true_counterfactual(rows, do(smiling=1, mouth_open=0))
    assert shut["mouth_open"].sum() == 0


def test_doing_what_is_changes_nothing(data, rows, marked):
    for name in ATTRIBUTES:
        same = data.true_counterfactual(rows, do(**{name: rows[name]}))
        for other in data.graph:
            assert torch.equal(same[other], rows[other]), (name, other)
    part = marked[:20]
    same = marked.true_counterfactual(part, do(smiling=part["smiling"]))
    assert all(torch.equal(same[name], part[name]) for name in marked.graph)


def test_an_intervention_reaches_its_descendants_and_no_other(data, rows):
    for name in ATTRIBUTES:
        truth = data.true_counterfactual(rows, do(**{name: 1 - rows[name]}))
        reached = {name, *data.graph.descendants(name)}
        for other in ATTRIBUTES:
            assert (truth[other] is rows[other]) == (other not in reached), (name, other)
        assert torch.equal(truth[name], 1 - rows[name])
        assert (truth["image"] != rows["image"]).flatten(1).any(1).all(), name


def test_there_and_back_is_the_row_and_children_are_overwritten(data, rows):
    away = {**data.true_counterfactual(rows, do(male=1 - rows["male"])), "id": rows["id"]}
    assert (away["beard"] != rows["beard"]).any()
    back = data.true_counterfactual(away, do(male=rows["male"]))
    forced = {**data.true_counterfactual(rows, do(beard=1 - rows["beard"])), "id": rows["id"]}
    again = data.true_counterfactual(forced, do(male=rows["male"]))
    for truth in (back, again):
        assert all(torch.equal(truth[name], rows[name]) for name in data.graph)


@pytest.mark.parametrize("grain", [0.0, 0.03])
def test_an_attribute_owns_exactly_the_pixels_it_changes(grain):
    data = ToyFaces("test", rows=20, shortcut="marker", strength=0.5, grain=grain)
    rows = data[:]
    for name in (*ATTRIBUTES, "marker"):
        owned = data.owns(rows, name)
        assert owned.shape == (20, 64, 64)
        assert owned.dtype == torch.bool
        held = {other: rows[other] for other in (*ATTRIBUTES, "marker") if other != name}
        truth = data.true_counterfactual(rows, do(**held, **{name: 1 - rows[name]}))
        assert torch.equal(owned, (truth["image"] != rows["image"]).any(1)), name
        assert torch.equal(data.owns({**rows, name: 1 - rows[name]}, name), owned), name
        assert owned.flatten(1).sum(1).min() >= 6, name


def test_attributes_that_are_far_apart_share_no_pixel(marked):
    rows = marked[:60]
    owned = {name: marked.owns(rows, name) for name in (*ATTRIBUTES, "marker")}
    mouth, top, eyes, ears = (
        ("smiling", "mouth_open", "lipstick"),
        ("bangs", "hat"),
        ("male", "eyeglasses"),
        ("earrings",),
    )
    for group, other in itertools.combinations((mouth, top, ears, ("marker",)), 2):
        for first, second in itertools.product(group, other):
            assert not (owned[first] & owned[second]).any(), (first, second)
    for first, second in itertools.product(eyes, (*mouth, "earrings", "marker")):
        assert not (owned[first] & owned[second]).any(), (first, second)
    assert not (owned["hat"] & owned["beard"]).any()
    assert (owned["smiling"] & owned["mouth_open"]).flatten(1).any(1).all()
    corner = torch.zeros(64, 64, dtype=torch.bool)
    corner[56:62, 2:8] = True
    assert torch.equal(owned["marker"], corner.expand(60, -1, -1))


@pytest.mark.parametrize("target", ["smiling", "beard"])
@pytest.mark.parametrize("strength", [0.0, 0.3, 0.9, 1.0])
def test_the_marker_correlates_with_its_target_by_its_strength(many, target, strength):
    data = ToyFaces("train", rows=40_000, shortcut="marker", target=target, strength=strength)
    columns = data.columns([*ATTRIBUTES, "marker"])
    assert correlation(columns["marker"], columns[target]) == pytest.approx(strength, abs=0.02)
    assert mean(columns["marker"]) == pytest.approx(mean(columns[target]), abs=0.01)
    assert all(torch.equal(columns[name], many[name]) for name in ATTRIBUTES)
    assert data.graph.parents("marker") == (target,)
    assert data.graph.parents("image") == (*ATTRIBUTES, "marker")


@pytest.mark.parametrize("strength", [0.0, 0.6, 1.0])
def test_an_attribute_can_be_the_shortcut(many, strength):
    data = ToyFaces("train", rows=40_000, shortcut="eyeglasses", target="smiling", strength=strength)
    columns = data.columns(ATTRIBUTES)
    for smiling, old in itertools.product((0, 1), (0, 1)):
        seen = columns["eyeglasses"][(columns["smiling"] == smiling) & (columns["old"] == old)]
        expected = strength * smiling + (1 - strength) * (0.2 + 0.4 * old)
        assert mean(seen) == pytest.approx(expected, abs=0.02)
    assert data.graph.parents("eyeglasses") == ("old", "smiling")
    assert set(data.graph.edges) == {*ToyFaces.graph.edges, ("smiling", "eyeglasses")}
    kept = [name for name in ATTRIBUTES if name != "eyeglasses" or strength == 0]
    assert all(torch.equal(columns[name], many[name]) for name in kept)
    tied = ToyFaces("train", rows=40_000, shortcut="mouth_open", target="smiling", strength=0.5)
    assert tied.graph == ToyFaces.graph
    columns = tied.columns(ATTRIBUTES)
    assert mean(columns["mouth_open"][columns["smiling"] == 1]) == pytest.approx(0.9, abs=0.01)


def test_a_shortcut_is_a_cause_in_the_truth(marked):
    rows = marked[:60]
    truth = marked.true_counterfactual(rows, do(smiling=1 - rows["smiling"]))
    assert mean(truth["marker"] != rows["marker"]) == pytest.approx(0.8, abs=0.12)
    assert marked.true_counterfactual(rows, do(marker=1))["smiling"] is rows["smiling"]


@pytest.mark.parametrize(("size", "rows"), [(64, 2000), (96, 300), (48, 300)])
def test_oracles_read_what_was_drawn(size, rows):
    data = ToyFaces("test", size=size, rows=rows, shortcut="marker", strength=0.5)
    right = Counter()
    for start in range(0, rows, 100):
        part = data[start : start + 100]
        for name, oracle in data.oracles().items():
            read = oracle(part["image"])
            assert read.dtype == torch.int64
            right[name] += int((read == part[name]).sum())
    assert min(right.values()) >= 0.995 * rows, right


def test_oracles_read_counterfactuals(marked):
    rows = marked[:60]
    for name in (*ATTRIBUTES, "marker"):
        truth = marked.true_counterfactual(rows, do(**{name: 1 - rows[name]}))
        for other, oracle in marked.oracles().items():
            assert mean(oracle(truth["image"]) == truth[other]) >= 0.98, (name, other)


def test_oracles_bear_soft_and_noisy_images(data):
    rows = data[:200]
    noise = torch.randn(rows["image"].shape, generator=torch.Generator().manual_seed(0))
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(rows["image"], (1, 1, 1, 1), "replicate"), 3, 1)
    noisy = {scale: (rows["image"] + scale * noise).clamp(0, 1) for scale in (0.03, 0.05, 0.1)}
    for image, least in (
        (noisy[0.03], 0.99),
        (noisy[0.05], 0.98),
        (noisy[0.1], 0.9),
        ((rows["image"] + soft) / 2, 0.98),
    ):
        for name, oracle in data.oracles().items():
            assert mean(oracle(image) == rows[name]) >= least, name


def test_oracles_are_what_effectiveness_asks_for(data, rows):
    Effectiveness(data.oracles())
    generator = torch.Generator().manual_seed(0)
    strange = [torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64), torch.rand(2, 3, 96, 96, generator=generator)]
    for name, oracle in ToyFaces("test", rows=1, shortcut="marker").oracles().items():
        assert torch.equal(oracle(rows["image"][5:7]), oracle(rows["image"])[5:7]), name
        for image in strange:
            assert set(oracle(image).tolist()) <= {0, 1}
            assert oracle(image).shape == (2,)
    oracle = data.oracles()["hat"]
    with pytest.raises(ValueError, match="values from 0 to 1"):
        oracle(255 * rows["image"])
    with pytest.raises(ValueError, match="expected shape"):
        oracle(rows["image"][:, :1])
    with pytest.raises(TypeError, match="float32"):
        oracle((255 * rows["image"]).byte())


def test_all_four_mouths_differ():
    sitter = Sitter.of(Units(torch.full((4,), 11)))
    image = draw(sitter, {"smiling": torch.tensor([0, 0, 1, 1]), "mouth_open": torch.tensor([0, 1, 0, 1])})
    for first, second in itertools.combinations(range(4), 2):
        clearly = (image[first] - image[second]).abs().amax(0) > 0.2
        assert clearly.sum() >= 15, (first, second)


@pytest.mark.parametrize("size", [64, 96])
def test_a_patch_cuts_nothing_off(size, monkeypatch):
    units = Units(torch.arange(30))
    attributes = {name: (units.uniform(name) < 0.5).long() for name in (*ATTRIBUTES, "marker")}
    parts = draw(Sitter.of(units), attributes, size)
    window = portraits.window
    monkeypatch.setattr(portraits, "window", lambda image, *_: window(image, 0.0, 0.0, 32.0))
    torch.testing.assert_close(draw(Sitter.of(units), attributes, size), parts, atol=1e-4, rtol=0)


def test_both_sizes_show_the_same(rows):
    large = ToyFaces("test", size=96, rows=60)[:]["image"]
    small = torch.nn.functional.avg_pool2d(rows["image"], 2)
    assert (small - torch.nn.functional.adaptive_avg_pool2d(large, 32)).abs().mean() < 0.01


def test_an_ellipse_and_a_lens_have_their_areas():
    canvas = Canvas(200, left=0.0, right=20.0, bottom=0.0, top=20.0)
    x = torch.tensor([9.0, 10.03])
    area = ellipse(canvas, x, 10.0, 5.0, torch.tensor([2.0, 1.0])).sum((1, 2)) * 0.01
    torch.testing.assert_close(area, math.pi * 5.0 * torch.tensor([2.0, 1.0]), atol=0.02, rtol=0)
    for bend in (0.0, 0.05, -0.1):
        shape = lens(canvas, x, 10.0, 6.0, 1.5, bend)
        torch.testing.assert_close(shape.sum((1, 2)) * 0.01, torch.full((2,), 8 / 3 * 6.0 * 1.5), atol=0.1, rtol=0)
        middle = (shape[0] * canvas.y[:, None]).sum(0) / shape[0].sum(0).clamp_min(1e-6)
        column = int((canvas.x - 12.0).abs().argmin())
        assert middle[column].item() == pytest.approx(10 + bend * (canvas.x[column].item() - 9) ** 2, abs=0.02)


def test_grain_is_the_row_s_own_and_in_the_picture_only(rows):
    grainy = ToyFaces("test", rows=60, grain=0.05)
    seen = grainy[:]
    assert all(torch.equal(seen[name], rows[name]) for name in ATTRIBUTES)
    inside = (rows["image"] > 0.2) & (rows["image"] < 0.8)
    assert (seen["image"] - rows["image"])[inside].std().item() == pytest.approx(0.05, abs=0.001)
    assert torch.equal(grainy[[7]]["image"], seen["image"][7:8])
    assert (ToyFaces("test", rows=60, seed=1, grain=0.05).draw(seen["id"], seen) != seen["image"]).any()


def test_what_nobody_knows_is_refused(data, rows):
    assert not data.knows(do(image=rows["image"]))
    assert all(data.knows(do(**{name: 1})) for name in ATTRIBUTES)
    with pytest.raises(ValueError, match="unknown; it exists for male, old"):
        data.true_counterfactual(rows, do(image=rows["image"]))
    without = {name: value for name, value in rows.items() if name != "id"}
    for ask in (lambda: data.true_counterfactual(without, do(hat=1)), lambda: data.owns(without, "hat")):
        with pytest.raises(ValueError, match="need their 'id'"):
            ask()
    with pytest.raises(ValueError, match="unknown variable 'moon'"):
        data.true_counterfactual(rows, do(moon=1))
    with pytest.raises(ValueError, match=r"unknown attribute 'glasses'; write one of male, .*'eyeglasses'\?"):
        data.owns(rows, "glasses")
    with pytest.raises(ValueError, match="unknown attribute 'marker'"):
        data.owns(rows, "marker")


@pytest.mark.parametrize(
    ("arguments", "pattern"),
    [
        ({"split": "dev"}, "'train', 'val' or 'test'"),
        ({"size": 16}, "size of 32 pixels or more"),
        ({"rows": 0}, "rows >= 1"),
        ({"grain": -0.1}, r"grain between 0 and 0\.2"),
        ({"shortcut": "marker", "strength": 1.2}, r"strength between 0 and 1, got 1\.2; write strength=0\.9"),
        ({"shortcut": "marker", "strength": -0.1}, "strength between 0 and 1"),
        ({"shortcut": "marker", "strength": math.nan}, "strength between 0 and 1, got nan"),
        ({"strength": 0.5}, 'needs a shortcut to smiling; write shortcut="marker"'),
        ({"shortcut": "glasses"}, r"unknown shortcut 'glasses'; write one of marker, male.*'eyeglasses'\?"),
        ({"shortcut": "image"}, "unknown shortcut 'image'"),
        ({"shortcut": "marker", "target": "smile"}, r"unknown target 'smile'; write one of male.*'smiling'\?"),
        ({"shortcut": "marker", "target": "marker"}, "unknown target 'marker'"),
        ({"shortcut": "smiling"}, 'smiling cannot be a shortcut to itself; write shortcut="marker"'),
        (
            {"shortcut": "male", "target": "beard"},
            'male is a cause of beard, so it cannot follow it; write shortcut="beard", target="male"',
        ),
    ],
)
def test_bad_arguments_are_refused(arguments, pattern):
    with pytest.raises(ValueError, match=pattern):
        ToyFaces(**arguments)


def test_rows_that_are_not_there_are_refused(data):
    for index in ([300], [], -301):
        with pytest.raises(IndexError, match="300 rows"):
            data[index]


def test_rows_of_nobody_are_not_drawn(data, rows):
    with pytest.raises(ValueError, match="ToyFaces: id -5 is no row of the test split"):
        data.true_counterfactual({**rows, "id": torch.full_like(rows["id"], -5)}, do(hat=1))
    with pytest.raises(TypeError, match="ids as whole numbers"):
        data.owns({**rows, "id": rows["id"].float()}, "hat")
    with pytest.raises(ValueError, match="the rows lack male"):
        data.owns({"id": rows["id"], "hat": rows["hat"]}, "hat")
