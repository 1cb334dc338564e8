"""Repair: shortcuts are found by what explanations change, judged by a teacher, and unlearned."""

import json
import math

import pytest
import torch
from torch import nn

from causalcf.explain import changes, gain, repair, repairs
from causalcf.explain.explainer import Explainer
from causalcf.explain.repairs import accuracy
from causalcf.training.repair import UNKNOWN

FAST = {"steps": 120, "batch": 32, "rate": 0.03}


class Cornered:
    """Images whose class is the brighter half, faintly; a bright row at the bottom tells it too, as often as not."""

    def __init__(self, n=400, strength=1.0, seed=0):
        generator = torch.Generator().manual_seed(seed)
        side, other = torch.randint(2, (2, n), generator=generator)
        follows = torch.rand(n, generator=generator) < strength
        bar = torch.where(follows, side, other)
        image = 0.3 + 0.2 * torch.rand(n, 1, 8, 8, generator=generator)
        image[..., 4:] += 0.08 * side.reshape(-1, 1, 1, 1)
        image[..., :4] += 0.08 * (1 - side).reshape(-1, 1, 1, 1)
        image[:, :, 7] = bar.reshape(-1, 1, 1).float()
        self.content = {"image": image, "side": side, "bar": bar, "id": torch.arange(n) + 1000 * seed}

    def __len__(self):
        return len(self.content["side"])

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.content.items()}


def side(images):
    return (images[:, :, :7, 4:].mean((1, 2, 3)) > images[:, :, :7, :4].mean((1, 2, 3))).long()


def bar(images):
    return (images[:, 0, 7, 0] > 0.5).long()


READERS = {"side": side, "bar": bar}


class Linear(nn.Module):
    """Reads the bar, and nothing else."""

    def __init__(self, bar=1.0):
        super().__init__()
        self.head = nn.Linear(64, 1)
        self.head.weight.data.zero_().unflatten(1, (8, 8))[:, 7] = bar
        self.head.bias.data.fill_(-4.0 * bar)
        self.eval()

    def forward(self, images):
        return self.head(images.flatten(1))


class Redrawing(Explainer):
    """Changes what it is told to."""

    def __init__(self, *parts, skipped=(), batch=1000):
        super().__init__((1.0,), None, batch, 0)
        self.parts, self.skipped, self.asked = parts, skipped, []

    def attempt(self, attempt):
        self.asked += attempt.units.ids.tolist()
        found = attempt.images.clone()
        if "bar" in self.parts:
            found[:, :, 7] = 1 - found[:, :, 7]
        if "side" in self.parts:
            found[:, :, :7] = found[:, :, :7].flip(3)
        for place in self.skipped:
            found[place] = attempt.images[place]
        return found, torch.ones_like(found, dtype=torch.bool)


@pytest.fixture(scope="module")
def rows():
    return Cornered()


@pytest.fixture
def run(rows, generator):
    def repairing(explainer, classifier=None, teacher=side, **options):
        given = {"label": "side", "count": 100, **FAST, **options}
        return repair(classifier or Linear(), explainer, generator, rows, teacher, **given)

    return repairing


def test_a_shortcut_is_found_and_unlearned(run):
    unbiased = Cornered(strength=0.0, seed=1)
    done = run(Redrawing("bar"), readers=READERS, unbiased=unbiased)
    (only,) = done.rounds
    assert only.fooled == 1.0
    assert (only.changes.share, only.changes.along) == ({"side": 0.0, "bar": 1.0}, {"side": 0.0, "bar": 1.0})
    assert torch.equal(only.labels, side(only.explanation.images))
    assert done.accuracy < 0.65
    assert only.accuracy > 0.9
    assert only.accuracy == accuracy(done.classifier, unbiased, "side")
    assert done.gain == pytest.approx((only.accuracy - done.accuracy) / (1 - done.accuracy))
    assert done.gain > 0.75
    json.dumps(done.to_dict())


def test_rows_may_be_a_mapping(generator):
    rows, options = Cornered(60), {"label": "side", "count": 20, **FAST, "steps": 2}
    one, other = (
        repair(Linear(), Redrawing("bar"), generator, given, side, unbiased=given, **options)
        for given in (rows, rows.content)
    )
    assert torch.equal(one.rounds[0].explanation.ids, other.rounds[0].explanation.ids)
    assert torch.equal(one.classifier.head.weight, other.classifier.head.weight)
    assert (one.accuracy, one.rounds[0].accuracy) == (other.accuracy, other.rounds[0].accuracy)


def test_what_is_explained_is_made_of_the_classifier_of_each_round(run):
    made = []

    def asked(classifier):
        made.append(classifier)
        return lambda images: -classifier(images)  # decides otherwise

    done = run(Redrawing("bar"), asked=asked, rounds=2)
    assert made[0] is not made[1]
    with torch.no_grad():
        for classifier, each in zip(made, done.rounds, strict=True):
            found = each.explanation
            assert torch.equal(found.predicted, (classifier(found.images)[:, 0] < 0).long())


def test_without_counterfactuals_of_the_shortcut_it_stays(run):
    """What repairs are the teacher's labels, not further training: counterfactuals that change all teach nothing."""
    done = run(Redrawing("bar", "side"), readers=READERS, unbiased=Cornered(strength=0.0, seed=1))
    (only,) = done.rounds
    assert only.fooled == 0.0
    assert only.changes.share == {"side": 1.0, "bar": 1.0}
    assert torch.equal(only.labels, only.explanation.target)
    assert done.gain < 0.3


def test_counterfactuals_that_flip_nothing_are_left_out(run):
    done = run(Redrawing("bar", skipped=(0, 3)))
    assert [int(label) == UNKNOWN for label in done.rounds[0].labels[:5]] == [True, False, False, True, False]
    assert done.to_dict()["rounds"][0] == {
        "explained": 100,
        "flipped": 98,
        "used": 98,
        "fooled": 1.0,
        "changes": None,
        "accuracy": None,
    }
    assert math.isnan(done.gain)


def test_with_a_class_as_target_the_rows_that_are_not_decided_for_it_are_explained(run, rows):
    explanation = run(Redrawing("bar"), target=1).rounds[0].explanation
    assert 20 < len(explanation) < 80
    assert set(explanation.predicted.tolist()) == {0}
    always = Linear()
    with torch.no_grad():
        always.head.weight.zero_()
        always.head.bias.fill_(5.0)
    with pytest.raises(ValueError, match="decides all 100 rows of a round for class 1 already"):
        run(Redrawing("bar"), classifier=always, target=1)


def test_every_round_explains_other_rows_and_keeps_what_was_found(run, monkeypatch):
    given = []

    def spy(classifier, rows, label, images, labels, **options):
        given.append((images, labels, options["seed"]))
        return Linear()  # none the wiser, so that the next round finds as much

    monkeypatch.setattr(repairs, "repaired", spy)
    explainer = Redrawing("bar")
    done = run(explainer, rounds=3, count=50)
    assert len(set(explainer.asked)) == 150
    assert [len(images) for images, _, _ in given] == [50, 100, 150]
    assert torch.equal(given[2][0][:50], done.rounds[0].explanation.counterfactuals)
    assert torch.equal(given[2][1][100:], done.rounds[2].labels)
    assert len({seed for _, _, seed in given}) == 3


def test_a_repaired_classifier_is_what_the_next_round_explains(run):
    done = run(Redrawing("bar"), rounds=2)
    first, second = done.rounds
    assert first.explanation.flipped.all()
    assert second.explanation.flipped.double().mean() < 0.5


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"count": 300, "rounds": 2}, ValueError, "no more than the 400 rows"),
        ({"rounds": 0}, ValueError, "rounds=0"),
        ({"label": "smile"}, ValueError, "no column 'smile'; the rows have bar, id, image, side"),
        ({"teacher": lambda images: images.mean((1, 2, 3))}, TypeError, r"teacher: expected int64 classes.*argmax"),
        (
            {"teacher": lambda images: torch.full((len(images),), -1)},
            RuntimeError,
            "of 100 counterfactuals 100 flipped",
        ),
        ({"classifier": Linear().train()}, ValueError, r"call \.eval\(\)"),
        ({"share": 2.0}, ValueError, "share=2.0"),
    ],
)
def test_what_does_not_fit_is_refused(run, changed, error, message):
    with pytest.raises(error, match=message):
        run(Redrawing("bar"), **changed)


def test_changes_are_of_flipped_rows_and_have_a_direction(generator, rows):
    images = rows[:6]["image"]
    explanation = Redrawing("bar", skipped=(1,)).explain(Linear(), generator, images)
    backwards = {"rab": lambda images: 1 - bar(images)}
    found = changes(explanation, READERS | backwards, batch=2)
    assert found.rows == 5
    assert found.share == {"side": 0.0, "bar": 1.0, "rab": 1.0}
    assert found.along == {"side": 0.0, "bar": 1.0, "rab": -1.0}
    assert found.nothing == changes(explanation, {"bar": bar, "side": side}).nothing == 0.0
    assert changes(explanation, {"side": side}).nothing == 1.0
    many = changes(explanation, {"level": lambda images: 2 * bar(images)})
    assert many.share == {"level": 1.0}
    assert "| level | 1.00 | - |" in many.to_markdown()  # of three classes none is the other one
    assert many.to_dict()["along"] == {"level": None}
    table = found.to_markdown().splitlines()
    assert table[0] == "| attribute | changed, of 5 | with the target |"
    assert table[-2:] == ["| side | 0.00 | +0.00 |", "| none of these | 0.00 | |"]


def test_changes_need_flips_readers_and_classes(generator, rows):
    explanation = Redrawing("bar", skipped=range(4)).explain(Linear(), generator, rows[:4]["image"])
    with pytest.raises(ValueError, match="none of 4 counterfactuals flipped"):
        changes(explanation, READERS)
    explanation = Redrawing("bar").explain(Linear(), generator, rows[:4]["image"])
    with pytest.raises(ValueError, match="at least one reader"):
        changes(explanation, {})
    with pytest.raises(TypeError, match="bar: expected int64 classes"):
        changes(explanation, {"bar": lambda images: images[:, 0, 7, 0]})


def test_gain_is_the_share_of_errors_undone():
    assert gain(0.5, 1.0) == 1.0
    assert gain(0.8, 0.7) == pytest.approx(-0.5)
    assert math.isnan(gain(1.0, 1.0))
