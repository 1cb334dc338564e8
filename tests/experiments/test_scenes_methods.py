"""Every method of the scenes is measured from beginning to end, on tiny models with random weights."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import Pendulum
from experiments.scenes import choose, evaluate, methods, models, results, shipped, truth
from experiments.scenes.judge import Judge, save_judge
from experiments.scenes.scene import PENDULUM, SCENES, STRAYED

N = 2


class Small(Pendulum):
    """At 32 pixels, measured by means of pixels."""

    graph = Pendulum("test", size=32, rows=1).graph

    def __init__(self, split, rows, **options):
        super().__init__(split, 32, rows, **options)

    @staticmethod
    def oracles():
        return {name: lambda images: images.flatten(1).mean(1) for name in PENDULUM.ranges}


SCENE = replace(PENDULUM, data=Small, results=Path("nowhere"))


def tiny(scene, image):
    """A model that was never trained."""
    flows = {name: M.Flow("affine", hidden=(8,)) for name in scene.ranges}
    torch.manual_seed(0)
    scm = cf.SCM(scene.data.graph, {**flows, "image": image})
    columns = scene.data("train", rows=64).columns(list(scene.ranges))
    for name, mechanism in scm.mechanisms.items():
        if name != "image":
            mechanism.calibrate(columns[name], {cause: columns[cause] for cause in scene.data.graph.parents(name)})
        mechanism.fitted = True
    mechanism = scm.mechanisms["image"]
    mechanism.features.calibrate(columns)
    for parameter in mechanism.parameters():
        parameter.data += 0.02 * torch.randn(parameter.shape)
    return scm


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for module, name, value in (
        (models, "STEPS", 2),
        (models, "AGAIN", models.AGAIN.but(steps=2)),
        (evaluate, "TRAIN", 32),
        (evaluate, "REFERENCE", 20),
    ):
        monkeypatch.setattr(module, name, value)
    monkeypatch.setattr(cf, "discover", lambda rows: type("Found", (), {"structure": {"length": ["sun"]}}))
    monkeypatch.setattr(methods, "parents", lambda omega: methods.options(by="parents", omega=omega))
    torch.manual_seed(1)
    save_judge(Judge(3, (32, 32), 4, (8, 8, 8)), tmp_path / "pendulum-judge")
    options: dict = {"widths": (8, 8), "patch": 4, "refine": 4, "lowest": 60, "projector": (8, 8), "steps": 2}
    led = M.NSCMDiffusion(solver="2m", **options)
    scm = tiny(SCENE, led)
    scm.save(tmp_path / "pendulum-nscm")
    autoencoder = M.CausalVAE(width=2, widths=(8, 8), hidden=8)
    tiny(SCENE, autoencoder).save(tmp_path / "pendulum-causal-vae")
    return tmp_path


def measured(folder, rows=N, only=None, steps=2):
    evaluate.measure(SCENE, folder, folder / "results", rows, only, rows, 0, 0.0, steps)
    return {path.name: json.loads(path.read_text()) for path in (folder / "results" / "0").glob("*.json")}


def test_every_method_is_measured(folder):
    every = methods.methods(methods.DEFAULTS)
    found = {content["method"]: content for content in measured(folder).values()}
    assert found.keys() == every.keys()
    for name, content in found.items():
        assert content.keys() >= ({"failed"} if "failed" in content else {"single", "evaluations"}), name
        assert ("abducted again" in content) == (every[name].main and "failed" not in content)
    failed = [name for name, content in found.items() if "failed" in content]
    assert set(failed) <= {"balanced, size 30, no limit"}
    ours = found["balanced, size 0.1"]
    actions = {line["action"] for line in ours["together"]["lines"]}
    assert actions == {"step 1", "step 2"}
    assert ours["evaluations"]["vectors"] == 2 * 5
    assert ours["evaluations"]["read in prediction"] == 2
    assert found["constant, size 1"]["evaluations"]["vectors"] == 2
    assert found["balanced, one probe"]["evaluations"]["vectors"] == 2 * 2
    assert found["balanced, replay"]["evaluations"]["read"] > 2
    assert ours["single"]["pulls"]["count"] == N * 2 * 5  # four interventions, and doing nothing
    caused = [line for line in ours["single"]["lines"] if line["metric"] == "led through its equation"]
    assert {(line["action"], line["variable"]): line["estimate"]["mean"] for line in caused}[
        "do(angle)", "position"
    ] in (0.0, *(row / N for row in range(1, N + 1)))
    written = {path.name for path in (folder / "results").iterdir()}
    assert written >= {"table.md", "steps.md", "claims.md", "curves.png", "strips"}
    table = (folder / "results" / "table.md").read_text()
    assert all(f"| {name} |" in table for name in every)
    assert (folder / "results" / "strips" / "balanced--size-0.1.png").stat().st_size > 1000


def test_what_was_asked_in_the_same_way_is_kept(folder):
    name = "balanced, size 0.1"

    def when():
        measured(folder, only=[name])
        return (folder / "results" / "0" / "balanced--size-0.1.json").stat().st_mtime_ns

    first = when()
    assert when() == first
    (path,) = (folder / "pendulum-nscm").glob("*.safetensors")
    led = M.NSCMDiffusion(widths=(8, 8), patch=4, projector=(8, 8), steps=2, solver="2m", hidden=16)
    tiny(SCENE, led).save(path.parent, overwrite=True)
    second = when()
    assert second > first
    measured(folder, rows=2, only=[name])
    assert json.loads((folder / "results" / "0" / "balanced--size-0.1.json").read_text())["rows"] == 2


def test_sequences_of_another_length_have_a_folder_of_their_own(folder):
    name = "parents, omega 1.5"
    (first,) = measured(folder, only=[name]).values()
    with pytest.raises(SystemExit, match=r"is of a sequence of 2 interventions, and steps=3 .* --out .*/steps-3"):
        measured(folder, only=[name], steps=3)
    assert measured(folder, only=[name]) == {"parents--omega-1.5.json": first}
    assert PENDULUM.folder(5) == PENDULUM.results
    assert PENDULUM.folder(10) == PENDULUM.results / "steps-10"


def test_an_unknown_kind_of_model_is_refused():
    with pytest.raises(ValueError, match="expected kind 'nscm' or 'causal-vae', got 'large'"):
        models.model(PENDULUM, PENDULUM.data.graph, "large")


def test_an_explosion_is_a_result(folder, monkeypatch):
    def explode(self, scm):
        raise FloatingPointError("the gradient of the factors read is not finite")

    monkeypatch.setattr(evaluate.Measured, "single", explode)
    found = measured(folder, only=["balanced, size 0.1"])["balanced--size-0.1.json"]
    assert found["failed"] == "gradient explosion: the gradient of the factors read is not finite"
    assert "gradient explosion" in (folder / "results" / "table.md").read_text()


def test_a_model_turned_round_still_answers(folder):
    scm = cf.SCM.load(folder / "pendulum-nscm")
    rows = {**Small("train", rows=32).columns(list(PENDULUM.ranges)), "id": torch.arange(32)}
    wrong = models.misled(scm, SCENE, rows)
    assert wrong.graph.parents("angle") == ("length", "position")
    test = truth.Known(Small("test", rows=2), 2)[:]
    world = wrong.observe(test).do(length=5.0)
    assert not torch.equal(world["angle"], test["angle"])
    assert world["image"].shape == test["image"].shape
    assert wrong.mechanism("image").structure == PENDULUM.wrong


def test_the_model_that_ships_is_asked_as_training_left_it(tmp_path):
    shipped.main(tmp_path)
    laid, own = cf.SCM.load(tmp_path / "pendulum-stray-nscm"), cf.load_pretrained("pendulum-nscm")
    image, trained = laid.mechanism("image"), models.model(STRAYED, own.graph).mechanisms["image"]
    assert image.config() == {**trained.config(), "recipe": own.mechanism("image").config()["recipe"]}
    weights = own.mechanism("image").state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in image.state_dict().items())
    before = (tmp_path / "pendulum-stray-nscm" / "config.json").stat().st_mtime_ns
    shipped.main(tmp_path)
    assert (tmp_path / "pendulum-stray-nscm" / "config.json").stat().st_mtime_ns == before


def test_sequences_end_with_a_caused_factor():
    assert PENDULUM.sequence(5) == ["angle", "sun", "angle", "sun", "length"]
    assert len(SCENES["flow"].sequence(10)) == 10
    for scene in SCENES.values():
        data = truth.Known(scene.rows("test", 4), 4)
        right = truth.Truth(scene, data, 10, 0)
        assert len(right.plan) == 10
        for step, joint in right.joint.items():
            torch.testing.assert_close(joint["image"], right.after[step]["image"], atol=1e-3, rtol=0)
        for action, floors in right.floors().items():
            assert all(0 < value < 0.2 for value in floors.values()), action
    with pytest.raises(ValueError, match="a sequence of 1 to 10 interventions, got 11"):
        evaluate.measure(PENDULUM, Path(), Path(), 1, None, 1, 0, 0.0, 11)


def test_results_of_nothing_are_nothing(tmp_path):
    results.write(PENDULUM, tmp_path)
    assert not list(tmp_path.iterdir())


def test_sizes_are_chosen_by_the_error_of_all_factors_together(folder, monkeypatch):
    errors = {0.0: (9.0, 0.1), 0.1: (1.0, 1.0), 0.3: (6.0, 3.0)}  # of the first, the mean of shares would be the least

    tried = []

    def report(asked, data, plan, metrics, **options):
        size = asked.mechanism("image").size
        tried.append(size)
        if size == 1.0:
            raise FloatingPointError("the gradient of the factors read is not finite")
        line = {action: errors[size][action != "do(angle)"] for action in plan}
        return {
            ("error against the truth", action, "image"): SimpleNamespace(
                estimate=SimpleNamespace(mean=error),
                reference=SimpleNamespace(mean=10.0 if action == "do(angle)" else 0.5),
            )
            for action, error in line.items()
        }

    monkeypatch.setattr(choose, "SWEPT", {"balanced": (0.0, 0.1, 0.3, 1.0)})
    monkeypatch.setattr(choose, "ALSO", {})
    monkeypatch.setattr(choose, "evaluate", report)
    choose.choose(SCENE, folder, folder / "results", N)
    content = json.loads((folder / "results" / "chosen.json").read_text())
    assert content["error / doing nothing"] == {"balanced": {"0": 0.8087, "0.1": 0.3478, "0.3": 1.3043}}
    assert methods.chosen(SCENE, folder / "results")["balanced"] == 0.1
    errors[0.2], tried[:] = (0.5, 0.5), []
    monkeypatch.setattr(choose, "SWEPT", {"balanced": (0.1, 0.2)})
    choose.choose(SCENE, folder, folder / "results", N)
    assert tried == [0.2]
    content = json.loads((folder / "results" / "chosen.json").read_text())
    assert content["error / doing nothing"] == {"balanced": {"0": 0.8087, "0.1": 0.3478, "0.3": 1.3043, "0.2": 0.1739}}
    assert content["chosen"] == {"balanced": 0.2}
    choose.choose(SCENE, folder, folder / "results", N + 1)
    assert tried == [0.2, 0.1, 0.2]
