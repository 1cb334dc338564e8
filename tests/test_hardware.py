"""bfloat16 is taken where the hardware has it, and nowhere else unless it is asked for by name."""

import logging

import lightning as L
import pytest
import torch

import causalcf as cf
from causalcf import hardware
from causalcf import mechanisms as M
from causalcf.training.predictors import fit_regressor

CPU = torch.device("cpu")


@pytest.fixture(params=[True, False])
def has(request, monkeypatch):
    """A machine that has bfloat16, and one that has not."""
    monkeypatch.setattr(hardware, "computes_bfloat16", lambda kind: request.param)
    hardware._warn_of_imitation.cache_clear()
    yield request.param
    hardware._warn_of_imitation.cache_clear()


@pytest.fixture
def trained(monkeypatch):
    """What trainers are asked to compute in."""
    asked, real = [], L.Trainer.__init__

    def init(self, *arguments, **options):
        asked.append(options["precision"])
        real(self, *arguments, **options)

    monkeypatch.setattr(L.Trainer, "__init__", init)
    return asked


def rows():
    return {"x": torch.rand(8, 1, 8, 8), "a": torch.randn(8)}


def multiplied(choice):
    a = torch.ones(2, 2)
    with hardware.autocast(choice, CPU):
        return (a @ a).dtype


def test_auto_follows_the_hardware_and_the_others_do_not(has):
    assert multiplied("auto") == (torch.bfloat16 if has else torch.float32)
    assert multiplied("float32") == torch.float32
    assert multiplied("bfloat16") == torch.bfloat16


def test_imitation_that_was_asked_for_is_named_once(has, caplog):
    with caplog.at_level(logging.WARNING):
        for choice in ("auto", "float32", "bfloat16", "bfloat16"):
            multiplied(choice)
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == (0 if has else 1)
    assert all("this processor only imitates it" in line and "precision='auto'" in line for line in said)


def test_mechanisms_train_in_what_the_hardware_has(has, trained, tmp_path):
    image = M.SpatialDiffusion(recipe={"steps": 1, "batch": 4, "precision": "auto"}, widths=(8, 8), attention=False)
    graph = cf.CausalGraph("x", x=cf.Image(1, 8, 8))
    cf.SCM(graph, {"x": image}).fit({"x": rows()["x"]}, folder=tmp_path, progress=False)
    assert trained == ["bf16-mixed" if has else "32-true"]


def test_predictors_train_in_what_the_hardware_has(has, trained, monkeypatch):
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda **_: None)
    fit_regressor(rows(), "a", node="x", steps=1, batch=4, precision="auto")
    assert trained == ["bf16-mixed" if has else "32-true"]


def test_answers_may_follow_the_hardware(has):
    image = M.SpatialDiffusion(precision="auto", widths=(8, 8), attention=False)
    with image._autocast():
        assert torch.is_autocast_enabled("cpu") == has


def test_the_recipe_of_diffusion_leaves_it_to_the_hardware():
    assert M.SpatialDiffusion().recipe.precision == "auto"


@pytest.mark.parametrize(("imitates", "found"), [(False, True), (True, False)])
def test_a_cuda_device_that_only_imitates_it_does_not_have_it(monkeypatch, imitates, found):
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation: not imitates or including_emulation
    )
    assert hardware.computes_bfloat16("cuda") is found


def test_a_processor_without_its_library_does_not_have_it(monkeypatch):
    monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    assert hardware.computes_bfloat16("cpu") is False


def test_what_is_drawn_follows_the_seed_and_leaves_no_trace():
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    with hardware.seeded(7):
        first = torch.rand(2)
    with hardware.seeded(7):
        assert torch.equal(torch.rand(2), first)
    with hardware.seeded(8):
        assert not torch.equal(torch.rand(2), first)
    assert torch.equal(torch.rand(4), expected)


def test_of_several_gpus_the_current_one_is_seeded_and_put_back(monkeypatch):
    states, seeds = {0: "first", 1: "second"}, []
    monkeypatch.setattr(hardware, "accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_rng_state", lambda device: states[device])
    monkeypatch.setattr(torch.cuda, "set_rng_state", lambda state, device: states.update({device: state}))
    monkeypatch.setattr(torch.cuda, "manual_seed", lambda seed: states.update({1: "seeded"}))
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeds.append)
    with hardware.seeded(7):
        assert states == {0: "first", 1: "seeded"}
    assert states == {0: "first", 1: "second"}
    assert seeds == []
