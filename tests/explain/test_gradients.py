"""Gradient sources: the classifier's own logits, and gradients that explicit loops give."""

import math

import pytest
import torch
from torch import nn

from causalcf.explain import SCE, FastDiME, IntegratedGradients, Led, MaskDiME, SCELiteHQ, SmoothGrad
from causalcf.units import Units

SOURCES = {
    "SmoothGrad": lambda f: SmoothGrad(f, sigma=0.1, samples=5, seed=3),
    "IntegratedGradients": lambda f: IntegratedGradients(f, baseline=0.25, steps=5),
    "Led": lambda f: Led(f, lambda images: 3 * f(images).exp()),
    "both": lambda f: SmoothGrad(IntegratedGradients(f, steps=3), sigma=0.1, samples=4),
}
BY_NAME = {"argvalues": SOURCES.values(), "ids": SOURCES.keys()}
IDS = torch.arange(5)


def binary(images):
    return images.square().mean((1, 2, 3)) * 20 + (9 * images[..., 0, 0]).sin().sum(1)


def classes(images):
    flat = images.flatten(1)
    return torch.stack([flat.square().sum(1), (7 * flat).sin().sum(1), flat.prod(1)], 1)


def gradient(f, images, weight=None):
    leaf = images.clone().requires_grad_()
    logits = f(leaf)
    (found,) = torch.autograd.grad(logits, leaf, torch.ones_like(logits) if weight is None else weight)
    return found


@pytest.mark.parametrize("f", [binary, classes])
@pytest.mark.parametrize("source", **BY_NAME)
def test_logits_are_the_classifiers_own(source, f, images):
    found = source(f)(images.clone().requires_grad_())
    assert found.requires_grad
    assert torch.equal(found, f(images))
    assert torch.equal(source(f)(images), f(images))


@pytest.mark.parametrize("f", [binary, classes])
def test_smoothgrad_is_the_mean_of_gradients_under_noise(f, images):
    weight = torch.randn(f(images).shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = gradient(SmoothGrad(f, sigma=0.1, samples=5, seed=3), images, weight)
    expected = torch.zeros_like(images)
    for index in range(5):
        noise = Units(torch.tensor([0]), 3).normal(f"smoothgrad.{index}", images.shape[1:])[0]
        for row in range(len(images)):
            expected[row] += gradient(f, images[row : row + 1] + 0.1 * noise, weight[row : row + 1])[0] / 5
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)
    assert not torch.allclose(found, gradient(f, images, weight), rtol=0.05)


def test_smoothgrad_goes_to_the_gradient_of_the_blurred_classifier(images):
    """Of `sin(k x)`, blurred by normal noise: `k cos(k x) exp(-(k sigma)^2 / 2)`."""

    def f(x):
        return (8 * x).sin().sum((1, 2, 3))

    found = gradient(SmoothGrad(f, sigma=0.2, samples=800), images[:1])
    expected = 8 * (8 * images[:1]).cos() * math.exp(-((8 * 0.2) ** 2) / 2)
    torch.testing.assert_close(found, expected, atol=8 * 4 / math.sqrt(800), rtol=0)


@pytest.mark.parametrize("baseline", [0.25, torch.linspace(0, 1, 64, dtype=torch.float64).reshape(1, 8, 8)])
@pytest.mark.parametrize("f", [binary, classes])
def test_integrated_gradients_are_the_mean_along_the_way(f, baseline, images):
    weight = torch.randn(f(images).shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = gradient(IntegratedGradients(f, baseline, steps=4), images, weight)
    expected = torch.zeros_like(images)
    for share in (0.125, 0.375, 0.625, 0.875):
        expected += gradient(f, (1 - share) * baseline + share * images, weight) / 4
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


def test_integrated_gradients_are_complete(images):
    """Times the way from the baseline they sum to the difference of logits."""
    found = gradient(IntegratedGradients(binary, 0.1, steps=400), images)
    whole = ((images - 0.1) * found).sum((1, 2, 3))
    torch.testing.assert_close(whole, binary(images) - binary(torch.full_like(images, 0.1)), atol=1e-4, rtol=0)


@pytest.mark.parametrize("f", [binary, classes])
def test_a_led_classifier_has_the_gradient_of_its_leader(f, images):
    leader = SOURCES["SmoothGrad"](f)
    assert torch.equal(gradient(Led(f, leader), images), gradient(leader, images))
    assert not torch.allclose(gradient(Led(f, leader), images), gradient(f, images), rtol=0.05)


def test_a_classifier_without_gradients_can_be_led(generator, classifier, images):
    def hard(x):
        return (classifier(x) > 0).double().detach() - 0.5

    method = MaskDiME(steps=20, depth=6, batch=5)
    with pytest.raises(ValueError, match=r"no gradient of its logits.*Led\(classifier, surrogate\)"):
        method.explain(hard, generator, images, ids=IDS)
    found = method.explain(Led(hard, classifier), generator, images, ids=IDS)
    assert classifier(found.counterfactuals).mul(1 - 2 * found.predicted).mean() > -classifier(images).abs().mean()
    assert torch.equal(found.predicted, (hard(images) > 0).long())


def test_a_leader_has_as_many_logits(images):
    with pytest.raises(ValueError, match=r"logits of \(5,\), the surrogate \(5, 3\); take one that was distilled"):
        gradient(Led(binary, classes), images)


def test_sources_compose(images):
    found = gradient(SOURCES["both"](binary), images)
    expected = torch.zeros_like(images)
    for index in range(4):
        noise = Units(torch.tensor([0])).normal(f"smoothgrad.{index}", images.shape[1:])
        for share in (1 / 6, 1 / 2, 5 / 6):
            expected += gradient(binary, share * (images + 0.1 * noise)) / 12
    torch.testing.assert_close(found, expected, atol=1e-12, rtol=0)


@pytest.mark.parametrize("source", **BY_NAME)
def test_rows_do_not_depend_on_their_batch_and_the_seed_decides(source, images):
    images = torch.cat([images, images[:1]])
    whole = gradient(source(binary), images)
    assert torch.equal(gradient(source(binary), images), whole)
    for row in range(len(images)):
        torch.testing.assert_close(gradient(source(binary), images[row : row + 1])[0], whole[row], atol=1e-13, rtol=0)
    seeds = [gradient(SmoothGrad(binary, seed=seed), images) for seed in (0, 1)]
    assert not torch.allclose(*seeds)


@pytest.mark.parametrize("source", **BY_NAME)
@pytest.mark.parametrize(
    "kind",
    [
        lambda f: SCELiteHQ(surrogate=f, steps=20, strength=0.3, scales=(3.0,), threshold=0.01, batch=2),
        lambda f: SCE(surrogate=f, steps=20, strength=0.15, iterations=4, batch=2),
    ],
    ids=["SCELiteHQ", "SCE"],
)
def test_explainers_follow_them_whatever_the_batch(kind, source, generator, classifier, images):
    def bent(x):
        return classifier(x) + 0.5 * (9 * x).sin().mean((1, 2, 3))

    explainer = kind(source(bent))
    parts = explainer.explain(classifier, generator, images, ids=IDS)
    explainer.batch = 5
    whole = explainer.explain(classifier, generator, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-9, rtol=0)
    assert whole.after.mean() > whole.before.mean() + 0.02
    own = kind(bent).explain(classifier, generator, images, ids=IDS)
    assert not torch.allclose(own.counterfactuals, parts.counterfactuals, atol=1e-6)


def test_only_backward_passes_ask_more_of_the_classifier(images):
    asked = []

    def counted(x):
        asked.append(len(x))
        return binary(x)

    SmoothGrad(counted, samples=7)(images)
    assert asked == [5]
    gradient(SmoothGrad(counted, samples=7), images)
    assert asked == [5] * 9


def test_bad_options_are_refused(images):
    with pytest.raises(ValueError, match="SmoothGrad: expected sigma > 0 and samples >= 1, got 0 and 16"):
        SmoothGrad(binary, sigma=0)
    with pytest.raises(ValueError, match=r"got 0\.1 and 0"):
        SmoothGrad(binary, samples=0)
    with pytest.raises(ValueError, match="IntegratedGradients: expected steps >= 1, got 0"):
        IntegratedGradients(binary, steps=0)
    with pytest.raises(ValueError, match=r"a grey level or a finite image \(C, H, W\), got shape \(8, 8\)"):
        IntegratedGradients(binary, torch.zeros(8, 8))
    with pytest.raises(ValueError, match=r"a finite image"):
        IntegratedGradients(binary, math.nan)
    with pytest.raises(ValueError, match=r"the baseline has shape \(1, 4, 4\), the images \(1, 8, 8\)"):
        IntegratedGradients(binary, torch.zeros(1, 4, 4))(images)


def test_two_classes_may_be_led_by_what_says_them_in_another_form(generator, images):
    column = nn.Sequential(nn.Flatten(), nn.Linear(64, 1)).double().eval()
    explainer = FastDiME(depth=3, steps=10, scales=(8.0,))
    found = explainer.explain(Led(column, lambda x: column(x)[:, 0]), generator, images)
    assert torch.equal(found.counterfactuals, explainer.explain(column, generator, images).counterfactuals)
