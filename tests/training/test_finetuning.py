"""Counterfactual fine-tuning: counterfactuals read as intended, and the data are explained as well as before."""

import copy

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf import tuning
from causalcf.networks.classifier import Classifier, Predictor, Regressor
from causalcf.training.finetuning import Tuning

GRAPH = cf.CausalGraph("a -> b; a -> x; b -> x", a=cf.Continuous(), b=cf.Continuous(), x=cf.Image(1, 8, 8))
SHORT = tuning.RECIPE.but(steps=120, batch=32, learning_rate=3e-3, checkpoint=40)


def rows(n=256, seed=0):
    """The left half is as bright as a, the right as b = a / 2 plus something."""
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(n, generator=generator)
    b = a / 2 + 0.3 * torch.rand(n, generator=generator)
    x = 0.1 + 0.05 * torch.rand(n, 1, 8, 8, generator=generator)
    x[..., :4] += 0.6 * a.reshape(-1, 1, 1, 1)
    x[..., 4:] += 0.6 * b.reshape(-1, 1, 1, 1)
    return {"a": a, "b": b, "x": x}


class Reads(Predictor):
    """Reads a by its definition."""

    def __init__(self, reads="a"):
        super().__init__(1, 1, (2,), reads)

    def predict(self, image):
        return (image[..., :4].flatten(1).mean(1) - 0.125) / 0.6

    def loss(self, image, wanted):
        return 5 * (self.predict(image) - wanted).abs()


@pytest.fixture(scope="module")
def scm(tmp_path_factory):
    recipe = cf.Recipe(steps=60, batch=32, learning_rate=3e-3, checkpoint=60)
    mechanisms = {"a": M.Gaussian(), "b": M.Gaussian(), "x": M.VAE(latent=4, widths=(8,), recipe=recipe)}
    return cf.SCM(GRAPH, mechanisms).fit(rows(), folder=tmp_path_factory.mktemp("fit"), progress=False)


def test_the_bound_is_that_of_the_model_whatever_the_rows_are_made_of(scm):
    bound = loss(scm)
    doubled = {name: values.double() for name, values in rows().items()}
    assert tuning._loss(scm.mechanism("x"), doubled, "x", ("a", "b"), seed=0) == pytest.approx(bound, rel=1e-5)


def miss(scm):
    test = rows(64, seed=1)
    wanted = test["a"].flip(0)
    found = scm.observe(test).do(a=wanted)["x"]
    return (Reads().predict(found) - wanted).abs().mean().item()


def loss(scm):
    test = rows()
    return tuning._loss(scm.mechanism("x"), test, "x", ("a", "b"), seed=0)


def test_counterfactuals_read_better_and_the_data_are_explained_as_well(scm, tmp_path):
    before = copy.deepcopy(scm.state_dict())
    readers = {"a": Reads()}
    tuned = cf.fine_tune(scm, rows(), readers, node="x", recipe=SHORT, folder=tmp_path, progress=False)
    assert miss(tuned) < 0.6 * miss(scm)
    assert loss(tuned) < loss(scm) + 0.05
    assert all(torch.equal(before[key], value) for key, value in scm.state_dict().items())
    assert tuned.mechanism("a") is scm.mechanism("a")
    assert tuned.mechanism("x").config() == scm.mechanism("x").config()
    again = cf.fine_tune(scm, rows(), readers, node="x", recipe=SHORT, folder=tmp_path, progress=False)
    assert miss(again) == miss(tuned)


def test_another_model_or_other_predictors_do_not_get_the_first_result(scm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    few, reader = SHORT.but(steps=2, checkpoint=2), Regressor(1, (8,), reads="a").eval()

    def tuned(model, predictors, folder):
        return cf.fine_tune(model, rows(), predictors, node="x", recipe=few, bound=1.0, folder=folder, progress=False)

    first = tuned(scm, {"a": reader}, "kept")
    same = copy.deepcopy(reader)
    assert torch.equal(miss_of(tuned(scm, {"a": same}, "kept")), miss_of(first))
    other = copy.deepcopy(reader)
    other.head.weight.data *= 1.001
    deeper = copy.deepcopy(scm)
    next(deeper.mechanisms["x"].parameters()).data.flatten()[0] += 1e-3
    above = copy.deepcopy(scm)
    above.mechanisms["b"].location += 1e-3  # b follows where a is intervened on
    strangers = [(scm, {"a": other}), (scm, {"a": Twice(1, (8,), reads="a")}), (scm, {"b": retold(reader, "b")})]
    for model, predictors in [*strangers, (deeper, {"a": reader}), (above, {"a": reader})]:
        with pytest.raises(ValueError, match="kept holds the fit of another model"):
            tuned(model, predictors, "kept")
    assert not torch.equal(miss_of(tuned(scm, {"a": other}, None)), miss_of(tuned(scm, {"a": reader}, None)))
    assert len(list((tmp_path / "runs").iterdir())) == 2


def miss_of(scm):
    test = rows(64, seed=1)
    return scm.observe(test).do(a=test["a"].flip(0))["x"]


class Twice(Regressor):
    """Another loss, over the same tensors."""

    def loss(self, image, wanted):
        return 2 * super().loss(image, wanted)


def retold(reader, reads):
    other = copy.deepcopy(reader)
    other.reads = reads
    return other


def test_the_price_rises_while_the_constraint_is_broken_and_falls_to_nothing_else(scm, tmp_path):
    def price(bound):
        tuned = Tuning(
            copy.deepcopy(scm.mechanism("x")),
            "x",
            ("a", "b"),
            rows(),
            None,
            0,
            tmp_path,
            predictors={"a": Reads()},
            proposal=tuning._proposal(scm, "x"),
            bound=bound,
            damping=10.0,
            climb=0.1,
        )
        values, prices = [], []
        for step in range(3):
            values.append(tuned.step_loss(rows(), step))
            prices.append(tuned.price.item())
        return prices, values

    broken, values = price(-100.0)
    assert 0 < broken[0] < broken[1] < broken[2]
    values[0].backward()
    assert price(100.0)[0] == [0.0, 0.0, 0.0]


def test_one_parent_is_intervened_on_and_its_children_follow(scm):
    test = rows(32)
    proposal, seen = tuning._proposal(scm, "x"), set()
    for seed in range(12):
        other = proposal(test, seed)
        changed = [name for name in ("a", "b") if not torch.allclose(other[name], test[name], atol=1e-5)]
        seen.add(tuple(changed))
        moved = "a" if "a" in changed else "b"
        torch.testing.assert_close(other[moved].sort().values, test[moved].sort().values)
    assert seen == {("a", "b"), ("b",)}


def test_what_cannot_be_tuned_is_refused(scm):
    diffusion = cf.SCM(GRAPH, {"x": M.SpatialDiffusion(widths=(8, 8), steps=3)})
    with pytest.raises(TypeError, match=r"x is a SpatialDiffusion.*corrected when it is asked, by steer"):
        cf.fine_tune(diffusion, rows(), {"a": Reads()}, node="x")
    with pytest.raises(RuntimeError, match="x: its VAE is not fitted yet"):
        cf.fine_tune(cf.SCM(GRAPH, {"x": M.VAE(widths=(8,))}), rows(), {"a": Reads()}, node="x")
    for given, message in [({}, "expected predictors of parents of x"), ({"c": Reads("c")}, r"got \['c'\]")]:
        with pytest.raises(ValueError, match=message):
            cf.fine_tune(scm, rows(), given, node="x")
    with pytest.raises(ValueError, match="a: this predictor reads 'b'"):
        cf.fine_tune(scm, rows(), {"a": Regressor(1, reads="b")}, node="x")
    for predictor, message in [
        (Regressor(3), "fine_tune: the reader of a cannot read images of shape"),
        (Classifier(1, 2), "fine_tune: expected the reader of a to give floats"),
    ]:
        with pytest.raises(ValueError, match=message):
            cf.fine_tune(scm, rows(), {"a": predictor}, node="x")
    for odd in (float("nan"), float("inf"), -float("inf")):
        with pytest.raises(ValueError, match=f"expected a finite bound, got {odd}"):
            cf.fine_tune(scm, rows(), {"a": Reads()}, node="x", bound=odd)
    for odd in (float("nan"), float("inf"), -1.0):
        with pytest.raises(ValueError, match=f"expected a finite damping >= 0, got {odd}"):
            cf.fine_tune(scm, rows(), {"a": Reads()}, node="x", damping=odd)
        with pytest.raises(ValueError, match=f"expected a finite climb >= 0, got {odd}"):
            cf.fine_tune(scm, rows(), {"a": Reads()}, node="x", climb=odd)
    for plain, kind in [(lambda image: image.mean((1, 2, 3)), "function"), (Reads().predict, "method")]:
        with pytest.raises(TypeError, match=rf"the predictor of a is a {kind}.*needs the loss of a Predictor.*fit_reg"):
            cf.fine_tune(scm, rows(), {"a": plain}, node="x")
