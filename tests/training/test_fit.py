"""Fitting: what it learns, and that being killed changes nothing."""

import copy
import logging
import math
import os
import re
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.training import fit as training
from causalcf.training.steps import Batches, Training

GRAPH = cf.CausalGraph(
    "a -> b; a -> k; k -> x; b -> x",
    a=cf.Continuous(lower=0.0),
    b=cf.Continuous(),
    k=cf.Categorical(3),
    x=cf.Image(1, 8, 8),
)


def make_rows(n=300, seed=0):
    generator = torch.Generator().manual_seed(seed)
    a = torch.rand(n, generator=generator) + 0.5
    b = 2 * a + 0.1 * torch.randn(n, generator=generator)
    k = (3 * torch.rand(n, generator=generator)).long()
    x = (b[:, None, None, None] / 6 + 0.1 * torch.rand(n, 1, 8, 8, generator=generator)).clamp(0, 1)
    return {"a": a, "b": b, "k": k, "x": x}


def make_scm(steps=12, ema=0.9, precision="float32", **image):
    small = cf.Recipe(steps=steps, batch=16, learning_rate=1e-3, ema=ema, checkpoint=4, precision=precision)
    return cf.SCM(
        GRAPH,
        {
            "a": M.Flow(recipe=small),
            "b": M.Gaussian(),
            "k": M.Categorical(hidden=(4,), recipe=small.but(ema=0.0)),
            "x": M.SpatialDiffusion(widths=(8, 8), steps=4, recipe=small.but(**image)),
        },
    )


def same(first, second):
    states = first.state_dict(), second.state_dict()
    assert states[0].keys() == states[1].keys()
    return all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_the_seed_decides_the_weights(tmp_path):
    rows = make_rows()
    first = make_scm().fit(rows, folder=tmp_path / "1", progress=False)
    torch.rand(7)
    again = make_scm().fit(rows, folder=tmp_path / "2", progress=False)
    other = make_scm().fit(rows, folder=tmp_path / "3", seed=1, progress=False)
    assert same(first, again)
    assert not same(first, other)


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
@pytest.mark.parametrize("stop", [3, 4, 9])
def test_interrupted_and_started_again_it_ends_with_the_same_weights(tmp_path, monkeypatch, stop, precision):
    rows = make_rows()
    whole = make_scm(precision=precision).fit(rows, rows, folder=tmp_path / "whole", progress=False)
    real, seen = M.SpatialDiffusion.loss, []

    def dies(self, *arguments):
        seen.append(1)
        if len(seen) > stop:
            raise MemoryError("killed")
        return real(self, *arguments)

    monkeypatch.setattr(M.SpatialDiffusion, "loss", dies)
    with pytest.raises(MemoryError):
        make_scm(precision=precision).fit(rows, rows, folder=tmp_path / "cut", progress=False)
    monkeypatch.setattr(M.SpatialDiffusion, "loss", real)
    assert not (tmp_path / "cut/x/result.safetensors").exists()
    assert (tmp_path / "cut/x/last.ckpt").exists() == (stop >= 4)
    resumed = make_scm(precision=precision).fit(rows, rows, folder=tmp_path / "cut", progress=False)
    assert same(resumed, whole)


def test_resuming_starts_at_the_last_checkpoint(tmp_path, monkeypatch):
    rows = make_rows()
    real, steps = M.SpatialDiffusion.loss, []

    def counted(self, *arguments):
        steps.append(1)
        if len(steps) == 10:
            raise MemoryError("killed")
        return real(self, *arguments)

    monkeypatch.setattr(M.SpatialDiffusion, "loss", counted)
    with pytest.raises(MemoryError):
        make_scm().fit(rows, folder=tmp_path, progress=False)
    steps.clear()
    steps.append(1)
    steps.extend([1] * 20)
    before = len(steps)
    make_scm().fit(rows, folder=tmp_path, progress=False)
    assert len(steps) - before == 4  # steps 8 to 11


@contextmanager
def one_thread():
    """As the process that is killed has it, so that sums are added in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory):
    with one_thread():
        return make_scm(steps=100).fit(make_rows(), folder=tmp_path_factory.mktemp("whole"), progress=False)


@pytest.mark.parametrize("after", [0.0, 0.6, 1.5])
def test_killed_by_the_system_it_goes_on(tmp_path, undisturbed, after):
    """SIGKILL at an arbitrary moment, in another process."""
    program = textwrap.dedent(
        """
        import sys, torch
        torch.set_num_threads(1)
        sys.path.insert(0, sys.argv[2])
        from tests.training.test_fit import make_rows, make_scm
        print("ready", flush=True)
        make_scm(steps=100).fit(make_rows(), folder=sys.argv[1], progress=False)
        """
    )
    here = os.getcwd()
    process = subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "cut"), here], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(after)
    process.send_signal(signal.SIGKILL)
    process.wait()
    with one_thread():
        resumed = make_scm(steps=100).fit(make_rows(), folder=tmp_path / "cut", progress=False)
    assert same(resumed, undisturbed)


def test_told_to_end_it_does_not_say_that_all_went_well(tmp_path, monkeypatch):
    rows, real = make_rows(), M.SpatialDiffusion.loss

    def told(self, *arguments):
        os.kill(os.getpid(), signal.SIGTERM)
        return real(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(M.SpatialDiffusion, "loss", told)
        with pytest.raises(SystemExit) as end:
            make_scm().fit(rows, folder=tmp_path / "cut", progress=False)
    assert end.value.code == 143
    whole = make_scm().fit(rows, folder=tmp_path / "whole", progress=False)
    assert same(make_scm().fit(rows, folder=tmp_path / "cut", progress=False), whole)


def test_a_finished_fit_is_taken_from_its_folder(tmp_path, monkeypatch):
    rows = make_rows()
    first = make_scm().fit(rows, folder=tmp_path, progress=False)
    monkeypatch.setattr(training, "train_until_done", lambda *_: pytest.fail("trained again"))
    assert same(make_scm().fit(rows, folder=tmp_path, progress=False), first)


@pytest.mark.parametrize("first", ["a", "x"])
def test_nodes_may_be_fitted_one_after_another_in_one_folder(tmp_path, monkeypatch, first):
    rows, fitted = make_rows(), []
    real = training.train_until_done
    monkeypatch.setattr(
        training, "train_until_done", lambda module, bar: fitted.append(module.name) or real(module, bar)
    )
    whole = make_scm().fit(rows, folder=tmp_path / "whole", progress=False)
    fitted.clear()
    make_scm().fit(rows, folder=tmp_path / "parts", only=[first], progress=False)
    again = make_scm().fit(rows, folder=tmp_path / "parts", progress=False)
    assert same(again, whole)
    assert sorted(fitted) == sorted(set(fitted))  # each at most once


def test_another_fit_does_not_write_over_the_folder(tmp_path):
    rows = make_rows()
    first = make_scm().fit(rows, folder=tmp_path, progress=False)
    late = {**rows, "x": torch.cat([rows["x"][:16], rows["x"][16:] / 2])}
    other = {**rows, "x": rows["x"].clone()}
    other["x"][7] = 0  # a single image
    data = [make_rows(seed=5), late, other]
    given = [(make_scm(13), rows, 0), *((make_scm(), changed, 0) for changed in data), (make_scm(), rows, 3)]
    for scm, data, seed in given:
        with pytest.raises(ValueError, match="holds the fit of another model"):
            scm.fit(data, folder=tmp_path, seed=seed, progress=False)
    assert same(make_scm().fit(rows, folder=tmp_path, progress=False), first)


def test_a_damaged_checkpoint_is_named(tmp_path, monkeypatch):
    rows = make_rows()
    real = M.SpatialDiffusion.loss
    seen = []

    def dies(self, *arguments):
        seen.append(1)
        if len(seen) > 6:
            raise MemoryError("killed")
        return real(self, *arguments)

    monkeypatch.setattr(M.SpatialDiffusion, "loss", dies)
    with pytest.raises(MemoryError):
        make_scm().fit(rows, folder=tmp_path, progress=False)
    monkeypatch.setattr(M.SpatialDiffusion, "loss", real)
    checkpoint = tmp_path / "x/last.ckpt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    with pytest.raises(ValueError, match=r"x: the checkpoint .*last.ckpt is damaged.*delete it"):
        make_scm().fit(rows, folder=tmp_path, progress=False)
    result = tmp_path / "a/result.safetensors"
    result.write_bytes(result.read_bytes()[:50])
    with pytest.raises(ValueError, match=r"result.safetensors is damaged.*delete it"):
        make_scm().fit(rows, folder=tmp_path, progress=False)


def tensors_in(content):
    if isinstance(content, torch.Tensor):
        return [content]
    parts = content.values() if isinstance(content, Mapping) else content if isinstance(content, list | tuple) else ()
    return [tensor for part in parts for tensor in tensors_in(part)]


def assert_names_a_good_checkpoint(error, folder, step):
    """The checkpoint in the message is that of `step` and finite throughout; there is none where `step` is 0."""
    assert not (folder / "x/result.safetensors").exists()
    if not step:
        assert "there is no checkpoint yet" in str(error.value)
        assert not (folder / "x/last.ckpt").exists()
        return
    named = re.search(r"the last good checkpoint is (\S+last\.ckpt)", str(error.value))
    assert named is not None
    content = torch.load(Path(named[1]), weights_only=False)
    assert content["global_step"] == step
    tensors = tensors_in(content)
    assert len(tensors) > 50
    assert all(tensor.isfinite().all() for tensor in tensors)


def at(monkeypatch, step, change):
    """Change the loss of the image in one step."""
    real, seen = M.SpatialDiffusion.loss, []

    def changed(self, *arguments):
        seen.append(1)
        loss = real(self, *arguments)
        return change(self, loss) if len(seen) == step + 1 else loss

    monkeypatch.setattr(M.SpatialDiffusion, "loss", changed)


def slope_of_nan(mechanism, loss):
    """The same loss, along whose first weight the slope is infinite times 0."""
    return loss + (next(mechanism.parameters()).flatten()[0] * 0).sqrt()


def slope_of_infinity(mechanism, loss):
    weight = next(mechanism.parameters()).flatten()[0]
    return loss + (weight - weight.detach()).sqrt()


STEPS = [(2, 0), (6, 4), (8, 8), (11, 8)]  # where it diverges, and the last checkpoint before


@pytest.mark.parametrize(("step", "kept"), STEPS)
def test_a_loss_that_is_not_finite_stops_with_the_step(tmp_path, monkeypatch, step, kept):
    at(monkeypatch, step, lambda _, loss: loss * float("inf"))
    with pytest.raises(FloatingPointError, match=rf"x: the loss became inf at step {step}; .*learning_rate") as error:
        make_scm().fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert_names_a_good_checkpoint(error, tmp_path, kept)


@pytest.mark.parametrize(("step", "kept"), STEPS)
@pytest.mark.parametrize(("change", "norm"), [(slope_of_nan, "nan"), (slope_of_infinity, "inf")])
def test_a_gradient_that_is_not_finite_stops_before_its_step_is_taken(tmp_path, monkeypatch, step, kept, change, norm):
    at(monkeypatch, step, change)
    expected = rf"x: the gradient's norm became {norm} at step {step}, where the loss was \d\.\d+; .*learning_rate"
    with pytest.raises(FloatingPointError, match=expected) as error:
        make_scm().fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert_names_a_good_checkpoint(error, tmp_path, kept)


@pytest.mark.parametrize(("step", "kept"), [(3, 0), (7, 4), (11, 8)])
@pytest.mark.parametrize("where", ["mechanism", "average", "optimiser"])
def test_weights_that_are_not_finite_are_neither_checkpointed_nor_kept(tmp_path, monkeypatch, step, kept, where):
    real = Training.on_train_batch_end

    def poisoned(self, *arguments):
        real(self, *arguments)
        if self.name == "x" and self.trainer.global_step == step + 1:
            moments = (state["exp_avg_sq"] for state in self.trainer.optimizers[0].state.values())
            weights = moments if where == "optimiser" else getattr(self, where).parameters()
            next(iter(weights)).data.view(-1)[0] = math.nan

    monkeypatch.setattr(Training, "on_train_batch_end", poisoned)
    expected = rf"x: {where}\.\S+ was no longer finite after step {step}, where the loss was \d\.\d+; "
    with pytest.raises(FloatingPointError, match=expected) as error:
        make_scm().fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert_names_a_good_checkpoint(error, tmp_path, kept)


@pytest.mark.parametrize("where", ["mechanism", "optimiser"])
def test_what_was_kept_although_it_is_not_finite_is_refused(tmp_path, monkeypatch, where):
    at(monkeypatch, 6, lambda _, loss: loss * math.nan)
    with pytest.raises(FloatingPointError):
        make_scm().fit(make_rows(), folder=tmp_path, progress=False)
    path = tmp_path / "x/last.ckpt"
    content = torch.load(path, weights_only=False)
    weights, moments = content["state_dict"], content["optimizer_states"][0]["state"][0]
    (moments["exp_avg"] if where == "optimiser" else next(iter(weights.values()))).fill_(math.nan)
    torch.save(content, path)
    with pytest.raises(
        ValueError, match=rf"x: the checkpoint .*last.ckpt holds what is not finite \({where}.*delete it"
    ):
        make_scm().fit(make_rows(), folder=tmp_path, progress=False)
    path = tmp_path / "a/result.safetensors"
    save_file({key: tensor * math.nan for key, tensor in load_file(path).items()}, path)
    with pytest.raises(ValueError, match=r"result.safetensors holds what is not finite.*delete it"):
        make_scm().fit(make_rows(), folder=tmp_path, progress=False)


def test_a_closed_form_that_is_not_finite_is_not_kept(tmp_path):
    graph = cf.CausalGraph("b", b=cf.Continuous())
    rows = {"b": torch.tensor([1e200, -1e200, 0.0], dtype=torch.float64)}
    with pytest.raises(FloatingPointError, match=r"b/result.safetensors is not written: \w+ is not finite"):
        cf.SCM(graph, {"b": M.Gaussian()}).fit(rows, folder=tmp_path, progress=False)
    assert not (tmp_path / "b/result.safetensors").exists()


def steep(monkeypatch, steps):
    """A gradient of the image that is far too long in some steps."""
    real = Training.step_loss

    def steepened(self, batch, seed):
        loss = real(self, batch, seed)
        return 1e6 * loss if self.name == "x" and self.trainer.global_step in steps else loss

    monkeypatch.setattr(Training, "step_loss", steepened)


def test_skipped_steps_are_counted_shown_and_logged(tmp_path, monkeypatch, caplog):
    shown = []

    class Bar:
        def __init__(self, **_):
            pass

        def update(self):
            pass

        def set_postfix(self, values, refresh):
            shown.append(values.get("skipped"))

        def close(self):
            pass

    monkeypatch.setattr(training, "tqdm", Bar)
    with caplog.at_level(logging.WARNING, logger="causalcf"):
        make_scm(skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path / "none", progress=False)
        assert not caplog.records
        steep(monkeypatch, {1, 5, 6})
        make_scm(skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path / "some", progress=True)
    assert [record.getMessage() for record in caplog.records] == [
        "x: 3 of 12 steps were skipped, for a gradient longer than skip=1000.0; raise recipe.skip or lower "
        "recipe.learning_rate if that is many"
    ]
    assert shown[-12:] == [None, 1, 1, 1, 1, 2, 3, 3, 3, 3, 3, 3]


def test_skipped_steps_are_counted_over_interruptions(tmp_path, monkeypatch, caplog):
    steep(monkeypatch, {1, 9})
    real, seen = M.SpatialDiffusion.loss, []

    def dies(self, *arguments):
        seen.append(1)
        if len(seen) == 7:
            raise MemoryError("killed")
        return real(self, *arguments)

    monkeypatch.setattr(M.SpatialDiffusion, "loss", dies)
    with pytest.raises(MemoryError):
        make_scm(skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    with caplog.at_level(logging.WARNING, logger="causalcf"):
        make_scm(skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert "x: 2 of 12 steps were skipped" in caplog.text


def test_a_skipped_step_changes_no_weight(tmp_path, monkeypatch):
    steep(monkeypatch, {1, 2, 3})
    real, found = Training.on_train_batch_end, []

    def seen(self, *arguments):
        real(self, *arguments)
        if self.name == "x":
            found.append([weight.clone() for weight in self.mechanism.parameters()])

    monkeypatch.setattr(Training, "on_train_batch_end", seen)
    make_scm(skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert all(torch.equal(first, last) for first, last in zip(found[0], found[3], strict=True))
    assert any(not torch.equal(first, last) for first, last in zip(found[3], found[4], strict=True))


@pytest.mark.parametrize(("steps", "kept"), [({0, 1, 2, 3}, 0), ({4, 5, 6, 7}, 4), ({8, 9, 10, 11}, 8)])
def test_a_whole_stretch_of_skipped_steps_stops(tmp_path, monkeypatch, steps, kept):
    steep(monkeypatch, steps)
    expected = (
        rf"x: all 4 steps from {min(steps)} to {max(steps)} were skipped: the norm of their gradients was \S+ to \S+, "
        r"and skip=1000\.0; raise recipe\.skip above it, or lower recipe\.learning_rate; "
    )
    with pytest.raises(RuntimeError, match=expected) as error:
        make_scm(skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert_names_a_good_checkpoint(error, tmp_path, kept)


def test_a_short_rest_of_skipped_steps_does_not_undo_a_training(tmp_path, monkeypatch):
    steep(monkeypatch, {12})
    make_scm(steps=13, skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path, progress=False)
    assert (tmp_path / "x/result.safetensors").exists()
    steep(monkeypatch, {0, 1})
    with pytest.raises(RuntimeError, match="x: all 2 steps from 0 to 1 were skipped"):
        make_scm(steps=2, skip=1e3).fit(make_rows(), only=["x"], folder=tmp_path / "short", progress=False)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        *(
            (name, value, rf"a finite {name} > 0, got {value}")
            for name in ("learning_rate", "clip", "skip")
            for value in (math.nan, math.inf, -1.0, 0.0)
        ),
        *(("weight_decay", value, rf"a finite weight_decay >= 0, got {value}") for value in (math.nan, math.inf, -0.1)),
        *(
            (name, value, rf"a whole number {name} >= 1, got {value}")
            for name in ("steps", "batch", "checkpoint")
            for value in (math.nan, math.inf, 0, -3, 2.5)
        ),
        *(("ema", value, rf"0 <= ema < 1, got {value}") for value in (math.nan, 1.0, -0.1)),
        ("learning_rate", "1e-3", r"a finite learning_rate > 0, got '1e-3'"),
        ("ema", "0.9", r"0 <= ema < 1, got '0.9'"),
        ("precision", "float16", "precision 'auto', 'float32' or 'bfloat16', got 'float16'"),
        ("precision", None, "precision 'auto', 'float32' or 'bfloat16', got None"),
    ],
)
def test_a_recipe_no_training_can_follow_is_refused(name, value, expected):
    with pytest.raises(ValueError, match=f"Recipe: expected {expected}"):
        cf.Recipe(**{name: value})
    with pytest.raises(ValueError, match=f"Recipe: expected {expected}"):
        M.VAE(recipe={name: value})


def test_bad_rows_are_refused_before_anything_is_written(tmp_path):
    rows = make_rows()
    folder = tmp_path / "fit"
    with pytest.raises(ValueError, match="missing evidence: b"):
        make_scm().fit({name: value for name, value in rows.items() if name != "b"}, folder=folder, progress=False)
    with pytest.raises(ValueError, match="a: "):
        make_scm().fit({**rows, "a": -rows["a"]}, folder=folder, progress=False)
    with pytest.raises(TypeError, match="train: expected a mapping"):
        make_scm().fit(3, folder=folder, progress=False)
    with pytest.raises(ValueError, match="unknown variable 'z'"):
        make_scm().fit(rows, folder=folder, only=["z"], progress=False)
    assert not folder.exists()


def test_a_data_set_is_read_by_lists_of_positions(tmp_path):
    rows = make_rows()

    class Reader:
        def __len__(self):
            return 300

        def __getitem__(self, index):
            assert isinstance(index, slice | list)
            return {name: value[index] for name, value in rows.items()}

    read = make_scm().fit(Reader(), folder=tmp_path / "1", progress=False)
    held = make_scm().fit(rows, folder=tmp_path / "2", progress=False)
    assert same(read, held)


def test_a_data_set_of_single_rows_is_told_what_to_make_of_it(tmp_path):
    rows = make_rows(20)

    class Single(torch.utils.data.Dataset):
        def __len__(self):
            return 20

        def __getitem__(self, index):
            return {name: value[int(index)] for name, value in rows.items()}

    with pytest.raises(TypeError, match=r"train: its rows cannot be had by a slice or a list.*torch.stack"):
        make_scm().fit(Single(), folder=tmp_path, progress=False)


def test_a_fit_that_does_not_end_leaves_no_model_behind(tmp_path, monkeypatch):
    scm = make_scm().fit(make_rows(), only=["a"], folder=tmp_path / "1", progress=False)
    flow = scm.mechanism("a")
    monkeypatch.setattr(flow, "loss", lambda value, parents, generator=None: torch.full_like(value, math.nan))
    with pytest.raises(FloatingPointError):
        scm.fit(make_rows(seed=1), only=["a"], folder=tmp_path / "2", progress=False)
    with pytest.raises(RuntimeError, match="a: its Flow is not fitted yet"):
        scm.mechanism("a")


def test_rows_of_doubles_teach_what_rows_of_floats_do(tmp_path):
    rows = make_rows(60)
    doubles = {name: value.double() if value.is_floating_point() else value for name, value in rows.items()}
    first, second = make_scm(steps=4), make_scm(steps=4)
    first.fit(rows, folder=tmp_path / "1", progress=False)
    second.fit(doubles, doubles, folder=tmp_path / "2", progress=True)
    assert all(tensor.dtype != torch.float64 for tensor in second.state_dict().values())
    world = second.observe(doubles)
    assert world.do(a=1.0)["x"].dtype == torch.float32
    for name, ours in first.log_prob(rows).items():
        theirs = second.log_prob(doubles)[name]
        torch.testing.assert_close(theirs.float(), ours.float(), atol=1e-3, rtol=1e-3)
    assert second.log_prob(doubles)["a"].dtype == torch.float32


def test_least_squares_and_frequencies_are_closed_forms(tmp_path):
    n = 4000
    generator = torch.Generator().manual_seed(0)
    a, k = torch.randn(n, generator=generator), torch.randint(0, 3, (n,), generator=generator)
    b = 1.5 * a - 2.0 * (k == 1) + 0.5 + 0.25 * torch.randn(n, generator=generator)
    graph = cf.CausalGraph("a -> b; k -> b", a=cf.Continuous(), k=cf.Categorical(3), b=cf.Continuous())
    scm = cf.SCM(graph, {"a": M.Gaussian(), "b": M.Gaussian()})
    scm.fit({"a": a, "k": k, "b": b}, folder=tmp_path, progress=False)
    fitted = scm.mechanisms["b"]
    assert abs(fitted.weight[0] - 1.5) < 0.02
    assert abs(fitted.weight[2] - fitted.weight[1] + 2.0) < 0.03
    assert abs(fitted.spread - 0.25) < 0.01
    torch.testing.assert_close(scm.mechanisms["k"].base.exp(), torch.bincount(k) / n)


def test_a_flow_learns_what_it_is_shown(tmp_path):
    """Counterfactuals of a fitted flow against the known curve `b = exp(a / 2 + 0.3 u)`."""
    n = 4000
    generator = torch.Generator().manual_seed(0)
    a = torch.randn(n, generator=generator)
    b = (a / 2 + 0.3 * torch.randn(n, generator=generator)).exp()
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous(lower=0.0))
    recipe = cf.Recipe(steps=400, batch=256, ema=0.98)
    scm = cf.SCM(graph, {"b": M.Flow(recipe=recipe)}).fit({"a": a, "b": b}, folder=tmp_path, progress=False)
    rows = {"a": a[:200].clamp(-1, 1), "b": b[:200]}
    found = scm.observe(rows).do(a=cf.shift(0.5))["b"]
    assert ((found / (rows["b"] * 1.2840254)) - 1).abs().mean() < 0.05


def test_averaged_weights_are_kept(tmp_path):
    rows = make_rows()
    plain = make_scm(ema=0.0).fit(rows, folder=tmp_path / "1", progress=False)
    averaged = make_scm(ema=0.9).fit(rows, folder=tmp_path / "2", progress=False)
    assert not same(plain.mechanisms["x"], averaged.mechanisms["x"])


def test_fitting_touches_nothing_global(tmp_path):
    state, dtype = torch.random.get_rng_state(), torch.get_default_dtype()
    make_scm().fit(make_rows(), folder=tmp_path, progress=False)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_default_dtype() == dtype


def test_the_order_of_rows_is_a_function_of_the_step():
    whole = list(Batches(10, 4, 7, 0, 9))
    assert list(Batches(10, 4, 7, 3, 9)) == whole[3:]
    flat = [position for batch in whole for position in batch]
    assert sorted(flat[:10]) == list(range(10))
    assert sorted(flat[10:20]) == list(range(10))
    assert flat[:10] != flat[10:20]


def test_a_model_can_be_copied_while_it_is_trained(tmp_path):
    scm = make_scm().fit(make_rows(), folder=tmp_path, progress=False)
    assert same(copy.deepcopy(scm), scm)


class Sorted:
    """Images whose parent varies in the last rows only; images that are read are counted."""

    graph = cf.CausalGraph("a -> x", a=cf.Continuous(), x=cf.Image(1, 8, 8))
    read = 0

    def __init__(self, constant=10_000, varying=400):
        a = torch.cat([torch.full((constant,), 3.7), torch.linspace(-1, 1, varying)])
        x = torch.rand(len(a), 1, 8, 8, generator=torch.Generator().manual_seed(0))
        self.content = {"a": a, "x": x}

    def __len__(self):
        return len(self.content["a"])

    def __getitem__(self, index):
        found = {name: value[index] for name, value in self.content.items()}
        self.read += len(found["a"])
        return found

    def columns(self, names):
        return {name: self.content[name] for name in names}


def fitted(rows, folder):
    recipe = cf.Recipe(steps=1, batch=4)
    scm = cf.SCM(Sorted.graph, {"x": M.SpatialDiffusion(widths=(8, 8), steps=2, recipe=recipe)})
    return scm.fit(rows, only=["x"], folder=folder, progress=False).mechanism("x")


def test_parents_are_scaled_by_all_rows_and_few_images_are_read(tmp_path):
    rows = Sorted()
    scales = fitted(rows, tmp_path).features
    torch.testing.assert_close(scales.mean, rows.content["a"].mean().reshape(1))
    torch.testing.assert_close(scales.std, rows.content["a"].std().reshape(1))
    assert rows.read < 1000


def test_one_row_teaches_an_image_and_no_attribute(tmp_path):
    row = {name: value[:1] for name, value in make_rows().items()}
    with pytest.raises(ValueError, match="a: expected at least 2 rows, got 1, in which its Flow finds no scale"):
        make_scm().fit(row, only=["a"], folder=tmp_path / "a", progress=False)
    make_scm().fit(row, only=["x"], folder=tmp_path / "x", progress=False).mechanism("x")


def test_a_constant_parent_has_no_scale(tmp_path):
    scales = fitted(Sorted(constant=20, varying=0), tmp_path).features
    assert scales.std.tolist() == [1.0]
    assert scales({"a": torch.tensor([3.7, 4.7])}, 2)[:, 0].tolist() == pytest.approx([0.0, 1.0], abs=1e-5)


@pytest.mark.parametrize("kind", [M.Categorical, M.Flow])
def test_few_rows_are_not_learned_by_heart(tmp_path, kind):
    """Of 200 rows, a cause and noise: other rows are explained better with the cause than without."""
    variable = cf.Categorical(3) if kind is M.Categorical else cf.Continuous()
    graph = cf.CausalGraph("a -> y; b -> y", a=cf.Continuous(), b=cf.Binary(), y=variable)

    def rows(n, seed):
        generator = torch.Generator().manual_seed(seed)
        a, u = torch.randn(n, generator=generator), torch.randn(n, generator=generator)
        b = (torch.rand(n, generator=generator) < 0.5).long()
        y = a + u
        return {"a": a, "b": b, "y": (y > 0.5).long() + (y > -0.5).long() if kind is M.Categorical else y}

    found = {}
    for name, given in (("with", graph), ("without", cf.CausalGraph("a; b; y", **graph.variables))):
        scm = cf.SCM(given, {"y": kind()}).fit(rows(200, 0), folder=tmp_path / name, only="y", progress=False)
        found[name] = scm.log_prob(rows(2000, 1), on=["y"])["y"].mean().item()
    assert found["with"] > found["without"] + 0.05
