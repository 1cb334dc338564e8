"""What rows alone say of a model and of a question: its likelihood, and whether any data are near."""

import pytest
import torch
from sklearn.neighbors import NearestNeighbors

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M
from causalcf.metrics import Likelihood, Support, evaluate

STORY = {"a": cf.Continuous(), "b": cf.Continuous(), "k": cf.Categorical(3)}


@pytest.fixture(scope="module")
def scm():
    """b = 3 a + 0.3 u; k apart, whose last class is rare."""
    known = {
        "a": M.Gaussian(weights={}),
        "b": M.Gaussian(weights={"a": 3.0}, scale=0.3),
        "k": M.Categorical(probabilities=[0.5, 0.5, 0.0]),
    }
    c = M.Functional(lambda u, pa: pa["b"] + 0.5 * pa["k"] + u, lambda x, pa: x - pa["b"] - 0.5 * pa["k"])
    graph = cf.CausalGraph("a -> b; k -> c; b -> c", {**STORY, "c": cf.Continuous()})
    return cf.SCM(graph, {**known, "c": c})


@pytest.fixture(scope="module")
def seen(scm):
    return scm.sample(2000, seed=1)


@pytest.fixture(scope="module")
def test(scm):
    return scm.sample(200, seed=2)


PLAN = {"little": do(a=shift(0.2)), "apart": do(b=shift(4.0)), "far": do(a=30.0), "unseen": do(k=2), "nothing": do(k=1)}


def shares(report):
    return {line.action: line.estimate.mean for line in report.lines if line.action}


def test_an_intervention_that_leaves_the_data_is_seen_and_one_within_is_not(scm, seen, test):
    report = evaluate(scm, test, PLAN, [Support(seen, names=["a", "b", "k"])])
    found = shares(report)
    assert found["little"] < 0.05  # b follows a, as it does in the data
    assert found["apart"] > 0.95  # each value is common; together they are not
    assert found["far"] == 1.0
    assert found["unseen"] == 1.0
    assert found["nothing"] < 0.05
    asked = [line for line in report.lines if line.action]
    observed = {line.action: line.reference.mean for line in asked}
    assert all(line.against == "as observed" for line in asked)
    assert all(0.0 <= value < 0.05 for value in observed.values())


def test_the_distance_is_that_of_scikit_learn(scm, seen, test):
    metric = Support(seen, names=["a", "b", "k"], neighbours=4, tail=0.1)
    evaluate(scm, test, {"apart": do(b=shift(1.0))}, [metric])

    def points(rows):
        classes = torch.nn.functional.one_hot(rows["k"], 3)
        return torch.cat(
            [rows["a"][:, None] / seen["a"].std(), rows["b"][:, None] / seen["b"].std(), classes], 1
        ).double()

    trees = NearestNeighbors(n_neighbors=5).fit(points(seen))
    own = torch.from_numpy(trees.kneighbors(points(seen))[0][:, 4])
    moved = {**test, "b": test["b"] + 1.0}
    there = torch.from_numpy(trees.kneighbors(points(moved), 4)[0][:, 3])
    outside = (there > own.quantile(0.9)).double()
    line = metric.compute()
    assert next(value.mean for label, value in line.items() if label.action) == pytest.approx(
        outside.mean().item(), abs=0.006
    )
    assert 0.2 < outside.mean() < 1.0


def test_it_does_not_depend_on_the_batch_and_holds_no_more_than_it_is_told(scm, seen, test):
    reports = [evaluate(scm, test, PLAN, [Support(seen, most=500)], batch=batch) for batch in (7, 200)]
    assert shares(reports[0]) == shares(reports[1])
    metric = Support(seen, most=500)
    evaluate(scm, test, PLAN, [metric])
    assert metric.held.points.shape == (500, 3 + 3)  # a, b, c and a column per class


def test_what_does_not_vary_is_a_distance_all_the_same(scm, seen, test):
    constant = {**seen, "a": torch.full_like(seen["a"], 2.0)}
    report = evaluate(scm, test, {"same": do(a=2.0), "other": do(a=9.0)}, [Support(constant, names=["a"])])
    assert shares(report) == {"same": 0.0, "other": 1.0}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["a", "z"]}, "unknown variable 'z'"),
        ({"names": []}, "names of numbers and classes, got none"),
        ({"rows": 10}, "more reference rows than 10, got 10"),
        ({"tail": 1.0}, "tail between 0 and 1, got 1.0"),
        ({"neighbours": 0}, "neighbours"),
    ],
)
def test_a_reference_that_is_none_is_refused_before_anything_is_sampled(scm, seen, test, options, message, monkeypatch):
    monkeypatch.setattr(cf.World, "do", lambda *_: pytest.fail("sampled"))
    rows = {name: values[: options.get("rows")] for name, values in seen.items()}
    with pytest.raises(ValueError, match=message):
        evaluate(scm, test, PLAN, [Support(rows, **{k: v for k, v in options.items() if k != "rows"})])


def test_the_likelihood_is_that_of_the_equations(scm, test):
    report = evaluate(scm, test, PLAN, [Likelihood()])
    assert {line.variable for line in report.lines} == {"a", "b", "c", "k"}
    normal = torch.distributions.Normal(3.0 * test["a"].double(), 0.3).log_prob(test["b"].double())
    line = report["log density", "", "b"]
    assert line.estimate.mean == pytest.approx(normal.mean().item(), abs=1e-5)
    assert line.unit == "nat"
    assert report["log density", "", "k"].estimate.mean == pytest.approx(torch.tensor(0.5).log().item(), abs=1e-4)
    assert [line.variable for line in evaluate(scm, test, PLAN, [Likelihood(["c"])]).lines] == ["c"]


def test_the_likelihood_of_an_image_without_a_density_is_not_asked_for():
    graph = cf.CausalGraph("a -> x", a=cf.Continuous(), x=cf.Image(1, 8, 8))
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "x": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["x"].initialise(0)
    scm.mechanisms["x"].fitted = True
    rows = scm.sample(3)
    assert [line.variable for line in evaluate(scm, rows, [do(a=1.0)], [Likelihood()]).lines] == ["a"]
    with pytest.raises(ValueError, match="x: SpatialDiffusion has no density"):
        evaluate(scm, rows, [do(a=1.0)], [Likelihood(["x"])])
