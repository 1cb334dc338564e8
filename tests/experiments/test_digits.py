"""Explaining ten digits by the ones that they are taken for."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from causalcf.explain.explanation import Explanation
from causalcf.metrics.explanation_report import FLIPPED
from experiments.explain import digits, peaks
from experiments.explain.families import FAMILIES, Family
from experiments.explain.known import Known
from experiments.explain.memory import peak
from experiments.explain.tune import chosen_before


@pytest.fixture(scope="module")
def readers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("readers")
    digits.fit_readers(folder, rows=200, steps=2)
    return folder


def test_rows_are_read_as_they_are_and_become_what_they_are_taken_for(readers):
    bench = digits.prepared("test", 12, readers)
    pairs = set(zip(bench.rows["digit"].tolist(), bench.target.tolist(), strict=True))
    assert len(bench.target) == 12
    assert pairs <= {(3, 8), (8, 3), (4, 9), (9, 4), (1, 7), (7, 1)}
    assert (bench.kit.classifier(bench.rows["image"]).argmax(1) == bench.rows["digit"]).all()


def test_what_is_left_alone_has_not_moved(readers):
    bench = digits.prepared("test", 6, readers)
    same, darker = (
        Known(lambda ids, _, factor=factor: factor * bench.rows["image"]).explain(
            bench.kit.classifier, bench.drawing[False], bench.rows["image"], bench.target, bench.rows["id"]
        )
        for factor in (1.0, 0.5)
    )
    everywhere = torch.ones(6, dtype=torch.bool)
    found = []
    for explanation in (same, darker):
        flipped = Explanation(**{**vars(explanation), "flipped": everywhere})
        lines = digits.scores(bench, flipped, "a").lines
        found.append({line.metric: line.estimate.mean for line in lines if line.variable == FLIPPED})
    assert found[0]["thickness moved"] == found[0]["intensity moved"] == found[0]["slant moved"] == 0
    expected = bench.rows["intensity"].double().mean().item() / 2
    assert found[1]["intensity moved"] == pytest.approx(expected, rel=0.05)


def test_a_run_that_is_repeated_measures_nothing_again(readers, tmp_path, monkeypatch, capsys):
    few = Family({**FAMILIES["Agreed"].given, "steps": 3}, {"share": (0.03, 0.05)})
    monkeypatch.setitem(FAMILIES, "Agreed", few)
    monkeypatch.setattr(digits, "OWN", few.grid)
    asked = {"rows": 3, "tried": 2, "only": ["Agreed"], "readers": readers, "kept": tmp_path / "k", "out": tmp_path}
    digits.main(**asked)
    content = json.loads((tmp_path / "Agreed.json").read_text())
    assert content["asked"]["rows"] == 3
    assert "| Agreed | 3 |" in (tmp_path / "table.md").read_text()
    assert (tmp_path / "grid.png").is_file()
    assert "Agreed: Explanation" in capsys.readouterr().out
    digits.main(**asked)
    assert not capsys.readouterr().out
    digits.main(**{**asked, "rows": 4})
    assert "Agreed: Explanation(Agreed: 4 rows" in capsys.readouterr().out
    with pytest.raises(SystemExit, match=r"--only: expected some of Agreed, .* got Agred"):
        digits.main(**{**asked, "only": ["Agred"]})


def test_peaks_do_not_depend_on_what_students_learned(readers, capsys):
    names = ["SCE-LITE-HQ, distilled", "Agreed"]
    peaks.main(only=names)
    said = capsys.readouterr().out.splitlines()
    assert said[0] == f"4 rows at once, 1 thread, torch {torch.__version__}"
    options = chosen_before(Path("experiments/explain/results/digits/options.json"))
    chosen, bench = {name: options[name]["options"] for name in names}, digits.prepared("test", 5, readers)
    assert said[4:] == [f"| {name} | {peak(name, bench, chosen):.1f} |" for name in names]
    with pytest.raises(SystemExit, match=r"--only: expected some of Agreed, .*, got Agred"):
        peaks.main(only=["Agred"])


def test_results_of_other_weights_are_left_out_whatever_is_asked(readers, tmp_path, monkeypatch):
    for name in ("Agreed", "LDCE"):
        few = Family({**FAMILIES[name].given, "steps": 3}, {"scales": ((4.0,),)})
        monkeypatch.setitem(FAMILIES, name, few)
    monkeypatch.setattr(digits, "OWN", {"scales": ((4.0,),)})
    asked = {"rows": 3, "tried": 2, "kept": tmp_path / "k", "out": tmp_path}
    digits.main(**asked, only=["Agreed", "LDCE"], readers=readers)
    digits.main(**asked, only=["Agreed"], readers=readers)
    text = (tmp_path / "table.md").read_text()
    assert "| Agreed | 3 |" in text and "| LDCE | 3 |" in text  # which is of these weights too
    assert "left out" not in text
    others = shutil.copytree(readers, tmp_path / "others")
    shutil.rmtree(others / "judge")
    shutil.copytree(others / "surrogate", others / "judge")
    for only in (["Agreed"], []):
        digits.main(**asked, only=only, readers=others)
        text = (tmp_path / "table.md").read_text()
        assert "| Agreed | 3 |" in text and "| LDCE | 3 |" not in text
        assert "Measured with other weights or options, and left out: LDCE." in text
