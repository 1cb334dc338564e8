import re
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import causalcf as cf
from causalcf import cli, demo
from causalcf import mechanisms as M
from causalcf.mechanisms import flow
from causalcf.pretrained import load_judge

README = (Path(__file__).parents[1] / "README.md").read_text()

# The same code with a network and a training that take a second.
QUICK = {
    'prediction="v", schedule="cosine"': "widths=(8, 8), steps=2, recipe=cf.Recipe(steps=2, batch=8)",
    "rows=60_000": "rows=32",
    "rows=24": "rows=9",
}


@pytest.fixture
def block():
    return blocks()[0]


def blocks():
    """The code of the models, that of a user's own data, and that of the explanations."""
    models, own, explanations = re.findall(r"```python\n(.*?)```", README, flags=re.DOTALL)
    return models, own, explanations


def test_the_code_runs_as_it_stands_but_for_its_size(block, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(flow, "as_recipe", lambda *_: cf.Recipe(steps=2, batch=8))
    for original, quick in QUICK.items():
        assert block.count(original) == 1
        block = block.replace(original, quick)
    names = {}
    exec(compile(block, "README.md", "exec"), names)
    assert names["image"].dtype == torch.float32
    assert names["image"].shape == (8, 1, 28, 28)
    assert (names["bold"]["thickness"] == 4.0).all()
    assert names["thick"]["slant"] is names["world"]["slant"]
    assert names["graph"] == names["MorphoDigits"].graph
    assert "error against the truth" in capsys.readouterr().out
    assert cf.SCM.load("runs/digits").graph == names["graph"]
    for picture in ("worlds.png", "effects.png"):
        assert (tmp_path / picture).read_bytes().startswith(b"\x89PNG")


def test_own_data_are_read_fitted_and_measured_as_it_stands(tmp_path, monkeypatch):
    (tmp_path / "breasts").mkdir()
    lines, random = ["path,age,density,marker,split"], np.random.default_rng(0)
    for row in range(32):
        Image.fromarray(random.integers(0, 256, (32, 32), dtype=np.uint8)).save(tmp_path / f"breasts/{row}.png")
        named = f"{row}.png,{40 + row},{'abcd'[row % 4]},{('none', 'circle', 'triangle')[row % 3]}"
        lines.append(f"{named},{'train' if row < 24 else 'test'}")
    (tmp_path / "breasts/table.csv").write_text("\n".join([*lines, "31.png,,a,none,train"]))
    monkeypatch.chdir(tmp_path)
    quick = {
        "Continuous": lambda: M.Flow(recipe=cf.Recipe(steps=2, batch=8)),
        "Categorical": lambda: M.Categorical(recipe=cf.Recipe(steps=2)),
        "Image": lambda: M.SpatialDiffusion(widths=(8, 8), steps=2, recipe=cf.Recipe(steps=2, batch=8)),
    }
    monkeypatch.setattr("causalcf.scm.DEFAULTS", quick)
    names = {}
    exec(compile(blocks()[1], "README.md", "exec"), names)
    assert (len(names["train"]), names["train"].left_out, len(names["test"])) == (24, 1, 8)
    asked = {line.action for line in names["report"].lines if line.metric == "outside of the data"}
    assert asked == {"do(marker = circle)", "do(density = d)"}
    assert {line.metric for line in names["report"].lines} >= {"log density", "composition, 1 cycle"}
    assert len(names["found"]["without a marker"]) == 24
    assert (names["classifier_rows"]["marker"] == 0).all()


def test_the_explanations_run_as_they_stand_and_are_what_is_said_of_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    exec(compile(blocks()[2], "README.md", "exec"), names)
    found = names["found"]
    said = re.search(r"All (\d+) rows flip, in (\d+) .*?agrees with ([\d.]+\d)", README, re.DOTALL)
    rows, evaluations, agreed = said.groups()
    assert found.predicted.unique().tolist() == [3]
    assert found.target.unique().tolist() == [8]
    assert found.flipped.sum() == len(found) == int(rows)
    assert found.forward.mean().item() == pytest.approx(float(evaluations), abs=1)
    with torch.no_grad():
        other = load_judge("morphomnist-digit")(found.counterfactuals).argmax(1) == 8
    assert other.double().mean().item() == pytest.approx(float(agreed), abs=0.05)
    assert (tmp_path / "explanations.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "explanations.html").read_text().count("<tr>") == 1 + len(names["found"])


def test_the_code_is_short_and_no_line_is_wide(block):
    lines = [line for line in block.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    assert len(lines) <= 32
    assert max(map(len, "\n".join(blocks()).splitlines())) <= 110


def test_numbers_are_explained_in_the_words_of_the_report():
    rows = dict(re.findall(r"^\| ([a-z ]+) \| (.*) \|$", README, flags=re.MULTILINE))
    for name, meaning in demo.MEANING.items():
        assert rows[name] == meaning


def test_what_is_linked_and_named_is_there():
    root = Path(__file__).parents[1]
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", README)
    assert "LICENSE" in links
    missing = [link for link in links if not (root / link).exists()]
    folders = re.findall(r"^\| `([a-z/]+)/`", README, flags=re.MULTILINE)
    assert len(folders) > 8
    assert missing + [folder for folder in folders if not (root / folder).is_dir()] == []
    assert all(f"`{name}`" in README or f"make {name}" in README for name in cli.COMMANDS)
