"""The same mechanism with other options."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M


def test_numbers_that_are_known_can_be_changed(tmp_path):
    graph = cf.CausalGraph("a -> b; k", a=cf.Continuous(), b=cf.Continuous(), k=cf.Categorical(2))
    known = {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 2.0}), "k": M.Categorical(probabilities=[1, 0])}
    scm = cf.SCM(graph, known)
    other = scm.using(b={"weights": {"a": -3.0}, "bias": 1.0, "scale": 0.5}, k={"probabilities": [0, 1]})
    other.save(tmp_path / "m")
    u = scm.sample(9)
    for model in (other, cf.SCM.load(tmp_path / "m")):
        drawn = model.sample(9)
        torch.testing.assert_close(drawn["b"], -3 * u["a"] + 1 + 0.5 * (u["b"] - 2 * u["a"]))
        assert drawn["k"].tolist() == [1] * 9
    assert torch.equal(scm.sample(9)["b"], u["b"])


def test_numbers_that_fitting_would_overwrite_are_refused():
    for numbers in ({"scale": 2.0}, {"bias": 1.0}):
        with pytest.raises(ValueError, match=r"Gaussian: bias=.* and scale=.* give weights={parent: ...} with them"):
            M.Gaussian(**numbers)
    fitted = M.Gaussian().build(cf.Continuous(), {})
    fitted.fitted = True
    with pytest.raises(ValueError, match="are of a mechanism that is known"):
        fitted.but(scale=2.0)
