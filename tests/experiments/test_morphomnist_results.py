"""Tables and claims say what the measured files say."""

import json
import math
import os
import shutil

import numpy as np
import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf import pretrained
from causalcf.networks.classifier import Classifier, Regressor
from experiments.asked import answered, digest
from experiments.morphomnist import evaluate, shipped, train_predictors
from experiments.morphomnist.claims import claims, common, stated, verdict
from experiments.morphomnist.evaluate import kept, options, planned
from experiments.morphomnist.measured import COLUMNS, Result, Value, load, of_rows, slug
from experiments.morphomnist.methods import BEST, METHODS, TWELVE
from experiments.morphomnist.results import curves, grid, table
from experiments.morphomnist.targets import targets


def measured(name, values):
    """What `evaluate` writes for a method."""
    lines = [
        {
            "metric": metric,
            "action": action,
            "variable": variable,
            "estimate": {"n": 200, "mean": value, "sd": 0.07, "half_width": 0.01},
            "reference": {"mean": 9.0} if metric.startswith("error against") else None,
        }
        for (metric, action, variable), value in values.items()
    ]
    cost = {"abduct": 25, "predict": 24, "backward": 0, "read": 2, "read backward": 1}
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


def test_whatever_decides_the_answers_of_a_method_tells_it_from_the_others(tmp_path):
    shipped.main(tmp_path)
    models = {name: cf.SCM.load(tmp_path / f"morphomnist-{name}") for name in shipped.MODELS}
    predictors = tmp_path / "morphomnist-predictors"
    shutil.copytree(predictors / "judge-digit", predictors / "reader-digit")  # which does not ship
    found = {}
    for name, method in METHODS.items():
        if method.model in models:
            image = method.made(models[method.model], predictors).mechanism("image")
            found[name] = json.dumps([method.model, type(image).__name__, options(image)], default=str)
    assert len(set(found.values())) == len(found) > 20


def test_what_already_lies_there_stays(tmp_path, capsys):
    shipped.main(tmp_path)
    assert "morphomnist-semantic: morphomnist-semantic" in capsys.readouterr().out
    (tmp_path / "morphomnist-semantic" / "config.json").write_text("mine")
    shipped.main(tmp_path)
    assert capsys.readouterr().out == ""
    assert (tmp_path / "morphomnist-semantic" / "config.json").read_text() == "mine"


def test_only_what_optimises_at_test_time_or_stands_beside_it_is_slow():
    slow = {name for name, method in METHODS.items() if method.slow}
    assert slow == {name for name in METHODS if name.startswith(("CTA", "semantic: DDIM with fixed point"))}
    assert not any(METHODS[name].main for name in slow)


def test_the_table_holds_each_method_and_what_it_is_held_against(results):
    text = table(results, "0")
    first = next(iter(METHODS))
    line, *others = (line for line in text.splitlines() if line.startswith(f"| {first} |"))
    assert len(others) == 3
    assert line.split(" | ")[1:8] == ["200", "20", "25 + 24", "2 + 1", "0.800", "1.000", "1.000"]
    assert all(f"| {name} |" in text for name in METHODS)
    assert "HVAE (Melistas et al., 2024) | - | - | 2 + 1 | - | - | 0.438 | 1.550" in text
    assert "do(t): to the truth 9.000" in text


def test_what_the_first_method_was_not_held_against_another_was(results):
    first = results[next(iter(METHODS))]
    del first.lines[COLUMNS["do(t): to the truth"]]
    text = table(results, "0")
    assert "do(t): to the truth 9.000; do(i): to the truth 9.000" in text


def test_a_claim_is_held_only_beyond_the_intervals():
    low, high = Value(1.0, 0.1), Value(2.0, 0.1)
    assert (verdict(low, high), verdict(high, low)) == ("held", "not held")
    assert (verdict(low, high, lower=False), verdict(high, low, lower=False)) == ("not held", "held")
    assert verdict(low, Value(1.15, 0.1)) == "undecided"


def test_what_rounding_leaves_is_no_difference():
    exact, rounded = of_rows([1e-5] * 30), of_rows([2e-5] * 29 + [3e-5])
    assert exact.less(rounded).sure
    assert verdict(exact, rounded) == verdict(rounded, exact) == "undecided"
    assert verdict(exact, of_rows([1e-3] * 29 + [2e-3])) == "held"


def test_differences_of_few_rows_are_held_to_a_t_test():
    noise = torch.randn(30, generator=torch.Generator().manual_seed(0)).double()
    noise = (noise - noise.mean()) / noise.std() * 30**0.5  # so that the standard error is 1
    nothing = of_rows([0.0] * 30)
    assert of_rows(noise.tolist()).half == pytest.approx(2.045230)
    said = [verdict(of_rows((noise - mean).tolist()), nothing) for mean in (2.0, 2.1)]
    assert said == ["undecided", "held"]


def test_digits_are_compared_by_the_rows_in_which_one_is_read_and_the_other_is_not():
    better, than = "semantic: 2M, 24, omega 2", "semantic: 2M, 24"
    for wrong, said in ((5, "undecided"), (6, "held")):
        found = {}
        for name, values in ((better, [1.0] * 200), (than, [0.0] * wrong + [1.0] * (200 - wrong))):
            content = measured(name, {COLUMNS["do(d): digit"]: sum(values) / 200})
            content["lines"][0]["values"] = values
            found[name] = Result(content)
        difference = found[better]["do(d): digit"].less(found[than]["do(d): digit"])
        assert difference.mean > difference.half  # an interval would be sure of both
        (line,) = (line for line in claims({"0": found}) if line.startswith("| omega raises effectiveness"))
        assert line.endswith(f"| {said} |")


def test_sides_of_a_claim_are_shown_on_the_rows_that_both_have():
    one, other = of_rows([1.0, 3.0, 8.0, 8.0]), of_rows([2.0, 4.0])
    assert [side.mean for side in common(one, other)] == [2.0, 3.0]
    assert one.less(other).mean == -1.0
    assert common(Value(5.0, 0.1), other)[0].mean == 5.0  # whose rows are not known


def test_biases_are_compared_by_size():
    below, above = of_rows([-4.0, -2.0]), of_rows([2.0, 2.0])
    assert below.size().mean == 3.0
    assert below.size().less(above.size()).mean == 1.0


def test_rows_that_do_not_count_keep_their_place():
    one, other = of_rows([1.0, math.nan, 3.0, 8.0]), of_rows([2.0, 7.0, math.nan, 5.0])
    assert one.mean == 4.0
    assert one.less(other).mean == 1.0
    assert one.less(other).half == pytest.approx(of_rows([-1.0, 3.0]).half)


def killed(*_):
    raise KeyboardInterrupt


def test_interventions_are_drawn_once(tmp_path, monkeypatch):
    rows = {"id": torch.arange(6), "digit": torch.arange(6)}
    train = {name: torch.rand(50, generator=torch.Generator().manual_seed(1)) for name in ("thickness", "intensity")}
    path = tmp_path / "interventions.json"
    first = planned(path, rows, train, 3)
    other = {name: values + 1 for name, values in train.items()}
    few = {name: values[:4] for name, values in rows.items()}
    again = planned(path, few, other, 3)
    assert list(again) == list(first) == ["thickness", "intensity", "digit"]
    assert all(torch.equal(values, first[name][:4]) for name, values in again.items())
    assert all(len(values) == 6 for name, values in json.loads(path.read_text()).items() if name != "seed")
    assert not (first["digit"] == rows["digit"]).any()
    assert not torch.equal(planned(path, rows, other, 3 + 1)["thickness"], first["thickness"])
    before = path.read_text()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        planned(path, rows, other, 3 + 2)
    assert path.read_text() == before
    with pytest.raises(ValueError, match=r"holds results of other rows, from id 0 on, expected 50; give another"):
        planned(path, {"id": torch.arange(50, 53), "digit": torch.arange(3)}, train, 3)


def test_what_was_measured_is_kept_only_if_it_was_asked_alike(tmp_path):
    (tmp_path / "weights.safetensors").write_bytes(b"1")
    asked = digest([tmp_path], {"omega": 1})
    measured = {"asked": asked, "about": {"rows": 20}, "cycled": 10}
    assert kept(measured, asked, 20, 10)
    assert not kept(measured, asked, 21, 10)
    assert not kept(measured, asked, 20, 11)
    assert not kept(measured, digest([tmp_path], {"omega": 2}), 20, 10)
    assert not kept({key: value for key, value in measured.items() if key != "cycled"}, asked, 20, 10)
    (tmp_path / "weights.safetensors").write_bytes(b"2")
    assert digest([tmp_path], {"omega": 1}) != asked


def test_a_file_answers_what_was_asked_with_these_weights_and_options(tmp_path):
    for name in ("weights.safetensors", "config.json"):
        (tmp_path / name).write_text("1")
    asked, path = digest([tmp_path], {"rows": 3}, files="*"), tmp_path / "answer" / "found.json"
    path.parent.mkdir()
    assert not answered(path, asked)
    path.write_text(json.dumps({"gain": 0.5}))  # of before what was asked was written
    assert not answered(path, asked)
    path.write_text(json.dumps({"asked": asked}))
    assert answered(path, asked)
    alone = digest([tmp_path], 0)
    (tmp_path / "config.json").write_text("2")
    assert digest([tmp_path], 0) == alone
    assert digest([tmp_path], 0, files="*") != alone


def test_a_damaged_file_is_named(tmp_path):
    path = tmp_path / f"{slug(next(iter(METHODS)))}.json"
    path.write_text('{"method": "spatial", "asked": "0')
    for read in (lambda: load(tmp_path), lambda: answered(path, "0")):
        with pytest.raises(ValueError, match=rf"{path.name} is damaged \(.*\); delete it, and it is made again"):
            read()


def test_a_predictor_that_was_not_written_to_its_end_is_trained_again(tmp_path, monkeypatch):
    made = []

    class Few:
        def __init__(self, *_, **__):
            self.rows = {name: torch.rand(8) for name in ("thickness", "intensity")}
            self.rows |= {"digit": torch.arange(8), "image": torch.rand(8, 1, 28, 28), "id": torch.arange(8)}

        def __len__(self):
            return 8

        def __getitem__(self, index):
            return {name: column[index] for name, column in self.rows.items()}

    def fitted(network):
        return lambda rows, name, *_, **__: made.append(name) or network(name)

    monkeypatch.setenv("CAUSALCF_DATA", str(tmp_path))
    monkeypatch.setattr(train_predictors, "MorphoMNIST", Few)
    monkeypatch.setattr(train_predictors, "fit_classifier", fitted(lambda name: Classifier(1, 10, reads=name)))
    monkeypatch.setattr(train_predictors, "fit_regressor", fitted(lambda name: Regressor(1, reads=name)))
    (tmp_path / "judge-code").mkdir()  # which is saved whole or not at all
    train_predictors.main(tmp_path)
    assert made == ["digit", "thickness", "intensity"] * 2
    (tmp_path / "reader-thickness" / "config.json").unlink()
    train_predictors.main(tmp_path)
    assert made[6:] == ["thickness"]


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
def test_validation_rows_are_measured_apart_and_are_in_no_table(tmp_path, monkeypatch):
    monkeypatch.setattr(evaluate, "REFERENCE", 200)
    shipped.main(tmp_path)
    predictors, out = tmp_path / "morphomnist-predictors", tmp_path / "results"
    code = cf.SCM(cf.CausalGraph("image", image=cf.Image(1, 28, 28)), {"image": M.VAE(latent=2)})
    code.mechanisms["image"].fitted = True
    code.save(predictors / "judge-code")
    name = "HVAE, fine-tuned"
    given = {"models": tmp_path, "predictors": predictors, "out": out, "pictures": tmp_path / "pictures"}
    for split, place in (("val", out / "val" / "0"), ("test", out / "0")):
        evaluate.main(rows=8, cycles=1, only=[name], split=split, **given)
        assert {path.name for path in place.iterdir()} == {"interventions.json", f"{slug(name)}.json"}
        drawn = json.loads((place / "interventions.json").read_text())
        first = 55_000 if split == "val" else 1_000_000
        assert drawn["id"] == list(range(first, first + 8))
        assert load(place)[name]["do(t): to the truth"].mean < load(place)[name]["do(t): to the truth"].reference
        assert (out / "table.md").exists() == (split == "test")
    assert (out / "table.md").read_text().count("# Seed") == 1
    (place / f"{slug(name)}.json").unlink()
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(os, "replace", killed)
        evaluate.main(rows=8, cycles=1, only=[name], **given)
    assert load(place) == {}
    with pytest.raises(ValueError, match="results of other rows, from id 55000 on, expected 1000000"):
        evaluate.main(rows=8, **{**given, "out": out / "val"})


def test_claims_name_methods_that_are_measured():
    assert {side for claim in stated() for side in (claim.better, claim.other)} <= METHODS.keys()


def test_claims_compare_the_methods_they_name(results):
    lines = claims({"0": results, "1": results})
    found = [line for line in lines if "semantic beats spatial" in line]
    assert found
    assert all("| 200, 200 | 0, 1 | not held |" in line for line in found)  # measured later here
    assert all(line.count("|") == 10 for line in lines)
    few = {name: result for name, result in results.items() if name.startswith("spatial")}
    assert not any("semantic beats spatial" in line for line in claims({"0": few}))


def test_claims_go_along_omega_and_say_what_comes_back(results):
    told = {(claim.text, claim.better, claim.other): dict(claim.columns) for claim in stated()}
    for model in ("spatial", "semantic"):
        plain, scaled = f"{model}: 2M, 24", f"{model}: 2M, 24, omega 5"
        assert ("omega raises effectiveness", scaled, plain) in told
        assert ("omega costs identity", plain, scaled) in told
    calibrated = "spatial-long: 2M with replay, 24, omega calibrated"
    others = {other for _, better, other in told if better == calibrated}
    assert others == {"CTA, 24, omega 2, 10 passes", "spatial-long: 2M with replay, 24, omega 1.15"}
    back = {"do(t): reversibility", "do(d): reversibility"}
    assert all(back <= columns.keys() for (text, *_), columns in told.items() if text.startswith("few steps beat"))
    assert {COLUMNS[column] for column in back} <= evaluate.CLAIMED
    lines = [line.split(" | ") for line in claims({"0": results, "1": results}) if "few steps beat" in line]
    assert {cells[6] for cells in lines if cells[2] in back} == {"20, 20"}
    assert {cells[6] for cells in lines if cells[2] not in back} == {"200, 200"}


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
    assert reached["evaluations of the denoiser"] == ["49.000", "at most 100.000", "yes |"]
    assert reached["evaluations of all networks, forwards and backwards"] == ["52.000", "at most 100.000", "yes |"]
    assert reached["sd of the abducted noise"] == ["0.800", "0.970 to 1.030", "no |"]
    assert reached["composition, 1 cycle"] == ["1.000", "at most 0.050", "no |"]
    assert reached["do(digit): digit"] == ["1.000", "at least 0.970", "yes |"]
    lines = targets({"0": results})
    fast = [line for line in lines if TWELVE in line]
    assert any("49.000 | at most 50.000 | yes" in line for line in fast)
    assert any("52.000 | at most 50.000 | no" in line for line in fast)
    assert any("10 cycles" in line and "| 20 |" in line for line in fast)
    assert any("do(i): i bias" in line and line.endswith("| no |") for line in fast)


def test_curves_are_drawn_along_omega(results):
    axes = curves(results).axes
    assert len(axes) == 6
    lines = {line.get_label(): len(np.asarray(line.get_xdata())) for line in axes[0].get_lines()}
    assert lines["spatial"] == lines["semantic, replay"] == 5
    assert lines["semantic, CTA"] == 4


def test_what_was_not_measured_is_left_open(tmp_path):
    name = next(iter(METHODS))
    (tmp_path / f"{slug(name)}.json").write_text(json.dumps(measured(name, {})))
    result = load(tmp_path)[name]
    assert math.isnan(result["composition 1"].mean)
    assert math.isnan(result.spread)
    assert "| 20 | 25 + 24 | 2 + 1 | - | - | - |" in table({name: result}, "0")


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
def test_the_grid_shows_measured_methods_that_have_their_weights(tmp_path):
    plan = tmp_path / "interventions.json"
    plan.write_text(json.dumps({"digit": [1] * 8}))
    shutil.copytree(pretrained.ROOT / "morphomnist-hvae", tmp_path / "morphomnist-hvae")
    shown = []
    for names in (["HVAE", "VAE", BEST], ["VAE"]):
        figure = grid(names, tmp_path, tmp_path, plan, "digit", rows=2)
        shown.append([axis.get_gid() for axis in figure.axes])
    assert [any(gid.startswith("method:") for gid in gids if gid) for gids in shown] == [True, False]
