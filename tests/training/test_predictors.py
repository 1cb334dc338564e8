"""Classifiers that judge counterfactuals."""

import pytest
import torch

from causalcf.training.predictors import fit_classifier, fit_regressor, load_predictor, save_predictor


class Sides:
    """Images whose bright half is their class."""

    def __init__(self, n=200, seed=0):
        generator = torch.Generator().manual_seed(seed)
        side = torch.randint(2, (n,), generator=generator)
        image = 0.3 * torch.rand(n, 1, 8, 8, generator=generator)
        for row, k in enumerate(side.tolist()):
            image[row, :, :, 4 * k : 4 * k + 4] += 0.5
        level = 10 + 5 * torch.rand(n, generator=generator)
        image = image * (level / 15).reshape(-1, 1, 1, 1)
        self.content = {"image": image, "side": side, "level": level}

    def __len__(self):
        return len(self.content["side"])

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.content.items()}


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


def test_a_regressor_reads_values_in_their_own_unit_and_is_saved(tmp_path):
    regressor = fit_regressor(Sides(), "level", steps=150, batch=32)
    test = Sides(seed=1)[:]
    found = regressor.predict(test["image"])
    assert (found - test["level"]).abs().mean() < 0.5 * (test["level"] - test["level"].mean()).abs().mean()
    save_predictor(regressor, tmp_path)
    torch.testing.assert_close(load_predictor(tmp_path).predict(test["image"]), found, atol=0.02, rtol=0)
    assert regressor.features(test["image"][:3]).shape == (3, 128)
