"""Reports as data: what is written is JSON."""

import json
import math

import pytest
import scipy.stats
import torch
from scipy.stats import binomtest

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M
from causalcf.metrics import (
    Composition,
    Effectiveness,
    Estimate,
    Frechet,
    Identity,
    Report,
    Reversibility,
    Tally,
    evaluate,
)
from causalcf.metrics.report import Line, _number
from causalcf.metrics.tally import Label, estimate
from tests.metrics.test_metrics import make, make_rows


def test_shares_of_which_all_rows_are_alike_are_not_certain():
    """Wilson's interval at its ends: of six heads in a row the coin may well be fair."""
    label = ("a", "b", "c", "share")
    text = str(Report((Line(*label, Estimate(6, 1.0, 0.0)), Line(*label, Estimate(40, 0.0, 0.0))), {}))
    assert "0.610 .. 1.000" in text
    assert "0.000 .. 0.088" in text


def test_oracles_are_read_beside_metrics_that_are_named():
    scm, rows = make(), make_rows()
    report = evaluate(scm, rows, [do(k=1)], [], oracles={"k": lambda x: torch.ones(len(x)).long()}, node="x")
    assert {line.variable for line in report.lines} == {"k"}
    with pytest.raises(ValueError, match="unknown variable 'nowhere'"):
        evaluate(scm, rows, [do(k=1)], [], node="nowhere")


def test_numbers_that_are_not_finite_are_null_in_json():
    label = ("a", "b", "c", "d")
    lines = (
        Line(*label, Estimate(3, 1.0, math.nan)),
        Line(*label, Estimate(3, math.inf, 2.0), "floor", Estimate(0, 0.5, math.nan)),
    )
    about = {"rows": 3, "rate": math.nan, "rates": {"up": [1.0, -math.inf]}, "what": "-"}
    report = Report(lines, about)
    written = json.loads(json.dumps(report.to_dict(), allow_nan=False))
    assert written["about"] == {"rows": 3, "rate": None, "rates": {"up": [1.0, None]}, "what": "-"}
    first, second = written["lines"]
    assert first["estimate"] == {"n": 3, "mean": 1.0, "sd": None, "half_width": None}
    assert second["estimate"] == {"n": 3, "mean": None, "sd": 2.0, "half_width": pytest.approx(4.968, abs=1e-3)}
    assert second["reference"] == {"n": 0, "mean": 0.5, "sd": None}
    for text in (str(report), report.to_markdown()):
        assert "1.000" in text


def test_the_frechet_distance_has_no_interval_and_can_be_written():
    scm, rows = make(), make_rows()
    metric = Frechet(lambda x: x.flatten(1), rows["x"], "x")
    report = evaluate(scm, rows, [do(k=1)], [metric])
    found = json.loads(json.dumps(report.to_dict(), allow_nan=False))["lines"]
    assert [line["estimate"]["half_width"] for line in found] == [None, None]
    assert all(line["estimate"]["mean"] >= 0 for line in found)
    assert "  -  " in str(report)


def test_reports_of_the_same_rows_are_compared_row_by_row():
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(60, generator=generator) for name in ("k", "x")}
    graph = cf.CausalGraph([("k", "x")], k=cf.Continuous(), x=cf.Continuous())
    equation = M.Functional(lambda u, pa: pa["k"] + u, lambda x, pa: x - pa["k"])
    scm = cf.SCM(graph, {"k": M.Functional(lambda u, _: u, lambda x, _: x), "x": equation})
    first, second = (evaluate(scm, rows, {"a": do(k=1.0)}, [Missing(by)], batch=17) for by in (0.3, 0.1))
    key = ("miss", "a", "x")
    difference = first.against(second)[key]
    own = torch.sin(37 * rows["x"].double())
    each = (own + 0.3 * own.cos()) - (own + 0.1 * own.cos())
    assert difference.n == 60
    assert difference.mean == pytest.approx(each.mean().item())
    assert difference.sd == pytest.approx(each.std().item())
    assert difference.half_width < 0.1 * (first[key].estimate.half_width + second[key].estimate.half_width)
    fewer = evaluate(scm, {name: column[:20] for name, column in rows.items()}, {"a": do(k=1.0)}, [Missing(0.1)])
    assert first.against(fewer)[key].mean == pytest.approx(each[:20].mean().item())
    other = evaluate(scm, rows, {"a": do(k=1.0)}, [Missing(0.1)], seed=1)
    with pytest.raises(ValueError, match="seeds 0 and 1"):
        first.against(other)


def test_rows_that_do_not_count_keep_their_place_in_a_comparison():
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(30, generator=generator) for name in ("a", "b", "c")}
    graph = cf.CausalGraph("a -> b; b -> c", a=cf.Continuous(), b=cf.Continuous(), c=cf.Continuous())
    action = {"up": do(a=cf.shift(0.1))}

    def made(least):
        """b follows a only above `least`: which rows move depends on the model."""
        return cf.SCM(
            graph,
            {
                "a": M.Functional(lambda u, _: u, lambda x, _: x),
                "b": M.Functional(
                    lambda u, pa: pa["a"].clamp_min(least) + u, lambda x, pa: x - pa["a"].clamp_min(least)
                ),
                "c": M.Functional(lambda u, pa: pa["b"] + u, lambda x, pa: x - pa["b"]),
            },
        )

    def read(c):
        return 0.9 * c

    reports, biases = [], []
    for least in (0.0, 0.5):
        reports.append(evaluate(made(least), rows, action, [Effectiveness({"b": read}, "c")], batch=7))
        world = made(least).observe(rows)
        moved = world.do(a=cf.shift(0.1))
        change = moved["b"] - world["b"]
        biases.append(torch.where(change.abs() > 1e-6, (read(moved["c"]) - moved["b"]) * change.sign(), math.nan))
    each = biases[0] - biases[1]
    found = reports[0].against(reports[1])["signed bias", "up", "b"]
    assert 0 < found.n == (~each.isnan()).sum() < reports[0]["signed bias", "up", "b"].estimate.n
    assert found.mean == pytest.approx(each.nanmean().item(), abs=1e-6)
    assert reports[0]["signed bias", "up", "b"].estimate.mean == pytest.approx(biases[0].nanmean().item(), abs=1e-6)


class Missing(Tally):
    """Misses by what belongs to the row, and by as much more as it is told."""

    higher_is_better = False
    title = "miss"

    def __init__(self, by):
        super().__init__()
        self.by = by

    def done(self, world, action, name, counterfactual):
        own = torch.sin(37 * world["x"].double())
        self.tally(Label(self.title, name, "x", "-"), own + self.by * own.cos())


def test_more_than_one_value_per_row_is_refused():
    with pytest.raises(ValueError, match=r"miss: expected one value per row, shape \(B,\), got \(3, 2\)"):
        Missing(0.0).tally(Label("miss", "a", "x", "-"), torch.ones(3, 2))


def test_rows_are_forgotten_at_reset():
    metric = Missing(0.0)
    metric.tally(Label("miss", "a", "x", "-"), torch.ones(3))
    metric.reset()
    metric.tally(Label("miss", "a", "x", "-"), torch.zeros(2))
    (values,) = metric.rows.values()
    assert torch.cat(values).tolist() == [0.0, 0.0]


@pytest.mark.parametrize("right", [24, 23, 12, 1, 0])
def test_shares_have_wilson_s_interval_and_numbers_student_s(right):
    hits = torch.zeros(24)
    hits[:right] = 1.0
    line = Line("a", "b", "c", "share", estimate(hits))
    low, high = Report((line,), {}).to_dict()["lines"][0]["interval"]
    wilson = binomtest(right, 24).proportion_ci(0.95, "wilson")
    assert (low, high) == pytest.approx((wilson.low, wilson.high), abs=1e-6)
    number = Report((Line("a", "b", "c", "px", estimate(hits[:6] + torch.arange(6.0))),), {}).to_dict()["lines"][0]
    values = (hits[:6] + torch.arange(6.0)).double().numpy()
    student = scipy.stats.t.interval(0.95, 5, values.mean(), values.std(ddof=1) / 6**0.5)
    assert number["interval"] == pytest.approx(student)


def test_small_numbers_are_not_nothing():
    lines = (Line("a", "b", "c", "m", Estimate(9, 3.21e-6, 1e-6)), Line("a", "b", "d", "m", Estimate(9, 0, 0)))
    text = str(Report(lines, {}))
    assert "3.2e-06" in text
    image = Line("a", "b", "image", "grey 0-255", Estimate(9, 3.21e-6, 1e-6))
    assert "e-0" not in str(Report((image, Line("a", "b", "c", "m", Estimate(9, 3.2e-7, 1e-7))), {}))
    assert "0.000" in text
    named = Line("a", "one\ntwo | three", "c", "m", Estimate(9, 1.0, 1.0))
    assert "| one two \\| three |" in Report((named,), {}).to_markdown()


def test_the_sign_of_a_bias_is_seen_in_any_unit():
    rows = make_rows()

    def biases(unit):
        graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
        seen = M.Functional(lambda u, pa: pa["a"] + u, lambda x, pa: x - pa["a"])
        known = cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": seen})
        read = {"a": lambda b: b + 0.1 * unit}
        own = {"a": rows["a"] * unit, "b": rows["a"] * unit}
        report = evaluate(known, own, {"up": do(a=shift(0.5 * unit))}, [Effectiveness(read, node="b")])
        return report["signed bias", "up", "a"]

    metre, small = biases(1.0), biases(1e-6)
    assert small.estimate.n == metre.estimate.n > 0
    assert small.estimate.mean == pytest.approx(1e-6 * metre.estimate.mean, rel=1e-3)


def test_rows_of_which_nothing_is_read_are_left_out_of_a_mean():
    scm, rows = make(), make_rows()
    blind = {"a": lambda x: torch.where(torch.arange(len(x)) == 0, torch.nan, x.mean((1, 2, 3)) * 4)}
    line = evaluate(scm, rows, {"up": do(a=shift(0.5))}, [Effectiveness(blind)], batch=8)["error of oracle", "up", "a"]
    assert line.estimate.n == len(rows["a"]) - len(rows["a"]) // 8
    assert math.isfinite(line.estimate.mean)


@pytest.mark.parametrize("value", [-1e-12, -0.0, -0.0004])
def test_nothing_has_no_sign(value):
    assert _number(value, "px" if abs(value) < 1e-9 else "grey 0-255") == "0.000"
    assert _number(-0.0006, "px") == "-0.001"


def test_large_numbers_that_differ_little_keep_their_spread():
    class One(Tally):
        title = "one"

    values = 1.7e9 + 30 * torch.randn(200, generator=torch.Generator().manual_seed(0)).double()
    metric, label = One(), Label("one", "", "x", "-")
    for part in values.split(7):
        metric.tally(label, part)
    assert metric.compute()[label].sd == pytest.approx(values.std().item(), rel=1e-6)


def chance():
    """Classes whose noise abduction draws, and a number that hears them; many rows are equal."""
    graph = cf.CausalGraph("s -> d -> y", s=cf.Binary(), d=cf.Categorical(4), y=cf.Continuous())
    heard = M.Functional(lambda u, pa: pa["d"] + u, lambda y, pa: y - pa["d"])
    scm = cf.SCM(graph, {"s": M.Binary(probabilities=[0.5, 0.5]), "d": M.Categorical(), "y": heard})
    scm.mechanisms["d"].fitted = True
    torch.manual_seed(0)
    for parameter in scm.mechanisms["d"].parameters():
        torch.nn.init.normal_(parameter)
    rows = scm.sample(60, seed=3)
    return scm, {name: (values.round() if name == "y" else values) for name, values in rows.items()}


class Moved(Tally):
    title = "moved"

    def done(self, world, action, name, counterfactual):
        self.tally(Label(self.title, name, "y", "-"), counterfactual["y"] - world["y"])


def test_numbers_do_not_depend_on_the_batch_where_rows_have_no_id():
    scm, rows = chance()
    nameless = {name: values for name, values in rows.items() if name != "id"}
    assert len({tuple(row) for row in zip(*(values.tolist() for values in nameless.values()), strict=True)}) < 40
    reports = [evaluate(scm, nameless, {"s": do(s=1)}, [Moved()], batch=batch) for batch in (1, 8, 60)]
    values = [report["moved", "s", "y"].values for report in reports]
    assert torch.equal(values[0], values[1])
    assert torch.equal(values[0], values[2])
    assert values[0].std() > 0


def test_rows_of_one_unit_are_said_to_be():
    scm, rows = chance()
    with pytest.warns(UserWarning, match="the 60 rows are of 6 units, as their ids say"):
        evaluate(scm, {**rows, "id": torch.arange(60) // 10}, {"s": do(s=1)}, [Moved()])


def test_reports_of_other_rows_or_questions_are_not_compared():
    scm, rows = make(), make_rows()
    rows = {**rows, "id": torch.arange(len(rows["a"]))}

    def asked(rows, by):
        return evaluate(scm, rows, {"a": do(a=shift(by))}, [Reversibility("x")])

    report, other = asked(rows, 1.0), asked(rows, 3.0)
    turned = asked({name: values.flip(0) for name, values in rows.items()}, 1.0)
    with pytest.raises(ValueError, match="against: row 0 of the one report is another unit than that of the other"):
        report.against(turned)
    with pytest.raises(ValueError, match=r"'a' is do\(a \+= 1\) in the one report and do\(a \+= 3\) in the other"):
        report.against(other)
    fewer = asked({name: values[:9] for name, values in rows.items()}, 1.0)
    assert report.against(fewer)["reversibility, 1 cycle", "a", "x"].n == 9


def test_composition_holds_what_causes_lose_against_nobody_else():
    """Two images in a row: the first loses a fifth of its noise, the second nothing."""
    graph = cf.CausalGraph("x -> y", x=cf.Image(1, 2, 2), y=cf.Image(1, 2, 2))
    scm = cf.SCM(graph, {"x": Leaking(), "y": Beside()})
    rows = scm.sample(7)
    report = evaluate(scm, rows, [do(x=rows["x"])], [Composition("x", (1, 3)), Composition("y", (1, 3)), Identity("y")])
    lost = (255 * 0.2 * (rows["x"] - 0.5).abs()).flatten(1).mean(1).mean().item()
    assert report["composition, 1 cycle", "", "x"].estimate.mean == pytest.approx(lost, rel=1e-4)
    assert report["composition, 1 cycle", "", "y"].estimate.mean < 1e-4
    assert report["composition, 3 cycles", "", "y"].estimate.mean < 1e-4
    cf.testing.assert_composition(scm, rows, atol=1e-5, nodes=["y"])
    with pytest.raises(AssertionError, match="composition of x"):
        cf.testing.assert_composition(scm, rows, atol=1e-5, nodes=["x"])


class Leaking(M.Mechanism):
    """`x = 1/2 + 4/5 u`, whose abduction takes u to be x - 1/2."""

    exact, has_density, known = False, False, True

    def config(self):
        return {}

    def _build(self):
        self.register_buffer("zero", torch.zeros(()))

    def abduct(self, value, parents, units, key):
        return {"u": value - 0.5}

    def predict(self, noise, parents):
        return 0.5 + 0.8 * noise["u"]

    def noise(self, units, key):
        return {"u": units.uniform(key, (1, 2, 2)).float() - 0.5}


class Beside(Leaking):
    """`y = x / 2 + u`."""

    exact = True

    def abduct(self, value, parents, units, key):
        return {"u": value - parents["x"] / 2}

    def predict(self, noise, parents):
        return parents["x"] / 2 + noise["u"]

    def noise(self, units, key):
        return {"u": units.uniform(key, (1, 2, 2)).float() / 2}


def asked(metrics):
    return evaluate(make(), make_rows(), [do(a=1.0)], metrics)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda: asked(Composition("x")), r"write metrics=\[Composition"),
        (lambda: asked([Composition]), r"metrics in a list, .*; write Composition\(\)"),
        (
            lambda: asked([Effectiveness({"a": lambda x: x.mean((1, 2, 3)).numpy()})]),
            "'a' gave ndarray, expected a tens",
        ),
        (lambda: cf.decompose(make_rows(), do(a=1.0), on="x"), r"expected a world, got dict; write scm\.observe"),
        (lambda: cf.plot.graph(make()), r"expected a CausalGraph, got SCM; .* plot\.graph\(scm\.graph\)"),
        (lambda: cf.plot.effects(make().observe(make_rows())), r"effects: expected what cf\.decompose\(...\) returns"),
        (
            lambda: cf.testing.assert_effectiveness(make(), make_rows(), "a", shift(1.0)),
            "a: expected the value that it",
        ),
    ],
)
def test_what_is_something_else_is_said_to_be(ask, message):
    with pytest.raises(TypeError, match=message):
        ask()
