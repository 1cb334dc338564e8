"""Structural causal models with closed-form answers, in float64."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M


def linear_gaussian():
    graph = cf.CausalGraph(
        "a -> b; a -> c; b -> c; c -> d; e -> d",
        **{name: cf.Continuous() for name in "abcde"},
    )
    known = {
        "a": M.Gaussian(weights={}, bias=0.3),
        "b": M.Gaussian(weights={"a": 2.0}, bias=1.0, scale=0.5),
        "c": M.Gaussian(weights={"a": -1.0, "b": 0.7}, scale=2.0),
        "d": M.Gaussian(weights={"c": 1.5, "e": 0.4}, scale=0.1),
        "e": M.Gaussian(weights={}),
    }
    return cf.SCM(graph, known).double()


def post_nonlinear():
    """`b = exp(a / 2 + u)`, `c = sinh(a b / 10 + u)`, `d = c^3 + c + u e`."""
    graph = cf.CausalGraph(
        "a -> b; a -> c; b -> c; c -> d; e -> d",
        **{name: cf.Continuous() for name in "acd"},
        b=cf.Continuous(lower=0.0),
        e=cf.Continuous(lower=0.5, upper=2.0),
    )
    known = {
        "a": M.Gaussian(weights={}),
        "b": M.Functional(lambda u, pa: (pa["a"] / 2 + u).exp(), lambda x, pa: x.log() - pa["a"] / 2),
        "c": M.Functional(
            lambda u, pa: (pa["a"] * pa["b"] / 10 + u).sinh(),
            lambda x, pa: x.asinh() - pa["a"] * pa["b"] / 10,
        ),
        "d": M.Functional(
            lambda u, pa: pa["c"] ** 3 + pa["c"] + u * pa["e"],
            lambda x, pa: (x - pa["c"] ** 3 - pa["c"]) / pa["e"],
        ),
        "e": M.Functional(lambda u, pa: 0.5 + 1.5 * torch.sigmoid(u), lambda x, pa: torch.logit((x - 0.5) / 1.5)),
    }
    return cf.SCM(graph, known).double()


def flows():
    """Spline and affine flows with random weights, on supports of every kind."""
    graph = cf.CausalGraph(
        "a -> b; a -> c; b -> c; c -> d; e -> d",
        a=cf.Continuous(lower=0.0),
        b=cf.Continuous(upper=3.0),
        c=cf.Continuous(lower=-1.0, upper=1.0),
        d=cf.Continuous(),
        e=cf.Continuous(),
    )
    scm = cf.SCM(graph, {"d": M.Flow("affine"), "e": M.Gaussian(weights={})})
    generator = torch.Generator().manual_seed(0)
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = True
        for parameter in mechanism.parameters():
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return scm.double()


@pytest.fixture(scope="module", params=[linear_gaussian, post_nonlinear, flows], ids=lambda make: make.__name__)
def scm(request):
    return request.param()


@pytest.fixture(scope="module")
def rows(scm):
    return scm.sample(64, seed=3)
