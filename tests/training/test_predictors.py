"""Classifiers that judge counterfactuals."""

import pytest
import torch

from causalcf.training.predictors import fit_classifier, load_classifier, save_classifier


class Sides:
    """Images whose bright half is their class."""

    def __init__(self, n=200, seed=0):
        generator = torch.Generator().manual_seed(seed)
        side = torch.randint(2, (n,), generator=generator)
        image = 0.3 * torch.rand(n, 1, 8, 8, generator=generator)
        for row, k in enumerate(side.tolist()):
            image[row, :, :, 4 * k : 4 * k + 4] += 0.5
        self.content = {"image": image, "side": side}

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
    save_classifier(classifier, tmp_path)
    test = Sides(seed=1)[:]
    assert torch.equal(load_classifier(tmp_path).predict(test["image"]), classifier.predict(test["image"]))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(ValueError, match="no classifier, or a damaged one"):
        load_classifier(tmp_path)
    with pytest.raises(ValueError, match="no classifier"):
        load_classifier(tmp_path / "nowhere")
