"""What does not fit is said before anything is drawn, with what to do about it."""

import pytest
import torch

from causalcf.explain import SCE, FastDiME
from causalcf.explain.generators import Generator, from_scm
from causalcf.pretrained import load_pretrained

FEW = {"steps": 10, "depth": 3, "scales": (8.0,), "batch": 2}


@pytest.fixture(autouse=True)
def sampled(monkeypatch):
    for kind in (FastDiME, SCE):
        monkeypatch.setattr(kind, "attempt", lambda *_: pytest.fail("sampled"))


def test_a_target_that_already_holds(generator, classifier, images):
    images = images.clone()
    images[[1, 4]] = images[[1, 4]].flip(-1)
    with pytest.raises(ValueError, match=r"2 of 5 rows are decided for it already \(row 1, 4\); leave them out"):
        FastDiME(**FEW).explain(classifier, generator, images, target=0)
    many = images[[1]].expand(7, -1, -1, -1)
    with pytest.raises(ValueError, match=r"7 of 7 rows .* \(row 0, 1, 2, 3, 4, \.\.\.\)"):
        FastDiME(**FEW).explain(classifier, generator, many, target=0)


@pytest.mark.parametrize("length", [4, 6])
def test_as_many_targets_as_rows(generator, classifier, images, length):
    with pytest.raises(ValueError, match=f"one class per row, 5, got {length}"):
        FastDiME(**FEW).explain(classifier, generator, images, target=torch.zeros(length, dtype=torch.int64))


def test_a_generator_of_another_resolution_or_of_other_channels(classifier):
    digits = from_scm(load_pretrained("morphodigits-spatial"))
    assert (digits.channels, digits.size) == (1, (28, 28))
    with pytest.raises(ValueError, match=r"draws images of 1 by 28 by 28 .*, got 1 by 32 by 32; resize the images"):
        FastDiME(**FEW).explain(classifier, digits, torch.rand(2, 1, 32, 32))
    with pytest.raises(ValueError, match=r"draws images of 1 by 28 by 28 .*, got 3 by 28 by 28"):
        FastDiME(**FEW).explain(classifier, digits, torch.rand(2, 3, 28, 28))


def test_a_generator_whose_network_says_that_images_do_not_fit(generator, classifier, images):
    with pytest.raises(ValueError, match=r"does not take images of 3 by 8 by 8: .*; resize the images"):
        FastDiME(**FEW).explain(classifier, generator, images.expand(-1, 3, -1, -1))

    def doubled(x, timestep, condition):
        return torch.cat([x, x], 1)

    with pytest.raises(ValueError, match=r"answers \(1, 1, 8, 8\) with \(1, 2, 8, 8\); .* without variances"):
        FastDiME(**FEW).explain(classifier, Generator(doubled, generator.null), images)
    spoiled = Generator(lambda x, *_: x / 0 - x / 0, generator.null)
    with pytest.raises(FloatingPointError, match="what its network says is not finite"):
        FastDiME(**FEW).explain(classifier, spoiled, images)


def test_a_classifier_without_a_gradient(generator, classifier, images):
    @torch.no_grad()
    def closed(images):
        return classifier(images)

    for flat in (
        closed,
        lambda images: classifier(images).round().detach(),
        lambda images: (images > 0.5).sum((1, 2, 3)),
    ):
        with pytest.raises(ValueError, match="no gradient of its logits reaches the image"):
            FastDiME(**FEW).explain(flat, generator, images)
    with pytest.raises(FloatingPointError, match="the gradient of its logits is not finite"):
        FastDiME(**FEW).explain(lambda images: (images - images).sum((1, 2, 3)).sqrt(), generator, images)


def test_a_surrogate_gives_the_gradient_in_its_place(generator, classifier, images):
    def closed(images):
        return classifier(images).detach()

    assert len(SCE(steps=10, surrogate=classifier).queries(closed, generator, images)) == 1
    with pytest.raises(ValueError, match="or explain with SCE"):
        SCE(steps=10, surrogate=closed).queries(classifier, generator, images)


def test_a_classifier_that_does_not_take_the_images(generator, images):
    narrow = torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8), torch.nn.Flatten()).double()
    with pytest.raises(ValueError, match=r"does not take images of shape \(2, 1, 8, 8\), torch.float64: .*channels"):
        FastDiME(**FEW).explain(narrow, generator, images)
    with pytest.raises(TypeError, match=r"expected logits, a tensor, got dict; .*lambda images: model"):
        FastDiME(**FEW).explain(lambda images: {"logits": images}, generator, images)
