"""The experiment on repairs: rows with a shortcut, a generator in closed form, and tables of what was measured."""

import json

import pytest
import torch
from torch import nn

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import ToyFaces
from causalcf.diffusion.schedule import Schedule
from causalcf.explain import repair as mend
from causalcf.networks.classifier import Classifier
from experiments.explain import causes, repair, repaired, shortcuts
from experiments.explain.data import Held
from experiments.explain.gaussian import Wiener, gaussian
from experiments.explain.repaired import attributes, interval, line, write
from experiments.explain.shortcuts import LABEL, chosen, drawn


def correlation(rows, one, other):
    pair = torch.stack([rows[one], rows[other]]).double()
    return torch.corrcoef(pair)[0, 1].item()


def test_the_shortcut_is_in_the_training_rows_alone():
    biased = drawn("eyeglasses", 0.9, 200, 120, seed=1)
    assert correlation(biased.train.rows, LABEL, "eyeglasses") > 0.85
    for held in (biased.fair, biased.unbiased):
        assert abs(correlation(held.rows, LABEL, "eyeglasses")) < 0.25
    assert (len(biased.train), len(biased.fair), len(biased.unbiased)) == (200, 200, 120)
    assert not set(biased.unbiased.rows["id"].tolist()) & set(biased.train.rows["id"].tolist())
    images = biased.unbiased[:20]["image"]
    assert torch.equal(biased.teacher(images), biased.unbiased[:20][LABEL])
    assert set(biased.readers) == set(ToyFaces.oracles(ToyFaces(rows=1)))


@pytest.mark.parametrize(("opposite", "expected"), [(1.0, -1.0), (0.95, -0.9), (0.5, 0.0)])
def test_rows_are_left_out_until_the_label_is_the_opposite_as_often_as_asked(opposite, expected):
    generator = torch.Generator().manual_seed(0)
    rows = {LABEL: (torch.rand(3000, generator=generator) < 0.3).long(), "id": torch.arange(3000)}
    rows["male"] = (torch.rand(3000, generator=generator) < 0.4).long()
    found = chosen(rows, "male", opposite, 400, seed=2)
    assert correlation(found, LABEL, "male") == pytest.approx(expected, abs=0.01)
    assert len(found["id"]) == len(set(found["id"].tolist())) == 400
    assert torch.equal(found["male"], rows["male"][found["id"]])
    few = chosen(rows, "male", opposite, 10_000, seed=2)
    least = min(int(((rows[LABEL] == label) & (rows["male"] == 1 - label)).sum()) for label in (0, 1))
    assert len(few["id"]) <= least * 2 / opposite


def test_photographs_are_chosen_and_judged_by_what_read_all_of_them(tmp_path, monkeypatch):
    def photographed(split, rows):
        generator = torch.Generator().manual_seed(len(split))
        count = {"train": 400, "val": 60, "test": 60}[split]
        columns = {name: torch.randint(2, (count,), generator=generator) for name in ("male", LABEL, "hat")}
        image = torch.randint(256, (count, 3, 8, 8), generator=generator, dtype=torch.uint8)
        ids = torch.arange(count) + 1000 * len(split)
        graph = cf.CausalGraph([("male", "image")], male=cf.Binary(), smiling=cf.Binary(), image=cf.Image(3, 8, 8))
        return Held({**columns, "image": image, "id": ids}, graph, ("hat", LABEL, "male"))

    torch.manual_seed(0)
    networks = {"independent": Classifier(3, 2, (4,)), "attributes": Classifier(3, 3, (4,))}
    monkeypatch.setattr(shortcuts, "photographed", photographed)
    monkeypatch.setattr(shortcuts, "load_predictor", lambda path: networks[path.name].eval())
    found = shortcuts.photographs("male", 0.9, 200, 80, 0, tmp_path)
    assert correlation(found.train.rows, LABEL, "male") == pytest.approx(-0.9, abs=0.02)
    assert correlation(found.fair.rows, LABEL, "male") == correlation(found.unbiased.rows, LABEL, "male") == 0.0
    assert set(found.unbiased.rows["id"].tolist()) <= {*range(3000, 3060), *range(4000, 4060)}
    images = found.unbiased[:9]["image"]
    assert set(found.readers) == {"male", LABEL}
    assert torch.equal(found.readers["male"](images), (networks["attributes"](images)[:, 2] > 0).long())
    assert torch.equal(found.teacher(images), networks["independent"](images).argmax(1))


def test_the_denoiser_is_the_conditional_mean_of_a_gaussian():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(12, 12, generator=generator, dtype=torch.float64) / 4
    images = (torch.randn(4000, 12, generator=generator, dtype=torch.float64) @ mixing).reshape(-1, 3, 2, 2)
    schedule = Schedule("cosine")
    network = Wiener(images, 11, schedule)
    flat = images.flatten(1)
    mean, axes = flat.mean(0), network.axes
    left = network.rest * (torch.eye(12) - axes @ axes.T)
    covariance = axes @ network.variance.diag() @ axes.T + left
    true = torch.cov(flat.T, correction=0)
    assert (covariance - true).norm() < 0.05 * true.norm()
    assert covariance.trace() == pytest.approx(true.trace().item())
    for step in (10, 400, 900):
        alpha, noise = schedule.alpha_bar[step].sqrt(), 1 - schedule.alpha_bar[step]
        x = alpha * flat[:5] + noise.sqrt() * torch.randn(5, 12, generator=generator, dtype=torch.float64)
        gain = alpha * covariance @ torch.linalg.inv(alpha**2 * covariance + noise * torch.eye(12))
        expected = mean + (x - alpha * mean) @ gain.T
        found = network(x.reshape(-1, 3, 2, 2), torch.full((5,), step), torch.zeros(5, 1))
        torch.testing.assert_close(found.flatten(1), expected, atol=1e-6, rtol=1e-6)
    assert gaussian((images / 8 + 0.5).clamp(0, 1)[:50]).network.axes.shape == (12, 12)


class Corner(nn.Module):
    """Reads whether the lower left corner is magenta, from small copies of images."""

    def __init__(self):
        super().__init__()
        self.head = nn.Linear(3 * 16 * 16, 2)
        weight = self.head.weight.data.zero_().unflatten(1, (3, 16, 16))
        weight[:, :, 14, 1] = torch.tensor([[-4.0, 8.0, -4.0], [4.0, -8.0, 4.0]])
        self.head.bias.data.copy_(torch.tensor([2.0, -2.0]))
        self.eval()

    def forward(self, images):
        return self.head(nn.functional.avg_pool2d(images, 4).flatten(1))


ASKED = {"shortcuts": ["marker"], "strengths": [1.0], "generator": "gaussian", "rows": 120, "tested": 100}
ASKED |= {"options": {"steps": 20, "depth": 12, "scales": [3.0, 30.0]}, "count": 16, "steps": 60, "rounds": 1}


@pytest.fixture(scope="module")
def measured(tmp_path_factory):
    out, trained = tmp_path_factory.mktemp("repair"), []

    def fit(rows, names, **options):
        trained.append(rows)
        return Corner()

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(repair, "fit_reader", fit)
        repair.main(**ASKED, out=out)
        (path,) = out.glob("*.json")
        path.write_text(json.dumps({**json.loads(path.read_text()), "kept": True}))
        repair.main(**ASKED, out=out)
    assert len(trained) == 2
    return out, json.loads(path.read_text())


def test_a_repair_is_measured_once_and_written(measured):
    out, content = measured
    assert [path.name for path in out.glob("*.json")] == ["toyfaces-marker-1-gaussian-MaskDiME-1-0.json"]
    assert set(content["accuracy"]) == {"before", "after", "more training", "fair rows"}
    assert content["accuracy on biased rows"] == 1.0
    assert content["rounds"][0]["accuracy"] == content["accuracy"]["after"]
    before, after = content["accuracy"]["before"], content["accuracy"]["after"]
    assert content["gain"] == pytest.approx((after - before) / (1 - before))
    assert "marker" in content["rounds"][0]["changes"]["share"]
    assert content["rounds"][0]["explained"] == 16
    assert content["kept"]


def test_what_was_asked_otherwise_is_measured_again(tmp_path, monkeypatch):
    made = []

    def measure(biased, *_, **given):
        made.append(given)
        return {"gain": 0.5, "tested": len(biased.unbiased)}

    monkeypatch.setattr(repair, "measure", measure)
    monkeypatch.setattr(repaired, "line", lambda content: [str(content["tested"])])
    monkeypatch.setattr(repaired, "attributes", lambda content: [])
    monkeypatch.setattr(repair, "gaussian", lambda images: None)
    asked = {**ASKED, "rows": 20, "tested": 10, "out": tmp_path}
    changes = ({}, {"rows": 24}, {"tested": 12}, {"count": 8}, {"steps": 50}, {"tuning": 7})
    changes += ({"options": {"steps": 20, "depth": 11}}, {"options": {"steps": 20, "depth": 12}})
    for change in changes:
        asked |= change
        for _ in range(2):
            repair.main(**asked)
    assert len(made) == len(changes)
    for steps in (5, 6, 6):
        repair.main(**asked, distilled=steps)
    assert len(made) == len(changes) + 2
    path, text = tmp_path / "toyfaces-marker-1-gaussian-MaskDiME-1-0.json", tmp_path / "table.md"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"tested": 77}))  # a file of before what was asked was written
    repair.main(**{**asked, "shortcuts": []})
    assert "| 77 |" in text.read_text()
    assert len(made) == len(changes) + 2
    repair.main(**asked)
    assert (len(made), json.loads(path.read_text())) == (len(changes) + 3, content)


def test_other_weights_are_asked_again(tmp_path, monkeypatch):
    made, place = [], tmp_path / "generator"
    place.mkdir()
    monkeypatch.setattr(repair, "measure", lambda *_, **__: made.append(1) or {"gain": 0.5})
    monkeypatch.setattr(repair, "write", lambda out: None)
    monkeypatch.setattr(repair, "loaded", lambda folder: None)
    asked = {**ASKED, "rows": 20, "tested": 10, "out": tmp_path / "out", "generator": str(place)}
    for written in ("1", "1", "2"):
        (place / "weights.safetensors").write_text(written)
        repair.main(**asked)
    assert len(made) == 2


def test_a_generator_that_is_not_there_is_answered_at_once(tmp_path, monkeypatch):
    monkeypatch.setattr(repair, "drawn", lambda *_: pytest.fail("drawn"))
    asked, missing = {"runs": tmp_path, "out": tmp_path / "out"}, "toyfaces-marker-spatial; run python -m"
    with pytest.raises(SystemExit, match=rf"{missing} \S+\.repair --part generator first, or take --generator gauss"):
        repair.main(**asked)
    with pytest.raises(SystemExit, match=r"--generator: there is no \S+elsewhere; give a folder, or take"):
        repair.main(**asked, generator="elsewhere")
    repair.main(**asked, shortcuts=[])  # only writes the table
    monkeypatch.setattr(causes, "fitted", lambda *_: pytest.fail("trained"))
    with pytest.raises(SystemExit, match=r"-spatial; run python -m experiments\.explain\.train --data toyfaces"):
        causes.main(**asked, generator="toyfaces-spatial")


def test_a_student_of_the_classifier_of_each_round_leads(tmp_path, monkeypatch):
    taught = []

    def student(network, rows, steps, seed):
        taught.append(network)
        return Corner()

    monkeypatch.setattr(repair, "fit_reader", lambda *_, **__: Corner())
    monkeypatch.setattr(repair, "student", student)
    shares = []
    monkeypatch.setattr(repair, "repair", lambda *given, share, **rest: shares.append(share) or mend(*given, **rest))
    repair.main(**(ASKED | {"count": 6, "rounds": 2, "steps": 4}), distilled=7, share=0.9, out=tmp_path)
    content = json.loads((tmp_path / "toyfaces-marker-1-gaussian-MaskDiME-distilled-2-0-0.9.json").read_text())
    assert (content["distilled"], content["share"], shares) == (7, 0.9, [0.9])
    assert line(content)[7] == "0.9"
    assert line(content)[3] == "gaussian, MaskDiME, distilled"
    assert len(set(map(id, taught))) == 3  # of both rounds, and of the fair rows


def test_the_truth_shows_the_shortcut_and_nothing_else(tmp_path, monkeypatch):
    monkeypatch.setattr(repair, "fit_reader", lambda *_, **__: Corner())
    repair.main(**(ASKED | {"count": 12, "steps": 4}), explainer="truth", out=tmp_path)
    (first,) = json.loads((tmp_path / "toyfaces-marker-1-gaussian-truth-1-0.json").read_text())["rounds"]
    assert (first["flipped"], first["fooled"]) == (12, 1.0)
    share = first["changes"]["share"]
    assert share.pop("marker") == 1.0
    assert set(share.values()) == {0.0}


def test_tables_say_what_the_files_say(measured, tmp_path):
    _, content = measured
    changed = {"rows": 6, "share": {LABEL: 0.25, "marker": 0.75}, "along": {LABEL: 0.25, "marker": 0.75}}
    changed["nothing"] = 0.125
    rounds = [{"explained": 8, "flipped": 6, "used": 6, "fooled": 0.5, "changes": changed, "accuracy": 0.9}] * 2
    accuracy = {"before": 0.5, "after": 0.9, "more training": 0.6, "fair rows": 0.95}
    content = {**content, "rounds": rounds, "accuracy": accuracy, "gain": 0.8, "tested": 100, "fair changes": None}
    cells = line(content)
    assert cells[:5] == ["toyfaces", "marker", "1", "gaussian, MaskDiME", "0"]
    assert cells[5:13] == ["2", "16", "0.5", "12", "0.50", "0.75 of 6", "-", "0.12"]
    assert cells[13:] == ["0.500 ± 0.098", "0.900 ± 0.059", "0.600 ± 0.096", "0.950 ± 0.043", "0.800"]
    assert attributes(content)[4:] == [
        "| marker | 0.75 | +0.75 | - |",
        "| smiling | 0.25 | +0.25 | - |",
        "| none of these | 0.12 | | - |",
        "",
    ]
    (tmp_path / "one.json").write_text(json.dumps(content))
    write(tmp_path)
    assert "| toyfaces | marker | 1 |" in (tmp_path / "table.md").read_text()


def test_the_interval_of_a_share():
    assert interval(0.5, 100) == pytest.approx(0.098)
    assert interval(1.0, 100) == 0.0


def test_the_generator_has_seen_markers(tmp_path, monkeypatch):
    seen = []

    class Model:
        def fit(self, rows, val, folder, seed):
            seen.append((rows, val, folder))

        def save(self, folder, **options):
            folder.mkdir()

    monkeypatch.setattr(repair, "model", lambda graph, steps: Model())
    for _ in range(2):
        repair.main(part="generator", rows=60, runs=tmp_path)
    ((rows, val, folder),) = seen
    assert folder == tmp_path / "toyfaces-marker-spatial-fit"
    assert rows.graph.parents("marker") == (LABEL,)
    assert 0 < correlation(rows.rows, LABEL, "marker") < 0.9
    assert {"image", "marker"} <= set(val)


def test_a_saved_model_draws(tmp_path):
    graph = cf.CausalGraph([("smiling", "image")], smiling=cf.Binary(), image=cf.Image(3, 8, 8))
    image = M.SpatialDiffusion(widths=(8, 8), steps=10, recipe=M.Recipe(steps=1, batch=4))
    rows = {"smiling": torch.tensor([0, 1] * 4), "image": torch.rand(8, 3, 8, 8)}
    scm = cf.SCM(graph, {"image": image}).fit(rows, folder=tmp_path / "fit", progress=False)
    scm.save(tmp_path / "model")
    generator = repair.loaded(tmp_path / "model")
    levels = generator.levels(10)
    said = generator.denoiser(levels).epsilon(torch.rand(2, 3, 8, 8), 5, generator.nothing(2))
    assert said.shape == (2, 3, 8, 8)
    assert said.dtype == torch.float32
    assert not any(parameter.requires_grad for parameter in generator.network.network.parameters())
