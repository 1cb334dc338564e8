"""Equations that are known: on any device, and of classes too."""

import pytest
import torch
from pyro import distributions as dist

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.assignments import draw, on_device
from causalcf.units import Units

ELSEWHERE = torch.device("meta")


def mouth(noise):
    """A class that is its cause, unless a coin turns it over."""
    graph = cf.CausalGraph("smiling -> mouth", smiling=cf.Binary(), mouth=cf.Binary())
    turned = M.Functional(
        lambda u, pa: (pa["smiling"] - u.long()).abs(), lambda x, pa: (x - pa["smiling"]).abs(), noise=noise
    )
    return cf.SCM(graph, {"smiling": M.Binary(probabilities=[0.5, 0.5]), "mouth": turned})


def test_a_class_has_the_probability_of_the_noise_that_gives_it():
    scm = mouth(dist.Bernoulli(0.2))
    rows = {"smiling": torch.tensor([0, 0, 1, 1]), "mouth": torch.tensor([0, 1, 0, 1])}
    found = scm.log_prob(rows)["mouth"].exp()
    torch.testing.assert_close(found, torch.tensor([0.8, 0.2, 0.2, 0.8]).to(found))
    drawn = scm.sample(4000)
    assert (drawn["smiling"] != drawn["mouth"]).double().mean().item() == pytest.approx(0.2, abs=0.02)


def test_a_class_of_continuous_noise_has_no_density():
    with pytest.raises(ValueError, match=r"a class that continuous noise decides has no density .* on=\[...\]"):
        mouth(dist.Normal(0.0, 1.0)).log_prob({"smiling": torch.tensor([0]), "mouth": torch.tensor([1])})


@pytest.mark.parametrize("law", [dist.Normal(0.0, 1.0), dist.Gamma(2.0, 1.0), dist.Bernoulli(0.3)])
def test_noise_is_where_the_mechanism_is(law):
    functional = M.Functional(lambda u, pa: u, lambda x, pa: x, noise=law).build(cf.Continuous(), {}).to(ELSEWHERE)
    assert functional.noise(Units(torch.arange(3)), "a")["u"].device == ELSEWHERE
    assert functional.distribution({}).base_dist.sample().device == ELSEWHERE


@pytest.mark.parametrize("law", [dist.Categorical(torch.ones(3)), dist.Categorical(logits=torch.zeros(3))])
def test_classes_are_drawn_where_the_units_are(law):
    assert law.probs.shape == (3,)  # from now on it knows both forms
    assert draw(law, Units(torch.arange(3, device=ELSEWHERE)), "a").device == ELSEWHERE
    assert on_device(law, ELSEWHERE).logits.device == ELSEWHERE


def test_a_prediction_that_is_no_class_is_refused_where_it_arises():
    graph = cf.CausalGraph("a -> k", a=cf.Continuous(), k=cf.Categorical(3))
    equation = M.Functional(lambda u, pa: torch.full_like(pa["a"], 7).long(), lambda x, pa: pa["a"])
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "k": equation})
    world = scm.observe({"a": torch.zeros(2), "k": torch.ones(2).long()})
    with pytest.raises(ValueError, match=r"k: expected classes 0 to 2, got 7 .*as its mechanism predicted"):
        world.do(a=1.0)["k"]
