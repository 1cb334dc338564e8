"""Guidance by what predictors read, on the linear-Gaussian image model."""

import math

import pytest
import torch

from causalcf.diffusion.calibration import Calibrated
from causalcf.diffusion.guidance import ClassifierFree, NoGuidance, Step, guided
from causalcf.diffusion.multistep import Multistep
from causalcf.diffusion.readers import Reading
from causalcf.diffusion.trajectory import generate, invert
from tests.diffusion.linear import LinearModel


class Mean:
    """Reads the mean of an image, times ten; the gradient is the same everywhere."""

    def __call__(self, image):
        return 10 * image.flatten(1).mean(1)


class Left:
    """Reads the left half."""

    def __call__(self, image):
        return 4 * image[..., :2].flatten(1).mean(1)


def read_of(x):
    return (x + 1) / 2


def setup(steps=20):
    linear = LinearModel(kind="cosine")
    denoiser = linear.denoiser(steps)
    noise = invert(guided(denoiser, linear.a, NoGuidance()), linear.x, denoiser.levels, Multistep())
    return linear, denoiser, noise


def test_the_readings_reach_their_targets_together():
    linear, denoiser, noise = setup()
    readers = {"mean": Mean(), "left": Left()}
    targets = {name: reader(read_of(linear.x)) + 0.7 for name, reader in readers.items()}
    model = guided(denoiser, linear.a, Reading(readers, targets))
    image = generate(model, noise, denoiser.levels, Multistep())
    plain = generate(guided(denoiser, linear.a, NoGuidance()), noise, denoiser.levels, Multistep())
    for name, reader in readers.items():
        before = (reader(read_of(plain)) - targets[name]).abs().mean()
        after = (reader(read_of(image)) - targets[name]).abs().mean()
        assert after < 0.02 * before


def test_the_change_is_the_least_that_reaches_the_target():
    linear, _, _ = setup()
    reading = Reading({"mean": Mean()}, {"mean": Mean()(read_of(linear.x)) + 1.0})
    change = -reading._needed(linear.x)
    torch.testing.assert_close(Mean()(read_of(linear.x + change)), Mean()(read_of(linear.x)) + 1.0, atol=1e-4, rtol=0)
    torch.testing.assert_close(change, change.flatten(1).mean(1).reshape(-1, 1, 1, 1).expand_as(change))


def test_a_reading_corrects_what_other_guidance_leaves():
    linear, denoiser, _ = setup()
    k, levels = 2, denoiser.levels
    epsilon = 0.1 * linear.xi
    target = Mean()(read_of(linear.x)) + 1.0
    push = ClassifierFree(3.0, linear.null)
    reading = Reading({"mean": Mean()}, {"mean": target})
    other = 0.5 * torch.ones_like(epsilon)
    change = (push + reading)(Step(linear.x, k, levels, epsilon), (other,))
    clean = (linear.x - levels.sigma[k] * (epsilon + change)) / levels.alpha[k]
    torch.testing.assert_close(Mean()(read_of(clean)), target, atol=1e-4, rtol=0)
    apart = push(Step(linear.x, k, levels, epsilon), (other,)) + reading(Step(linear.x, k, levels, epsilon), ())
    clean = (linear.x - levels.sigma[k] * (epsilon + apart)) / levels.alpha[k]
    assert (Mean()(read_of(clean)) - target).abs().mean() > 0.01


@pytest.mark.parametrize("between", [(2.0, math.inf), (2.0, 8.0), (0.0, 2.0)])
def test_images_are_read_between_two_ratios_of_signal_to_noise(between):
    linear, denoiser, _ = setup()
    asked = []

    def reader(image):
        asked.append(len(image))
        return Mean()(image)

    model = guided(denoiser, linear.a, Reading({"mean": reader}, {"mean": torch.zeros(6)}, between=between))
    generate(model, linear.xi, denoiser.levels, Multistep())
    levels = denoiser.levels
    ratios = (levels.alpha[1:] / levels.sigma[1:]).tolist()
    within = [between[0] <= ratio <= between[1] for ratio in ratios]
    assert len(asked) == sum(within)
    assert 0 < sum(within) < len(within)


def test_each_row_takes_the_smallest_scale_that_reads_as_intended():
    linear, denoiser, _ = setup()
    free = ClassifierFree(7.0, linear.null)
    k = 2
    model = guided(denoiser, linear.a, NoGuidance())
    x = denoiser.levels.alpha[k].item() * linear.x
    readings = []
    omegas = (1.0, 1.5, 2.0, 3.0)
    for omega in omegas:
        e = guided(denoiser, linear.a, ClassifierFree(omega, linear.null))(x, k, None)
        clean = (x - denoiser.levels.sigma[k].item() * e) / denoiser.levels.alpha[k].item()
        readings.append(Mean()(read_of(clean).clamp(0, 1)))
    readings = torch.stack(readings)
    want = torch.tensor([0, 1, 2, 3, 1, 0])
    targets = {"mean": readings[want, torch.arange(6)]}
    found = Calibrated(free, {"mean": Mean()}, targets, {"mean": 1e-9}, omegas)
    step = Step(x, k, denoiser.levels, model(x, k, None))
    away = denoiser.epsilon(x, k, linear.null.expand(len(x), -1))
    assert torch.equal(found.chosen(step, away), torch.tensor(omegas, dtype=torch.float64)[want])
    loose = Calibrated(free, {"mean": Mean()}, targets, {"mean": 1e9}, omegas)
    pushed = guided(denoiser, linear.a, loose)(x, k, None)
    torch.testing.assert_close(pushed, model(x, k, None))
    far = Calibrated(
        free, {"mean": Mean()}, {"mean": readings[3] + (readings[3] - readings[0])}, {"mean": 1e-9}, omegas
    )
    assert (far.chosen(step, away) == 3.0).all()
    pulled = guided(denoiser, linear.a, far)(x, k, None)
    thrice = guided(denoiser, linear.a, ClassifierFree(3.0, linear.null))(x, k, None)
    torch.testing.assert_close(pulled, thrice)


def test_a_class_is_read_right_or_wrong():
    linear, denoiser, _ = setup()
    free = ClassifierFree(1.0, linear.null)
    bright = lambda image: (image.flatten(1).mean(1) > 0.5).long()  # noqa: E731
    x = denoiser.levels.alpha[2].item() * linear.x
    step = Step(x, 2, denoiser.levels, denoiser.epsilon(x, 2, linear.a))
    away = denoiser.epsilon(x, 2, linear.null.expand(len(x), -1))
    sigma, alpha = denoiser.levels.sigma[2].item(), denoiser.levels.alpha[2].item()
    now = bright(read_of((x - sigma * step.epsilon) / alpha).clamp(0, 1))
    for target, reached in ((now, True), (1 - now, False)):
        kept = Calibrated(free, {"bright": bright}, {"bright": target}, {"bright": 0.0})
        misses = kept._miss((x - sigma * step.epsilon) / alpha)
        assert ((misses == 0) == reached).all()
    assert (Calibrated(free, {"bright": bright}, {"bright": now}, {"bright": 0.0}).chosen(step, away) == 1).all()


def test_a_scale_that_is_too_large_to_calibrate_is_told():
    linear, denoiser, _ = setup()
    free = ClassifierFree(1e308, 1e9 * linear.null)
    found = Calibrated(free, {"mean": Mean()}, {"mean": torch.zeros(6)}, {"mean": 0.1}, (1e308,), ratio=1e9)
    with pytest.raises(FloatingPointError, match=r"; lower omega=1e\+308, or leave the readers of mean out, or take"):
        guided(denoiser, linear.a, found)(1e9 * linear.x, 4, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [({"omegas": (2.0, 1.0)}, "rising omegas"), ({"targets": {}}, "no target or no tolerance")],
)
def test_what_cannot_be_calibrated_is_refused(options, message):
    given = {"targets": {"mean": torch.zeros(6)}, "tolerance": {"mean": 0.1}} | options
    with pytest.raises(ValueError, match=message):
        Calibrated(ClassifierFree(1.0, torch.zeros(3)), {"mean": Mean()}, **given)
