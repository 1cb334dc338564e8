"""Pendulum: the shadow follows the sun and the pendulum, and the picture shows it."""

import math

import pytest
import torch

from causalcf import do
from causalcf.data import Pendulum
from causalcf.data.pendulum import BLACK, FIREBRICK, ORANGE, WHITE, draw

NAMES = ("angle", "sun", "length", "position")


@pytest.fixture(scope="module")
def grid():
    parts = [Pendulum(split).columns(NAMES) for split in ("train", "val", "test")]
    return {name: torch.cat([part[name] for part in parts]) for name in NAMES}


def by_hand(angle, sun):
    """`(sin, cos)` of the pendulum and `cot` of the sun, to length and position."""
    sine, cosine = angle
    pivot, tip = 10 - 11 * sun, 10 + 9.5 * sine - (11 - 9.5 * cosine) * sun
    return max(3.0, abs(pivot - tip)), (pivot + tip) / 2


def test_the_grid_is_the_paper_s(grid):
    assert [len(Pendulum(split)) for split in ("train", "val", "test")] == [4934, 548, 1826]
    assert len(grid["angle"]) == 7308
    assert (grid["length"].min(), grid["length"].max()) == (3.0, pytest.approx(12.58, abs=0.01))
    assert grid["length"].mean() == pytest.approx(4.97, abs=0.01)
    assert grid["position"].min() == pytest.approx(2.0, abs=0.01)
    assert grid["position"].max() == pytest.approx(19.6, abs=0.01)
    assert grid["position"].mean() == pytest.approx(10.5, abs=0.05)
    first = Pendulum("test")[0]
    assert first["angle"].item() == pytest.approx(-40 * math.pi / 200)
    assert first["sun"].item() == pytest.approx(64 * math.pi / 200)
    assert (grid["sun"] - math.pi / 2).abs().min() > 0.015


def test_the_edge_cuts_few_shadows(grid):
    beyond = grid["position"] + grid["length"] / 2 - 20
    assert (beyond > 0).sum() == 114
    assert beyond[beyond > 0].mean() == pytest.approx(0.15, abs=0.01)
    assert (grid["position"] - grid["length"] / 2).min() > 0


def test_a_shadow_with_its_numbers_worked_out():
    assert by_hand((0.0, 1.0), 0.5) == (4.75, 6.875)
    assert by_hand((0.6, 0.8), 0.5) == pytest.approx((9.5, 9.25))
    assert by_hand((0.0, 1.0), 0.0) == (3.0, 10.0)


@pytest.mark.parametrize("size", [64, 96])
@pytest.mark.parametrize("cotangent", [0.5, 0.0, -0.8])
def test_the_true_counterfactual_is_the_picture_of_the_worked_out_numbers(size, cotangent):
    data = Pendulum("test", size=size, rows=20)
    rows = data[:5]
    angle, sun = math.asin(0.6), math.atan2(1.0, cotangent)
    length, position = by_hand((0.6, 0.8), cotangent)
    truth = data.true_counterfactual(rows, do(angle=angle, sun=sun))
    torch.testing.assert_close(truth["length"], torch.full((5,), length))
    torch.testing.assert_close(truth["position"], torch.full((5,), position))
    expected = draw(*(torch.full((1,), value) for value in (angle, sun, length, position)), size=size)
    torch.testing.assert_close(truth["image"], expected.expand(5, -1, -1, -1), atol=1e-4, rtol=0)


def test_the_shadow_listens_to_each_angle_alone():
    data = Pendulum("test", rows=20)
    rows = data[:]
    truth = data.true_counterfactual(rows, do(angle=0.0))
    expected = [by_hand((0.0, 1.0), 1 / math.tan(sun)) for sun in rows["sun"].tolist()]
    torch.testing.assert_close(torch.stack([truth["length"], truth["position"]], 1), torch.tensor(expected))
    assert truth["sun"] is rows["sun"]


def test_a_forced_shadow_is_drawn_as_told_and_the_rest_stays():
    data = Pendulum("test", rows=20)
    rows = data[:]
    truth = data.true_counterfactual(rows, do(length=5.0, position=9.0))
    above = data.graph["image"].shape[1] - 4
    assert torch.equal(truth["image"][:, :, :above], rows["image"][:, :, :above])
    oracles = data.oracles()
    torch.testing.assert_close(oracles["length"](truth["image"]), truth["length"], atol=0.01, rtol=0)
    torch.testing.assert_close(oracles["position"](truth["image"]), truth["position"], atol=0.01, rtol=0)


@pytest.mark.parametrize("size", [64, 96])
def test_every_colour_is_where_the_geometry_says(size):
    angle, sun, length, position = (torch.tensor([value]) for value in (0.0, math.pi / 2, 6.0, 5.0))
    image = draw(angle, sun, length, position, size)[0]

    def colour(x, y):
        return image[:, int((21 - y) / 22 * size), int(x / 20 * size)]

    for (x, y), expected in {
        (10.0, 2.5): FIREBRICK,
        (10.0, 7.0): BLACK,
        (10.0, 19.0): ORANGE,
        (5.0, -0.5): BLACK,
        (2.5, -0.5): BLACK,
        (7.5, -0.5): BLACK,
        (1.5, -0.5): WHITE,
        (8.5, -0.5): WHITE,
        (5.0, 10.0): WHITE,
        (10.0, 12.0): WHITE,
    }.items():
        torch.testing.assert_close(colour(x, y), torch.tensor(expected), atol=1e-5, rtol=0)


def test_a_cut_shadow_is_read_as_the_least_that_shows_as_much():
    angle, sun = torch.zeros(3), torch.full((3,), 1.5)
    length, position = torch.tensor([3.0, 8.0, 3.0]), torch.tensor([19.5, 18.0, 0.5])
    image = draw(angle, sun, length, position)
    oracles = Pendulum.oracles()
    torch.testing.assert_close(oracles["length"](image), torch.tensor([3.0, 6.0, 3.0]), atol=0.01, rtol=0)
    torch.testing.assert_close(oracles["position"](image), torch.tensor([19.5, 17.0, 0.5]), atol=0.01, rtol=0)


def test_without_a_shadow_there_is_no_length():
    oracles, empty = Pendulum.oracles(), torch.ones(2, 3, 64, 64)
    assert oracles["length"](empty).tolist() == [0.0, 0.0]
    assert ((oracles["position"](empty) >= 0.0) & (oracles["position"](empty) <= 20.0)).all()


def test_a_shadow_that_strays_with_its_numbers_worked_out():
    data, plain = Pendulum("test", rows=200, stray=2.0), Pendulum("test", rows=200)
    rows, cast = data[:], plain[:]
    off = {name: rows[name] - cast[name] for name in ("length", "position")}
    truth = data.true_counterfactual(rows, do(angle=0.0))
    expected = torch.tensor([by_hand((0.0, 1.0), 1 / math.tan(sun)) for sun in rows["sun"].tolist()])
    torch.testing.assert_close(truth["length"], expected[:, 0] + off["length"])
    torch.testing.assert_close(truth["position"], expected[:, 1] + off["position"])
