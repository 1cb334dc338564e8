"""A model as a Pyro program says what the model says."""

import pyro
import pytest
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from pyro.infer import Predictive

import causalcf as cf
from causalcf import mechanisms as M
from tests.test_scm import tiny


@pytest.fixture(scope="module")
def scm():
    return tiny()


@pytest.fixture(scope="module")
def rows(scm):
    return scm.sample(6, seed=0)


@pytest.fixture(scope="module")
def known():
    graph = cf.CausalGraph("a -> b; k -> b", a=cf.Continuous(), b=cf.Continuous(), k=cf.Categorical(2))
    equation = M.Functional(lambda u, pa: 2 * pa["a"] + pa["k"] + u, lambda x, pa: x - 2 * pa["a"] - pa["k"])
    mechanisms = {"a": M.Gaussian(weights={}), "b": equation, "k": M.Categorical(probabilities=[0.25, 0.75])}
    return cf.SCM(graph, mechanisms)


def test_the_pyro_model_has_our_density(scm, rows):
    trace = pyro.poutine.trace(pyro.condition(scm.to_pyro(), {n: rows[n] for n in "tisk"})).get_trace(6)
    trace.compute_log_prob()
    ours = scm.log_prob(rows)
    for name in "tisk":
        torch.testing.assert_close(trace.nodes[name]["log_prob"].to(ours[name]), ours[name], atol=1e-4, rtol=1e-4)


def test_pyro_do_agrees_with_ours(known):
    n = 20_000
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = pyro.poutine.do(known.to_pyro(), {"a": torch.tensor(1.5)})(n)
    ours = known.do(a=1.5).sample(n)
    assert (theirs["a"] == 1.5).all()
    assert abs(theirs["b"].mean() - ours["b"].mean()) < 0.05
    assert abs(theirs["b"].std() - ours["b"].std()) < 0.05
    assert abs(theirs["k"].float().mean() - 0.75) < 0.02


def test_interventions_on_the_model_hold_in_pyro(known):
    moved = known.do(a=cf.shift(10.0), b=lambda pa: 3.0 * pa["a"])
    sites = pyro.poutine.trace(moved.to_pyro()).get_trace(5).nodes
    torch.testing.assert_close(sites["a"]["value"], sites["a.natural"]["value"] + 10)
    torch.testing.assert_close(sites["b"]["value"], 3 * sites["a"]["value"])
    with torch.random.fork_rng():
        torch.manual_seed(0)
        drawn = Predictive(known.do(a=torch.distributions.Normal(5.0, 2.0)).to_pyro(), num_samples=400)(1)
    assert drawn["a"].mean().item() == pytest.approx(5.0, abs=0.4)
    assert drawn["a"].std().item() == pytest.approx(2.0, abs=0.3)


def test_a_variable_may_be_called_units_in_pyro():
    scm = cf.SCM(cf.CausalGraph([], units=cf.Continuous()), {"units": M.Gaussian(weights={})})
    assert pyro.poutine.trace(scm.to_pyro()).get_trace(3).nodes["units"]["value"].shape == (3,)


def test_pyro_predictive_runs_with_condition(known):
    with torch.random.fork_rng():
        torch.manual_seed(0)
        conditioned = pyro.condition(known.to_pyro(), {"k": torch.ones(50, dtype=torch.int64)})
        drawn = Predictive(conditioned, num_samples=40)(50)
    assert drawn["b"].shape == (40, 50)
    assert abs(drawn["b"].mean() - 1.0) < 0.15


def test_an_image_from_its_noise_site_is_ours(scm, rows):
    """Condition on abducted noise and do the attributes: Pyro's image is the counterfactual of rung 3."""
    world = scm.observe(rows).do(t=2.0)
    values = {name: world[name] for name in "tisk"}
    model = pyro.condition(
        pyro.poutine.do(scm.to_pyro(), values), {f"x.{site}": world.noise["x"][site] for site in ("u", "e")}
    )
    torch.testing.assert_close(model(6)["x"], world["x"], atol=1e-5, rtol=0)


def test_an_image_is_drawn_as_by_the_model(scm, rows):
    """Without the noise of the lowest level, which abduction keeps of observed images alone."""
    parents = {name: rows[name] for name in "tisk"}
    u = 0.05 * torch.randn(6, 1, 8, 8, dtype=torch.float64)
    drawn = pyro.condition(scm.to_pyro(), {**parents, "x.u": u})(6)["x"]
    torch.testing.assert_close(drawn, scm.mechanism("x").predict({"u": u}, parents))
    other = pyro.condition(scm.to_pyro(), {**parents, "x.u": u, "x.e": torch.ones_like(u)})(6)["x"]
    assert (other - drawn).abs().max() > 1e-4


def test_the_parameter_store_is_not_used(scm):
    pyro.clear_param_store()
    scm.to_pyro()(3)
    assert not list(pyro.get_param_store())


def test_a_flow_is_a_pyro_distribution():
    flow = M.Flow().build(cf.Continuous(lower=0.0), {"a": cf.Continuous()})
    law = flow.distribution({"a": torch.zeros(5)})
    assert isinstance(law, TorchDistributionMixin)
    with pyro.poutine.trace() as traced:
        value = pyro.sample("t", law)
    assert traced.trace.nodes["t"]["fn"] is law
    assert value.shape == (5,)
