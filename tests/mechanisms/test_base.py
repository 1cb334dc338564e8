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


def test_weights_go_to_another_class_and_back():
    image, parents = cf.Image(1, 8, 8), {"a": cf.Continuous()}
    semantic = M.SemanticDiffusion(widths=(8, 8), steps=4, latent=3, solver="2m").build(image, parents).eval()
    aligned = semantic.but(M.DynamicDiffusion, solver="ddim", omega=2.0, rate=0.1)
    again = aligned.but(M.SemanticDiffusion, solver="2m", omega=1.0)
    assert (type(again), again.config()) == (M.SemanticDiffusion, semantic.config())
    assert again.network.null.data_ptr() == semantic.network.null.data_ptr()
    with pytest.raises(ValueError, match="SpatialDiffusion would need other weights than those of this Semantic"):
        semantic.but(M.SpatialDiffusion)
    with pytest.raises(ValueError, match="unexpected keyword argument 'rate'"):
        aligned.but(M.SemanticDiffusion, rate=0.2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("ddim", r"a: using\(\) takes options, a={\"bins\": 9}, or a mechanism, got 'ddim'"),
        (None, r"a: using\(\) takes options, .* got None"),
        (M.Flow, r"a: using\(\) takes options, .* got <class .*Flow'>"),
        ({"kind": "Flow"}, "a: but: expected kind to be a class of mechanisms, such as mechanisms.Flow, got 'Flow'"),
    ],
)
def test_what_is_neither_options_nor_a_mechanism_is_refused(change, message):
    scm = cf.SCM(cf.CausalGraph([], a=cf.Continuous()), {"a": M.Gaussian(weights={})})
    with pytest.raises(TypeError, match=message):
        scm.using(a=change)


def test_first_weights_are_of_their_seed_and_touch_no_other_generator(monkeypatch):
    monkeypatch.setattr(torch.cuda, "manual_seed_all", lambda _: pytest.fail("reseeded the GPUs"))
    flow = M.Flow().build(cf.Continuous(), {"a": cf.Continuous()})
    before, found = torch.get_rng_state(), []
    for seed in (1, 2, 1):
        flow.initialise(seed)
        found.append(flow.affine[0].weight.clone())
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.equal(found[0], found[2])
    assert not torch.equal(found[0], found[1])
