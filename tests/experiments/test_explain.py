"""The comparison of explainers: from models to table, and what its claims say of made-up numbers."""

import json

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import ToyFaces
from causalcf.diffusion.codec import Codec
from causalcf.explain import MaskDiME
from causalcf.explain.generator import Generator
from causalcf.mechanisms import Recipe
from causalcf.networks.classifier import Classifier
from causalcf.networks.smooth import SmoothClassifier
from causalcf.training.predictors import save_predictor
from experiments.explain import train
from experiments.explain.data import Faces, Held
from experiments.explain.evaluate import main as evaluate
from experiments.explain.latents import load
from experiments.explain.methods import FAMILIES, METHODS, Kit
from experiments.explain.models import generator
from experiments.explain.own import Agreed
from experiments.explain.results import (
    Result,
    Value,
    as_good,
    better,
    claims,
    contest,
    faster,
    joined,
    table,
)
from experiments.explain.sources import Led
from experiments.explain.tune import chosen
from experiments.explain.tune import main as tune

NAMES = [name for name in ToyFaces.graph if name != "image"]


def small(graph, _=None):
    image = M.SpatialDiffusion(
        widths=(8, 8), patch=8, prediction="v", schedule="cosine", recipe=Recipe(steps=1, batch=4)
    )
    return cf.SCM(graph, {**{name: M.Binary(probabilities=(0.5, 0.5)) for name in NAMES}, "image": image})


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    place, rows = tmp_path_factory.mktemp("models"), Faces("toyfaces").split("train", 8)
    scm = small(ToyFaces.graph)
    scm.fit(rows)
    scm.save(place / "toyfaces-spatial", half=True)
    torch.manual_seed(0)
    networks = {
        "classifier": Classifier(3, 2, (4, 4)),
        "surrogate": SmoothClassifier(3, 2, (4, 4)),
        "judge": SmoothClassifier(3, 2, (4, 4)),
        "attributes": Classifier(3, len(NAMES), (4, 8)),
    }
    for name, network in networks.items():
        if name != "attributes":
            with torch.no_grad():
                logits = network.eval()(rows["image"])
                network.head.weight.mul_(20)
                network.head.bias[1] += 20 * (logits[:, 0] - logits[:, 1]).median()
        save_predictor(network, place / "toyfaces-readers" / name)
    return place


@pytest.fixture
def quick(tmp_path):
    """Options that take a moment."""
    short = {"steps": 8, "depth": 4, "scales": [40.0]}
    options = {"MaskDiME": short, "Agreed": {"steps": 4}, "SCE-LITE-HQ": {"steps": 6, "scales": [5.0]}}
    (tmp_path / "options.json").write_text(json.dumps({name: {"options": held} for name, held in options.items()}))
    return tmp_path


def test_methods_are_measured_once_and_shown(models, quick, monkeypatch):
    asked = ["MaskDiME", "Agreed", "SCE-LITE-HQ, distilled"]
    evaluate("toyfaces", rows=6, few=4, again=2, only=asked, models=models, out=quick, part=3)
    for name in ("table.md", "claims.md", "grid.png"):
        assert (quick / name).exists()
    found = json.loads((quick / "MaskDiME.json").read_text())
    assert found["options"]["steps"] == 8
    assert found["all"]["about"]["rows"] == 6
    assert found["first"]["about"]["rows"] == 4
    assert found["varied"]["about"]["rows"] == 2
    assert found["all"]["cost"]["forward"] == 4
    assert found["all"]["cost"]["processor"] > 0
    lines = (quick / "table.md").read_text().splitlines()
    (row, shared) = (line for line in lines if line.startswith("| MaskDiME |"))
    assert (row.split(" | ")[1], shared.split(" | ")[1]) == ("6", "4")

    monkeypatch.setattr(MaskDiME, "explain", lambda *_, **__: pytest.fail("explained again"))
    evaluate("toyfaces", rows=6, few=4, again=2, only=["MaskDiME"], models=models, out=quick, part=3)
    (quick / "MaskDiME.json").unlink()  # what is kept is enough
    monkeypatch.setattr("experiments.explain.evaluate.peak", lambda *_: None)
    evaluate(
        "toyfaces", rows=6, few=4, again=2, only=["MaskDiME"], models=models, out=quick, part=3
    )  # from what is kept
    again = json.loads((quick / "MaskDiME.json").read_text())
    assert again["all"]["lines"] == found["all"]["lines"]


def test_options_are_chosen_by_one_rule(models, tmp_path, monkeypatch):
    grid = {"steps": (6,), "scales": ((5.0,), (9.0,))}
    family = type(FAMILIES["SCE-LITE-HQ"])("SCE-LITE-HQ, distilled", {}, grid)
    monkeypatch.setattr("experiments.explain.tune.FAMILIES", {"SCE-LITE-HQ": family})
    tune("toyfaces", rows=2, models=models, out=tmp_path)
    found = json.loads((tmp_path / "options.json").read_text())["SCE-LITE-HQ"]
    assert [entry["options"]["scales"] for entry in found["tried"]] == [[5.0], [9.0]]

    tried = [{"both": 5, "L1": 0.1}, {"both": 8, "L1": 0.3}, {"both": 7, "L1": 0.2}]
    assert chosen(tried) is tried[2]


def test_every_method_can_be_made():
    kit = Kit(Classifier(3, 2, (4,)), SmoothClassifier(3, 2, (4,)))
    for method in METHODS.values():
        for options in FAMILIES[method.family].candidates():
            method.explainer(kit, {method.family: json.loads(json.dumps(options))})
    assert all(family.leader in METHODS for family in FAMILIES.values())


def test_readers_and_generator_are_trained(tmp_path, monkeypatch):
    monkeypatch.setattr(train, "VAL", 4)
    monkeypatch.setattr(train, "model", small)
    monkeypatch.setattr("experiments.explain.latents.WIDTHS", (8, 8))
    train.main("toyfaces", out=tmp_path, steps=1, rows=8)
    codec = load(tmp_path / "toyfaces-autoencoder")
    assert codec.encode(torch.rand(2, 3, 64, 64)).shape == (2, 4, 32, 32)
    assert (tmp_path / "toyfaces-latent" / "weights.safetensors").exists()
    held = {path.name for path in (tmp_path / "toyfaces-readers").iterdir()}
    assert held == {"classifier", "independent", "surrogate", "judge", "attributes"}
    assert (tmp_path / "toyfaces-spatial" / "weights.safetensors").exists()
    monkeypatch.setattr(train, "fit_reader", lambda *_, **__: pytest.fail("trained again"))
    train.main("toyfaces", out=tmp_path, steps=1, rows=8)


def test_mirrored_rows_come_behind_the_others():
    image = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 2, 2)
    rows = Held({"smiling": torch.tensor([0, 1]), "image": image, "id": torch.tensor([7, 8])}, ToyFaces.graph, [], True)
    assert len(rows) == 4
    assert rows[:]["id"].tolist() == [7, 8, 1_000_007, 1_000_008]
    assert torch.equal(rows[[1, 3]]["image"][1], rows[[1, 3]]["image"][0].flip(2))
    more = Held({**rows.rows, "freckles": torch.tensor([0, 1])}, ToyFaces.graph, ["smiling", "freckles"], True)
    assert set(more.modelled()[[3]]) == {"smiling", "image", "id"}
    assert rows.columns(["smiling"])["smiling"].tolist() == rows[:]["smiling"].tolist() == [0, 1, 0, 1]


def test_a_led_classifier_keeps_its_word():
    sure, steep = (lambda x: x.flatten(1).sum(1)), (lambda x: 5 * x.flatten(1).sum(1) + 1)
    image = torch.rand(2, 3, 4, 4, requires_grad=True)
    logits = Led(sure, steep)(image)
    assert torch.allclose(logits, sure(image))
    logits.sum().backward()
    assert image.grad is not None
    assert torch.equal(image.grad, torch.full_like(image, 5.0))


def half(x, timestep, condition):
    """A generator that draws what it is told: the left half is bright or dark, and the right one slightly otherwise."""
    told = condition[:, :1, None, None].expand_as(x)
    return torch.cat([told[..., :4], -0.01 * told[..., 4:]], 3)


def test_agreement_edits_where_both_agree():
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=lambda classes: 2.0 * classes[:, None] - 1)
    images = torch.full((2, 1, 8, 8), 0.5)
    classifier = lambda x: 9 * (x - 0.55).flatten(1).sum(1)  # noqa: E731  it looks everywhere
    options = {"steps": 10, "share": 1.0, "dilation": 1, "block": 1, "threshold": 0.0, "angle": 60.0}
    found = Agreed(**options, weights=(1.0, 0.0, 0.0)).explain(classifier, drawing, images)
    assert found.flipped.all()
    change = (found.counterfactuals - images).abs()
    assert change[..., :4].mean() > 0.1
    assert change[..., 4:].mean() < 0.02
    everywhere = Agreed(**{**options, "angle": 180.0}, weights=(1.0, 0.0, 0.0)).explain(classifier, drawing, images)
    assert (everywhere.counterfactuals - images).abs()[..., 4:].mean() > 0.1


def test_masks_are_where_the_classifier_looks_and_classes_differ():
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=lambda classes: 2.0 * classes[:, None] - 1)
    images = torch.full((2, 1, 8, 8), 0.5)
    looks = torch.full((8, 8), 0.01)
    looks[:4] = 1.0  # at the upper half; the generator's classes differ on the left
    options = {"steps": 10, "share": 0.25, "dilation": 1, "block": 1, "weights": (1.0, 1.0, 0.0), "threshold": 0.0}
    found = Agreed(**options).explain(lambda x: 9 * (looks * (x - 0.55)).flatten(1).sum(1), drawing, images)
    changed = found.counterfactuals != images
    assert changed[..., :3, :3].all()
    assert not changed[..., 5:, :].any()
    assert not changed[..., 5:].any()


def test_others_are_as_frequent_as_in_the_class(models):
    scm = cf.SCM.load(models / "toyfaces-spatial")
    rows = {name: torch.tensor([0, 0, 1, 1]) for name in NAMES}
    rows["mouth_open"] = torch.tensor([0, 0, 0, 1])
    told = generator(scm, "smiling", rows).told(torch.tensor([0, 1]))
    image = scm.mechanism("image")
    assert isinstance(image, M.SpatialDiffusion)
    columns = list(image.features.variables)
    assert told[:, columns.index("smiling")].tolist() == [0.0, 1.0]
    assert told[:, columns.index("mouth_open")].tolist() == [0.0, 0.5]


class Coarse(Codec):
    """Means of squares of two pixels."""

    def encode(self, images):
        return avg_pool2d(2 * images - 1, 2)

    def decode(self, x):
        return interpolate((x + 1) / 2, scale_factor=2.0)


def test_agreement_works_in_latents_and_elsewhere_keeps_pixels():
    told = lambda classes: 2.0 * classes[:, None] - 1  # noqa: E731
    drawing = Generator(half, torch.zeros(1), prediction="x0", conditions=told, codec=Coarse())
    images = torch.rand(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    options = {"steps": 10, "share": 0.2, "dilation": 1, "block": 1, "weights": (1.0, 1.0, 0.0), "threshold": 0.0}
    classifier = lambda x: 9 * (x[..., :8] - 0.5).flatten(1).sum(1)  # noqa: E731
    found = Agreed(**options).explain(classifier, drawing, images)
    changed = found.counterfactuals != images
    assert 0 < changed[..., :8].float().mean() < 0.6
    assert not changed[..., 8:].any()
    again = Agreed(**{**options, "threshold": 0.1, "blur": 1}).explain(classifier, drawing, images)
    size = (again.counterfactuals - images).abs().mean(1)
    assert torch.equal(size > 0, (found.counterfactuals - images).abs().mean(1) >= 0.1)


def line(metric, subset, value, half_width=0.0):
    estimate = {"mean": value, "half_width": half_width, "n": 10, "sd": 0.0}
    return {"metric": metric, "variable": subset, "estimate": estimate, "reference": None, "against": ""}


def result(name, flip=1.0, na=0.9, iou=0.5, seconds=1.0, diversity=0.5):
    lines = [
        line("flip rate", "all rows", flip, 0.02),
        line("flips that flip the independent classifier (NA)", "flipped rows", na, 0.02),
        line("IoU with owned pixels, as many", "all rows", iou, 0.02),
        line("error against the truth", "all rows", 10 * seconds),
    ]
    part = {"about": {"rows": 10}, "lines": lines, "cost": {"processor": seconds, "forward": 60.0, "backward": 0.0}}
    varied = [line("diversity of 2, 1 - |cosine|", "rows with two flips", diversity, 0.02)]
    content = {"all": part, "first": part, "varied": {"about": {"rows": 10}, "lines": varied}}
    return Result({"method": name, "memory": None, "machine": "m", "folder": "f", **content})


def verdicts(*results):
    lines = claims({found.name: found for found in results})[2:]
    return {line.split(" | ")[0][2:]: line.rsplit(" | ", 1)[1][:-2] for line in lines}


def test_speed_counts_with_flips_and_places():
    claim = "MaskDiME is at least 20 times faster than DiME, flips as often, and localises better"
    slow = result("DiME", seconds=20.0, iou=0.3)
    assert verdicts(result("MaskDiME"), slow)[claim] == "held"
    assert verdicts(result("MaskDiME", seconds=1.01), slow)[claim] == "not held"
    assert verdicts(result("MaskDiME", flip=0.99), slow)[claim] == "not held"
    assert verdicts(result("MaskDiME", iou=0.31), slow)[claim] == "undecided"


def test_claims_follow_the_numbers():
    vanilla, smooth = result("SCE-LITE-HQ, vanilla", na=0.4), result("SCE-LITE-HQ, distilled", na=0.9)
    open_ = result("SCE-LITE-HQ, distilled, no exclusion", diversity=0.2)
    said = verdicts(vanilla, smooth, open_)
    assert said["distilled gradients raise NA over vanilla ones"] == "held"
    assert said["exclusion masks raise diversity"] == "held"
    assert not any("LDCE" in claim for claim in said)
    swapped = verdicts(result("SCE-LITE-HQ, vanilla", na=0.9), result("SCE-LITE-HQ, distilled", na=0.4))
    assert swapped["distilled gradients raise NA over vanilla ones"] == "not held"


def test_the_contest_needs_every_column():
    ours, other = result("Agreed", seconds=0.5), result("MaskDiME")
    assert "beats every published method" in contest({"Agreed": ours, "MaskDiME": other})[-1]
    assert "does not beat" in contest({"Agreed": result("Agreed", iou=0.4), "MaskDiME": other})[-1]
    assert "| Agreed | 10 | 1.000 ± 0.020 |" in "\n".join(table({"Agreed": ours}, "all"))


def test_rules():
    assert better(Value(0.5, 0.1), Value(0.4, 0.1), "NA") == "undecided"
    assert better(Value(0.6, 0.1), Value(0.4, 0.1), "NA") == "held"
    assert better(Value(0.6), Value(0.4), "L1") == "not held"
    assert better(Value(float("nan")), Value(0.4), "NA") == "undecided"
    assert as_good(Value(1.0), Value(1.0), "flip rate") == "held"
    assert faster(Value(1.0), Value(19.9), "processor") == "not held"
    assert joined(["held", "undecided"]) == "undecided"
    assert joined(["undecided", "not held"]) == "not held"
