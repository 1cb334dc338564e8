"""The model that faces are drawn by, with a classifier as an outcome: effects, smallest changes, and their tables."""

import json

import pytest
import torch
from torch import nn

import causalcf as cf
from causalcf.data import ToyFaces
from experiments.explain import causes
from experiments.explain.causes import effects, interventions, summary, table
from experiments.explain.truth import scored, smallest, smiles, true_scm


def square(images):
    """How magenta the corner is."""
    corner = images[:, :, 55:61, 3:8].mean((2, 3))
    return ((corner[:, 0] - corner[:, 1]) / 0.8).clamp(0, 1)


@pytest.fixture(scope="module")
def data():
    return ToyFaces("test", rows=24, shortcut="marker", target="smiling", strength=0.9)


@pytest.fixture(scope="module")
def scm(data):
    return true_scm(data, square)


@pytest.fixture(scope="module")
def rows(data, scm):
    return scored(data[:], scm)


def test_the_model_is_the_one_that_the_rows_were_drawn_by(data, scm, rows):
    assert torch.equal(rows["score"], square(rows["image"]))
    world = scm.observe(rows)
    again = world.do(recompute=True)
    assert all(torch.equal(again[name], rows[name]) for name in world)
    for action in (cf.do(smiling=0), cf.do(male=1), cf.do(old=1, smiling=1)):
        truth, ours = data.true_counterfactual(rows, action), world.do(action)
        assert all(torch.equal(truth[name], ours[name]) for name in data.graph)
        assert torch.equal(ours["score"], square(truth["image"]))


def test_new_units_are_other_rows_of_the_same_law(scm):
    drawn = scm.sample(40, seed=1)
    assert not torch.equal(drawn["smiling"], scm.sample(40, seed=2)["smiling"])
    assert (drawn["smiling"] == drawn["marker"]).double().mean() > 0.85
    assert torch.equal(drawn["score"] > 0.5, drawn["marker"] > 0)


def test_effects_go_where_the_classifier_looks(scm, rows):
    found = effects(scm, rows)
    marker, smile, mouth = found["marker"], found["smiling"], found["mouth_open"]
    on = (square(scm.observe(rows).do(marker=1)["image"]) - square(scm.observe(rows).do(marker=0)["image"])).mean()
    assert marker["total"]["mean"] == marker["direct"]["mean"] == pytest.approx(on.item())
    assert (marker["indirect"]["mean"], marker["on the smile"]["mean"], marker["through"]) == (0.0, 0.0, [])
    follows = scm.observe(rows).do(smiling=1)["marker"] - scm.observe(rows).do(smiling=0)["marker"]
    assert smile["direct"]["mean"] == pytest.approx(0.0, abs=1e-6)
    assert (
        smile["total"]["mean"]
        == smile["indirect"]["mean"]
        == pytest.approx(on.item() * follows.double().mean().item(), abs=0.02)
    )
    assert (smile["on the smile"]["mean"], smile["through"]) == (1.0, ["mouth_open", "marker"])
    assert mouth["total"]["mean"] == pytest.approx(0.0, abs=1e-6)


def test_interventions_take_descendants_along(scm, rows):
    found = interventions(scm, rows)
    assert found["smiling"] == 1.0
    assert found["marker"] == found["decision"] > 0.8
    assert 0.5 < found["mouth_open"] < 0.95
    assert found["hat"] == 0.0


def test_the_smallest_redrawing_takes_the_nearest_of_the_fewest(data, rows):
    found = smallest(data, rows, square)
    assert found.found.all()
    assert found.changed["marker"].all()
    assert sum(flags.sum() for flags in found.changed.values()) == len(rows["id"])
    marked = data.draw(rows["id"], {**rows, "marker": 1 - rows["marker"]})
    assert torch.equal(found.images, marked)

    hat, old = data.oracles()["hat"], data.oracles()["old"]
    few = {name: value[:10] for name, value in rows.items()}
    for other, nearer in {square: "marker", old: "old"}.items():  # a hat would do as well, and has more pixels
        nearest = smallest(data, few, lambda images, other=other: (other(images) - hat(images).float()).abs())
        assert nearest.changed[nearer].all()
        assert not nearest.changed["hat"].any()


def test_two_attributes_are_changed_where_one_is_not_enough_and_none_where_two_are_not(data, rows):
    readers = data.oracles()
    few = {name: value[:6] for name, value in rows.items()}
    few |= {"hat": torch.zeros(6).long(), "blond": torch.zeros(6).long()}
    few["image"] = data.draw(few["id"], few)
    pair = smallest(data, few, lambda images: (readers["hat"](images) * readers["blond"](images)).float())
    assert pair.found.all()
    assert pair.changed["hat"].all() and pair.changed["blond"].all()
    assert sum(flags.sum() for flags in pair.changed.values()) == 12
    never = smallest(data, few, lambda images: torch.zeros(len(images)))
    assert not never.found.any()
    assert not any(flags.any() for flags in never.changed.values())
    assert torch.equal(never.images, few["image"])


def test_a_score_is_the_probability_of_the_second_class():
    images = torch.rand(300, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    one = lambda x: 5 * (x.mean((1, 2, 3)) - 0.5)  # noqa: E731
    two = lambda x: torch.stack([-one(x) / 2, one(x) / 2], 1)  # noqa: E731
    torch.testing.assert_close(smiles(one)(images), one(images).sigmoid())
    torch.testing.assert_close(smiles(two)(images), one(images).sigmoid())


def test_a_summary_is_a_mean_with_its_interval():
    found = summary(torch.tensor([0.0, 1.0, 2.0, 3.0]))
    assert found["mean"] == 1.5
    assert found["half_width"] == pytest.approx(3.1824463 * 1.2909944 / 2)


class Mouth(nn.Module):
    def forward(self, images):
        red = 8 * (images[:, 0, 40:54, 20:44].mean((1, 2)) - images[:, 1, 40:54, 20:44].mean((1, 2)) - 0.2)
        return torch.stack([-red, red], 1) + 4 * square(images)[:, None] * torch.tensor([-1.0, 1.0])


@pytest.fixture
def options(tmp_path, monkeypatch):
    """Of few rows, of a classifier that needs no training."""

    def save(network, folder):
        folder.mkdir(parents=True)
        for name in ("weights.safetensors", "config.json"):
            (folder / name).write_text("1")

    monkeypatch.setattr(causes, "fit_reader", lambda *_, **__: Mouth())
    monkeypatch.setattr(causes, "save_predictor", save)
    monkeypatch.setattr(causes, "load_predictor", lambda folder: Mouth())
    monkeypatch.setattr(causes, "Classifier", Mouth)
    return {"rows": 8, "train": 20, "steps": 5, "runs": tmp_path / "runs", "out": tmp_path / "out"}


def test_a_classifier_is_measured_once_and_written(options, tmp_path):
    causes.main(cases=["marker"], **options)
    (path,) = (tmp_path / "out").glob("*.json")
    content = json.loads(path.read_text())
    assert (path.name, content["explained"], content["rows"]) == ("marker-drawn-0.json", None, 8)
    assert content["effects"]["marker"]["total"]["mean"] > 0.5
    path.write_text(json.dumps({**content, "case": "kept"}))
    causes.main(cases=["marker"], **options)
    assert (tmp_path / "out" / "table.md").read_text().startswith("# Causes and explanations\n\n## kept\n")


def test_what_was_asked_otherwise_is_measured_again(options, tmp_path, monkeypatch):
    made = []

    def measured(asked):
        made.append(asked.rows)
        return {"case": asked.case, "rows": asked.rows}

    monkeypatch.setattr(causes, "measured", measured)
    monkeypatch.setattr(causes, "table", lambda content: [f"{content['case']} {content['rows']}"])
    options |= {"cases": ["marker"], "generator": "gaussian"}
    path, text = tmp_path / "out" / "marker-gaussian-0.json", tmp_path / "out" / "table.md"
    for change in ({}, {"rows": 9}, {"train": 21}, {"steps": 6}, {"explain": 3}, {"rows": 8}):
        options |= change
        for _ in range(2):
            causes.main(**options)
    assert made == [8, 9, 9, 9, 9, 8]
    for weights in options["runs"].glob("*/weights.safetensors"):
        weights.write_text("2")
    causes.main(**options)
    assert len(made) == 7
    monkeypatch.setattr(causes, "chosen", lambda *_: {"steps": 70})
    causes.main(**options)
    assert len(made) == 8
    content = json.loads(path.read_text())
    path.write_text(json.dumps({"case": "old", "rows": 3}))  # a file of before what was asked was written
    causes.main(**{**options, "cases": []})
    assert (len(made), text.read_text().splitlines()[-1]) == (8, "old 3")
    causes.main(**options)
    assert len(made) == 9
    assert json.loads(path.read_text()) == content


def test_a_student_leads_if_asked(tmp_path, monkeypatch):
    taught = []
    monkeypatch.setattr(
        causes, "asked", lambda network, rows, steps, seed: taught.append((len(rows), steps)) or network
    )
    monkeypatch.setattr(causes, "chosen", lambda *_: {"steps": 6, "depth": 3, "scales": (4.0,)})
    data = ToyFaces("test", rows=3)
    learned = causes.kept(data)
    found = causes.explained(data, data[:], Mouth(), "gaussian", tmp_path, lambda: learned, 5)
    assert taught == [(3, 5)]
    assert found["generator"] == "gaussian, distilled"


def test_the_table_says_what_was_measured():
    part = {"mean": 0.25, "half_width": 0.05}
    effect = {"total": part, "direct": part, "indirect": part, "through": ["marker"], "on the smile": {"mean": 1.0}}
    content = {"case": "one", "shortcut": "marker", "strength": 0.9, "rows": 9, "seed": 0, "accuracy": 0.75}
    content |= {"accuracy without the shortcut": 0.5, "effects": {"smiling": effect}}
    content |= {
        "interventions": {"smiling": 1.0, "decision": 0.5},
        "smallest": {"found": 8, "share": {"smiling": 0.375}},
    }
    content["explained"] = {
        "generator": "gaussian",
        "explainer": {"method": "ACE"},
        "changes": {"share": {"smiling": 0.125}, "nothing": 0.5, "rows": 4},
    }
    *_, head, _, line, none, end = table(content)
    assert head.endswith("| by ACE, gaussian |")
    parts = "+0.250 ± 0.050 | +0.250 ± 0.050 | +0.250 ± 0.050"
    assert line == f"| smiling | +1 | {parts} | marker | 1.00 | 0.38 | 0.12 |"
    assert none.endswith("| 0.50 of 4 |")
    assert none.count("|") == line.count("|")
    assert end == ""
