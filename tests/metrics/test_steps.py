"""Sequences measured on a model whose effects can be shrunk, against numbers worked out by hand."""

import math

import pytest
import torch

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M
from causalcf.metrics import Frechet, evaluate_sequence
from causalcf.metrics.steps import ACM
from tests.metrics.test_metrics import Picture

PLAN = [do(a=shift(0.4)), do(k=0.0), do(a=shift(-0.2))]


def make(k=None, **options):
    bounded = cf.Continuous(lower=-2.0, upper=4.0)
    graph = cf.CausalGraph("a -> x; k -> x", a=bounded, k=k or bounded, x=cf.Image(1, 2, 2))
    known = {"a": M.Functional(lambda u, pa: u, lambda x, pa: x), "x": Picture(**options)}
    return cf.SCM(graph, {**known, "k": M.Functional(lambda u, pa: u, lambda x, pa: x)})


class Data:
    """Rows whose truth is that of the unspoilt model."""

    def __init__(self, n=10):
        generator = torch.Generator().manual_seed(0)
        a, k = (1 + 0.1 * torch.randn(n, generator=generator) for _ in range(2))
        self.rows = {"a": a, "k": k, "x": (a / 4 + k / 8).reshape(-1, 1, 1, 1).expand(-1, 1, 2, 2).clone()}
        self.rows["id"] = torch.arange(n)

    def __len__(self):
        return len(self.rows["a"])

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.rows.items()}

    def knows(self, action):
        return "x" not in action

    def true_counterfactual(self, rows, action, seed=0):
        assert "id" in rows
        return dict(make().observe(rows, seed).do(action))


def read(image):
    return 4 * image.flatten(1).mean(1) - 0.5


@pytest.mark.parametrize("reabduct", [False, True])
@pytest.mark.parametrize("batch", [3, 64])
def test_a_perfect_model_makes_no_error_at_any_step(reabduct, batch):
    report = evaluate_sequence(make(), Data(), PLAN, node="x", reabduct=reabduct, batch=batch)
    for step in ("step 1", "step 2", "step 3"):
        assert report["error against the truth", step, "x"].estimate.mean < 1e-4
        assert report["PSNR against the truth", step, "x"].estimate.mean > 90
        assert report["error against the truth", step, "x"].estimate.n == 10
    assert report["distance to the observation", "there and back", "x"].estimate.mean < 1e-4


def test_errors_are_those_of_the_effects_that_were_shrunk():
    spoilt = make(shrink=0.5)
    report = evaluate_sequence(spoilt, Data(), PLAN[:1], node="x", oracles={"a": read})
    (line,) = (line for line in report.lines if (line.metric, line.action) == ("error against the truth", "step 1"))
    data = Data()
    truth = (data.rows["a"] + 0.4) / 4 + data.rows["k"] / 8
    found = data.rows["a"] / 4 + data.rows["k"] / 8 - 0
    mean = 0.5 * ((data.rows["a"] + 0.4) / 4 + data.rows["k"] / 8) + (found - (data.rows["a"] / 4 + data.rows["k"] / 8))
    assert math.isclose(line.estimate.mean, 255 * (mean - truth).abs().mean().item(), rel_tol=1e-4)
    assert (line.against, round(line.reference.mean, 2)) == ("doing nothing", 25.5)
    psnr = -10 * torch.log10((mean - truth).square()).mean().item()
    assert math.isclose(report["PSNR against the truth", "step 1", "x"].estimate.mean, psnr, rel_tol=1e-4)
    error = (4 * mean - 0.5 - (data.rows["a"] + 0.4)).abs().mean().item()
    assert math.isclose(report["error of oracle", "step 1", "a"].estimate.mean, error, rel_tol=1e-4)
    assert math.isclose(report[ACM, "step 1", "all factors"].estimate.mean, error / 6, rel_tol=1e-4)


def test_numbers_without_a_range_are_left_out_of_the_stand_in_alone():
    oracles = {"a": read, "k": lambda image: 8 * image.flatten(1).mean(1) - 2}
    both = evaluate_sequence(make(shrink=0.5), Data(), PLAN[:1], node="x", oracles=oracles)
    part = evaluate_sequence(make(cf.Continuous(lower=-2.0), shrink=0.5), Data(), PLAN[:1], node="x", oracles=oracles)
    alone = evaluate_sequence(make(shrink=0.5), Data(), PLAN[:1], node="x", oracles={"a": read})
    mean, found, one = (report[ACM, "step 1", "all factors"].estimate.mean for report in (both, part, alone))
    assert found == one != mean
    assert part["error of oracle", "step 1", "k"] == both["error of oracle", "step 1", "k"]
    none = evaluate_sequence(make(cf.Continuous(), shrink=0.5), Data(), PLAN[:1], node="x", oracles={"k": oracles["k"]})
    assert not any(line.metric == ACM for line in none.lines)


def test_classes_agree_or_do_not():
    data = Data()
    data.rows["k"] = torch.arange(10) % 3
    scm = make(cf.Categorical(3))
    data.true_counterfactual = lambda rows, action, seed=0: dict(scm.observe(rows, seed).do(action))
    oracles = {"k": lambda image: torch.full((len(image),), 2)}
    report = evaluate_sequence(scm, data, [do(a=shift(0.4))], node="x", oracles=oracles)
    line = report["error of oracle", "step 1", "k"]
    assert (line.estimate.mean, line.reference.mean, line.unit) == (pytest.approx(0.7), pytest.approx(0.7), "share")
    assert report[ACM, "step 1", "all factors"].estimate.mean == pytest.approx(0.7)


@pytest.mark.parametrize(
    ("data", "plan", "message"),
    [
        (Data().rows, PLAN, r"expected a data set that knows its true counterfactuals, .* got dict; .* cf\.evaluate"),
        (Data(), do(a=1.0), r"expected a list of interventions, .* got do\(a = 1\)"),
        (Data(), [{"a": 1.0}], r"expected a list of interventions, .* got \[{'a': 1.0}\]"),
    ],
)
def test_what_is_no_data_set_or_plan_is_refused(data, plan, message):
    with pytest.raises(TypeError, match=message):
        evaluate_sequence(make(), data, plan, node="x")


def test_the_stand_in_is_held_against_the_truth_not_against_what_the_model_meant():
    class Moved(Data):
        def true_counterfactual(self, rows, action, seed=0):
            true = super().true_counterfactual(rows, action, seed)
            return {**true, "a": true["a"] + 0.6}

    meant = evaluate_sequence(make(), Data(), PLAN[:1], node="x", oracles={"a": read})
    report = evaluate_sequence(make(), Moved(), PLAN[:1], node="x", oracles={"a": read})
    oracle = ("error of oracle", "step 1", "a")
    assert report[oracle].estimate.mean == meant[oracle].estimate.mean
    assert report[ACM, "step 1", "all factors"].estimate.mean > meant[ACM, "step 1", "all factors"].estimate.mean + 0.05


def test_ten_steps_are_measured():
    plan = [do(a=shift(0.1)), do(k=shift(0.1))] * 5
    for again in (False, True):
        report = evaluate_sequence(make(), Data(), plan, node="x", reabduct=again)
        found = [report["error against the truth", f"step {place}", "x"] for place in range(1, 11)]
        assert max(line.estimate.mean for line in found) < 1e-3
        assert found[9].reference.mean > found[1].reference.mean
        assert found[9].values.shape == (10,)


def test_with_noise_of_the_first_picture_errors_do_not_add_up():
    spoilt, data, plan = make(leak=0.01), Data(), [do(a=shift(0.1))] * 3
    once = evaluate_sequence(spoilt, data, plan, node="x")
    again = evaluate_sequence(spoilt, data, plan, node="x", reabduct=True)
    for place in (1, 2, 3):
        shared = once["error against the truth", f"step {place}", "x"].estimate.mean
        added = again["error against the truth", f"step {place}", "x"].estimate.mean
        assert math.isclose(shared, 2.55, rel_tol=1e-3)
        assert math.isclose(added, 2.55 * place, rel_tol=1e-3)


def test_what_nobody_knows_is_refused():
    with pytest.raises(ValueError, match="the truth of a step is unknown"):
        evaluate_sequence(make(), Data(), [do(x=torch.zeros(10, 1, 2, 2))], node="x")


@pytest.mark.parametrize(
    ("oracle", "message"),
    [
        (lambda image: image[:, :, 0, 0], r"oracle of 'a' gave shape \(2, 1\), expected \(2,\)"),
        (lambda image: read(image.reshape(-1, 3)), "oracle of 'a' does not take images of shape"),
    ],
)
def test_oracles_that_do_not_fit_are_refused_before_anything_is_sampled(oracle, message, monkeypatch):
    monkeypatch.setattr(Picture, "abduct", lambda *_: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=message):
        evaluate_sequence(make(), Data(), PLAN, node="x", oracles={"a": oracle})


@pytest.mark.parametrize("reabduct", [False, True])
def test_further_metrics_see_every_step(reabduct):
    reference = torch.rand(50, 1, 2, 2, generator=torch.Generator().manual_seed(0))
    frechet = Frechet(lambda images: images.flatten(1)[:, :1], reference, node="x")
    report = evaluate_sequence(make(), Data(), PLAN, metrics=[frechet], node="x", reabduct=reabduct, batch=4)
    found = [report["Frechet distance", f"step {place}", "x"] for place in (1, 2, 3)]
    assert [line.estimate.n for line in found] == [10] * 3
    assert len({line.estimate.mean for line in found}) == 3
    assert all(line.reference.mean == found[0].reference.mean for line in found)
    again = evaluate_sequence(make(), Data(), PLAN, metrics=[frechet], node="x", reabduct=reabduct, batch=4)
    assert str(again) == str(report)
