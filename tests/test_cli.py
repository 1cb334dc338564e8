import inspect
import io
import json
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

import causalcf as cf
from causalcf import cli, do, reading, shift
from causalcf import mechanisms as M
from causalcf.cli import main

GRAPH = """
import causalcf as cf
variables = {"size": cf.Continuous(), "label": cf.Binary(), "image": cf.Image(1, 8, 8)}
graph = cf.CausalGraph("size -> image; label -> image", variables)
"""
ROWS = 3


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A graph as Python and as JSON, rows in two formats, and a model with untrained networks."""
    folder = tmp_path_factory.mktemp("cli")
    (folder / "story.py").write_text(GRAPH)
    names = {}
    exec(GRAPH, names)
    graph = names["graph"]
    (folder / "story.json").write_text(graph.to_json())
    random = np.random.default_rng(0)
    columns = {
        "size": random.normal(size=ROWS),
        "label": np.array([0, 1, 1], dtype=np.uint8),
        "image": random.integers(0, 256, (ROWS, 8, 8), dtype=np.uint8),
        "id": np.arange(ROWS, dtype=np.int32),
    }
    np.savez(folder / "rows.npz", **columns)
    known = {"size": M.Gaussian(weights={}), "image": M.SpatialDiffusion(widths=(8, 8), steps=2)}
    scm = cf.SCM(graph, known)
    scm.mechanisms["image"].initialise(0)
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = True
    scm.save(folder / "model")
    save_file({k: v for k, v in rows(folder).items()}, folder / "rows.safetensors")
    return folder


def rows(folder):
    with np.load(folder / "rows.npz") as file:
        return {
            "size": torch.from_numpy(file["size"]).float(),
            "label": torch.from_numpy(file["label"]).long(),
            "image": torch.from_numpy(file["image"])[:, None].float() / 255,
            "id": torch.from_numpy(file["id"]).long(),
        }


def run(*arguments):
    return main([str(argument) for argument in arguments])


def asked(folder, *more, data="rows.npz"):
    return ("counterfactual", "--model", folder / "model", "--data", folder / data, *more)


# ---- what commands do


@pytest.mark.parametrize("data", ["rows.npz", "rows.safetensors"])
def test_counterfactual_writes_what_the_model_says(folder, tmp_path, data):
    command = asked(folder, "--do", "size+=1.5", "--do", "label=0, size*=2", "--out", tmp_path / "new", data=data)
    assert run(*command) == 0
    found = load_file(tmp_path / "new" / "counterfactual.safetensors")
    world = cf.SCM.load(folder / "model").observe(rows(folder)).do(size=shift(1.5))
    expected = world.do(label=0, size=cf.scale(2.0)).values()
    assert set(found) == {"size", "label", "image", "id"}
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, atol=0, rtol=0)
    with safe_open(tmp_path / "new" / "counterfactual.safetensors", "pt") as file:
        assert file.metadata()["actions"] == "do(size += 1.5, size *= 2, label = 0)"
    assert (tmp_path / "new" / "worlds.png").read_bytes().startswith(b"\x89PNG")


def test_counterfactual_rows_can_be_asked_about_again(folder, tmp_path):
    assert run(*asked(folder, "--do", "size=1", "--rows", 2, "--out", tmp_path)) == 0
    again = tmp_path / "counterfactual.safetensors"
    command = ("counterfactual", "--model", folder / "model", "--data", again, "--do", "size=0")
    assert run(*command, "--out", tmp_path / "again") == 0
    assert load_file(tmp_path / "again" / "counterfactual.safetensors")["id"].tolist() == [0, 1]


@pytest.mark.parametrize("name", ["report.md", "report.json"])
def test_evaluate_writes_the_report_of_evaluate(folder, tmp_path, capsys, name):
    command = ("evaluate", "--model", folder / "model", "--data", folder / "rows.npz", "--do", "size+=1", "--do")
    assert run(*command, "label=1", "--out", tmp_path / "deep" / name) == 0
    plan = [do(size=shift(1.0)), do(label=1)]
    expected = cf.evaluate(cf.SCM.load(folder / "model"), rows(folder), plan)
    text = (tmp_path / "deep" / name).read_text()
    if name.endswith("json"):
        assert json.loads(text) == json.loads(json.dumps(expected.to_dict()))
    else:
        assert text == expected.to_markdown()
    assert str(expected) in capsys.readouterr().out


@pytest.mark.parametrize("source", [("--graph", "story.py"), ("--graph", "story.json"), ("--model", "model")])
def test_graph_draws_and_lists(folder, tmp_path, capsys, source):
    assert run("graph", source[0], folder / source[1], "--out", tmp_path / "drawn.png") == 0
    out = capsys.readouterr().out
    assert "size   Continuous" in out
    assert "label -> image" in out
    assert (tmp_path / "drawn.png").read_bytes().startswith(b"\x89PNG")


def test_fit_saves_a_model_that_counterfactual_takes(folder, tmp_path, monkeypatch, capsys):
    quick = {"Image": lambda: M.SpatialDiffusion(widths=(8, 8), steps=2), "Continuous": M.Gaussian, "Binary": M.Binary}
    monkeypatch.setattr("causalcf.scm.DEFAULTS", quick)
    command = ("fit", "--graph", folder / "story.py", "--data", folder / "rows.npz", "--val", folder / "rows.npz")
    assert run(*command, "--steps", 3, "--out", tmp_path / "fitted") == 0
    assert "image  size, label" in capsys.readouterr().out
    scm = cf.SCM.load(tmp_path / "fitted")
    assert scm.mechanisms["image"].recipe.steps == 3
    assert scm.sample(2)["image"].shape == (2, 1, 8, 8)
    # the same again: nothing is lost by accident, but on request
    assert run(*command, "--steps", 3, "--out", tmp_path / "fitted") == 2
    assert "choose a new folder, or add --overwrite true" in capsys.readouterr().err
    assert run(*command, "--steps", 3, "--out", tmp_path / "fitted", "--overwrite", "true") == 0


def test_a_table_with_paths_of_pictures_is_fitted_asked_and_measured(tmp_path, monkeypatch, capsys):
    quick = {"Image": lambda: M.SpatialDiffusion(widths=(8, 8), steps=2), "Continuous": M.Gaussian, "Binary": M.Binary}
    monkeypatch.setattr("causalcf.scm.DEFAULTS", quick)
    named = GRAPH.replace("cf.Binary()", 'cf.Binary(names=("benign", "malignant"))')
    (tmp_path / "story.py").write_text(named)
    lines, random = ["image,size,label"], np.random.default_rng(0)
    for row in range(4):
        Image.fromarray(random.integers(0, 256, (8, 8), dtype=np.uint8)).save(tmp_path / f"{row}.png")
        lines.append(f"{row}.png,{0.5 * row},{'malignant' if row % 2 else 'benign'}")
    (tmp_path / "rows.csv").write_text("\n".join(lines))
    data = ("--data", tmp_path / "rows.csv")
    assert run("fit", "--graph", tmp_path / "story.py", *data, "--steps", 2, "--out", tmp_path / "fitted") == 0
    asked = ("--model", tmp_path / "fitted", *data, "--rows", 3)
    assert run("counterfactual", *asked, "--do", "label=malignant", "--out", tmp_path / "answer") == 0
    found = load_file(tmp_path / "answer" / "counterfactual.safetensors")
    assert found["label"].tolist() == [1, 1, 1]
    assert found["size"].tolist() == [0.0, 0.5, 1.0]
    capsys.readouterr()
    assert run("evaluate", *asked, "--do", "label=1", "--out", tmp_path / "report.md") == 0
    assert "composition" in capsys.readouterr().out
    assert run("counterfactual", *asked, "--do", "label=bening", "--out", tmp_path / "answer") == 2
    assert "label: expected one of benign, malignant, got 'bening'" in capsys.readouterr().err


def test_a_graph_file_may_say_which_mechanisms(folder, tmp_path, capsys):
    chosen = """
from causalcf import mechanisms as M
mechanisms = {
    "size": M.Gaussian(),
    "label": M.Binary(recipe=cf.Recipe(steps=2)),
    "image": M.SpatialDiffusion(widths=(8, 8), steps=3),
}
"""
    (tmp_path / "story.py").write_text(GRAPH + chosen)
    data = ("--data", folder / "rows.npz", "--steps", 2, "--device", "cpu")
    assert run("fit", "--graph", tmp_path / "story.py", *data, "--out", tmp_path / "fitted") == 0
    scm = cf.SCM.load(tmp_path / "fitted")
    assert isinstance(scm.mechanisms["size"], M.Gaussian)
    assert scm.mechanisms["image"].steps == 3
    capsys.readouterr()
    (tmp_path / "wrong.py").write_text(GRAPH + "mechanisms = {'size': 'gaussian'}")
    assert run("fit", "--graph", tmp_path / "wrong.py", *data, "--out", tmp_path / "other") == 2
    assert "expected `mechanisms` by the names of variables" in capsys.readouterr().err
    assert run("fit", "--graph", tmp_path / "story.py", *data, "--out", ".") == 2
    assert "--out: expected a folder with a name of its own" in capsys.readouterr().err


def test_answers_do_not_depend_on_the_batch_and_devices_are_looked_for(folder, tmp_path, capsys):
    for batch in (1, 64):
        assert run(*asked(folder, "--do", "size=1", "--batch", batch, "--out", tmp_path / str(batch))) == 0
    found = [load_file(tmp_path / str(batch) / "counterfactual.safetensors") for batch in (1, 64)]
    assert all(torch.allclose(found[0][name], found[1][name], atol=1e-3) for name in found[1])
    assert (tmp_path / "1" / "worlds.png").read_bytes().startswith(b"\x89PNG")
    for command in ("counterfactual", "evaluate"):
        given = ("--model", folder / "model", "--data", folder / "rows.npz", "--do", "size=1")
        assert run(command, *given, "--device", "nowhere", "--out", tmp_path / "x.md") == 2
        assert "--device: 'nowhere' cannot be used here" in capsys.readouterr().err


def test_the_package_is_a_command(folder):
    told = subprocess.run(
        [sys.executable, "-m", "causalcf", "graph", "--help"], capture_output=True, text=True, check=True
    )
    assert "Draw a causal graph" in told.stdout


def test_what_cannot_be_written_is_known_before_the_work(folder, tmp_path, monkeypatch, capsys):
    def refused(*_, **__):
        raise PermissionError(f"[Errno 13] Permission denied: {str(tmp_path)!r}")

    monkeypatch.setattr(cli, "TemporaryFile", refused)
    monkeypatch.setattr(cf, "evaluate", lambda *_, **__: pytest.fail("measured"))
    given = ("--model", folder / "model", "--data", folder / "rows.npz", "--do", "size=1", "--out", tmp_path / "x.md")
    assert run("evaluate", *given) == 2
    assert "Permission denied" in capsys.readouterr().err


def test_fit_looks_at_its_output_before_it_trains(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(cf.SCM, "fit", lambda *_, **__: pytest.fail("trained"))
    (tmp_path / "notes.txt").touch()
    assert run("fit", "--graph", folder / "story.py", "--data", folder / "rows.npz", "--out", tmp_path) == 2


# ---- what arguments mean


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("size=4", "do(size = 4)"),
        ("size = -0.5", "do(size = -0.5)"),
        ("size+=1.5", "do(size += 1.5)"),
        ("size += -1e-1", "do(size += -0.1)"),
        ("size*=2", "do(size *= 2)"),
        ("size=1, label=0", "do(size = 1, label = 0)"),
        ("size=1,size+=1", "do(size = 1, size += 1)"),
    ],
)
def test_the_grammar_of_do(folder, text, expected):
    assert repr(reading.read_action(text, cf.SCM.load(folder / "model").graph)) == expected


@pytest.mark.parametrize("text", ["size", "size=", "=4", "size==4", "size=four", "size=1,,label=0", "", "4"])
def test_a_malformed_do_is_answered_with_the_grammar(folder, capsys, text):
    assert run(*asked(folder, "--do", text)) == 2
    error = capsys.readouterr().err
    assert error.startswith("causalcf: ")
    assert error.count("\n") == 1
    assert "unknown variable" in error or 'write --do "thickness+=1.5"' in error


def test_files_are_read_into_the_variables_dtypes_and_shapes(folder, tmp_path):
    graph = cf.SCM.load(folder / "model").graph
    np.savez(
        tmp_path / "loose.npz",
        size=np.array([1, 2], dtype=">i4"),
        label=np.array([0.0, 1.0]),
        image=np.array([[[0.5]]], dtype=np.float64).repeat(2, 0).repeat(8, 1).repeat(8, 2),
    )
    found = reading.read_file(tmp_path / "loose.npz", graph)
    assert found["size"].equal(torch.tensor([1.0, 2.0]))
    assert found["label"].tolist() == [0, 1]
    assert found["image"].shape == (2, 1, 8, 8)
    assert float(found["image"].max()) == 0.5
    expected = rows(folder)
    for name, value in reading.read_file(folder / "rows.npz", graph).items():
        torch.testing.assert_close(value, expected[name], atol=0, rtol=0)


# ---- what goes wrong


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"--do": "sise=4"}, "unknown variable 'sise'; the graph has size, label, image; did you mean 'size'?"),
        ({"--do": "label=0.5"}, "expected an integer"),
        ({"--do": "size=+5"}, "size=+... could mean two things; to add, write size+=5"),
        ({"--do": "size-=5"}, "to subtract, write size+=-5"),
        ({"--do": "label+=1"}, "needs a Continuous variable"),
        ({"--do": "size=nan"}, "finite"),
        ({"--data": "nothing.npz"}, "there is no file"),
        ({"--data": "notes.txt"}, "does not end in .csv, .tsv, .npz or .safetensors"),
        ({"--data": "broken.npz"}, "holds no rows that can be read"),
        ({"--data": "broken.safetensors"}, "holds no rows that can be read"),
        (
            {"--data": "text.npz"},
            "text.npz holds no rows that can be read: size: expected numbers, got <U1; leave it out",
        ),
        ({"--data": "complex.npz"}, "size: expected numbers, got complex64"),
        ({"--data": "half.npz"}, "missing evidence: label"),
        ({"--data": "stranger.npz"}, "unknown variable 'colour'"),
        ({"--data": "morphodigits"}, "unknown variable 'thickness'"),
        ({"--rows": "0"}, "--rows: expected at least 1, got 0"),
        ({"--model": "."}, "lacks graph.json"),
        ({"--model": "nowhere/model"}, "there is no folder"),
        ({"--model": "notes.txt"}, "there is no folder"),
        ({"--model": "no-such-model"}, "no model 'no-such-model' ships"),
        ({"--out": "notes.txt"}, "--out: notes.txt is a file; give a folder"),
    ],
    ids=lambda value: " ".join(*value.items()) if isinstance(value, dict) else "",
)
def test_bad_input_is_answered_in_one_line_with_status_2(folder, tmp_path, monkeypatch, capsys, change, expected):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no data")
    (tmp_path / "broken.npz").write_bytes(b"PK\x03\x04 and then nothing")
    (tmp_path / "broken.safetensors").write_bytes(b"\xff" * 40)
    full = {name: value.numpy() for name, value in rows(folder).items()}
    np.savez(tmp_path / "text.npz", **{**full, "size": np.array(["a", "b", "c"])})
    np.savez(tmp_path / "complex.npz", **{**full, "size": full["size"] + 1j})
    np.savez(tmp_path / "half.npz", size=full["size"], image=full["image"])
    np.savez(tmp_path / "stranger.npz", colour=full["size"], **full)
    given = {"--model": folder / "model", "--data": folder / "rows.npz", "--do": "size=1", "--out": "out", **change}
    assert run("counterfactual", *(part for pair in given.items() for part in pair)) == 2
    error = capsys.readouterr().err
    assert error.startswith("causalcf: ")
    assert error.count("\n") == 1
    assert expected in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("command", "out", "expected"),
    [
        ("evaluate", "report.xlsx", "ends in .md or .json"),
        ("evaluate", "folder.md", "folder.md is a folder; give a file"),
        ("evaluate", "notes.txt/deep/report.md", "notes.txt is a file, and no folder for report.md"),
        ("graph", "drawn", "ends in .png or .pdf or .svg"),
        ("graph", "drawn.v2", "ends in .png or .pdf or .svg"),
    ],
)
def test_a_file_that_cannot_be_written_is_told_before_the_work(
    folder, tmp_path, monkeypatch, capsys, command, out, expected
):
    monkeypatch.setattr(cf, "evaluate", lambda *_, **__: pytest.fail("it was measured"))
    (tmp_path / "folder.md").mkdir()
    (tmp_path / "notes.txt").touch()
    more = ("--data", folder / "rows.npz", "--do", "size=1") if command == "evaluate" else ()
    assert run(command, "--model", folder / "model", "--out", tmp_path / out, *more) == 2
    assert expected in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["folder.md", "notes.txt"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (None, "there is no file"),
        ("edges = []", "expected `graph`, a CausalGraph, but defines none"),
        ("graph = 'a -> b'", "expected `graph`, a CausalGraph, but it is str"),
        ("import nothing_of_the_kind", "does not run: ModuleNotFoundError"),
        ("graph = (", "does not run: SyntaxError"),
        ("from causalcf import *\ngraph = CausalGraph('a -> a')", "is a loop"),
    ],
)
def test_a_graph_file_that_is_none_is_answered(tmp_path, capsys, text, expected):
    if text is not None:
        (tmp_path / "story.py").write_text(text)
    assert run("graph", "--graph", tmp_path / "story.py", "--out", tmp_path / "drawn.png") == 2
    assert expected in capsys.readouterr().err


def test_a_graph_file_is_read_in_one_encoding_whatever_that_of_the_machine(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "ascii")
    text = cf.CausalGraph("größe -> b", {"größe": cf.Continuous(unit="µm"), "b": cf.Binary()}).to_json()
    written = json.dumps(json.loads(text), ensure_ascii=False)
    (tmp_path / "story.json").write_text(written, encoding="utf-8")
    assert run("graph", "--graph", tmp_path / "story.json", "--out", tmp_path / "drawn.png") == 0
    assert "größe -> b" in capsys.readouterr().out


def test_a_graph_may_import_what_lies_beside_it(tmp_path):
    (tmp_path / "beside_the_graph.py").write_text(GRAPH)
    (tmp_path / "story.py").write_text("from beside_the_graph import graph")
    assert list(reading.read_graph(tmp_path / "story.py")) == ["size", "label", "image"]


def test_other_graph_files_and_too_many_sources_are_refused(folder, tmp_path, capsys):
    for name, text in (("story.json", "{}"), ("story.yaml", "")):
        (tmp_path / name).write_text(text)
        assert run("graph", "--graph", tmp_path / name) == 2
    assert run("graph") == 2
    assert run("graph", "--graph", folder / "story.py", "--model", folder / "model") == 2
    errors = capsys.readouterr().err.splitlines()
    assert "no graph as graph.to_json() writes it" in errors[0]
    assert "in a .py or .json file" in errors[1]
    assert errors[2] == errors[3]
    assert "give exactly one" in errors[2]


@pytest.mark.parametrize("arguments", [[], ["dmo"], ["graph", "--grpah", "x"], ["demo", "--rows", "many"], ["fit"]])
def test_misspelt_commands_and_options_show_the_usage(capsys, arguments):
    with pytest.raises(SystemExit) as caught:
        main(arguments)
    assert caught.value.code == 2
    assert "usage: causalcf" in capsys.readouterr().err


def test_errors_that_are_not_ours_keep_their_traceback(folder, monkeypatch):
    def broken(*_, **__):
        torch.zeros(2, 3) @ torch.zeros(2, 3)

    monkeypatch.setattr(cf.SCM, "observe", broken)
    with pytest.raises(RuntimeError, match="shapes cannot be multiplied"):
        run(*asked(folder, "--do", "size=1"))


def test_runtime_errors_of_ours_are_a_line(folder, monkeypatch, capsys):
    monkeypatch.setattr(cli, "read_model", lambda _: cf.SCM(cf.SCM.load(folder / "model").graph))
    assert run(*asked(folder, "--do", "size=1", "--out", folder / "unfitted")) == 2
    assert "not fitted yet" in capsys.readouterr().err


def test_the_environment_can_ask_for_the_traceback(folder, monkeypatch):
    monkeypatch.setenv("CAUSALCF_TRACEBACK", "1")
    with pytest.raises(ValueError, match="unknown variable"):
        run(*asked(folder, "--do", "sise=4"))


def test_an_interrupt_is_no_error(folder, monkeypatch, capsys):
    def interrupt(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(cf.SCM, "observe", interrupt)
    assert run(*asked(folder, "--do", "size=1")) == 130
    assert "interrupted" in capsys.readouterr().err


# ---- help


@pytest.mark.parametrize("command", cli.COMMANDS)
def test_help_explains_every_option(capsys, monkeypatch, command):
    monkeypatch.setenv("COLUMNS", "120")
    with pytest.raises(SystemExit) as caught:
        main([command, "--help"])
    assert caught.value.code == 0
    text = capsys.readouterr().out
    assert "<class" not in text
    assert "None" not in text
    parameters = inspect.signature(cli.COMMANDS[command]).parameters
    needed = [name for name, parameter in parameters.items() if parameter.default is parameter.empty]
    assert text.count("(required)") == len(needed)
    for name in parameters:
        line = next(line for line in text.splitlines() if line.startswith(f"  --{name}"))
        described = line.split(maxsplit=2)[2:] or [text[text.index(line) + len(line) :].splitlines()[1]]
        assert described[0].strip()[0].isupper()


def test_the_main_help_lists_the_commands(capsys):
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert all(f"    {name} " in text for name in cli.COMMANDS)
    assert "None" not in text
