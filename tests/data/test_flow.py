"""Flow: the ball raises the water, the water drives the jet, and the picture shows it."""

import math

import pytest
import torch

from causalcf import do, shift
from causalcf.data import Flow
from causalcf.data.flow import BLACK, BLUE, FIREBRICK, WHITE, draw

NAMES = ("ball", "hole", "water", "jet")


@pytest.fixture(scope="module")
def data():
    return Flow("test", rows=40)


@pytest.fixture(scope="module")
def rows(data):
    return data[:]


def test_the_grid_is_the_paper_s():
    parts = {split: Flow(split).columns(NAMES) for split in ("train", "val", "test")}
    assert [len(part["ball"]) for part in parts.values()] == [5832, 648, 1620]
    jet = torch.cat([part["jet"] for part in parts.values()])
    assert jet.min() == pytest.approx(1.72, abs=0.01)
    assert jet.max() == pytest.approx(6.61, abs=0.01)
    fifth = Flow("test").columns(NAMES)
    assert [fifth[name][0].item() for name in ("ball", "hole")] == [5.0, 10.0]
    assert fifth["water"][0].item() == pytest.approx((1 / 6) ** 3 + 1)


def test_drawn_rows_follow_the_equations():
    columns = {name: column.double() for name, column in Flow("train", rows=20_000).columns(NAMES).items()}
    noise = 10 * (columns["water"] - (columns["ball"] / 30) ** 3)
    quantiles = torch.quantile(noise, torch.linspace(0, 1, 11).double())
    torch.testing.assert_close(quantiles, torch.linspace(10, 40, 11).double(), atol=0.5, rtol=0)
    independent = torch.corrcoef(torch.stack([noise, columns["ball"], columns["hole"]])) - torch.eye(3)
    assert independent.abs().max() < 0.03
    jet = (1.96 * columns["water"] * (columns["hole"] / 3 - 0.5)).sqrt()
    torch.testing.assert_close(columns["jet"], jet, atol=1e-5, rtol=0)


@pytest.mark.parametrize("size", [64, 96])
def test_the_true_counterfactual_is_the_picture_of_the_worked_out_numbers(size):
    data = Flow("test", size=size, rows=20)
    rows = data[:5]
    poured = rows["water"] - (rows["ball"] / 30) ** 3
    truth = data.true_counterfactual(rows, do(ball=30.0, hole=7.5))
    water, jet = poured + 1, (1.96 * (poured + 1) * 2).sqrt()
    torch.testing.assert_close(truth["water"], water)
    torch.testing.assert_close(truth["jet"], jet)
    expected = draw(torch.full((5,), 30.0), water, torch.full((5,), 7.5), jet, size)
    torch.testing.assert_close(truth["image"], expected, atol=1e-4, rtol=0)


def test_the_water_moves_the_jet_and_not_the_ball(data, rows):
    truth = data.true_counterfactual(rows, do(water=3.0))
    assert truth["ball"] is rows["ball"]
    torch.testing.assert_close(truth["jet"], (1.96 * 3 * (rows["hole"] / 3 - 0.5)).sqrt())
    higher = data.true_counterfactual(rows, do(hole=shift(0.5, clamp=True)))
    assert higher["water"] is rows["water"]
    assert (higher["jet"] > rows["jet"]).all()


def test_a_forced_jet_changes_nothing_left_of_the_wall(data, rows):
    truth = data.true_counterfactual(rows, do(jet=4.0))
    wall = int(4.125 / 12 * 64)
    assert torch.equal(truth["image"][..., :wall], rows["image"][..., :wall])
    read = {name: oracle(truth["image"]) for name, oracle in data.oracles().items()}
    torch.testing.assert_close(read["jet"], truth["jet"], atol=0.05, rtol=0)
    torch.testing.assert_close(read["hole"], rows["hole"], atol=0.01, rtol=0)


def test_a_speck_elsewhere_does_not_move_the_jet(data):
    image = draw(*(torch.tensor([value]) for value in (20.0, 2.0, 9.0, 3.0)))
    read = data.oracles()["jet"](image)
    image[:, :, 50:53, 58:61] = torch.tensor(BLUE)[:, None, None]
    torch.testing.assert_close(data.oracles()["jet"](image), read, atol=0.02, rtol=0)


@pytest.mark.parametrize("name", NAMES)
def test_whatever_the_graph_declares_can_be_seen(data, rows, name):
    variable = data.graph[name]
    target = torch.linspace(variable.lower, variable.upper, 40)
    truth = data.true_counterfactual(rows, do(**{name: target}))
    for other, oracle in data.oracles().items():
        width = data.graph[other].upper - data.graph[other].lower
        assert (oracle(truth["image"]) - truth[other]).abs().max() < 0.015 * width, other


@pytest.mark.parametrize("size", [64, 96])
def test_every_colour_is_where_the_geometry_says(size):
    ball, water, hole, jet = (torch.tensor([value]) for value in (30.0, 3.0, 9.0, 5.0))
    image = draw(ball, water, hole, jet, size)[0]

    def colour(x, y):
        return image[:, int((12 - y) / 12 * size), int(x / 12 * size)]

    for (x, y), expected in {
        (2.06, 1.5): FIREBRICK,
        (2.06, 0.7): FIREBRICK,
        (2.06, 2.8): BLUE,
        (2.06, 7.8): BLUE,
        (2.06, 8.3): WHITE,
        (0.2, 9.0): BLACK,
        (3.9, 9.0): BLACK,
        (3.9, 3.0): BLUE,
        (3.9, 2.5): BLACK,
        (3.9, 3.5): BLACK,
        (4.3, 3.0): BLUE,
        (4.125 + 5 * math.sqrt(1.5 / 2.5), 1.5): BLUE,
        (4.5, 1.5): WHITE,
        (9.0, 0.2): BLACK,
        (9.0, 5.0): WHITE,
    }.items():
        torch.testing.assert_close(colour(x, y), torch.tensor(expected), atol=0.02, rtol=0)


def test_drawing_noise_is_the_row_s_own_and_in_the_picture_only(rows):
    noisy = Flow("test", rows=40, noise=0.05)
    seen = noisy[:]
    for name in NAMES:
        assert torch.equal(seen[name], rows[name])
    oracle = noisy.oracles()["jet"]
    further = oracle(seen["image"]) / oracle(rows["image"])
    assert further.min() > (1 + 0.05 / 0.98) ** 0.5 - 0.01
    assert further.max() > 1.05
    assert torch.equal(noisy[[7]]["image"], seen["image"][7:8])
    same = noisy.true_counterfactual(seen, do(jet=seen["jet"]))
    assert torch.equal(same["image"], seen["image"])
    assert (Flow("test", rows=40, noise=0.05, seed=1).draw(seen["id"], seen) != seen["image"]).any()


def test_bad_noise_is_refused():
    with pytest.raises(ValueError, match=r"noise between 0 and 0\.1"):
        Flow("test", noise=1.0)


@pytest.mark.parametrize("size", [32, 36, 40, 48, 52, 56])
def test_factors_are_read_at_sizes_that_fit_no_edge(size):
    floor = Flow("test", size=size, rows=50).floor(50)
    width = {name: Flow.graph[name].upper - Flow.graph[name].lower for name in floor}
    assert all(error < 0.012 * width[name] for name, error in floor.items()), floor


def test_rows_of_another_data_set_are_not_drawn_with_its_noise():
    noisy = Flow("test", rows=5, noise=0.1)
    rows = Flow("test", rows=9, noise=0.1)[:]
    with pytest.raises(ValueError, match="Flow: id 2000000005 is no row of the test split"):
        noisy.true_counterfactual(rows, do(ball=20.0))
