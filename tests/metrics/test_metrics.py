"""Soundness metrics against numbers worked out by hand, on a model whose mechanisms can be spoilt."""

import json
import math

import numpy as np
import pytest
import scipy.stats
import torch

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M
from causalcf.metrics import (
    Composition,
    CounterfactualError,
    Effectiveness,
    Estimate,
    Frechet,
    Identity,
    Minimality,
    NoiseMoments,
    Reversibility,
    Tally,
    evaluate,
)
from causalcf.metrics.tally import Label


class Picture(M.Mechanism):
    """`x = clip(a / 4 + k / 8 + u / 10)`, whose prediction is off by `leak` and shrinks effects by `shrink`."""

    exact, has_density = True, False
    known = True

    def __init__(self, leak=0.0, shrink=0.0):
        super().__init__()
        self.leak, self.shrink = leak, shrink
        self.register_buffer("zero", torch.zeros(()))

    def config(self):
        return {}

    def _build(self):
        pass

    def mean(self, pa):
        return (pa["a"] / 4 + pa["k"] / 8).reshape(-1, 1, 1, 1)

    def abduct(self, value, parents, units, key):
        return {"u": (value - self.mean(parents)) * 10}

    def predict(self, noise, parents):
        return (self.mean(parents) * (1 - self.shrink) + noise["u"] / 10 + self.leak).clamp(0, 1)

    def noise(self, units, key):
        return {"u": units.normal(key, (1, 2, 2)).float()}


class Flat(Picture):
    """A picture of a alone."""

    def mean(self, pa):
        return (pa["a"] / 4).reshape(-1, 1, 1, 1)


N = 40


def make(kind=Picture, **options):
    graph = cf.CausalGraph(
        "a -> x; k -> x; a -> b", a=cf.Continuous(unit="m"), b=cf.Continuous(), k=cf.Categorical(2), x=cf.Image(1, 2, 2)
    )
    known = {
        "a": M.Gaussian(weights={}, bias=1.0, scale=0.2),
        "b": M.Gaussian(weights={"a": 3.0}),
        "k": M.Categorical(probabilities=[0.5, 0.5]),
        "x": kind(**options),
    }
    return cf.SCM(graph, known)


def make_rows(seed=0):
    generator = torch.Generator().manual_seed(seed)
    a, k = 1 + 0.2 * torch.randn(N, generator=generator), torch.randint(2, (N,), generator=generator)
    x = (a / 4 + k / 8).reshape(-1, 1, 1, 1) + 0.02 * torch.randn(N, 1, 2, 2, generator=generator)
    b = 3 * a + torch.randn(N, generator=generator)
    return {"a": a, "b": b, "k": k, "x": x.clamp(0, 1)}


class Truth:
    """Rows that know their counterfactuals: the unspoilt model's."""

    def __init__(self):
        self.rows, self.scm = make_rows(), make()

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.rows.items()}

    def knows(self, action):
        return "k" not in action

    def true_counterfactual(self, rows, action, seed=0):
        return self.scm.observe({n: v for n, v in rows.items()}, seed).do(action).values()


ORACLES = {"a": lambda x: x.mean((1, 2, 3)) * 4, "k": lambda x: (x.mean((1, 2, 3)) > 0.31).long()}


def test_estimates_are_those_of_scipy():
    values = torch.randn(50, generator=torch.Generator().manual_seed(0)).double()

    class One(Tally):
        title = "one"

    metric, label = One(), Label("one", "", "x", "-")
    metric.tally(label, values[:20])
    metric.tally(label, values[20:])
    found = metric.compute()[label]
    assert found.n == 50
    assert math.isclose(found.mean, values.mean(), rel_tol=1e-9)
    assert math.isclose(found.sd, np.std(values.numpy(), ddof=1), rel_tol=1e-9)
    low, high = scipy.stats.t.interval(0.95, 49, found.mean, found.sd / 50**0.5)
    assert math.isclose(found.mean - found.half_width, low, rel_tol=1e-6)
    assert math.isclose(found.mean + found.half_width, high, rel_tol=1e-6)
    metric.reset()
    assert metric.compute() == {}


def test_one_row_has_no_interval():
    rows = {name: column[:1] for name, column in make_rows().items()}
    report = evaluate(make(leak=0.01), rows, [do(a=1.0)], [Composition("x", cycles=(1,))])
    line = report.to_dict()["lines"][0]["estimate"]
    assert (line["n"], line["sd"], line["half_width"]) == (1, None, None)
    assert "  -  " in str(report).splitlines()[-1]
    found = report.against(report)["composition, 1 cycle", "", "x"]
    assert (found.n, found.mean) == (1, 0.0)
    assert math.isnan(found.half_width)


def test_composition_adds_up_over_cycles():
    metric = Composition("x", cycles=(1, 3))
    metric.update(make(leak=0.01).observe(make_rows()))
    one, three = metric.compute().values()
    assert math.isclose(one.mean, 2.55, rel_tol=1e-4)
    assert math.isclose(three.mean, 7.65, rel_tol=1e-4)
    assert one.n == N
    perfect = Composition("x", cycles=(1, 10))
    perfect.update(make().observe(make_rows()))
    assert all(estimate.mean < 1e-3 for estimate in perfect.compute().values())


def test_doing_nothing_is_predicted_once_for_all_metrics(monkeypatch):
    asked, real = [], Picture.predict
    monkeypatch.setattr(Picture, "predict", lambda self, *given: (asked.append(1), real(self, *given))[1])
    world = make(leak=0.01).observe(make_rows())
    for metric in (Composition("x", cycles=(1,)), Identity("x"), Composition("x", cycles=(1,))):
        metric.update(world)
    assert len(asked) == 1
    again = world.do(recompute=True)
    assert again is not world.do(recompute=True)
    assert again["x"] is world.do(recompute=True)["x"] is not world["x"]
    moved = world.do(a=shift(1.0), recompute=True)
    assert (moved["x"] > again["x"]).any()
    assert len(asked) == 2
    assert torch.equal(world.do(recompute=True).do(a=shift(1.0))["x"], moved["x"])


def test_reversibility_sees_what_the_way_back_loses():
    action, rows = do(a=shift(0.3)), make_rows()
    for leak, expected in ((0.0, 0.0), (0.01, 2 * 2.55)):
        world = make(leak=leak).observe(rows)
        metric = Reversibility("x")
        metric.update(world, action, "up", world.do(action))
        (found,) = metric.compute().values()
        assert math.isclose(found.mean, expected, rel_tol=1e-3, abs_tol=1e-3)


def test_classes_are_the_same_or_are_not():
    graph = cf.CausalGraph("a -> k", a=cf.Continuous(), k=cf.Categorical(8))
    gone = M.Functional(lambda u, pa: torch.where(u == 2, 7, u.long()), lambda k, pa: k.float())  # 2 is forgotten
    scm = cf.SCM(graph, {"a": M.Functional(lambda u, _: u, lambda x, _: x), "k": gone})
    rows = {"a": torch.zeros(4), "k": torch.tensor([2, 0, 2, 3])}
    report = evaluate(scm, rows, {"up": do(a=1.0)})
    for metric, action in (
        ("composition, 1 cycle", ""),
        ("composition, 10 cycles", ""),
        ("reversibility, 1 cycle", "up"),
    ):
        line = report[metric, action, "k"]
        assert (line.estimate.mean, line.unit) == (0.5, "share")


def test_effectiveness_reads_the_whole_matrix():
    rows, metric = make_rows(), Effectiveness(ORACLES, node="x")
    world = make(shrink=0.1).observe(rows)
    metric.update(world)
    for name, action in (("a", do(a=shift(0.4))), ("k", do(k=1))):
        metric.update(world, action, name, world.do(action))
    found = metric.compute()
    labels = {(label.metric, label.action, label.variable, label.reference): value for label, value in found.items()}
    assert set(labels) == {
        ("error of oracle", "", "a", "floor"),
        ("accuracy of oracle", "", "k", "floor"),
        ("error of oracle", "a", "a", ""),
        ("signed bias", "a", "a", ""),
        ("accuracy of oracle", "a", "k", ""),
        ("error of oracle", "k", "a", ""),
        ("accuracy of oracle", "k", "k", ""),
    }
    moved = world.do(a=shift(0.4))
    read = ORACLES["a"](moved["x"])
    assert math.isclose(labels["error of oracle", "a", "a", ""].mean, (read - moved["a"]).abs().mean(), rel_tol=1e-5)
    assert math.isclose(labels["signed bias", "a", "a", ""].mean, (read - moved["a"]).mean(), rel_tol=1e-5)
    floor = (ORACLES["a"](rows["x"]) - rows["a"]).abs().mean()
    assert math.isclose(labels["error of oracle", "", "a", "floor"].mean, floor, rel_tol=1e-5)


def test_signed_bias_is_negative_for_undershoot_in_either_direction():
    rows = {**make_rows(), "k": torch.zeros(N, dtype=torch.int64)}
    for change, shrink, sign in ((0.4, 0.2, -1), (-0.4, -0.2, 1), (0.4, -0.2, 1)):
        world = make(shrink=shrink).observe(rows)
        base = make().observe(rows)
        metric = Effectiveness({"a": ORACLES["a"]}, node="x")
        action = do(a=shift(change))
        # only the effect is shrunk: the prediction is compared from the mechanism's own reconstruction
        shifted = world.do(action)
        metric.update(base, action, "a", shifted)
        bias = next(value for label, value in metric.compute().items() if label.metric == "signed bias")
        expected = ((ORACLES["a"](shifted["x"]) - shifted["a"]) * math.copysign(1, change)).mean()
        assert math.isclose(bias.mean, expected, rel_tol=1e-5)
        assert bias.mean * sign > 0 or change < 0


def test_the_error_against_the_truth_stands_beside_doing_nothing():
    data = Truth()
    world = make(leak=0.02).observe(data.rows)
    metric = CounterfactualError(data)
    for name, action in (("a", do(a=shift(0.2))), ("k", do(k=0))):
        metric.update(world, action, name, world.do(action))
    found = {(label.variable, label.reference): value for label, value in metric.compute().items()}
    assert set(found) == {("b", ""), ("b", "doing nothing"), ("x", ""), ("x", "doing nothing")}
    assert math.isclose(found["x", ""].mean, 5.1, rel_tol=1e-3)
    assert math.isclose(found["x", "doing nothing"].mean, 255 * 0.05, rel_tol=1e-3)
    assert math.isclose(found["b", "doing nothing"].mean, 0.6, rel_tol=1e-4)
    assert found["b", ""].mean < 1e-5


def test_the_error_of_a_class_is_the_share_that_differs():
    graph = cf.CausalGraph("a -> k", a=cf.Continuous(), k=cf.Categorical(3))

    class Known(Truth):
        def true_counterfactual(self, rows, action, seed=0):
            return {"a": rows["a"] + 1.0, "k": torch.tensor([0, 0, 2, 2])}

    equation = M.Functional(lambda u, pa: (pa["a"] > 1).long() * 2, lambda k, pa: torch.zeros(len(k)))
    scm = cf.SCM(graph, {"a": M.Functional(lambda u, _: u, lambda x, _: x), "k": equation})
    world = scm.observe({"a": torch.tensor([-1.0, 0.5, 0.5, 3.0]), "k": torch.tensor([1, 0, 0, 2])})
    metric, action = CounterfactualError(Known()), do(a=shift(1.0))
    metric.update(world, action, "up", world.do(action))
    found = {(label.variable, label.unit, label.reference): value.mean for label, value in metric.compute().items()}
    assert world.do(action)["k"].tolist() == [0, 2, 2, 2]
    assert found == {("k", "share", ""): 0.25, ("k", "share", "doing nothing"): 0.5}


def test_moments_of_the_noise():
    scm = make()
    rows = make_rows()
    metric = NoiseMoments(["x", "b"])
    metric.update(scm.observe(rows))
    found = {(label.metric, label.variable): value.mean for label, value in metric.compute().items()}
    u = scm.observe(rows).noise["x"]["u"].double()
    assert math.isclose(found["noise mean", "x"], u.mean(), abs_tol=1e-6)
    assert math.isclose(found["noise mean square", "x"], u.square().mean(), rel_tol=1e-6)
    assert ("noise correlation", "b") not in found
    assert 0.5 < found["noise mean square", "b"] < 1.7


class Coded(Picture):
    """Abducts, beside u, a code, a second image, and what has no moments to look at."""

    def abduct(self, value, parents, units, key):
        u = super().abduct(value, parents, units, key)["u"]
        return {"u": u, "z": 3 * u.flatten(1)[:, :3], "w": u + 1, "e": u, "c": torch.zeros(len(u))}


def test_moments_of_the_code_and_of_the_second_image_have_lines_of_their_own():
    metric, before = NoiseMoments(), NoiseMoments(["x"])
    metric.update(make(Coded).observe(make_rows()))
    before.update(make().observe(make_rows()))
    found = {label.metric: value.mean for label, value in metric.compute().items() if label.variable == "x"}
    of_u = {label.metric: value.mean for label, value in before.compute().items()}
    assert list(of_u) == ["noise mean", "noise mean square", "noise correlation"]
    assert {name: found[name] for name in of_u} == of_u
    assert set(found) - set(of_u) == {
        "noise mean of z",
        "noise mean square of z",
        "noise mean of w",
        "noise mean square of w",
        "noise correlation of w",
    }
    u = make().observe(make_rows()).noise["x"]["u"].double()
    z, w = 3 * u.flatten(1)[:, :3], u + 1
    assert math.isclose(found["noise mean of z"], z.mean(), rel_tol=1e-5)
    assert math.isclose(found["noise mean square of z"], z.square().mean(), rel_tol=1e-5)
    assert math.isclose(found["noise mean square of w"], w.square().mean(), rel_tol=1e-5)
    neighbours = (w[..., 1:] * w[..., :-1]).mean((1, 2, 3)) / w.square().mean((1, 2, 3))
    assert math.isclose(found["noise correlation of w"], neighbours.mean(), rel_tol=1e-5)


def test_a_report_does_not_depend_on_the_batch_and_can_be_written():
    data, plan = Truth(), {"up": do(a=shift(0.2)), "rows": do(a=torch.linspace(0.5, 1.5, N))}
    scm = make(leak=0.01)
    first, second = (evaluate(scm, data, plan, oracles=ORACLES, batch=batch) for batch in (7, 40))
    for a, b in zip(first.lines, second.lines, strict=True):
        assert (a.metric, a.action, a.variable) == (b.metric, b.action, b.variable)
        assert math.isclose(a.estimate.mean, b.estimate.mean, rel_tol=1e-4, abs_tol=1e-5)
        assert a.estimate.n == b.estimate.n == N or a.metric == "signed bias"
    line = first["error of oracle", "up", "a"]
    assert line.against == "floor"
    assert first["error against the truth", "up", "x"].against == "doing nothing"
    assert json.loads(json.dumps(first.to_dict()))["lines"][0]["estimate"]["n"] == N
    table = first.to_markdown()
    assert table.count("\n| ") == len(first.lines) + 2
    for text in (str(first), table):
        assert "composition, 10 cycles" in text
        assert "grey 0-255" in text
        assert "0-255" in text
    with pytest.raises(KeyError, match="the report has no"):
        first["composition", "down", "x"]


def test_metrics_that_are_used_again_start_from_the_beginning():
    rows = make_rows()
    metrics = [Composition("x", cycles=(1,)), Frechet(lambda x: x.flatten(1), rows["x"], "x")]
    for leak, expected in ((0.0, 0.0), (0.02, 5.1)):
        report = evaluate(make(leak=leak), rows, {"one": do(a=1.0)}, metrics)
        found = report["composition, 1 cycle", "", "x"]
        assert found.estimate.n == len(found.values) == N
        assert math.isclose(found.estimate.mean, expected, rel_tol=1e-4, abs_tol=1e-4)
        assert report["Frechet distance", "one", "x"].estimate.n == N


def test_bad_plans_and_oracles_are_refused():
    scm, rows = make(), make_rows()
    for batch in (0, -3, 2.5):
        with pytest.raises(ValueError, match=f"evaluate: expected a whole number batch >= 1, got {batch}"):
            evaluate(scm, rows, [do(a=1.0)], batch=batch)
    with pytest.raises(ValueError, match="plan is empty"):
        evaluate(scm, rows, [])
    with pytest.raises(ValueError, match="unknown variable 'z'"):
        evaluate(scm, rows, [do(z=1.0)])
    two = [do(a=torch.zeros(N)), do(a=torch.ones(N))]
    with pytest.raises(ValueError, match=r"tables would show 2 interventions of the plan as .* name them"):
        evaluate(scm, rows, two)
    named = evaluate(scm, rows, dict(zip("01", two, strict=True)), [Reversibility(node="a")])
    assert [line.action for line in named.lines] == ["0", "1"]
    for batch in (0, -1, 2.0):
        with pytest.raises(ValueError, match="evaluate: expected a whole number batch >= 1, got"):
            evaluate(scm, rows, [do(a=1.0)], batch=batch)
    with pytest.raises(ValueError, match="at least one oracle"):
        Effectiveness({})
    with pytest.raises(ValueError, match=r"logits.argmax\(1\)"):
        evaluate(scm, rows, [do(a=1.0)], oracles={"k": lambda x: x.flatten(1)})
    with pytest.raises(ValueError, match="'k' gave numbers between the classes; give a classifier"):
        evaluate(scm, rows, [do(a=1.0)], oracles={"k": lambda x: x.flatten(1).mean(1)})
    coloured = torch.nn.Conv2d(3, 1, 1)
    with pytest.raises(ValueError, match=r"'a' does not take images of shape \(2, 1, 2, 2\); give one of this size"):
        evaluate(scm, rows, [do(a=1.0)], oracles={"a": lambda x: coloured(x).flatten(1).mean(1)})
    with pytest.raises(ValueError, match="cycles >= 1"):
        Composition(cycles=(0,))


@pytest.mark.parametrize("plan", [do(a=1.0), [{"a": 1.0}], [do(a=1.0), None], {"up": 1.0}, "up", None])
def test_what_is_no_plan_is_refused(plan):
    with pytest.raises(TypeError, match=r"evaluate: expected a plan of interventions, in a list, .* got "):
        evaluate(make(), make_rows(), plan)


def test_interventions_that_tables_cannot_tell_apart_must_be_named():
    first, second = do(a=torch.linspace(0.5, 1.5, N)), do(a=torch.ones(N))
    with pytest.raises(ValueError, match=r"2 interventions of the plan as 'do\(a = given rows\)'; name them"):
        evaluate(make(), make_rows(), [do(k=1), first, second])
    report = evaluate(make(), make_rows(), {"spread": first, "one": second}, oracles=ORACLES)
    assert {line.action for line in report.lines} == {"", "spread", "one"}


def coloured(images):
    return torch.nn.functional.conv2d(images, torch.ones(1, 3, 1, 1)).flatten(1)


REAL = torch.rand(120, 3, 2, 2)
UNFIT = {
    "an unknown variable": ([Effectiveness({"z": ORACLES["a"]}, "x")], do(a=1.0), "unknown variable 'z'"),
    "a column": ([Effectiveness({"a": lambda x: x[:, :, 0, 0]}, "x")], do(a=1.0), r"'a' gave shape \(2, 1\)"),
    "coloured": ([Effectiveness({"a": coloured}, "x")], do(a=1.0), r"'a' does not take images of shape \(2, 1"),
    "Frechet": ([Frechet(coloured, REAL, "x")], do(a=1.0), "Frechet: the encoder does not take images"),
    "minimality": (
        [Minimality(lambda x: (coloured(x), coloured(x)), {"x": REAL}, "x")],
        do(a=1.0),
        "Minimality: the encoder does not take images",
    ),
    "identity": ([Identity("x", encode=coloured)], do(a=1.0), "identity: the encoder does not take images"),
    "another node": ([Identity("image")], do(a=1.0), "unknown variable 'image'"),
    "another class": ([], do(k=7), "k: expected classes 0 to 1, got 7"),
    "the class of a row": ([], do(k=torch.arange(N) // 39 * 2), "k: expected classes 0 to 1, got 2 in row 39"),
    "too few rows": ([], do(a=torch.ones(7)), r"a: do\(\) got 7 values for 40 rows"),
    "another mechanism": ([], do(a=make().mechanism("b")), "a: the replacing mechanism models"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_what_can_be_seen_to_fail_does_before_anything_is_sampled(name, monkeypatch):
    metrics, action, message = UNFIT[name]
    monkeypatch.setattr(Picture, "abduct", lambda *_: pytest.fail("sampled"))
    with pytest.raises(ValueError, match=message):
        evaluate(make(), make_rows(), [action], [Composition("x"), *metrics])


def test_the_image_need_not_be_named_where_there_is_one():
    scm, rows = make(), make_rows()
    metrics = [Composition(cycles=(1,)), Reversibility(), Identity(), Frechet(lambda x: x.flatten(1), rows["x"])]
    plan, ones = [do(k=1)], {"k": lambda x: torch.ones(len(x)).long()}
    found = evaluate(scm, rows, plan, [*metrics, Effectiveness(ones)])
    named = [Composition("x", (1,)), Reversibility("x"), Identity("x"), Frechet(lambda x: x.flatten(1), rows["x"], "x")]
    assert found.to_dict() == evaluate(scm, rows, plan, [*named, Effectiveness(ones, "x")]).to_dict()
    assert {line.variable for line in found.lines} == {"x", "k"}


def test_which_of_two_images_is_measured_must_be_said():
    graph = cf.CausalGraph("a -> x; a -> y", a=cf.Continuous(), x=cf.Image(1, 2, 2), y=cf.Image(1, 2, 2))
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "x": Flat(), "y": Flat()})
    rows = scm.sample(3)
    assert {line.variable for line in evaluate(scm, rows, [do(a=1.0)], [Composition("y")]).lines} == {"y"}
    with pytest.raises(ValueError, match="the graph has several images, x, y; say which variable is meant, node="):
        evaluate(scm, rows, [do(a=1.0)], [Composition()])


def test_estimates_print_small_and_large():
    assert Estimate(4, 1.0, 2.0).half_width == pytest.approx(3.182446)
