"""The models of Morpho-MNIST that ship, measured and read on handwriting they have not seen."""

import os
from pathlib import Path

import pytest
import torch

import causalcf as cf
from causalcf import do
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits, MorphoMNIST
from causalcf.metrics import Composition, CounterfactualError, Effectiveness, NoiseMoments
from causalcf.pretrained import load_judge, pretrained_names

NAMES = [name for name in pretrained_names() if name.startswith("morphomnist-")]
ROWS = 16


@pytest.fixture(scope="module", params=NAMES)
def scm(request):
    return cf.load_pretrained(request.param)


def test_doing_nothing_changes_nothing_on_other_handwriting(scm):
    """Rows of another data set with the same attributes, which every machine has."""
    rows = MorphoDigits("test", rows=8)[:]
    rows = {name: rows[name] for name in ("thickness", "intensity", "digit", "image")}
    world = scm.observe(rows)
    assert 255 * (world.do(recompute=True)["image"] - rows["image"]).abs().mean() < 0.05
    thick = world.do(thickness=5.0)
    assert (thick["intensity"] > world["intensity"]).double().mean() > 0.9
    brighter = world.do(intensity=rows["intensity"] + 30)["image"]
    assert brighter.mean() > world["image"].mean()


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
def test_interventions_are_measured_and_read_as_intended(scm):
    root = Path(os.environ["CAUSALCF_DATA"])
    data = MorphoMNIST(root / "morphomnist", "test", mnist=root / "mnist")
    rows = data[:ROWS]
    plan = {"t": do(thickness=rows["thickness"].flip(0)), "i": do(intensity=rows["intensity"].flip(0))}
    metrics = [
        Composition(cycles=(1,)),
        NoiseMoments(["image"]),
        Effectiveness({name: data.oracles()[name] for name in ("thickness", "intensity")}),
        Effectiveness({name: load_judge(f"morphomnist-{name}") for name in ("thickness", "intensity")}, named="CNN"),
        CounterfactualError(data),
    ]
    report = cf.evaluate(scm, rows, plan, metrics)
    assert report["composition, 1 cycle", "", "image"].estimate.mean < 0.05
    if isinstance(scm.mechanism("image"), M.Diffusion):
        mean, square = (report[f"noise {what}", "", "image"].estimate.mean for what in ("mean", "mean square"))
        assert 0.9 < (square - mean**2) ** 0.5 < 1.1
    for action, variable, most in (("t", "thickness", 0.35), ("i", "intensity", 8.0)):
        assert report["error of oracle", action, variable].estimate.mean < most
        assert report["error of CNN", action, variable].estimate.mean < most
        line = report["error against the truth", action, "image"]
        assert line.estimate.mean < 0.6 * line.reference.mean


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
@pytest.mark.parametrize("name", ["morphomnist-spatial", "morphomnist-hvae"])
def test_another_digit_is_read_as_intended(name):
    rows = MorphoMNIST(Path(os.environ["CAUSALCF_DATA"]) / "morphomnist", "test")[:40]
    other = (rows["digit"] + 1 + torch.arange(40) % 9) % 10
    image = cf.load_pretrained(name).observe(rows).do(digit=other)["image"]
    assert (load_judge("morphomnist-digit").predict(image) == other).double().mean() > 0.85


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
def test_what_judges_reads_unseen_rows():
    root = Path(os.environ["CAUSALCF_DATA"])
    rows = MorphoMNIST(root / "morphomnist", "test")[:200]
    digit = load_judge("morphomnist-digit").predict(rows["image"])
    assert (digit == rows["digit"]).double().mean() > 0.97
    thickness = load_judge("morphomnist-thickness").predict(rows["image"])
    assert (thickness - rows["thickness"]).abs().mean() < 0.1
    assert torch.corrcoef(torch.stack([thickness, rows["thickness"]]))[0, 1] > 0.97
