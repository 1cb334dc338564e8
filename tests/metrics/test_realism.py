"""Minimality, realism and identity against numbers worked out by hand."""

import math

import numpy as np
import pytest
import scipy.linalg
import torch

from causalcf import do, shift
from causalcf.metrics import Frechet, Identity, Minimality, fid
from causalcf.metrics.minimality import NOTHING
from causalcf.metrics.realism import frechet
from tests.metrics.test_metrics import N, make, make_rows


def flat(x):
    return x.flatten(1)


def maps(x):
    return 2 * x


MAPS = r"gave shape \(400, 1, 2, 2\), expected \(B, D\); write features.flatten\(1\)"


def gaussian(x):
    return flat(x), torch.zeros_like(flat(x)) - 2.0


def reference(count=400, seed=9):
    generator = torch.Generator().manual_seed(seed)
    a, k = 1 + 0.2 * torch.randn(count, generator=generator), torch.randint(2, (count,), generator=generator)
    x = (a / 4 + k / 8).reshape(-1, 1, 1, 1) + 0.02 * torch.randn(count, 1, 2, 2, generator=generator)
    return {"a": a, "k": k, "x": x.clamp(0, 1)}


def only(metric, action, **options):
    world = make(**options).observe(make_rows())
    metric.update(world)
    metric.update(world, action, repr(action), world.do(action))
    found = metric.compute()
    return next(value for label, value in found.items() if label.action and not label.reference), found


def test_doing_nothing_scores_what_the_formula_says():
    assert math.isclose(NOTHING, 0.29539, abs_tol=1e-5)
    for form in ("corrected", "published"):
        metric = Minimality(gaussian, reference(), "x", form)
        _, found = only(metric, do(k=1))
        nothing = next(value for label, value in found.items() if label.reference == "doing nothing")
        assert math.isclose(nothing.mean, NOTHING, abs_tol=1e-6)
    original = Minimality(gaussian, reference(), "x", weight=0.5)
    _, found = only(original, do(k=1))
    nothing = next(value for label, value in found.items() if label.reference == "doing nothing")
    assert math.isclose(nothing.mean + math.log(2), math.log(1 + math.e), abs_tol=1e-6)


@pytest.mark.parametrize("form", ["corrected", "published"])
def test_the_observed_image_itself_scores_what_doing_nothing_does(form):
    world = make().observe(make_rows())
    unchanged = world.do(k=1 - world["k"], x=world["x"])
    for weight, offset, expected in ((0.5, math.log(2), math.log(1 + math.e)), (0.8, 0.0, NOTHING)):
        metric = Minimality(gaussian, reference(), "x", form, weight)
        metric.update(world, do(k=1 - world["k"]), "flip", unchanged)
        for estimate in metric.compute().values():
            assert estimate.n == N
            assert math.isclose(estimate.mean + offset, expected, abs_tol=1e-12)
    assert math.isclose(math.log(1 + math.e), 1.313, abs_tol=5e-4)


@pytest.mark.parametrize("form", ["corrected", "published"])
def test_a_random_image_of_the_target_class_is_nearer_than_half_of_them(form):
    world, fresh = make().observe(make_rows()), reference(4000, seed=3)
    flipped, order = 1 - world["k"], torch.randperm(4000, generator=torch.Generator().manual_seed(0))
    of_class = [order[fresh["k"][order] == k] for k in (0, 1)]
    shares = Minimality(gaussian, reference(), "x", form, weight=1.0)  # log(e^P) is P(S_CF <= div) itself
    for draw in range(20):
        drawn = torch.stack([of_class[k][draw * N + row] for row, k in enumerate(flipped)])
        shares.update(world, do(k=flipped), "flip", world.do(k=flipped, x=fresh["x"][drawn]))
    (estimate,) = (value for label, value in shares.compute().items() if not label.reference)
    assert math.isclose(estimate.mean, 0.5, abs_tol=0.03)


@pytest.mark.parametrize(("others", "fewest", "kept"), [(0, 10, 5), (9, 10, 5), (10, 10, N), (1, 1, N), (1, 2, 5)])
def test_rows_whose_labels_have_too_few_reference_images_are_left_out(others, fewest, kept):
    world, real = make().observe({**make_rows(), "k": torch.arange(N) % 2}), reference()
    of_class = [(real["k"] == k).nonzero()[:, 0] for k in (0, 1)]
    few = torch.cat([of_class[0][:150], of_class[1][:others]])
    metric = Minimality(gaussian, {name: value[few] for name, value in real.items()}, "x", fewest=fewest)
    action = do(k=(torch.arange(N) >= 10).long())  # five of the first ten rows have class 0, and keep it
    metric.update(world, action, "k", world.do(action))
    assert [value.n for value in metric.compute().values()] == [kept, kept]


@pytest.mark.parametrize("target", [2.0, 2.9])
def test_targets_between_and_beside_the_reference_images_have_no_score(target):
    world, real = make().observe(make_rows()), reference()
    real["a"][0] = 3.0
    metric = Minimality(gaussian, real, "x")
    metric.update(world, do(a=target), "a", world.do(a=target))
    assert metric.compute() == {}
    metric.update(world, do(a=1.0), "a", world.do(a=1.0))
    assert {value.n for value in metric.compute().values()} == {N}


def test_minimality_of_one_row_is_that_of_the_definition():
    real, world = reference(), make().observe(make_rows())
    action = do(k=1 - world["k"])
    metric = Minimality(gaussian, real, "x")
    metric.update(world, action, "flip", world.do(action))
    apart = lambda x, y: 0.5 * ((x - y) ** 2 / math.exp(-2.0)).flatten().double().mean()  # noqa: E731
    scores = []
    for row in range(N):
        here, there = world["x"][row], world.do(action)["x"][row]
        div = apart(there, here)
        other = torch.stack([apart(x, here) for x, k in zip(real["x"], real["k"], strict=True) if k != world["k"][row]])
        same = torch.stack([apart(x, here) for x, k in zip(real["x"], real["k"], strict=True) if k == world["k"][row]])
        nearer, further = (other <= div).double().mean(), (same >= div).double().mean()
        scores.append(math.log(0.8 * math.exp(nearer) + 0.2 * math.exp(further)))
    assert math.isclose(_value(metric), np.mean(scores), rel_tol=1e-6)


def _value(metric):
    return next(value.mean for label, value in metric.compute().items() if not label.reference)


def test_the_published_form_takes_the_mean_for_the_log_deviation():
    a, b = torch.tensor([[0.3, -0.2]]).double(), torch.tensor([[0.1, 0.4]]).double()
    metric = Minimality(gaussian, reference(), "x", "published")
    found = metric._divergence_of_rows((a, a * 0 - 5), (b, b * 0 + 5))
    wrong = torch.distributions.Normal(a, a.exp())
    other = torch.distributions.Normal(b, b.exp())
    torch.testing.assert_close(found, torch.distributions.kl_divergence(wrong, other).mean(1))
    right = Minimality(gaussian, reference(), "x")._divergence_of_rows((a, a * 0 - 1), (b, b * 0 + 1))
    expected = torch.distributions.kl_divergence(
        torch.distributions.Normal(a, math.exp(-0.5)), torch.distributions.Normal(b, math.exp(0.5))
    )
    torch.testing.assert_close(right, expected.mean(1))


def test_frechet_distance_is_that_of_numpy_and_adds_up_over_batches():
    real, world = reference()["x"], make().observe(make_rows())
    moved = world.do(k=1)
    whole, parts = Frechet(flat, real, "x"), Frechet(flat, real, "x")
    whole.update(world, do(k=1), "k", moved)
    for index in (slice(0, 13), slice(13, N)):
        part = make().observe({name: value[index] for name, value in make_rows().items()})
        parts.update(part, do(k=1), "k", part.do(k=1))
    first, second = (metric.compute().popitem()[1] for metric in (whole, parts))
    x, y = flat(real).double().numpy(), flat(moved["x"]).double().numpy()
    cx, cy = np.cov(x.T), np.cov(y.T)
    expected = np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx + cy - 2 * scipy.linalg.sqrtm(cx @ cy).real)
    assert math.isclose(first.mean, expected, rel_tol=1e-5)
    assert math.isclose(second.mean, expected, rel_tol=1e-4)
    assert first.n == second.n == N
    assert math.isnan(first.sd)


@pytest.mark.parametrize("scale", [1.0, 1e4])
def test_frechet_distance_is_never_below_zero(scale):
    features = scale * torch.randn(300, 100, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for some in (features, features[:20], features + 5 * scale):
        found = fid(some, some)
        assert math.copysign(1.0, found) == 1.0
        assert found <= 1e-9 * scale**2
    assert math.isnan(frechet(features.mean(0) * math.nan, torch.eye(100), features.mean(0), torch.eye(100)))


def test_frechet_distance_of_observed_rows_stands_beside():
    _, found = only(Frechet(flat, reference()["x"], "x"), do(k=1))
    assert {label.reference for label in found} == {"observed rows", ""}
    beside, moved = (next(v.mean for label, v in found.items() if bool(label.reference) is r) for r in (True, False))
    assert 0 <= beside < moved


def test_identity_against_the_observation_and_the_reconstruction():
    _, found = only(Identity("x"), do(a=shift(0.4)), leak=0.02)
    by_kind = {label.metric: value.mean for label, value in found.items()}
    assert math.isclose(by_kind["identity, to the observation"], 255 * 0.12, rel_tol=1e-4)
    assert math.isclose(by_kind["identity, to the reconstruction"], 255 * 0.1, rel_tol=1e-4)
    _, found = only(Identity("x", encode=flat), do(a=shift(0.0)))
    assert all(abs(value.mean) < 1e-9 for value in found.values())
    assert {label.unit for label in found} == {"1 - cosine"}


def test_identity_takes_any_distance_of_two_images():
    asked = []

    def perceived(a, b):
        asked.append((a.shape, float(a.min()), float(a.max())))
        return (a - b).square().flatten(1).amax(1)

    _, found = only(Identity("x", distance=perceived, named="LPIPS"), do(a=shift(0.4)), leak=0.02)
    by_kind = {label.metric: value for label, value in found.items()}
    assert math.isclose(by_kind["LPIPS, to the observation"].mean, 0.12**2, rel_tol=1e-3)
    assert math.isclose(by_kind["LPIPS, to the reconstruction"].mean, 0.1**2, rel_tol=1e-3)
    assert {label.unit for label in found} == {"-"}
    assert [shape for shape, _, _ in asked] == [(N, 1, 2, 2)] * 2
    assert all(0 <= low <= high <= 1 for _, low, high in asked)


def test_a_distance_of_the_whole_batch_is_refused():
    with pytest.raises(ValueError, match=r"LPIPS: expected a distance of shape \(40,\).*reduction='none'"):
        only(Identity("x", distance=lambda a, b: (a - b).abs().mean(), named="LPIPS"), do(a=shift(0.4)))


def test_reference_images_are_encoded_a_few_at_a_time():
    asked, real = [], reference(200)

    def encode(x):
        asked.append(len(x))
        return flat(x)

    frechet = Frechet(encode, real["x"], "x")
    minimality = Minimality(lambda x: (encode(x), -encode(x)), real, "x")
    assert sum(asked) == 3 * 200
    assert max(asked) <= 64
    assert torch.equal(frechet.real, flat(real["x"]).double())
    mean, log = minimality.codes
    assert torch.equal(mean, flat(real["x"]))
    assert torch.equal(log, -mean)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Minimality(gaussian, reference(50), "x"), "at least 100 reference rows, got 50"),
        (lambda: Minimality(gaussian, reference(), "x", "wrong"), "expected form in"),
        (lambda: Minimality(gaussian, reference(), "x", fewest=0), "whole number fewest >= 1, got 0"),
        (lambda: Minimality(gaussian, reference(), "x", bins=0), "whole number bins >= 1, got 0"),
        (lambda: Minimality(gaussian, reference(), "x", weight=1.5), "weight between 0 and 1, got 1.5"),
        (lambda: Minimality(gaussian, reference(), "x", weight=math.nan), "weight between 0 and 1, got nan"),
        (lambda: Identity("x", flat, lambda a, b: flat(a - b).mean(1)), "an encoder or a distance, got both"),
        (lambda: Frechet(flat, reference(4)["x"], "x"), "more reference images than the 4 features"),
        (lambda: Frechet(maps, reference()["x"], "x"), rf"Frechet: the encoder {MAPS}"),
        (lambda: Minimality(lambda x: (maps(x), maps(x)), reference(), "x"), rf"Minimality: the encoder {MAPS}"),
        (lambda: Identity("x", maps).trial(make().observe(make_rows())), r"identity: the encoder gave shape"),
    ],
)
def test_what_cannot_be_measured_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong()
