"""The shipped models of MorphoDigits asked in other ways: what is measured is kept."""

import json

import pytest

from experiments.morphodigits import compare

WAY = "spatial: 2M, 24"


@pytest.fixture
def measured(tmp_path, monkeypatch):
    """The measured file, of few rows and steps, and how it was asked."""
    monkeypatch.setattr(compare, "WAYS", {WAY: ("spatial", {**compare.PLAIN, "steps": 2})})
    options = {"rows": 4, "back": 2, "batch": 4, "out": tmp_path / "compared"}
    compare.main(**options)
    (path,) = (tmp_path / "compared").glob("*.json")
    return path, options


def test_a_run_that_is_repeated_measures_nothing(measured, monkeypatch):
    path, options = measured
    content = json.loads(path.read_text())
    assert (content["way"], content["cycled"], content["about"]["rows"]) == (WAY, 2, 4)
    (line,) = (line for line in content["lines"] if line["metric"].startswith("reversib") and "slant" in line["action"])
    assert line["estimate"]["n"] == 2
    made = []
    evaluate = compare.cf.evaluate
    monkeypatch.setattr(compare.cf, "evaluate", lambda *given, **rest: made.append(1) or evaluate(*given, **rest))
    compare.main(**options)
    compare.main(**{**options, "rows": 3, "back": 1})  # fewer are covered
    del content["cycled"]
    path.write_text(json.dumps({**content, "back": 2}))  # as the first files have it
    compare.main(**options)
    assert not made
    assert f"| {WAY} | 4 |" in path.parent.with_suffix(".md").read_text()
    compare.main(**{**options, "back": 3})
    assert len(made) == 2
    assert json.loads(path.read_text())["cycled"] == 3
    path.write_text(json.dumps(content))  # which does not say how many rows went through reversibility
    compare.main(**options)
    assert len(made) == 4


def test_no_more_rows_are_said_to_have_gone_back_than_there_are(measured):
    path, options = measured
    compare.main(**{**options, "rows": 5, "back": 9})
    assert json.loads(path.read_text())["cycled"] == 5
