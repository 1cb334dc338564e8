"""The assertions offered to users: a sound model passes each, and a model broken in one way fails the right one."""

import pytest
import torch

import causalcf as cf
from causalcf import do, shift, testing
from causalcf import mechanisms as M
from tests.laws.conftest import linear_gaussian


class Forgetful(M.Gaussian):
    """Abducts half of the noise."""

    def abduct(self, value, parents, units, key):
        return {"u": 0.5 * super().abduct(value, parents, units, key)["u"]}


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(0)
    return {name: torch.randn(16, generator=generator, dtype=torch.float64) for name in "abcde"}


@pytest.fixture
def broken():
    graph = cf.CausalGraph("a -> b; b -> c", **{name: cf.Continuous() for name in "abc"})
    known = {
        "a": M.Gaussian(weights={}),
        "b": Forgetful(weights={"a": 2.0}),
        "c": M.Gaussian(weights={"b": 1.0}),
    }
    return cf.SCM(graph, known).double()


def test_a_sound_model_passes(rows):
    scm = linear_gaussian()
    testing.assert_sound(scm, rows, atol=1e-9)
    testing.assert_composition(scm, rows, 1e-9)
    testing.assert_reversibility(scm, rows, do(a=shift(1.0), c=0.5), 1e-9)
    testing.assert_effectiveness(scm, rows, "c", 0.5)
    testing.assert_locality(scm, rows, do(c=0.5))


def test_a_model_that_forgets_fails_where_it_forgets(broken, rows):
    rows = {name: rows[name] for name in "abc"}
    with pytest.raises(AssertionError, match=r"composition of b: row \d+ is .* away, allowed are 1e-06"):
        testing.assert_composition(broken, rows, 1e-6)
    testing.assert_composition(broken, rows, 1e-6, nodes=["a"])
    with pytest.raises(AssertionError, match=r"reversibility of do\(a \+= 1\) at b"):
        testing.assert_reversibility(broken, rows, do(a=shift(1.0)), 1e-6)
    with pytest.raises(AssertionError):
        testing.assert_sound(broken, rows)


def test_a_world_that_copies_what_it_should_share_fails_locality(rows, monkeypatch):
    scm = linear_gaussian()
    real = cf.World.__getitem__
    monkeypatch.setattr(cf.World, "__getitem__", lambda self, name: real(self, name).clone())
    with pytest.raises(AssertionError, match=r"locality of do\(c = 0.5\): a does not descend from it"):
        testing.assert_locality(scm, rows, do(c=0.5))


def test_an_intervention_that_misses_fails_effectiveness(rows, monkeypatch):
    scm = linear_gaussian()
    real = cf.World.do
    monkeypatch.setattr(cf.World, "do", lambda self, **actions: real(self, **{"c": 0.25} if actions else {}))
    with pytest.raises(AssertionError, match=r"effectiveness of do\(c\)"):
        testing.assert_effectiveness(scm, rows, "c", 0.5)


def test_an_intervention_that_moves_causes_fails_effectiveness(rows, monkeypatch):
    scm = linear_gaussian()
    real = cf.World.do
    monkeypatch.setattr(cf.World, "do", lambda self, **actions: real(self, **actions, a=0.25))
    with pytest.raises(AssertionError, match=r"do\(c\) at a, on which c depends,: row \d+ is"):
        testing.assert_effectiveness(scm, rows, "c", 0.5)


def test_a_single_row_will_do(rows, broken):
    row = {name: rows[name][:1] for name in rows}
    testing.assert_sound(linear_gaussian(), row, atol=1e-9)
    with pytest.raises(AssertionError, match="composition of b"):
        testing.assert_sound(broken, {name: row[name] for name in "abc"})


def test_an_unknown_variable_is_named(rows):
    with pytest.raises(ValueError, match="nowhere"):
        testing.assert_composition(linear_gaussian(), rows, nodes=["nowhere"])
