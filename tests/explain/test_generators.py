"""What generators of our own models are told of an image beside its class."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.explain import LDCE, FastDiME
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
    expected = from_scm(digits, label="digit").told(torch.tensor([3, 8]))
    given = {"thickness": torch.tensor([1.1, 1.0]), "slant": torch.tensor([0.6, 0.0])}  # it is at most 0.6
    rest = {"intensity": torch.zeros(2), "digit": torch.tensor([3, 8])}
    own = features({**given, **rest}, 2)
    for column, name in enumerate(features.variables):
        if name in given:
            expected[:, column] = own[:, column]
    torch.testing.assert_close(drawing.told(torch.tensor([3, 8]), drawing.given(images)), expected)
    seen = []
    spy = from_scm(digits, label="digit", readers={"slant": lambda x: seen.append(len(x)) or x.mean((1, 2, 3))})
    first = lambda x: 99 * torch.eye(10)[0] + x.mean((1, 2, 3))[:, None]  # noqa: E731
    few = {"steps": 2, "scales": (1.0,), "batch": 2}
    LDCE(**few).explain(first, spy, torch.rand(3, 1, 28, 28), target=1)
    assert seen == [1, 2, 1]  # once before anything is drawn, and then each batch
    FastDiME(steps=4, depth=2, scales=(1.0,)).explain(first, spy, torch.rand(1, 1, 28, 28), target=1)
    assert len(seen) == 3  # it tells no classes


@pytest.fixture
def faces():
    """A smile opens the mouth more often than not, and nobody grows younger by it."""
    named = dict.fromkeys(("smiling", "mouth", "young"), Binary())
    edges = "smiling -> mouth; smiling, mouth, young -> image"
    graph = cf.CausalGraph(edges, image=cf.Image(1, 8, 8), **named)
    known = {
        "smiling": M.Binary(probabilities=[0.5, 0.5]),
        "mouth": M.Functional(lambda u, pa: pa["smiling"].clone(), lambda x, pa: 0.0 * x),
        "young": M.Binary(probabilities=[0.25, 0.75]),
    }
    scm = cf.SCM(graph, {**known, "image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["image"].fitted = True
    return scm


def test_what_is_not_read_is_told_as_the_model_draws_it_under_the_label(faces):
    told = from_scm(faces, label="smiling").told(torch.tensor([0, 1, 1]))
    assert list(faces.mechanism("image").features.variables) == ["smiling", "mouth", "young"]
    assert told[:, :2].tolist() == [[0, 0], [1, 1], [1, 1]]
    assert (told[:, 2] == told[0, 2]).all()
    assert abs(told[0, 2] - 0.75) < 0.04
    other = from_scm(faces, label="smiling", readers={"young": lambda x: x.mean((1, 2, 3)) > 0.5})
    images = torch.tensor([0.2, 0.8, 0.8])[:, None, None, None].expand(3, 1, 8, 8)
    assert other.told(torch.tensor([0, 1, 0]), other.given(images)).tolist() == [[0, 0, 0], [1, 1, 1], [0, 0, 1]]


def test_averages_need_fitted_mechanisms_of_what_is_not_read(faces):
    faces.mechanisms["young"].fitted = False
    with pytest.raises(RuntimeError, match="young: its Binary is not fitted yet"):
        from_scm(faces, label="smiling")
    assert from_scm(faces, label="smiling", readers={"young": lambda x: x}).conditions.count == 2


def test_probabilities_are_no_classes_to_tell():
    named = {"smiling": Binary(), "young": Binary()}
    classes = Parents(Features(named), torch.tensor([[0.0, 0.5], [1.0, 0.5]]))
    with pytest.raises(TypeError, match="the reader of young: expected"):
        classes(torch.tensor([1]), {"young": torch.tensor([0.7])})
    assert classes(torch.tensor([1]), {"young": torch.tensor([True])}).tolist() == [[1.0, 1.0]]
