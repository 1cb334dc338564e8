"""Tables and claims say what the measured files say."""

import json
import math

import pytest

from experiments.morphomnist.claims import claims, stated, verdict
from experiments.morphomnist.measured import COLUMNS, Value, load, slug
from experiments.morphomnist.methods import BEST, METHODS, MOONSHOT
from experiments.morphomnist.results import curves, table
from experiments.morphomnist.targets import targets


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
    return {"method": name, "evaluations": cost, "about": {"rows": 200}, "cycled": 20, "lines": lines}


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
    line, *others = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    assert len(others) == 3
    assert line.split(" | ")[1:7] == ["200", "20", "25 + 24", "0.800", "1.000", "1.000"]
    assert all(f"| {name} |" in text for name in METHODS)
    assert "HVAE (Melistas et al., 2024) | - | - | 1 + 1 | - | 0.438 | 1.550" in text
    assert "do(t): to the truth 9.000" in text


def test_a_claim_is_held_only_beyond_the_intervals():
    low, high = Value(1.0, 0.1), Value(2.0, 0.1)
    assert (verdict(low, high), verdict(high, low)) == ("held", "not held")
    assert (verdict(low, high, lower=False), verdict(high, low, lower=False)) == ("not held", "held")
    assert verdict(low, Value(1.15, 0.1)) == "undecided"


def test_claims_name_methods_that_are_measured():
    assert {side for claim in stated() for side in (claim.better, claim.other)} <= METHODS.keys()


def test_claims_compare_the_methods_they_name(results):
    lines = claims({"0": results, "1": results})
    found = [line for line in lines if "semantic beats spatial" in line]
    assert found
    assert all("| 200 | 0, 1 | not held |" in line for line in found)  # measured later here
    assert all(line.count("|") == 10 for line in lines)
    few = {name: result for name, result in results.items() if name.startswith("spatial")}
    assert not any("semantic beats spatial" in line for line in claims({"0": few}))


def test_a_claim_is_undecided_where_seeds_disagree(results):
    swapped = dict(results)
    first, second = "semantic: 2M, 24", "spatial: 2M, 24"
    swapped[first], swapped[second] = results[second], results[first]
    (line,) = (
        line
        for line in claims({"0": results, "1": swapped})
        if "semantic beats spatial" in line and "2M, 24, omega 1 | composition 1" in line
    )
    assert line.endswith("| 0, 1 | undecided |")


def test_targets_say_what_was_reached(results):
    reached = {line.split(" | ")[0][2:]: line.split(" | ")[4:] for line in targets({"0": results}) if BEST in line}
    assert reached["network evaluations"] == ["49.000", "at most 100.000", "yes |"]
    assert reached["sd of the abducted noise"] == ["0.800", "0.970 to 1.030", "no |"]
    assert reached["composition, 1 cycle"] == ["1.000", "at most 0.050", "no |"]
    assert reached["do(digit): digit"] == ["1.000", "at least 0.970", "yes |"]
    assert any(MOONSHOT in line and "at most 50.000 | yes" in line for line in targets({"0": results}))


def test_curves_are_drawn_along_omega(results):
    axes = curves(results).axes
    assert len(axes) == 6
    lines = {line.get_label(): len(line.get_xdata()) for line in axes[0].get_lines()}
    assert lines["spatial"] == lines["semantic, replay"] == 5
    assert lines["semantic, CTA"] == 4


def test_what_was_not_measured_is_left_open(tmp_path):
    name = next(iter(METHODS))
    (tmp_path / f"{slug(name)}.json").write_text(json.dumps(measured(name, {})))
    result = load(tmp_path)[name]
    assert math.isnan(result["composition 1"].mean)
    assert math.isnan(result.spread)
    assert "| 20 | 25 + 24 | - | - | - |" in table({name: result}, "0")
