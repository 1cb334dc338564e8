"""Classifiers that judge counterfactuals."""

import math
import os

import pytest
import torch

from causalcf.networks.classifier import Classifier
from causalcf.training.predictors import (
    fit_classifier,
    fit_regressor,
    has_predictor,
    load_predictor,
    save_predictor,
)


class Rows:
    """Columns, as a data set."""

    def __init__(self, content):
        self.content = content

    def __len__(self):
        return len(next(iter(self.content.values())))

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.content.items()}


class Sides(Rows):
    """Images whose bright half is their class."""

    def __init__(self, n=200, seed=0):
        generator = torch.Generator().manual_seed(seed)
        side = torch.randint(2, (n,), generator=generator)
        image = 0.3 * torch.rand(n, 1, 8, 8, generator=generator)
        for row, k in enumerate(side.tolist()):
            image[row, :, :, 4 * k : 4 * k + 4] += 0.5
        level = 10 + 5 * torch.rand(n, generator=generator)
        image = image * (level / 15).reshape(-1, 1, 1, 1)
        super().__init__({"image": image, "side": side, "level": level})


@pytest.fixture(scope="module")
def classifier():
    return fit_classifier(Sides(), "side", 2, steps=40, batch=32)


def test_it_learns_and_predicts_classes(classifier):
    test = Sides(seed=1)[:]
    found = classifier.predict(test["image"])
    assert found.dtype == torch.int64
    assert (found == test["side"]).double().mean() > 0.95


def test_the_seed_decides_and_nothing_global_is_touched(classifier):
    state = torch.random.get_rng_state()
    again = fit_classifier(Sides(), "side", 2, steps=40, batch=32)
    assert torch.equal(again.head.weight, classifier.head.weight)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_columns_will_do_and_the_image_may_have_any_name(classifier):
    content = dict(Sides().content)
    again = fit_classifier(content, "side", 2, steps=40, batch=32)
    assert torch.equal(again.head.weight, classifier.head.weight)
    content["scan"] = content.pop("image")
    scanned = fit_classifier(content, "side", 2, node="scan", steps=40, batch=32)
    assert torch.equal(scanned.head.weight, again.head.weight)
    read, other = (fit_regressor(rows, "level", node="scan", steps=3) for rows in (content, Rows(content)))
    assert torch.equal(read.predict(content["scan"]), other.predict(content["scan"]))
    with pytest.raises(ValueError, match=r"columns of one length, got \{'side': 200, 'level': 200, 'scan': 7}"):
        fit_regressor({**content, "scan": content["scan"][:7]}, "level", node="scan")


def test_it_is_saved_and_loaded(classifier, tmp_path):
    save_predictor(classifier, tmp_path)
    test = Sides(seed=1)[:]
    assert torch.equal(load_predictor(tmp_path).predict(test["image"]), classifier.predict(test["image"]))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="no predictor, or a damaged one"):
        load_predictor(tmp_path)
    with pytest.raises(ValueError, match="no predictor"):
        load_predictor(tmp_path / "nowhere")


@pytest.mark.parametrize("left", ["weights.part", "config.part"])
def test_one_that_is_not_written_to_its_end_is_none(left, classifier, tmp_path, monkeypatch):
    save_predictor(classifier, tmp_path / "whole")
    assert has_predictor(tmp_path / "whole")
    assert {path.name for path in (tmp_path / "whole").iterdir()} == {"config.json", "weights.safetensors"}
    replace = os.replace

    def killed(source, target):
        if source.name == left:
            raise KeyboardInterrupt
        replace(source, target)

    for folder in ("new", "whole"):
        monkeypatch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            save_predictor(classifier, tmp_path / folder)
        assert not has_predictor(tmp_path / folder)
        monkeypatch.setattr(os, "replace", replace)
        save_predictor(classifier, tmp_path / folder)
        assert has_predictor(tmp_path / folder)


def test_a_regressor_reads_values_in_their_own_unit_and_is_saved(tmp_path):
    regressor = fit_regressor(Sides(), "level", steps=150, batch=32)
    test = Sides(seed=1)[:]
    found = regressor.predict(test["image"])
    assert (found - test["level"]).abs().mean() < 0.5 * (test["level"] - test["level"].mean()).abs().mean()
    save_predictor(regressor, tmp_path)
    torch.testing.assert_close(load_predictor(tmp_path).predict(test["image"]), found, atol=0.02, rtol=0)
    assert regressor.features(test["image"][:3]).shape == (3, 128)


def test_the_scale_of_a_regressor_is_that_of_all_rows():
    level = torch.cat([torch.zeros(10_000), torch.linspace(-1, 1, 400)])
    regressor = fit_regressor(Rows({"image": torch.rand(10_400, 1, 8, 8), "level": level}), "level", steps=1, batch=4)
    torch.testing.assert_close(regressor.std, level.std())


class Changed(Sides):
    """The same images, with one column replaced."""

    def __init__(self, name, values):
        super().__init__()
        self.content[name] = values


class Columns(Changed):
    """Whose columns can be read alone; rows that are read whole are counted."""

    whole = 0

    def columns(self, names):
        return {name: self.content[name] for name in names}

    def __getitem__(self, index):
        self.whole += len(range(*index.indices(len(self)))) if isinstance(index, slice) else len(index)
        return super().__getitem__(index)


def side(row, k):
    values = Sides().content["side"]
    values[row] = k
    return values


SIDE, LEVEL = Sides().content["side"], Sides().content["level"]
ODD = torch.where(torch.arange(200) == 150, math.nan, LEVEL)


@pytest.mark.parametrize("kind", [Changed, Columns])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            SIDE.float(),
            r"int64 classes 0 to 1, one per row, got float32 of shape \(200,\); .*\.long\(\).*fit_regressor",
        ),
        (SIDE.int(), r"int64 classes 0 to 1, one per row, got int32 of shape \(200,\); convert it with \.long\(\)"),
        (SIDE[:, None], r"int64 classes 0 to 1, one per row, got int64 of shape \(200, 1\)"),
        (side(150, 2), r"classes 0 to 1, got 2 in row 150; number them from 0, or give classes=3"),
        (side(150, -1), r"classes 0 to 1, got -1 in row 150; number them from 0"),
    ],
)
def test_targets_that_are_no_classes_are_refused_first(kind, values, expected):
    with pytest.raises(ValueError, match=f"side: expected {expected}"):
        fit_classifier(kind("side", values), "side", 2, steps=2, batch=4)


@pytest.mark.parametrize("kind", [Changed, Columns])
@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (
            SIDE,
            r"floating values, one per row, got int64 of shape \(200,\); convert it with \.float\(\).*fit_classifier",
        ),
        (LEVEL[:, None], r"floating values, one per row, got float32 of shape \(200, 1\)"),
        (ODD, r"finite values, got nan in row 150; leave such rows out"),
        (ODD.nan_to_num(math.inf), r"finite values, got inf in row 150; leave such rows out"),
    ],
)
def test_targets_that_are_no_values_are_refused_first(kind, values, expected):
    with pytest.raises(ValueError, match=f"level: expected {expected}"):
        fit_regressor(kind("level", values), "level", steps=2, batch=4)


@pytest.mark.parametrize("kind", [Changed, Columns])
def test_a_column_that_is_not_there_is_named(kind):
    with pytest.raises(ValueError, match="no column 'level2'; the rows have image, level, side: give one of them"):
        fit_regressor(kind("side", SIDE), "level2", steps=2, batch=4)
    with pytest.raises(ValueError, match="no column 'tall'"):
        fit_classifier(kind("side", SIDE), "tall", 2, steps=2, batch=4)
    rows = kind("side", SIDE)
    rows.content["picture"] = rows.content.pop("image")
    with pytest.raises(ValueError, match="no column 'image'; the rows have level, picture, side"):
        fit_classifier(rows, "side", 2, steps=2, batch=4)


def test_targets_are_read_without_their_images_where_the_rows_can(classifier):
    rows = Columns("side", SIDE)
    fit_classifier(rows, "side", 2, steps=3, batch=4)
    assert rows.whole < 20


@pytest.mark.parametrize(
    ("change", "options", "message"),
    [
        (lambda image: 255 * image, {}, r"image: expected values from 0 to 1, .*write image / 255"),
        (lambda image: image.where(image < 0.7, math.nan), {}, "image: expected finite values, got nan"),
        (lambda image: image[:, 0], {}, r"image: expected shape \(B, C, H, W\), got \(1, 8, 8\); write"),
        (lambda image: image, {"steps": 0}, "predictor of level: expected a whole number steps >= 1, got 0"),
        (lambda image: image, {"batch": 0}, "predictor of level: expected a whole number batch >= 1, got 0"),
        (lambda image: image, {"precision": "float16"}, "level: expected precision 'auto', 'float32' or 'bfloat16'"),
    ],
)
def test_images_and_options_that_teach_nothing_are_refused(change, options, message):
    rows = {"image": change(Sides().content["image"]), "level": LEVEL}
    with pytest.raises(ValueError, match=message):
        fit_regressor(rows, "level", **{"steps": 3, "batch": 200, **options})


def test_a_single_row_is_too_few():
    rows = Sides(1)
    with pytest.raises(ValueError, match="level: expected at least 2 rows, got 1"):
        fit_regressor(rows, "level", steps=2, batch=4)


@pytest.mark.parametrize("step", [0, 3])
def test_a_loss_that_is_not_finite_stops_with_the_step(monkeypatch, step):
    real, seen = Classifier.loss, []

    def explodes(self, *arguments):
        seen.append(1)
        return real(self, *arguments) * (math.inf if len(seen) == step + 1 else 1.0)

    monkeypatch.setattr(Classifier, "loss", explodes)
    with pytest.raises(
        FloatingPointError, match=f"side: the loss became inf at step {step}; check the images and the targets"
    ):
        fit_classifier(Sides(), "side", 2, steps=4, batch=8)


def test_weights_that_are_not_finite_after_the_last_step_are_not_given(monkeypatch):
    real, seen = Classifier.loss, []

    def explodes(self, *arguments):
        seen.append(1)
        odd = (self.head.weight[0, 0] * 0).sqrt() if len(seen) == 4 else 0
        return real(self, *arguments) + odd

    monkeypatch.setattr(Classifier, "loss", explodes)
    with pytest.raises(
        FloatingPointError, match=r"side: \S+ was no longer finite after step 3, where the loss was \d\.\d+"
    ):
        fit_classifier(Sides(), "side", 2, steps=4, batch=8)
