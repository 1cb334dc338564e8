"""The comparison of explainers: from models to table."""

import json
import shutil

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import ToyFaces
from causalcf.explain import MaskDiME
from causalcf.explain.explanation import Explanation
from causalcf.mechanisms import Recipe
from causalcf.networks.classifier import Classifier
from causalcf.networks.smooth import SmoothClassifier
from causalcf.training.predictors import has_predictor, save_predictor
from experiments.explain import train
from experiments.explain.bench import digests, prepared
from experiments.explain.claims import stated
from experiments.explain.data import Faces, Held, drawn
from experiments.explain.evaluate import covers
from experiments.explain.evaluate import main as evaluate
from experiments.explain.families import CANDIDATES, FAMILIES, Family
from experiments.explain.latents import load
from experiments.explain.measured import TRUTH
from experiments.explain.measured import load as load_results
from experiments.explain.memory import Watch, peak
from experiments.explain.methods import BATCH, METHODS, Kit, explainer, family_of
from experiments.explain.models import generator, model
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
                network.head.weight.mul_(3 / (logits[:, 1] - logits[:, 0]).std())
                logits = network(rows["image"])
                network.head.bias[1] += (logits[:, 0] - logits[:, 1]).median()
        save_predictor(network, place / "toyfaces-readers" / name)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(train, "model", small)
        patch.setattr("experiments.explain.latents.WIDTHS", (8, 8))
        train.fit_latent(drawn(8), place, "toyfaces", 1, 1)
    return place


BACK = {"steps": 6, "depth": 3, "scales": [40.0, 80.0]}
SHORT = {  # options that take a moment, by the beginning of a family's name
    "Agreed": {"steps": 3, "scales": [4.0]},
    "MaskDiME": BACK,
    "FastDiME": BACK,
    "DiME": BACK,
    "SCE-LITE-HQ": {"steps": 6, "scales": [5.0]},
    "Told": {"steps": 6, "scales": [5.0]},
    "LDCE": {"steps": 6, "scales": [3.0]},
    "ACE": {"steps": 6, "depth": 2, "iterations": 2},
    "SCE": {"steps": 6, "iterations": 2},
}


def write_options(place, models):
    weights, content = digests("toyfaces", models), {}
    for name, family in FAMILIES.items():
        short = next(held for start, held in sorted(SHORT.items(), reverse=True) if name.startswith(start))
        about = {"weights": weights[METHODS[name].latent], "grid": family.digest(), "rows": 2}
        content[name] = {**about, "options": family.candidates()[0] | short}
    (place / "options.json").write_text(json.dumps(content))


@pytest.fixture
def quick(tmp_path, models, monkeypatch):
    """A place with options that take a moment, where the memory is not measured."""
    monkeypatch.setattr("experiments.explain.evaluate.peak", lambda name, bench, chosen: 1.0)
    monkeypatch.setattr("experiments.explain.bench.BASIS", 10)
    write_options(tmp_path, models)
    return tmp_path


def asked(models, out, **options):
    evaluate(
        "toyfaces", **{"rows": 3, "few": 2, "slowest": 1, "again": 1, "batch": 2, **options}, models=models, out=out
    )


def test_every_method_passes_through(models, quick):
    """All of `METHODS`, in pixels and in codes: measured, compared, drawn; each on its rows."""
    asked(models, quick)
    measured = load_results(quick)
    assert list(measured) == [TRUTH, *METHODS]
    told = measured[TRUTH]
    assert told.value("truth error").mean == 0 < told.nothing()
    assert {name: result.rows for name, result in measured.items()} == {TRUTH: 3} | {
        name: {"all": 3, "few": 2, "slowest": 1}[method.rows] for name, method in METHODS.items()
    }
    for result in measured.values():
        assert result.value("flip rate").n == result.rows
        assert result.value("truth error").n == result.rows
        assert (result.value("processor").mean > 0) is (result is not told)
        assert len(result.together["1"]["sFID without"]) == 10
    text = (quick / "claims.md").read_text()
    assert "not measured" not in text
    assert "published rows.**" in text
    assert len((quick / "table.md").read_text().splitlines()) > 2 * len(METHODS)
    assert (quick / "grid.png").exists()


def test_methods_are_measured_once(models, quick, monkeypatch):
    one = ["MaskDiME"]
    asked(models, quick, only=one)
    found = json.loads((quick / "MaskDiME.json").read_text())
    assert found["options"]["steps"] == 6
    assert set(found["cost"]["forward"]) <= {3.0, 6.0}
    assert len(found["cost"]["forward"]) == 3
    assert [value > 3 for value in found["cost"]["forward"]] == [value == 1 for value in found["cost"]["retried"]]
    assert found["machine"].endswith(f"1 thread, torch {torch.__version__}")
    (line,) = (line for line in found["lines"] if (line["metric"], line["variable"]) == ("L1", "flipped rows"))
    (rate,) = (line for line in found["lines"] if line["metric"] == "flip rate")
    assert [value is None for value in line["values"]] == [value == 0 for value in rate["values"]]

    monkeypatch.setattr(MaskDiME, "explain", lambda *_, **__: pytest.fail("explained again"))
    for again in ({}, {"rows": 2}):
        asked(models, quick, only=one, **again)  # fewer rows do not take the place of more
        assert json.loads((quick / "MaskDiME.json").read_text()) == found
    (quick / "MaskDiME.json").unlink()  # what is kept is enough
    asked(models, quick, only=one)
    assert json.loads((quick / "MaskDiME.json").read_text())["lines"] == found["lines"]


def test_other_questions_are_asked_again(models, quick, monkeypatch):
    made = []
    monkeypatch.setattr("experiments.explain.evaluate.peak", lambda name, *_: made.append(name))
    for count, options in enumerate(({}, {"rows": 5}, {"rows": 5, "again": 2}, {"split": "val"}, {"batch": 3}), 1):
        asked(models, quick, only=["Agreed"], **options)
        assert len(made) == count, options


def test_a_file_covers_what_it_has_more_of():
    held = {"rows": 500, "again": 60, "prefixes": [80, 200, 500]}
    content = {"about": {"weights": "w"}, "asked": held}
    for less in ({}, {"rows": 200, "prefixes": [80, 200]}, {"again": 50}):
        assert covers(content, {"weights": "w"}, held | less)
    for more in ({"rows": 600}, {"again": 61}, {"prefixes": [60, 500]}):
        assert not covers(content, {"weights": "w"}, held | more)
    assert not covers(content, {"weights": "v"}, held)


def test_parts_are_of_the_rows_that_are_asked(models, quick):
    asked(models, quick, only=["Agreed"])
    first = load_results(quick)["Agreed"]
    asked(models, quick, only=["Agreed"], rows=4)  # the second part had one row, and has two
    more = load_results(quick)["Agreed"]
    assert len(more.each("truth error", 4)) == 4
    assert more.each("truth error", 3) == first.each("truth error", 3)

    parts = models / "toyfaces-explanations" / more.folder
    other = Explanation.load(parts / "0-2")
    shutil.rmtree(parts / "0-0")
    other.save(parts / "0-0", pictures=False)
    (quick / "Agreed.json").unlink()
    with pytest.raises(SystemExit, match="explanations of other rows"):
        asked(models, quick, only=["Agreed"], rows=4)
    shutil.rmtree(parts)


def test_stale_options_are_refused(models, quick, monkeypatch):
    path = quick / "options.json"
    content = json.loads(path.read_text())
    tuned = r"run: python -m experiments.explain.tune --data toyfaces"
    for change in ({"weights": "others"}, {"grid": "another"}):
        path.write_text(json.dumps(content | {"MaskDiME": content["MaskDiME"] | change}))
        with pytest.raises(SystemExit, match=f"no options of MaskDiME that.*{tuned}"):
            asked(models, quick, only=["MaskDiME", "Agreed"])
    path.write_text(json.dumps({name: held for name, held in content.items() if name != "LDCE"}))
    with pytest.raises(SystemExit, match=f"no options of LDCE that.*{tuned}"):
        asked(models, quick)
    path.unlink()
    with pytest.raises(SystemExit, match=tuned):
        asked(models, quick, only=["LDCE"])
    with pytest.raises(SystemExit, match="names of METHODS, got MaskDime"):
        asked(models, quick, only=["MaskDime"])
    with pytest.raises(SystemExit, match=r"experiments\.explain\.train --data toyfaces"):
        asked(quick, quick, only=["LDCE"])


def test_results_of_other_options_are_left_out(models, quick):
    asked(models, quick, only=["MaskDiME", "Agreed"])
    path = quick / "options.json"
    content = json.loads(path.read_text())
    content["MaskDiME"]["options"]["share"] = 0.2
    path.write_text(json.dumps(content))
    asked(models, quick, only=[])
    text = (quick / "table.md").read_text()
    assert "| Agreed |" in text
    assert "| MaskDiME |" not in text
    assert "with other weights, options or rows: MaskDiME." in text


def test_weights_of_codes_concern_methods_in_codes(models, tmp_path):
    again = tmp_path / "models"
    shutil.copytree(models, again)
    before = digests("toyfaces", again)
    for folder, concerned in (("autoencoder", {True}), ("latent", {True}), ("spatial", {False, True})):
        (again / f"toyfaces-{folder}" / "config.json").write_text(folder)
        after = digests("toyfaces", again)
        assert {kind for kind in before if before[kind] != after[kind]} == concerned
        before = after
    shutil.rmtree(again / "toyfaces-latent")
    assert digests("toyfaces", again) == {False: before[False]}


def test_a_method_whose_steps_are_not_finite_does_not_stop_the_others(models, quick, monkeypatch):
    def diverging(*_, **__):
        raise FloatingPointError("the step from level 3")

    monkeypatch.setattr(MaskDiME, "explain", diverging)
    with pytest.raises(SystemExit, match="not finite: MaskDiME"):
        asked(models, quick, only=["MaskDiME", "FastDiME"], split="val", rows=1)
    assert (quick / "FastDiME.json").exists()
    assert "Not measured: " in (quick / "table.md").read_text()


def test_memory_is_what_tensors_take_at_most():
    before = [torch.empty(7 * 2**20, dtype=torch.uint8)]  # which does not count, nor that it goes

    def work(watch):
        kept = torch.empty(3 * 2**20, dtype=torch.uint8)
        more = torch.empty(5 * 2**20, dtype=torch.uint8)
        watch.cut()
        del more
        before.clear()
        with torch.no_grad():
            torch.empty(4 * 2**20, dtype=torch.uint8).clone()
        return kept

    found = []
    for _ in range(2):
        with Watch() as watch:
            kept = work(watch)
        found.append((watch.most, watch.now))
        del kept
    assert found == [(11 * 2**20, 3 * 2**20)] * 2
    with Watch() as watch:
        torch.ones(2**20).logsumexp(0)
    assert 1.99 * 2**22 < watch.most < 3 * 2**22  # of the exponentials too, which are gone before it returns


def test_memory_is_that_of_a_few_rows_and_the_same_again(models, quick):
    chosen = {"Agreed": {"steps": 4, "weights": (1.0, 2.0, 0.0)}}
    benches = [prepared(Faces("toyfaces"), models, "val", rows) for rows in (2, 4, 6)]
    found = [peak("Agreed", bench, chosen) for bench in (*benches, benches[1])]
    assert found[1] == found[2] == found[3]
    assert found[1] == pytest.approx(2 * found[0], rel=0.05)  # nearly all of it grows with the rows


def test_options_are_chosen_by_one_rule(models, tmp_path, monkeypatch):
    grid = {"steps": (6,), "scales": ((5.0,), (9.0,))}
    name = "SCE-LITE-HQ, distilled"
    monkeypatch.setattr("experiments.explain.tune.FAMILIES", {name: Family({}, grid)})
    monkeypatch.setitem(FAMILIES, name, Family({}, grid))
    tune("toyfaces", rows=2, models=models, out=tmp_path)
    found = json.loads((tmp_path / "options.json").read_text())[name]
    assert [entry["options"]["scales"] for entry in found["tried"]] == [[5.0], [9.0]]
    monkeypatch.setattr("experiments.explain.tune.tried_out", lambda *_: pytest.fail("tried again"))
    tune("toyfaces", rows=2, models=models, out=tmp_path)
    monkeypatch.setitem(FAMILIES, name, Family({"l1": 0.1}, grid))
    with pytest.raises(pytest.fail.Exception, match="tried again"):
        tune("toyfaces", rows=2, models=models, out=tmp_path)


def test_the_rule():
    def entry(both, flipped, change):
        return {"both": both, "flipped": flipped, "L1": change}

    tried = [entry(5, 12, 0.1), entry(8, 12, 0.3), entry(7, 12, 0.2)]
    assert chosen(tried, 12) is tried[2]
    assert chosen(tried, 8) is tried[1]  # one of eight is more than a twelfth
    silent = [entry(0, 2, 0.01), entry(0, 11, 0.3), entry(0, 12, 0.4)]
    assert chosen(silent, 12) is silent[1]
    assert chosen([{"failed": "not finite"}, *tried], 12) is tried[2]
    with pytest.raises(SystemExit, match="not finite"):
        chosen([{"failed": "not finite"}], 12)


def test_every_method_can_be_made_of_as_many_candidates():
    kit = Kit(Classifier(3, 2, (4,)), SmoothClassifier(3, 2, (4,)))
    for name in METHODS:
        family = family_of(name)
        assert len(FAMILIES[family].candidates()) == CANDIDATES, family
        for options in FAMILIES[family].candidates():
            made = explainer(name, kit, {family: json.loads(json.dumps(options))})
            assert made.batch == BATCH
    assert {family_of(name) for name in METHODS} == set(FAMILIES)
    arms = {claim.first: claim.second for claim in stated() if claim.parts.keys() == {"NA"}}
    assert all(family_of(first) != family_of(second) for first, second in arms.items())


def test_generators_of_pixels_and_codes_are_as_wide():
    code = cf.CausalGraph(
        [(name, "image") for name in NAMES], image=cf.Image(4, 16, 16), **dict.fromkeys(NAMES, cf.Binary())
    )
    widths = [model(graph).mechanisms["image"].widths for graph in (ToyFaces.graph, code)]
    assert widths[0] == widths[1]


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
    (tmp_path / "toyfaces-readers" / "judge" / "config.json").unlink()  # as where it was killed while writing
    (tmp_path / "toyfaces-autoencoder").rename(tmp_path / "toyfaces-autoencoder.part")
    monkeypatch.setattr(train, "fit_reader", lambda *_, **__: pytest.fail("trained again"))
    train.main("toyfaces", out=tmp_path, steps=1, rows=8)
    assert has_predictor(tmp_path / "toyfaces-readers" / "judge")
    assert load(tmp_path / "toyfaces-autoencoder")
    assert not (tmp_path / "toyfaces-autoencoder.part").exists()


def test_mirrored_rows_come_behind_the_others():
    image = torch.arange(2 * 3 * 2 * 2, dtype=torch.uint8).reshape(2, 3, 2, 2)
    rows = Held({"smiling": torch.tensor([0, 1]), "image": image, "id": torch.tensor([7, 8])}, ToyFaces.graph, [], True)
    assert len(rows) == 4
    assert rows[:]["id"].tolist() == [7, 8, 1_000_007, 1_000_008]
    assert torch.equal(rows[[1, 3]]["image"][1], rows[[1, 3]]["image"][0].flip(2))
    more = Held({**rows.rows, "freckles": torch.tensor([0, 1])}, ToyFaces.graph, ["smiling", "freckles"], True)
    assert set(more.modelled()[[3]]) == {"smiling", "image", "id"}
    assert rows.columns(["smiling"])["smiling"].tolist() == rows[:]["smiling"].tolist() == [0, 1, 0, 1]


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
