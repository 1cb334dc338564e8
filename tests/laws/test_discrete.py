"""Gumbel-max: posterior noise, stability, and agreement of rung 3 with rung 2."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.units import Units

N = 20_000
PRIOR = torch.tensor([0.5, 0.2, 0.3], dtype=torch.float64)


@pytest.fixture(scope="module")
def scm():
    """`z -> x`, x categorical with logits that depend on z, binary and categorical parents."""
    graph = cf.CausalGraph("z -> x; b -> x", z=cf.Categorical(3), b=cf.Binary(), x=cf.Categorical(4))
    known = {"z": M.Categorical(probabilities=PRIOR.tolist()), "b": M.Binary(probabilities=[0.4, 0.6])}
    scm = cf.SCM(graph, known).double()
    generator = torch.Generator().manual_seed(1)
    for parameter in scm.mechanisms["x"].parameters():
        parameter.data = 0.4 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    scm.mechanisms["x"].fitted = True
    return scm


def test_samples_have_the_stated_frequencies(scm):
    rows = scm.sample(N, seed=0)
    share = torch.bincount(rows["z"], minlength=3) / N
    torch.testing.assert_close(share.double(), PRIOR, atol=0.015, rtol=0)
    assert abs(rows["b"].double().mean() - 0.6) < 0.015


@pytest.mark.parametrize("seed", range(5))
def test_the_factual_class_is_reproduced_for_every_seed(scm, seed):
    rows = scm.sample(N, seed=9)
    again = scm.observe(rows, seed=seed).do(recompute=True)
    assert all(torch.equal(again[name], rows[name]) for name in scm.graph)


def test_other_seeds_explain_the_same_class_by_other_noise(scm):
    rows = scm.sample(100, seed=9)
    first, second = (scm.observe(rows, seed=seed).noise["x"]["g"] for seed in (0, 1))
    assert (first != second).all()
    assert torch.equal(first, scm.observe(rows, seed=0).noise["x"]["g"])


def test_posterior_noise_averaged_over_classes_is_the_prior(scm):
    """Draw x from the model, then its noise from the posterior: Gumbel again, by the law of total probability."""
    rows = scm.sample(N, seed=4)
    g = scm.observe(rows, seed=5).noise["x"]["g"]
    euler, spread = 0.5772157, torch.pi / 6**0.5
    torch.testing.assert_close(g.mean(0), torch.full((4,), euler).double(), atol=0.05, rtol=0)
    torch.testing.assert_close(g.std(0), torch.full((4,), spread).double(), atol=0.05, rtol=0)
    correlation = torch.corrcoef(g.T) - torch.eye(4)
    assert correlation.abs().max() < 0.03


def test_counterfactuals_averaged_over_rows_are_interventional(scm):
    rows = scm.sample(N, seed=4)
    imagined = scm.observe(rows, seed=5).do(z=2)["x"]
    done = scm.do(z=2).sample(N, seed=6)["x"]
    difference = (torch.bincount(imagined, minlength=4) - torch.bincount(done, minlength=4)) / N
    assert difference.abs().max() < 0.02


@pytest.mark.parametrize("seed", [4, 5])
def test_rows_may_be_drawn_and_observed_with_one_seed(scm, seed):
    """What decided a class must not explain it: the posterior would know more than the class shows."""
    rows = scm.sample(N, seed=4)
    for z in range(3):
        imagined = scm.observe(rows, seed=seed).do(z=z)["x"]
        done = scm.do(z=z).sample(N, seed=6)["x"]
        difference = (torch.bincount(imagined, minlength=4) - torch.bincount(done, minlength=4)) / N
        assert difference.abs().max() < 0.015


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_noise_that_is_abducted_again_is_drawn_anew(scm, turns):
    """A counterfactual taken as observed, over and over: each time its class, and nothing else, explains it."""
    world = scm.observe(scm.sample(N, seed=4), seed=4)
    for turn in range(turns):
        world = world.do(z=2 if turn % 2 else 0).reabduct()
    imagined, done = world.do(z=1)["x"], scm.do(z=1).sample(N, seed=6)["x"]
    difference = (torch.bincount(imagined, minlength=4) - torch.bincount(done, minlength=4)) / N
    assert difference.abs().max() < 0.015


def test_counterfactual_stability(scm):
    """x* = k needs that k gained against the factual class (Oberst and Sontag, 2019)."""
    rows = scm.sample(N, seed=4)
    world = scm.observe(rows, seed=5)
    imagined = world.do(z=2)
    x = scm.mechanisms["x"]
    before = x.logits({"z": rows["z"], "b": rows["b"]}, N)
    after = x.logits({"z": imagined["z"], "b": rows["b"]}, N)
    gain = after - before
    chosen, factual = gain.gather(1, imagined["x"][:, None]), gain.gather(1, rows["x"][:, None])
    changed = imagined["x"] != rows["x"]
    assert changed.sum() > 100
    assert (chosen >= factual - 1e-9)[changed].all()


def test_binary_counterfactual_probability_in_closed_form():
    """P(x* = 1 | x = 1) = min(1, p* / p) for two classes: the noise is one logistic threshold."""
    mechanism = M.Binary().build(cf.Binary(), {"z": cf.Binary()})
    mechanism.double()
    with torch.no_grad():
        for parameter in mechanism.parameters():
            parameter.zero_()
        mechanism.network[-1].weight[1, :] = 0
        mechanism.base.copy_(torch.tensor([0.2, 0.8]).log())
    units = Units(torch.arange(N))
    noise = mechanism.abduct(torch.ones(N, dtype=torch.int64), {"z": torch.zeros(N)}, units, "x")
    mechanism.base.copy_(torch.tensor([0.5, 0.5]).log())
    share = mechanism.predict(noise, {"z": torch.zeros(N)}).double().mean()
    assert abs(share - 0.5 / 0.8) < 0.015
