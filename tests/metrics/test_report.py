"""Reports as data: what is written is JSON."""

import json
import math

import pytest

from causalcf import do
from causalcf.metrics import Estimate, Frechet, Report, evaluate
from causalcf.metrics.report import Line
from tests.metrics.test_metrics import make, make_rows


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
