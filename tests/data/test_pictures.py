"""Laws of all data sets that draw pictures from factors with known equations."""

import pickle

import pytest
import torch

import graphs.flow
import graphs.pendulum
from causalcf import do, shift
from causalcf.data import Flow, Pendulum

GRAPHS = {Pendulum: graphs.pendulum.graph, Flow: graphs.flow.graph}


def ranges(data):
    """Largest minus least value of each factor on the grid, all splits together."""
    columns = grid(type(data))
    return {name: float(column.max() - column.min()) for name, column in columns.items()}


def grid(kind):
    names = [name for name in kind.graph if name != "image"]
    parts = [kind(split).columns(names) for split in ("train", "val", "test")]
    return {name: torch.cat([part[name] for part in parts]) for name in names}


@pytest.fixture(scope="module", params=GRAPHS, ids=lambda kind: kind.__name__)
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def factors(kind):
    return [name for name in kind.graph if name != "image"]


@pytest.fixture(scope="module")
def data(kind):
    return kind("test", rows=300)


@pytest.fixture(scope="module")
def rows(data):
    return data[:60]


def test_rows_fit_the_graph(kind, data, rows):
    assert kind.graph == GRAPHS[kind]
    assert data.graph == GRAPHS[kind]
    checked = data.graph.check_rows(rows)
    assert set(checked) == {*data.graph, "id"}
    assert all(value.dtype == torch.float32 for name, value in rows.items() if name != "id")
    wide = kind("test", size=96, rows=5)
    assert wide.graph["image"].shape == (3, 96, 96)
    wide.graph.check_rows(wide[:])
    assert kind("test", rows=5).graph["image"].shape == (3, 64, 64)


def test_a_row_is_the_same_however_it_is_read(kind, data, rows):
    mask = torch.zeros(300, dtype=torch.bool)
    mask[[3, 7]] = True
    for index, picked in (([7, 3], [7, 3]), (torch.tensor([7, 3]), [7, 3]), (slice(7, 2, -4), [7, 3]), (mask, [3, 7])):
        part = data[index]
        for name in rows:
            assert torch.equal(part[name], rows[name][picked])
    assert torch.equal(data[7]["image"], rows["image"][7:8])
    assert torch.equal(data[-1]["id"], data[299]["id"])
    assert torch.equal(kind("test", rows=10_000)[:5]["image"], rows["image"][:5])
    for name, column in data.columns([name for name in rows if name != "image"]).items():
        assert torch.equal(column[:60], rows[name])
    assert torch.equal(kind("test", rows=60).columns(["image"])["image"], rows["image"])


def test_the_seed_changes_the_factors(kind, data, factors):
    other = kind("test", rows=300, seed=1).columns(factors)
    assert all((other[name] != column).float().mean() > 0.5 for name, column in data.columns(factors).items())


@pytest.mark.parametrize("rows", [None, 100])
def test_ids_differ_between_splits(kind, rows):
    ids = torch.cat([kind(split, rows=rows).columns(["id"])["id"] for split in ("train", "val", "test")])
    assert len(ids.unique()) == len(ids)


def test_the_splits_share_out_the_grid(kind):
    whole = sorted(zip(*(column.tolist() for column in kind.grid()[0].values()), strict=True))
    assert len(set(whole)) == len(whole)
    kept = [kind(split)._grid for split in ("train", "val", "test")]
    assert sorted(row for part in kept for row in zip(*(part[name].tolist() for name in part), strict=True)) == whole


def test_all_rows_lie_in_what_the_graph_declares(kind, factors):
    for columns in (kind("train", rows=20_000).columns(factors), grid(kind)):
        for name, column in columns.items():
            kind.graph[name].check(name, column)


@pytest.mark.parametrize("c", [-0.6, 0.0, 0.8])
def test_confounding_ties_the_first_two_factors_and_keeps_their_ranges(kind, c):
    pair = list(kind.ranges)[:2]
    columns = kind("train", rows=20_000, confounding=c).columns(pair)
    share = {
        name: (column.double() - kind.ranges[name][0]) / (kind.ranges[name][1] - kind.ranges[name][0])
        for name, column in columns.items()
    }
    for column in share.values():
        quantiles = torch.quantile(column, torch.linspace(0.0, 1.0, 11).double())
        torch.testing.assert_close(quantiles, torch.linspace(0, 1, 11).double(), atol=0.015, rtol=0)
    normal = torch.stack([torch.special.ndtri(column.clamp(1e-6, 1 - 1e-6)) for column in share.values()])
    assert torch.corrcoef(normal)[0, 1] == pytest.approx(c, abs=0.02)
    assert torch.equal(kind("train", rows=10, confounding=c).columns(pair)[pair[1]], columns[pair[1]][:10])


def test_doing_what_is_changes_nothing(data, rows, factors):
    for name in factors:
        same = data.true_counterfactual(rows, do(**{name: rows[name]}))
        for other in (*factors, "image"):
            assert torch.equal(same[other], rows[other]), (name, other)


def test_an_intervention_reaches_its_descendants_and_no_other(data, rows, factors):
    for name in factors:
        variable = data.graph[name]
        target = (variable.lower + variable.upper) / 2
        truth = data.true_counterfactual(rows, do(**{name: target}))
        reached = {name, *data.graph.descendants([name])}
        for other in factors:
            assert (truth[other] is rows[other]) == (other not in reached), (name, other)
        assert torch.equal(truth[name], torch.full((60,), target))
        assert (truth["image"] != rows["image"]).flatten(1).any(1).float().mean() > 0.9, name


def test_children_are_overwritten_when_an_ancestor_is_reached(data, rows, factors):
    root, child = factors[0], next(name for name in factors[::-1] if data.graph.parents(name))
    variable = data.graph[child]
    forced = {**data.true_counterfactual(rows, do(**{child: variable.lower})), "id": rows["id"]}
    again = data.true_counterfactual(forced, do(**{root: rows[root]}))
    torch.testing.assert_close(again[child], rows[child])


def test_there_and_back_is_the_row(data, rows, factors):
    root = factors[0]
    away = data.true_counterfactual(rows, do(**{root: shift(0.2, clamp=True)}))
    back = data.true_counterfactual({**away, "id": rows["id"]}, do(**{root: rows[root]}))
    torch.testing.assert_close(back["image"], rows["image"], atol=1e-3, rtol=0)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("drawn", [None, 200])
def test_oracles_measure_what_was_drawn(kind, size, drawn):
    data = kind("test", size=size, rows=drawn)
    for name, error in data.floor(count=200).items():
        assert error < 0.0025 * ranges(data)[name], name


def test_the_floor_is_the_mean_absolute_error(kind):
    data = kind("test", rows=9)
    rows, oracles = data[::2], data.oracles()
    expected = {name: float((oracle(rows["image"]) - rows[name]).abs().mean()) for name, oracle in oracles.items()}
    assert data.floor(count=4) == expected
    assert set(expected) == set(data.graph) - {"image"}


def test_both_sizes_show_the_same(kind):
    small, large = (kind("test", size=size, rows=100)[:] for size in (64, 96))
    for name, oracle in kind.oracles().items():
        assert torch.equal(small[name], large[name])
        difference = (oracle(small["image"]) - oracle(large["image"])).abs().mean()
        assert difference < 0.0025 * ranges(kind("test", rows=1))[name], name
    shrunk = torch.nn.functional.adaptive_avg_pool2d(large["image"], 32)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(small["image"], 2), shrunk, atol=0.15, rtol=0)


def test_an_oracle_reads_a_row_alike_in_any_batch(kind, rows):
    for oracle in kind.oracles().values():
        torch.testing.assert_close(oracle(rows["image"][5:7]), oracle(rows["image"])[5:7])


def test_oracles_bear_soft_and_noisy_images(kind, data, rows):
    generator = torch.Generator().manual_seed(0)
    noisy = (rows["image"] + 0.03 * torch.randn(rows["image"].shape, generator=generator)).clamp(0, 1)
    soft = torch.nn.functional.avg_pool2d(torch.nn.functional.pad(rows["image"], (1, 1, 1, 1), "replicate"), 3, 1)
    soft = (rows["image"] + soft) / 2
    for image in (noisy, soft, 0.95 * rows["image"]):
        for name, oracle in kind.oracles().items():
            assert (oracle(image) - rows[name]).abs().mean() < 0.015 * ranges(data)[name], name


def test_oracles_give_a_number_whatever_they_see(kind):
    generator = torch.Generator().manual_seed(0)
    strange = [torch.zeros(2, 3, 64, 64), torch.ones(2, 3, 64, 64), torch.full((2, 3, 64, 64), 0.5)]
    for image in (*strange, torch.rand(2, 3, 96, 96, generator=generator)):
        for name, oracle in kind.oracles().items():
            assert oracle(image).isfinite().all(), name
            assert oracle(image).shape == (2,), name


def test_what_nobody_knows_is_refused(kind, data, rows, factors):
    assert not data.knows(do(image=rows["image"]))
    assert all(data.knows(do(**{name: 1.0})) for name in factors)
    with pytest.raises(ValueError, match=f"unknown; it exists for {', '.join(factors)}"):
        data.true_counterfactual(rows, do(image=rows["image"]))
    with pytest.raises(ValueError, match="need their 'id'"):
        data.true_counterfactual({name: value for name, value in rows.items() if name != "id"}, do(**{factors[0]: 1.0}))
    with pytest.raises(ValueError, match="unknown variable 'moon'"):
        data.true_counterfactual(rows, do(moon=3.0))
    first, *others = (name for name in rows if name not in ("id", "image"))
    with pytest.raises(ValueError, match=f"the rows lack {first}, image; pass rows as the data set gave them"):
        data.true_counterfactual({name: rows[name] for name in (*others, "id")}, do(**{others[0]: rows[others[0]]}))


def test_bad_arguments_are_refused(kind, data):
    with pytest.raises(ValueError, match="'train', 'val' or 'test'"):
        kind("dev")
    with pytest.raises(ValueError, match="size of 32 pixels or more"):
        kind("test", size=16)
    with pytest.raises(ValueError, match="whole number rows >= 1"):
        kind("test", rows=0)
    with pytest.raises(ValueError, match=r"correlation in \(-1, 1\)"):
        kind("test", rows=10, confounding=1.0)
    with pytest.raises(ValueError, match=r"rows=10_000, confounding=0\.5"):
        kind("test", confounding=0.5)
    with pytest.raises(IndexError, match="300 rows"):
        data[[300]]
    with pytest.raises(IndexError, match="300 rows"):
        data[[]]


def test_what_strays_is_off_apart_and_stays_off(kind, factors):
    data, plain = kind("test", rows=300, stray=kind.furthest), kind("test", rows=300)
    rows, cast = data[:], plain.columns(factors)
    off = {name: rows[name] - kind.decided[name](rows) for name in kind.decided}
    for values in off.values():
        assert values.abs().max() <= kind.furthest + 1e-5
        assert values.abs().mean() == pytest.approx(kind.furthest / 2, rel=0.1)
    if len(off) > 1:
        assert torch.corrcoef(torch.stack(list(off.values())))[0, 1].abs() < 0.15
    for name in set(factors) - set(kind.decided):
        assert torch.equal(rows[name], cast[name])
    first = next(iter(kind.ranges))
    moved = data.true_counterfactual(rows, do(**{first: rows[first].mean()}))
    for name, values in off.items():
        assert (moved[name] - rows[name]).abs().mean() > 0.1
        torch.testing.assert_close(moved[name] - kind.decided[name](moved), values, atol=1e-4, rtol=0)


def test_what_was_set_goes_on_from_there(kind):
    data = kind("test", rows=20, stray=kind.furthest)
    rows, name, first = data[:], next(iter(kind.decided)), next(iter(kind.ranges))
    was_set = data.true_counterfactual(rows, do(**{name: 5.0}))
    later = data.true_counterfactual({**was_set, "id": rows["id"]}, do(**{first: rows[first].mean()}))
    change = kind.decided[name](later) - kind.decided[name](rows)
    torch.testing.assert_close(later[name], 5.0 + change, atol=1e-4, rtol=0)


def test_rows_that_stray_fit_the_graph_and_are_measured(kind, factors):
    data = kind("train", rows=20_000, stray=kind.furthest)
    for name, column in data.columns(factors).items():
        kind.graph[name].check(name, column)
    few = kind("test", rows=500, stray=kind.furthest)
    assert all(error < 0.01 * ranges(few)[name] for name, error in few.floor(500).items())


def test_what_cannot_stray_is_refused(kind):
    for stray in (kind.furthest + 0.1, -0.1):
        with pytest.raises(ValueError, match=rf"{kind.__name__}: expected stray between 0 and [\d.]+, got {stray}"):
            kind("test", rows=5, stray=stray)
    with pytest.raises(ValueError, match=r"nothing strays on the grid; write \w+\('test', rows=10_000, stray=0.1\)"):
        kind("test", stray=0.1)


@pytest.mark.parametrize("stray", [0.0, 0.4])
def test_data_go_to_other_processes(kind, stray):
    data = kind("test", rows=20, stray=stray)
    again = pickle.loads(pickle.dumps(data))
    rows = data[:4]
    assert all(torch.equal(again[:4][name], rows[name]) for name in rows)
    action = do(**{next(iter(kind.ranges)): float(rows[next(iter(kind.ranges))].mean())})
    truth = data.true_counterfactual(rows, action)
    assert all(torch.equal(again.true_counterfactual(rows, action)[name], truth[name]) for name in truth)


def test_the_answer_can_be_asked_about_and_actions_may_be_a_mapping(kind, data, rows, factors):
    name = next(iter(kind.ranges))
    value = float(rows[name].mean())
    truth = data.true_counterfactual(rows, {name: value})
    assert torch.equal(truth["id"], rows["id"])
    again = data.true_counterfactual(truth, do(**{name: value}))
    assert torch.equal(again["image"], truth["image"])


def test_columns_are_asked_for_in_a_list_and_exist(data):
    with pytest.raises(TypeError, match=r"write columns\(\['image'\]\)"):
        data.columns("image")
    with pytest.raises(ValueError, match="unknown variable 'nose'"):
        data.columns(["image", "nose"])
    with pytest.raises(ValueError, match="whole number count >= 1"):
        data.floor(0)
