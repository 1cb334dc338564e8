"""Reports as data: what is written is JSON."""

import json
import math

import pytest
import torch

import causalcf as cf
from causalcf import do
from causalcf import mechanisms as M
from causalcf.metrics import Effectiveness, Estimate, Frechet, Report, Tally, evaluate
from causalcf.metrics.report import Line
from causalcf.metrics.tally import Label
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
    assert second["estimate"] == {"n": 3, "mean": None, "sd": 2.0, "half_width": pytest.approx(2.263, abs=1e-3)}
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
