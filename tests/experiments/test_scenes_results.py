"""Tables, claims and curves of the scenes say what the measured files say."""

import json

import pytest

from experiments.scenes.results import COLUMNS, claims, curves, load, slope, table, targets, write
from experiments.scenes.scene import FLOW, PENDULUM

LAMBDA, CONSTANT, FREE = "balanced, size 0.3", "constant, size 0.1", "parents, 24 steps"
SHARES = {LAMBDA: 0.1, CONSTANT: 0.2, FREE: 0.3}


def line(metric, action, variable, value, reference=None):
    held = None if reference is None else {"mean": reference}
    return {
        "metric": metric,
        "action": action,
        "variable": variable,
        "estimate": {"mean": value, "half_width": 0.1},
        "reference": held,
    }


def content(scene, name, share):
    single = [line("composition, 1 cycle", "", "image", 0.5)]
    for factor in scene.ranges:
        single.append(line("error against the truth", f"do({factor})", "image", 10 * share, 10.0))
        single.append(line("error of oracle", f"do({factor})", factor, 0.3, 0.1))
    steps = []
    for step in range(1, 6):
        steps.append(line("error against the truth", f"step {step}", "image", 20 * share * step, 20.0))
        steps.append(line("Frechet distance", f"step {step}", "image", None, 1.0))
    part = {"lines": steps}
    return {
        "method": name,
        "evaluations": {"generator": 48, "projector": 24},
        "single": {"about": {"rows": 20}, "lines": single},
        "shared": part,
        "abducted again": part,
    }


@pytest.fixture(params=[PENDULUM, FLOW], ids=lambda scene: scene.name)
def scene(request):
    return request.param


@pytest.fixture
def out(tmp_path, scene):
    for seed in ("0", "1"):
        (tmp_path / seed).mkdir()
        for name, share in SHARES.items():
            worse = 0.5 if (name, seed) == (CONSTANT, "1") else 1.0  # better than ours in one seed
            value = content(scene, name, share * worse * (0.45 if worse < 1 else 1))
            (tmp_path / seed / f"{name}.json").write_text(json.dumps(value))
    return tmp_path


def test_shares_are_means_over_factors_and_seeds(scene, out):
    measured = load(scene, out)
    (row,) = (line for line in table(measured) if line.startswith(f"| {LAMBDA} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:5] == [LAMBDA, "20", "0, 1", "48", "24"]
    named = dict(zip(COLUMNS, cells[5:], strict=True))
    assert named["1 intervention: error / doing nothing"] == "0.100 ± 0.000"
    assert named["factor error / floor"] == "3.000 ± 0.000"
    assert named["5 in sequence: error / doing nothing"] == "0.500 ± 0.000"
    assert named["growth per step"] == "0.100 ± 0.000"
    assert named["Frechet after 5"].startswith("nan")


def test_claims_are_held_only_in_all_seeds(scene, out):
    found = {line.split(" | ")[0][2:]: line for line in claims(load(scene, out))}
    assert found["lambda_t beats every constant lambda"].endswith("| 1 of 2 | undecided |")
    said = found["causal representations beat classifier-free guidance after 5 interventions"]
    assert said.endswith("| 2 of 2 | held |")
    assert not any("CausalVAE" in claim for claim in found)


def test_targets_are_bounds_on_the_best_scale(scene, out):
    lines = targets(load(scene, out))
    assert "| 1 intervention: error / doing nothing | 0.100 ± 0.000 | 0.35 | yes |" in lines
    assert "| factor error / floor | 3.000 ± 0.000 | 2 | no |" in lines


def test_curves_show_each_step(scene, out):
    axes = curves(load(scene, out)).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes[0].get_lines()}
    assert drawn[LAMBDA] == pytest.approx([0.1, 0.2, 0.3, 0.4, 0.5])
    write(scene, out)
    assert {"table.md", "claims.md", "curves.png"} <= {path.name for path in out.iterdir()}


def test_a_slope_is_per_step():
    assert slope([1.0, 3.0, 5.0]) == 2.0
    assert slope([2.0, 2.0, 2.0, 2.0]) == 0.0
