"""Flows at the edge of what they can hold: bounds far from zero, and units in which all values are tiny."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.mechanisms.flow import Support


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("lower", "upper"), [(18.0, None), (None, 18.1), (1e4, None), (None, -1e4), (300.0, 301.0), (-5000.3, -4999.0)]
)
def test_a_bound_far_from_zero_is_as_near_as_any(lower, upper, dtype):
    support = Support(cf.Continuous(lower=lower, upper=upper))
    bounds = torch.tensor([bound for bound in (lower, upper) if bound is not None], dtype=dtype)
    unbounded = support._inverse(bounds)
    assert unbounded.abs().max() < 36
    torch.testing.assert_close(support._call(unbounded), bounds, rtol=8 * torch.finfo(dtype).eps, atol=0)


@pytest.mark.parametrize(("lower", "upper"), [(-5.93, -5.28), (4.78, 5.74), (-6.43, -6.32)])
def test_noise_far_out_ends_at_a_bound_and_not_beyond(lower, upper):
    variable = cf.Continuous(lower=lower, upper=upper)
    far = torch.tensor([-1e3, -20.0, 20.0, 1e3])
    found = Support(variable)._call(far)
    torch.testing.assert_close(found, torch.tensor([lower, lower, upper, upper]))
    variable.check("x", found)
    scm = cf.SCM(cf.CausalGraph([], x=variable), {"x": M.Flow("affine")})
    scm.mechanisms["x"].spread.fill_(50.0)
    scm.mechanisms["x"].fitted = True
    scm.observe(scm.sample(99))


def test_values_at_a_bound_far_from_zero_are_fitted(tmp_path):
    age = (18.0 + 40.0 * torch.rand(200, generator=torch.Generator().manual_seed(0))).clamp_min(20.0) - 2.0
    assert age.min() == 18
    scm = cf.SCM(
        cf.CausalGraph([], age=cf.Continuous(lower=18.0)), {"age": M.Flow(recipe=cf.Recipe(steps=20, batch=64))}
    )
    scm.fit({"age": age}, folder=tmp_path, progress=False)
    again = scm.observe({"age": age}).do(recompute=True)["age"]
    torch.testing.assert_close(again, age, atol=1e-3, rtol=0)


@pytest.mark.parametrize("metres", [1.0, 1e-9])
@pytest.mark.parametrize("kind", [M.Flow, M.Gaussian])
def test_the_unit_of_a_variable_does_not_matter(kind, metres, tmp_path):
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(1000, generator=generator)
    rows = {"a": metres * a, "b": metres * (2 * a + torch.randn(1000, generator=generator))}
    recipe = cf.Recipe(steps=100, batch=256, learning_rate=2e-2)
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(unit="m"), b=cf.Continuous(unit="m"))
    scm = cf.SCM(graph, {name: kind(recipe=recipe) for name in graph}).fit(rows, folder=tmp_path, progress=False)
    drawn = scm.sample(1000)
    for name in graph:
        assert float(drawn[name].std()) == pytest.approx(float(rows[name].std()), rel=0.1, abs=0)
    world = scm.observe(rows)
    moved = (world.do(a=2 * metres)["b"] - world.do(a=metres)["b"]).mean()
    assert float(moved) == pytest.approx(2 * metres, rel=0.15, abs=0)


def test_a_variable_too_near_its_bound_is_refused_with_its_unit(tmp_path):
    length = 5e-7 + 1e-7 * torch.rand(200, generator=torch.Generator().manual_seed(0))
    scm = cf.SCM(cf.CausalGraph([], length=cf.Continuous(lower=0.0, unit="m")))
    with pytest.raises(ValueError, match=r"length: Flow: values of .*unit='m'.* nearer to a bound .*; give them in"):
        scm.fit({"length": length}, folder=tmp_path, progress=False)
