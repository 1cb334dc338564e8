import pytest
import torch

import causalcf as cf
from causalcf import cli, demo
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits
from causalcf.storage import describe


@pytest.fixture(scope="module")
def scm():
    scm = cf.SCM(MorphoDigits.graph, {"image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["image"].initialise(0)
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = True
    return scm


def test_the_demo_writes_pictures_and_a_report(scm, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cf, "load_pretrained", lambda name: scm if name == "morphodigits-semantic" else None)
    assert cli.main(["demo", "--out", str(tmp_path / "demo"), "--rows", "8"]) == 0
    for name in ("graph.png", "counterfactuals.png"):
        assert (tmp_path / "demo" / name).read_bytes().startswith(b"\x89PNG")
    text = (tmp_path / "demo" / "report.md").read_text()
    assert "`causalcf demo --rows 8`" in text
    assert "28x28 pixels" in text
    assert all(f"**{name}**" in text for name in demo.MEANING)
    printed = capsys.readouterr()
    assert "error against the truth" in printed.out
    assert "100%" in printed.err


def test_every_number_says_how_many_rows_and_is_explained(scm, tmp_path):
    report = demo.demonstrate(scm, tmp_path, rows=8, progress=False)
    counts = {line.metric: line.estimate.n for line in report.lines if line.metric != "signed bias"}
    deep = {"composition, 10 cycles", "reversibility, 1 cycle"}
    assert {name for name, n in counts.items() if n == 2} == deep
    assert {n for name, n in counts.items() if name not in deep} == {8}
    assert [demo.meaning_of(line.metric) for line in report.lines]
    known = {line.action for line in report.lines if line.metric == "error against the truth"}
    assert known == {repr(action) for action in demo.PLAN}


def test_the_plan_stays_in_the_support_alone_and_in_sequence():
    data = MorphoDigits("test", rows=200)
    rows = data[:]
    for action in (*demo.PLAN, demo.PLAN[0].then(demo.PLAN[1]).then(demo.PLAN[2])):
        moved = data.true_counterfactual(rows, action)
        data.graph.check_rows(moved)
        assert all((moved[name] != rows[name]).float().mean() > 0.9 for name in action)


def test_a_model_of_another_graph_is_refused(tmp_path):
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    with pytest.raises(ValueError, match="expected a model of MorphoDigits"):
        demo.demonstrate(cf.SCM(graph), tmp_path)


def test_no_rows_are_refused(scm, tmp_path):
    with pytest.raises(ValueError, match="rows >= 1, got 0"):
        demo.demonstrate(scm, tmp_path, rows=0)


def test_the_fit_is_that_of_the_shipped_model_on_rows_held_in_memory(tmp_path, monkeypatch):
    seen = {}

    def fit(scm, train, val, *, folder, seed):
        seen.update(scm=scm, train=train, val=val, folder=folder, seed=seed)
        return scm

    monkeypatch.setattr(cf.SCM, "fit", fit)
    for kind, steps in (("semantic", 4500), ("spatial", 5000)):
        scm = demo.morphodigits(tmp_path, kind, steps=steps, rows=10)
        assert describe(scm) == describe(cf.load_pretrained(f"morphodigits-{kind}"))
    assert demo.morphodigits(tmp_path, steps=7, rows=10).mechanisms["image"].recipe.steps == 7
    scm = demo.morphodigits(tmp_path, rows=1500)
    assert seen["scm"] is scm
    assert (seen["folder"], seen["seed"]) == (tmp_path, 0)
    data = MorphoDigits("train", rows=1500)
    for name, value in data[[0, 999, 1000, 1499]].items():
        assert torch.equal(seen["train"][name][[0, 999, 1000, 1499]], value)
    assert len(seen["train"]["id"]) == 1500
    assert len(seen["val"]["id"]) == 1000
    assert int(seen["val"]["id"][0]) == int(MorphoDigits("val")[0]["id"])


def test_training_first_saves_the_model(scm, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(cli, "morphodigits", lambda folder: (folder.mkdir(parents=True), scm)[1])
    monkeypatch.setattr(cli, "demonstrate", lambda trained, out, rows, command: command if trained is scm else None)
    assert cli.main(["demo", "--train", "true", "--rows", "3"]) == 0
    assert cf.SCM.load("runs/demo").graph == MorphoDigits.graph
