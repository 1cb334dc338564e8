"""Tables, claims and curves of the scenes say what the measured files say."""

import json
import math
from dataclasses import replace
from statistics import stdev

import pytest

from experiments.scenes.claims import Verdict, caught, claims, interpolated, less, targets
from experiments.scenes.measured import Result, Value, combined, load, mean, of_rows, slope
from experiments.scenes.methods import CONSTANTS, DEFAULTS, DIRECT, TOLD, chosen, methods, titled
from experiments.scenes.results import COLUMNS, curves, factors, per_step, table, write
from experiments.scenes.scene import FLOW, PENDULUM

OURS, CONSTANT, FREE = "balanced, size 0.1", "constant, size 1", "parents, omega 1.5"
WIGGLE = (-0.5, 0.5, -0.25, 0.25)


def line(metric, action, variable, rows, reference=None):
    values = [value + rows for value in WIGGLE] if isinstance(rows, float) else list(rows)
    found = of_rows(values)
    return {
        "metric": metric,
        "action": action,
        "variable": variable,
        "estimate": {"n": len(values), "mean": found.mean, "sd": stdev(values) if len(values) > 1 else None},
        "reference": None if reference is None else {"mean": reference},
        "values": values,
    }


def content(scene, name, share, composition=0.5, growth=1.0, drift=0.1, back=0.1):
    """Errors of `share` of doing nothing, which is 10 after one intervention and grows with the steps."""
    first, second = scene.turns
    single = [line("composition, 1 cycle", "", "image", composition)]
    for factor in scene.ranges:
        single.append(line("error against the truth", f"do({factor})", "image", 10 * share, 10.0))
        single.append(line("error of oracle", f"do({factor})", factor, [0.3] * 4, 0.0))
        single.append(line("Frechet distance", f"do({factor})", "image", [0.7]))
    for moved, other, error in ((first, second, drift), (second, first, back)):
        single.append(line("error of oracle", f"do({moved})", other, [error] * 3 + [error + 0.001]))
    caused = next(iter(scene.structure))
    single.append(line("led through its equation", f"do({first})", caused, [1.0, 1.0, 1.0, 0.0]))
    steps, together = [], []
    for step in range(1, 6):
        steps.append(line("error against the truth", f"step {step}", "image", 10 * share + growth * step, 10.0 * step))
        steps.append(line("PSNR against the truth", f"step {step}", "image", 20.0 - step))
        steps.append(line("Frechet distance", f"step {step}", "image", [0.5]))
    steps.append(line("distance to the observation", "there and back", "image", 2.0))
    together.append(line("joint: error against the truth", "step 5", "image", 1.0))
    together.append(line("sequence: error against the truth", "step 5", "image", 3.0))
    together.append(line("joint to sequence", "step 5", "image", 2.5))
    cost = {"abduct": 24, "predict": 24, "read": 24, "read in prediction": 24, "vectors": 120}
    return {
        "method": name,
        "rows": 4,
        "steps": 5,
        "config": {"steps": 24},
        "evaluations": cost,
        "truth": {
            "floors": {f"do({name})": dict.fromkeys(scene.ranges, 0.1) for name in scene.ranges},
            "realism": {f"step {step}": 0.25 for step in range(1, 6)} | {f"do({name})": 0.2 for name in scene.ranges},
        },
        "single": {"lines": single, "pulls": {"count": 100, "cut": 7, "longest": 4.2}},
        "shared": {"lines": steps},
        "abducted again": {"lines": steps},
        "together": {"lines": together},
    }


@pytest.fixture(params=[PENDULUM, FLOW], ids=lambda scene: scene.name)
def scene(request, tmp_path):
    return replace(request.param, results=tmp_path / "elsewhere")


def written(out, scene, seed="0", **changes):
    base = {OURS: {"share": 0.1}, CONSTANT: {"share": 0.2}, FREE: {"share": 0.3}}
    place = out / seed
    place.mkdir(parents=True, exist_ok=True)
    for index, (name, options) in enumerate({**base, **changes.get("further", {})}.items()):
        own = {**options, **changes.get(name, {})}
        (place / f"{index}.json").write_text(json.dumps(content(scene, name, **own)))


def loaded(scene, out, confounded=False):
    return load(scene, out, list(methods(DEFAULTS)), confounded)


def test_shares_are_means_over_factors_and_seeds(scene, tmp_path):
    written(tmp_path, scene)
    written(tmp_path, scene, "1")
    (row,) = (line for line in table(loaded(scene, tmp_path)) if line.startswith(f"| {OURS} |"))
    cells = [cell.strip() for cell in row.strip("|").split("|")]
    assert cells[:7] == [OURS, "4", "0, 1", "24 + 24", "24", "120", "7 of 100, longest 4.2"]
    named = dict(zip(COLUMNS, cells[7:], strict=True))
    assert named["1: error / doing nothing"] == "0.100 ± 0.000"
    assert named["factor error / floor"] == "3.000 ± 0.000"
    assert named["last step: error / doing nothing"] == "0.120 ± 0.000"
    assert named["growth per step"] == "1.000 ± 0.000"
    assert [named["1: Frechet"], named["1: Frechet of the true pictures"]] == ["0.700 ± 0.000", "0.200 ± 0.000"]
    assert named["led through equations"].startswith("0.750") or named["led through equations"] == "nan"
    assert named["joint to sequence"] == "2.500 ± 0.000"


def test_a_factor_that_hardly_shows_weighs_little(scene):
    found = content(scene, OURS, 0.2)
    first = next(iter(scene.ranges))
    (line,) = (
        line
        for line in found["single"]["lines"]
        if line["reference"] and line["action"] == f"do({first})" and line["variable"] == "image"
    )
    line["reference"] = {"mean": 0.1}
    result, count = Result(scene, found), len(scene.ranges)
    assert result.share_of(first) == pytest.approx(20)
    assert result.share == pytest.approx(2 * count / (10 * (count - 1) + 0.1))
    table = factors({OURS: {"0": result}})
    assert table[2].split("|")[count + 2].strip() == "doing nothing 0.10"
    assert table[3].split("|")[count + 2].strip() == "20.000"


def test_claims_are_decided_row_by_row(scene, tmp_path):
    written(tmp_path, scene)
    text = "\n".join(claims(loaded(scene, tmp_path), DEFAULTS, 5))
    # the rows of a method differ by 1, the methods by 1 or 2 in every row: unpaired intervals would overlap
    held = [line for line in text.splitlines() if line.endswith("| held |")]
    assert any("than classifier-free guidance after 5" in line and "-2.000 ± 0.000" in line for line in held)
    assert any("Diff-SCM" in line and line.endswith("| not measured |") for line in text.splitlines())


def test_growth_is_that_of_the_error_itself(scene, tmp_path):
    # relative to doing nothing, whose error grows, the steeper one would fall
    written(tmp_path, scene, **{OURS: {"growth": 3.0}, FREE: {"growth": 2.0}})
    row, *others = (line for line in claims(loaded(scene, tmp_path), DEFAULTS, 5) if "grows slower" in line)
    assert "1.000 ± 0.000" in row
    assert row.endswith("| not held |")
    led = [titled(name, DEFAULTS[name]) for name in (DIRECT, *TOLD)]
    assert [name in line for name, line in zip(led, others, strict=True)] == [True] * len(led)
    assert all(line.endswith("| not measured |") for line in others)


def test_claims_are_held_only_in_all_seeds(scene, tmp_path):
    written(tmp_path, scene)
    written(tmp_path, scene, "1", **{FREE: {"share": 0.05}})
    rows = [line for line in claims(loaded(scene, tmp_path), DEFAULTS, 5) if "than classifier-free" in line]
    assert rows[0].endswith("| not held |")
    assert all(row.endswith("| not measured |") for row in rows[1:])


def results(scene, *points):
    return [Result(scene, content(scene, OURS, share, composition)) for composition, share in points]


def test_a_sweep_is_read_at_the_composition_of_the_other(scene):
    sweep = results(scene, (2.0, 0.2), (1.0, 0.4), (4.0, 0.1))
    assert interpolated(sweep, 1.5).mean == pytest.approx(3.0)
    assert interpolated(sweep, 1.5).rows == pytest.approx([3.0 + value for value in WIGGLE])
    assert interpolated(sweep, 9.0).mean == pytest.approx(1.0)
    assert interpolated(sweep, 0.5) is None


def test_all_constants_must_lose(scene, tmp_path):
    far = {f"constant, size {size:g}": {"share": 0.2} for size in CONSTANTS}
    one = {**far, "constant, size 0.3": {"share": 0.05}}
    for name, further, verdict in (("a", far, "held"), ("b", one, "not held")):
        written(tmp_path / name, scene, further=further)
        said = claims(loaded(scene, tmp_path / name), DEFAULTS, 5)
        (row,) = (line for line in said if "every constant" in line)
        assert row.endswith(f"| {verdict} |"), name
        assert sum("lambda_t beats a constant" in line for line in said) == len(CONSTANTS)


def test_a_method_that_explodes_has_lost(scene, tmp_path):
    written(tmp_path, scene)
    failed = {**content(scene, FREE, 0.3), "failed": "gradient explosion: inf"}
    (tmp_path / "0" / "2.json").write_text(json.dumps({k: v for k, v in failed.items() if k != "single"}))
    measured = loaded(scene, tmp_path)
    assert less(measured, "", "", lambda found: found.one, OURS, FREE).said == "held"
    assert any("gradient explosion: inf" in line for line in table(measured))


def exploded(scene, path, name):
    kept = {key: value for key, value in content(scene, name, 0.3).items() if key != "single"}
    path.write_text(json.dumps({**kept, "failed": "gradient explosion: inf"}))


def test_a_seed_in_which_ours_explodes_is_lost(scene, tmp_path):
    for seed in "012":
        written(tmp_path, scene, seed)
    measured = loaded(scene, tmp_path)
    assert less(measured, "", "", lambda found: found.one, OURS, FREE).said == "held"
    for seed in "12":
        exploded(scene, tmp_path / seed / "0.json", OURS)
    measured = loaded(scene, tmp_path)
    verdict = less(measured, "", "", lambda found: found.one, OURS, FREE)
    assert [found.mean for found in verdict.differences] == pytest.approx([-2.0, math.inf, math.inf])
    assert verdict.said == "not held"
    lines = targets(measured, DEFAULTS)
    assert lines[0] == f"Targets, {OURS}; it exploded in seed 1, 2, so none is reached:"
    assert all(line.endswith("| no |") for line in lines[4:-1])
    exploded(scene, tmp_path / "0" / "0.json", OURS)
    assert targets(loaded(scene, tmp_path), DEFAULTS)[0] == f"Targets, {OURS}: exploded in every seed; none is reached."


def test_a_sweep_that_explodes_has_lost_to_what_changes_more(scene, tmp_path):
    written(
        tmp_path,
        scene,
        **{CONSTANT: {"composition": 3.0, "share": 0.2}},
        further={"balanced, size 0.3": {"share": 0.1}},
    )
    exploded(scene, tmp_path / "0" / "3.json", "balanced, size 0.3")
    (line,) = (line for line in claims(loaded(scene, tmp_path), DEFAULTS, 5) if f"less {CONSTANT} |" in line)
    assert line.endswith("| inf ± 0.000 | not held |")
    sweep = results(scene, (2.0, 0.2), (1.0, 0.4))
    assert interpolated([*sweep, *loaded(scene, tmp_path)["balanced, size 0.3"].values()], 1.5).mean == pytest.approx(3)


def test_a_seed_of_one_side_alone_is_not_held(scene, tmp_path):
    for seed in "01":
        written(tmp_path, scene, seed)
    (tmp_path / "1" / "2.json").unlink()
    (tmp_path / "1" / "1.json").unlink()
    measured = loaded(scene, tmp_path)
    for ours, other in ((OURS, FREE), (FREE, OURS)):
        assert less(measured, "", "", lambda found: found.one, ours, other).said == "not measured"
    (line,) = (line for line in claims(measured, DEFAULTS, 5) if f"less {CONSTANT} |" in line)
    assert line.endswith("| not measured |")


def test_targets_are_bounds_on_the_chosen_scale(scene, tmp_path):
    written(tmp_path, scene)
    lines = targets(loaded(scene, tmp_path), DEFAULTS)
    assert "| 1 intervention: error / doing nothing | 0.100 | 0.35 | yes |" in lines
    assert "| 5 in sequence: error / doing nothing | 0.120 | 0.6 | yes |" in lines
    assert sum("error of" in line and line.endswith("| 3.000 | 2 | no |") for line in lines) == 4
    assert "| projector calls per guided step | 1.000 | 1 | yes |" in lines
    assert "| vectors taken backwards through the projector per guided step | 5.000 | 1 | no |" in lines


def test_what_correlates_is_caught_by_what_it_drags_along(scene, tmp_path):
    written(tmp_path, scene)
    written(tmp_path, scene, "0-confounded", **{OURS: {"drift": 0.3}, FREE: {"back": 0.3}})
    clean, confounded = loaded(scene, tmp_path), loaded(scene, tmp_path, confounded=True)
    assert set(clean) == set(confounded) == {OURS, CONSTANT, FREE}
    lines = caught(clean, confounded, DEFAULTS)
    first, second = scene.turns
    for name, moved, other, said in [
        (OURS, first, second, "yes"),
        (OURS, second, first, "no"),
        (FREE, first, second, "no"),
        (FREE, second, first, "yes"),
    ]:
        (line,) = (line for line in lines if line.startswith(f"| {name} | do({moved}): {other} |"))
        assert line.endswith(f"| {said} |")
    for seed in ("1", "1-confounded"):
        written(tmp_path, scene, seed)
    exploded(scene, tmp_path / "1-confounded" / "0.json", OURS)
    clean, confounded = loaded(scene, tmp_path), loaded(scene, tmp_path, confounded=True)
    assert any(OURS in line and line.endswith("| no |") for line in caught(clean, confounded, DEFAULTS))


def test_steps_and_factors_have_tables(scene, tmp_path):
    written(tmp_path, scene)
    measured = loaded(scene, tmp_path)
    text = "\n".join(per_step(measured))
    assert f"| {OURS} | 2.000 | 3.000 | 4.000 | 5.000 | 6.000 |" in text
    assert f"| {OURS} | 19.000 | 18.000 | 17.000 | 16.000 | 15.000 |" in text
    assert "Frechet distance, n = 4" in text
    assert "| the true pictures | 0.250 | 0.250 |" in text
    assert "| floor, on the true pictures | 0.1 | 0.1 | 0.1 | 0.1 |" in factors(measured)[2]


def test_curves_show_each_step(scene, tmp_path):
    written(tmp_path, scene)
    axes = curves(loaded(scene, tmp_path), DEFAULTS).axes
    drawn = {line.get_label(): list(line.get_ydata()) for line in axes[0].get_lines()}
    assert drawn[OURS] == pytest.approx([(1 + step) / (10 * step) for step in range(1, 6)])
    write(scene, tmp_path)
    assert {"table.md", "steps.md", "claims.md", "curves.png"} <= {path.name for path in tmp_path.iterdir()}


def test_differences_of_thirty_rows_are_held_to_a_t_test(scene):
    noise = [(place % 5 - 2) / 2**0.5 for place in range(30)]  # whose mean is 0
    error = stdev(noise) / 30**0.5
    found = line("error against the truth", "do(angle)", "image", noise)
    assert Result(scene, {**content(scene, OURS, 0.1), "single": {"lines": [found]}}).value(
        "single", "error against the truth", "do(angle)"
    ).half == pytest.approx(2.045230 * error)
    said = [Verdict("", "", (of_rows([value - far * error for value in noise]),)).said for far in (2.0, 2.1, -2.0)]
    assert said == ["undecided", "held", "undecided"]


def test_sums_of_values_are_of_rows():
    a, b = of_rows([1.0, 2.0]), of_rows([3.0, 6.0])
    assert mean([a, b]).rows == (2.0, 4.0)
    assert combined([a, b], [2.0, 1.0]).mean == 7.5
    assert slope([of_rows([1.0, 0.0]), of_rows([3.0, 0.0]), of_rows([5.0, 0.0])]).rows == (2.0, 0.0)
    assert a.less(b).rows == (-2.0, -4.0)
    assert math.isnan(Value(math.nan).less(a).mean)


def test_sizes_come_from_the_file_of_the_validation_rows(scene, tmp_path):
    scene = replace(scene, results=tmp_path / "scene")
    assert chosen(scene, tmp_path) == DEFAULTS
    scene.results.mkdir()
    (scene.results / "chosen.json").write_text(json.dumps({"chosen": {"balanced": 3.0}}))
    assert chosen(scene, tmp_path)["balanced"] == 3.0
    (tmp_path / "chosen.json").write_text(json.dumps({"chosen": {"balanced": 1.0}}))
    best = chosen(scene, tmp_path)
    assert next(iter(methods(best))) == "balanced, size 1"
    assert {"balanced, size 0.3", "balanced, size 0"} <= set(methods(best))
