"""Sequences of interventions, where everything has a closed form."""

import pytest
import torch

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M

GRAPH = cf.CausalGraph("a -> b; b -> c", a=cf.Continuous(), b=cf.Continuous(), c=cf.Continuous())
PLAN = [do(b=5.0), do(a=shift(1.0)), do(c=shift(2.0))]


@pytest.fixture
def scm():
    known = {"a": {}, "b": {"a": 2.0}, "c": {"b": 3.0}}
    return cf.SCM(GRAPH, {name: M.Gaussian(weights=weights) for name, weights in known.items()})


@pytest.fixture
def rows():
    return {"a": torch.tensor([1.0, 2.0]), "b": torch.tensor([2.5, 4.0]), "c": torch.tensor([7.0, 13.0])}


def test_with_shared_noise_what_was_done_keeps_holding(scm, rows):
    worlds = cf.sequence(scm, rows, PLAN)
    assert [len(worlds), str(worlds[3].actions)] == [4, str(worlds[0].do(PLAN[0]).do(PLAN[1]).do(PLAN[2]).actions)]
    assert worlds[1].noise is worlds[3].noise
    torch.testing.assert_close(worlds[2]["b"], torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(worlds[3]["c"], 15.0 + rows["c"] - 3 * rows["b"] + 2)


def test_abducted_again_what_was_done_is_a_fact_with_causes(scm, rows):
    worlds = cf.sequence(scm, rows, PLAN, reabduct=True)
    torch.testing.assert_close(worlds[1]["b"], torch.tensor([5.0, 5.0]))
    torch.testing.assert_close(worlds[2]["b"], torch.tensor([7.0, 7.0]))
    torch.testing.assert_close(worlds[2]["c"], worlds[1]["c"] + 6)
    torch.testing.assert_close(worlds[3]["c"], worlds[2]["c"] + 2)
    assert worlds[0].noise is worlds[1].noise
    assert worlds[2].noise is not worlds[1].noise


def test_units_keep_their_names(scm, rows):
    named = {**rows, "id": torch.tensor([7, 3])}
    for again in (False, True):
        assert all(world.units.ids.tolist() == [7, 3] for world in cf.sequence(scm, named, PLAN, reabduct=again))


def test_a_plan_that_is_none_is_refused(scm, rows):
    for plan in ([], do(a=1.0), None, iter([])):
        with pytest.raises(ValueError, match="expected at least one intervention in a list"):
            cf.sequence(scm, rows, plan)
    with pytest.raises(TypeError, match="step 2 is a dict; write it as do"):
        cf.sequence(scm, rows, [do(a=1.0), {"b": 1.0}])


def test_a_plan_with_an_unknown_variable_is_refused_before_anything_is_abducted(scm, rows, monkeypatch):
    monkeypatch.setattr(M.Gaussian, "abduct", lambda *_: pytest.fail("abducted"))
    with pytest.raises(ValueError, match="unknown variable 'q'; the graph has a, b, c"):
        cf.sequence(scm, rows, [do(a=1.0), do(b=2.0), do(q=3.0)], reabduct=True)
