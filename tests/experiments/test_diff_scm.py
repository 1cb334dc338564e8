"""The curve of Diff-SCM over its scale is measured from beginning to end, on a tiny generator with random weights."""

import json

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.networks.classifier import Classifier
from causalcf.training.predictors import save_predictor
from experiments.morphomnist import diff_scm
from graphs.morphomnist import graph

N = 120


class Digits:
    """Noise with labels, in the place of the official rows."""

    def __init__(self, *_):
        generator = torch.Generator().manual_seed(0)
        self.rows = {
            "thickness": 1 + 4 * torch.rand(N, generator=generator),
            "intensity": 80 + 150 * torch.rand(N, generator=generator),
            "digit": torch.arange(N) % 10,
            "image": torch.rand(N, *graph["image"].shape, generator=generator),
            "id": torch.arange(N),
        }

    def __len__(self):
        return N

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.rows.items()}

    def columns(self, names):
        return {name: self.rows[name] for name in names}


def untrained(graph, image, rows):
    torch.manual_seed(0)
    scm = cf.SCM(graph, {"image": image})
    for name, mechanism in scm.mechanisms.items():
        mechanism.calibrate(rows[name], {cause: rows[cause] for cause in graph.parents(name)})
        mechanism.fitted = True
    for parameter in scm.mechanisms["image"].parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return scm


@pytest.fixture
def generator():
    return untrained(graph, M.SpatialDiffusion(widths=(8, 8), steps=2, solver="2m"), Digits()[:])


def test_a_classifier_trained_beside_leads_the_generator(generator):
    rows = Digits()
    led = diff_scm.classified(generator, rows, steps=3, seed=0)
    image = led.mechanism("image")
    assert isinstance(image, M.DiffSCM)
    assert torch.equal(image.network.null, generator.mechanism("image").network.null)
    again = diff_scm.classified(generator, rows, steps=1, seed=0).mechanism("image")
    assert (image.projector.head.weight - again.projector.head.weight).abs().max() > 1e-4
    first = rows[:4]
    answers = [led.using(image={"size": size}).observe(first).do(digit=7)["image"] for size in (0.0, 5.0)]
    assert (answers[0] - answers[1]).abs().mean() > 1e-4


def test_the_curve_is_written(generator, tmp_path, monkeypatch):
    monkeypatch.setattr(diff_scm, "MorphoMNIST", Digits)
    monkeypatch.setattr(diff_scm, "folder", lambda name: name)
    monkeypatch.setattr(diff_scm, "SCALES", (0.0, 1.0))
    generator.save(tmp_path / "model")
    save_predictor(Classifier(1, 10, (8, 8), reads="digit"), tmp_path / "judge-digit")
    alone = cf.CausalGraph([], image=graph["image"])
    untrained(alone, M.VAE(latent=2, widths=(8, 8)), Digits()[:]).save(tmp_path / "judge-code")
    diff_scm.main(tmp_path / "model", tmp_path, tmp_path, rows=6, steps=2, batch=6)
    found = json.loads((tmp_path / "diff_scm.json").read_text())["curve"]
    assert [point["size"] for point in found] == [0.0, 1.0]
    assert all(torch.isfinite(torch.tensor(list(point.values()))).all() for point in found)
    assert found[0]["CLD of doing nothing"] == found[1]["CLD of doing nothing"] > 0
    assert (tmp_path / "diff_scm.png").read_bytes().startswith(b"\x89PNG")
    assert len((tmp_path / "diff_scm.md").read_text().splitlines()) == 6
