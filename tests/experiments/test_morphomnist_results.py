"""Tables and claims say what the measured files say."""

import json
import math

import pytest

from experiments.morphomnist.methods import METHODS
from experiments.morphomnist.results import COLUMNS, Value, claims, curves, load, slug, table, verdict


def measured(name, values, half=0.01):
    """What `evaluate` writes for a method."""
    lines = [
        {
            "metric": metric,
            "action": action,
            "variable": variable,
            "estimate": {"mean": value, "half_width": half},
            "reference": {"mean": 9.0} if metric.startswith("error against") else None,
        }
        for (metric, action, variable), value in values.items()
    ]
    cost = {"abduct": 25, "predict": 24, "backward": 0}
    return {"method": name, "evaluations": cost, "about": {"rows": 200}, "lines": lines}


@pytest.fixture
def results(tmp_path):
    for place, name in enumerate(METHODS):
        values = {key: 1.0 + 0.1 * place for key in COLUMNS.values()}
        values |= {("noise mean square", "", "image"): 1.0, ("noise mean", "", "image"): 0.6}
        (tmp_path / f"{slug(name)}.json").write_text(json.dumps(measured(name, values)))
    return load(tmp_path)


def test_every_method_has_a_file_of_its_own():
    assert len({slug(name) for name in METHODS}) == len(METHODS)


def test_the_table_holds_each_method_and_what_it_is_held_against(results):
    text = table(results, "0")
    first = next(iter(METHODS))
    (line,) = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    assert line.split(" | ")[1:5] == ["200", "25 + 24", "1.000", "1.000"]
    assert line.endswith("0.800 |")
    assert all(f"| {name} |" in text for name in METHODS)
    assert "HVAE (Melistas et al., 2024) | - | 1 + 1 | 0.438 | 1.550" in text
    assert "do(t): to the truth 9.000" in text


def test_a_claim_is_held_only_beyond_the_intervals():
    low, high = Value(1.0, 0.1), Value(2.0, 0.1)
    assert (verdict(low, high), verdict(high, low)) == ("held", "not held")
    assert (verdict(low, high, lower=False), verdict(high, low, lower=False)) == ("not held", "held")
    assert verdict(low, Value(1.15, 0.1)) == "undecided"


def test_claims_compare_the_methods_they_name(results):
    lines = claims(results)
    assert any("semantic beats spatial" in line and "| not held |" in line for line in lines)  # measured later here
    assert all(line.count("|") == 6 for line in lines)
    few = {name: result for name, result in results.items() if name.startswith("spatial")}
    assert not any("semantic beats spatial" in line for line in claims(few))


def test_curves_are_drawn_along_omega(results):
    axes = curves(results).axes
    assert len(axes) == 6
    lines = {line.get_label(): len(line.get_xdata()) for line in axes[0].get_lines()}
    assert lines["spatial"] == lines["semantic, replay"] == 5
    assert lines["semantic, CTA"] == 3


def test_what_was_not_measured_is_left_open(tmp_path):
    name = next(iter(METHODS))
    (tmp_path / f"{slug(name)}.json").write_text(json.dumps(measured(name, {})))
    result = load(tmp_path)[name]
    assert math.isnan(result["composition 1"].mean)
    assert math.isnan(result.spread)
    assert "| - | - |" in table({name: result}, "0")
