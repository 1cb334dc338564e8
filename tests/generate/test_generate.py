"""Counterfactuals in a folder are those of the model, however the work was cut, and by whom."""

import json
import shutil

import pytest
import torch

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M
from causalcf.generate import counterfactuals
from causalcf.metrics import Composition

GRAPH = cf.CausalGraph(
    "a -> b; a, b, c -> x", a=cf.Continuous(), b=cf.Continuous(), c=cf.Categorical(3), x=cf.Image(1, 8, 8)
)
PLAN = {"up": do(a=shift(1.0)), "other": do(c=2, b=0.5)}
COUNT = 7


@pytest.fixture
def scm():
    known = {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 2.0}), "x": M.VAE(widths=(8,), latent=2)}
    scm = cf.SCM(GRAPH, {**known, "c": M.Categorical(probabilities=(0.2, 0.3, 0.5))})
    scm.mechanisms["x"].fitted = True
    return scm


@pytest.fixture
def rows():
    drawn = torch.Generator().manual_seed(1)
    columns = {name: torch.randn(COUNT, generator=drawn) for name in "ab"}
    image = torch.rand(COUNT, 1, 8, 8, generator=drawn)
    return {**columns, "c": torch.tensor([0, 1, 2, 0, 1, 2, 0]), "x": image, "id": torch.arange(COUNT) + 50}


class Rows:
    """A data set."""

    def __init__(self, columns):
        self.held = columns

    def __len__(self):
        return COUNT

    def __getitem__(self, index):
        return {name: column[index] for name, column in self.held.items()}


def asked(scm, rows, folder, **options):
    return counterfactuals(scm, rows, PLAN, folder=folder, **{"batch": 2, **options})


def counted(monkeypatch):
    """How many rows were observed, in a list that grows; the first are those a question is known by."""
    seen, own = [], cf.SCM.observe

    def observe(self, rows, seed=0):
        seen.append(len(rows["id"]))
        return own(self, rows, seed)

    monkeypatch.setattr(cf.SCM, "observe", observe)
    return seen


def test_answers_are_those_of_the_model(scm, rows, tmp_path):
    found = asked(scm, rows, tmp_path, images="floats")
    assert list(found) == ["up", "other"]
    world = scm.observe(rows, 0)
    for name, action in PLAN.items():
        after = world.do(action).values()
        assert len(found[name]) == COUNT
        assert found[name][:].keys() == after.keys()
        for variable, value in after.items():
            torch.testing.assert_close(found[name][:][variable], value, rtol=0, atol=1e-6)
    assert repr(found) == f"Generated({tmp_path}, 7 rows of up, other)"


def test_images_are_kept_as_bytes_unless_told_otherwise(scm, rows, tmp_path):
    bytes_, floats = (asked(scm, rows, tmp_path / kind, images=kind)["up"][:]["x"] for kind in ("bytes", "floats"))
    assert bytes_.dtype == torch.float32
    assert torch.equal((255 * bytes_).round(), 255 * bytes_)
    assert 0 < (bytes_ - floats).abs().max() <= 0.5 / 255 + 1e-6
    small, large = (
        sum(part.stat().st_size for part in (tmp_path / kind / "parts").iterdir()) for kind in ("bytes", "floats")
    )
    assert large - small == pytest.approx(3 * 64 * COUNT * len(PLAN), rel=0.02)  # three bytes a pixel


def test_rows_come_out_in_any_order_and_one_by_one(scm, rows, tmp_path):
    found = asked(scm, rows, tmp_path)["other"]
    whole = found[:]
    for index in ([5, 0, 3], torch.tensor([6, 6, 1]), slice(None, None, -2), [-1]):
        picked = found[index] if not isinstance(index, slice) else found[torch.arange(COUNT).flip(0)[::2]]
        place = torch.arange(COUNT).flip(0)[::2] if isinstance(index, slice) else index
        for name, value in whole.items():
            assert torch.equal(picked[name], value[place]), name
    assert torch.equal(found[4]["x"], whole["x"][4:5])
    assert torch.equal(found.columns(["id", "b"])["id"], rows["id"])
    assert found[[]]["b"].numel() == 0
    with pytest.raises(IndexError):
        found[COUNT]


def test_what_was_killed_goes_on(scm, rows, tmp_path, monkeypatch):
    whole = asked(scm, rows, tmp_path / "whole")

    class Killed(Exception):
        pass

    def stopping(part, tensors, own=cf.generate.bulk._keep):
        own(part, tensors)
        if part.name.startswith("00000002"):
            raise Killed

    with monkeypatch.context() as patched, pytest.raises(Killed):
        patched.setattr(cf.generate.bulk, "_keep", stopping)
        asked(scm, rows, tmp_path / "cut")
    assert len(list((tmp_path / "cut" / "parts").iterdir())) == 2
    seen = counted(monkeypatch)
    found = asked(scm, rows, tmp_path / "cut")
    assert seen == [2, 2, 1]  # two that tell the question, and three that were missing
    assert all(torch.equal(found["up"][:][name], value) for name, value in whole["up"][:].items())


def test_shards_share_the_work_and_all_of_it_is_then_there(scm, rows, tmp_path, monkeypatch):
    first = asked(scm, rows, tmp_path, shard=(0, 2))
    second = asked(scm, rows, tmp_path, shard=(1, 2))
    assert first["up"][:]["id"].tolist() == [50, 51, 54, 55]
    assert second["up"][:]["id"].tolist() == [52, 53, 56]
    seen = counted(monkeypatch)
    assert asked(scm, rows, tmp_path)["up"][:]["id"].tolist() == rows["id"].tolist()
    assert asked(scm, rows, tmp_path, batch=3)["up"][:]["id"].tolist() == rows["id"].tolist()
    assert seen == [2, 2]  # nothing was missing


def test_a_data_set_is_read_a_batch_at_a_time_and_rows_without_an_id_are_told_apart(scm, rows, tmp_path):
    found = asked(scm, Rows(rows), tmp_path / "a")
    assert torch.equal(found["up"][:]["x"], asked(scm, rows, tmp_path / "b")["up"][:]["x"])
    bare = {name: value for name, value in rows.items() if name != "id"}
    assert len(asked(scm, bare, tmp_path / "c")["up"][:]["id"].unique()) == COUNT
    with pytest.raises(ValueError, match="a data set is to give every row an 'id'"):
        asked(scm, Rows(bare), tmp_path / "d")


def test_each_row_may_have_a_value_of_its_own(scm, rows, tmp_path):
    wanted = torch.linspace(-1, 1, COUNT)
    found = counterfactuals(scm, rows, {"each": do(b=wanted)}, folder=tmp_path, batch=3)
    assert torch.equal(found["each"][:]["b"], wanted)
    other = torch.cat([wanted[:-1], torch.tensor([9.0])])
    with pytest.raises(ValueError, match="another question: plan was"):
        counterfactuals(scm, rows, {"each": do(b=other)}, folder=tmp_path, batch=3)


def test_answers_are_rows_to_measure_on_and_to_fit_to(scm, rows, tmp_path):
    found = asked(scm, rows, tmp_path)["up"]
    report = cf.evaluate(scm, found, [do(c=1)], [Composition(cycles=(1,))])
    assert report.about["rows"] == COUNT
    again = cf.SCM(GRAPH)
    again.fit(found, only=["c"], folder=tmp_path / "fit")
    assert again.mechanism("c").fitted


def test_a_folder_belongs_to_one_question(scm, rows, tmp_path):
    asked(scm, rows, tmp_path)
    for changed, said in (
        ({"seed": 1}, "seed was 0, is 1"),
        ({"images": "floats"}, "images was bytes, is floats"),
    ):
        with pytest.raises(ValueError, match=f"another question: {said}; choose another folder"):
            asked(scm, rows, tmp_path, **changed)
    with pytest.raises(ValueError, match=r"plan was .*a \+= 1.*, is .*a \+= 2"):
        counterfactuals(scm, rows, {"up": do(a=shift(2.0))}, folder=tmp_path)
    policies = {name: do(b=lambda pa, by=by: pa["a"] + by) for name, by in (("policy", 1.0), ("later", 2.0))}
    counterfactuals(scm, rows, {"p": policies["policy"]}, folder=tmp_path / "policy")
    with pytest.raises(ValueError, match="it has other options, or other first rows"):
        counterfactuals(scm, rows, {"p": policies["later"]}, folder=tmp_path / "policy")
    with pytest.raises(ValueError, match=r"00000006-00000007.safetensors answers for other rows than 6 to 6 are now"):
        asked(scm, {**rows, "a": torch.cat([rows["a"][:-1], torch.zeros(1)])}, tmp_path)
    with torch.no_grad():
        next(scm.mechanism("x").parameters()).add_(1e-3)
    with pytest.raises(ValueError, match="the model answers otherwise than it did; it has other weights"):
        asked(scm, rows, tmp_path)


def test_what_is_damaged_is_named(scm, rows, tmp_path):
    asked(scm, rows, tmp_path)
    shutil.copytree(tmp_path, tmp_path / "copy")
    part = tmp_path / "parts" / "00000002-00000004.safetensors"
    part.write_bytes(b"nothing")
    with pytest.raises(ValueError, match=f"{part.name} is damaged .*; delete it, and its rows are asked again"):
        asked(scm, rows, tmp_path)
    part.unlink()
    assert len(asked(scm, rows, tmp_path)["up"]) == COUNT
    for text in ("{", json.dumps({"format": 1})):
        (tmp_path / "copy" / "plan.json").write_text(text)
        with pytest.raises(ValueError, match=r"plan\.json is damaged .*; delete the folder to start afresh"):
            asked(scm, rows, tmp_path / "copy")


@pytest.mark.parametrize(
    ("plan", "said"),
    [
        (do(a=1.0), "expected a plan that names interventions"),
        ([do(a=1.0)], "expected a plan that names interventions"),
        ({"one": 1.0}, "expected a plan that names interventions"),
        ({}, "the plan is empty"),
        ({"a:b": do(a=1.0)}, "'a:b' cannot name an intervention"),
        ({"one": do(q=1.0)}, "q"),
    ],
)
def test_a_plan_that_is_none_is_refused_before_anything_is_asked(scm, rows, tmp_path, plan, said):
    with pytest.raises((TypeError, ValueError, KeyError), match=said):
        counterfactuals(scm, rows, plan, folder=tmp_path / "never")
    assert not (tmp_path / "never").exists()


def test_other_arguments_are_checked(scm, rows, tmp_path):
    for changed, said in (
        ({"images": "halves"}, "expected images to be one of bytes, floats, got 'halves'"),
        ({"batch": 0}, "batch"),
        ({"shard": (4, 4)}, r"expected \(i, n\) with 0 <= i < n"),
        ({"shard": (4, 5)}, "7 rows are 4 batches of 2, and none is left for shard 4 of 5"),
    ):
        with pytest.raises(ValueError, match=said):
            asked(scm, rows, tmp_path, **changed)
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file; give counterfactuals a folder"):
        asked(scm, rows, tmp_path / "file")
    with pytest.raises(KeyError, match=r"'down' is no intervention of .*; it has up, other"):
        asked(scm, rows, tmp_path / "fine")["down"]
