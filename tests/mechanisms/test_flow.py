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


def test_values_at_a_bound_far_from_zero_are_fitted(tmp_path):
    age = (18.0 + 40.0 * torch.rand(200, generator=torch.Generator().manual_seed(0))).clamp_min(20.0) - 2.0
    assert age.min() == 18
    scm = cf.SCM(
        cf.CausalGraph([], age=cf.Continuous(lower=18.0)), {"age": M.Flow(recipe=cf.Recipe(steps=20, batch=64))}
    )
    scm.fit({"age": age}, folder=tmp_path, progress=False)
    again = scm.observe({"age": age}).do(recompute=True)["age"]
    torch.testing.assert_close(again, age, atol=1e-3, rtol=0)
