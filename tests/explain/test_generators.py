"""What generators of our own models are told of an image beside its class."""

import pytest
import torch

from causalcf.explain import LDCE, FastDiME
from causalcf.explain.generator import Listed
from causalcf.explain.generators import Parents, from_scm
from causalcf.mechanisms.features import Features
from causalcf.pretrained import load_pretrained
from causalcf.variables import Binary


def test_a_model_is_told_what_else_an_image_shows():
    digits = load_pretrained("morphodigits-spatial")
    read = {"thickness": lambda x: 1 + x.mean((1, 2, 3)), "slant": lambda x: 9 * x.mean((1, 2, 3)).double()}
    drawing, images = from_scm(digits, label="digit", readers=read), torch.tensor([0.1, 0.0])[:, None, None, None]
    images = images.expand(2, 1, 28, 28)
    features = digits.mechanism("image").features
    given = dict(zip(features.variables, features.mean[:, None].expand(-1, 2), strict=True))
    given |= {"thickness": torch.tensor([1.1, 1.0]), "slant": torch.tensor([0.6, 0.0])}  # it is at most 0.6
    expected = features({**given, "digit": torch.tensor([3, 8])}, 2)
    torch.testing.assert_close(drawing.told(torch.tensor([3, 8]), drawing.given(images)), expected)
    seen = []
    spy = from_scm(digits, label="digit", readers={"slant": lambda x: seen.append(len(x)) or x.mean((1, 2, 3))})
    first = lambda x: 99 * torch.eye(10)[0] + x.mean((1, 2, 3))[:, None]  # noqa: E731
    few = {"steps": 2, "scales": (1.0,), "batch": 2}
    LDCE(**few).explain(first, spy, torch.rand(3, 1, 28, 28), target=1)
    assert seen == [1, 2, 1]  # once before anything is drawn, and then each batch
    FastDiME(steps=4, depth=2, scales=(1.0,)).explain(first, spy, torch.rand(1, 1, 28, 28), target=1)
    assert len(seen) == 3  # it tells no classes


def test_probabilities_are_no_classes_to_tell():
    classes = Parents(Features({"smiling": Binary(), "young": Binary()}), "smiling", Listed(torch.arange(2)))
    with pytest.raises(TypeError, match="the reader of young: expected"):
        classes(torch.tensor([1]), {"young": torch.tensor([0.7])})
    assert classes(torch.tensor([1]), {"young": torch.tensor([True])}).tolist() == [[1.0, 1.0]]
