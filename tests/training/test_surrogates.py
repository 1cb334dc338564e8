"""Smooth surrogates: they agree with a classifier, are smoother than it, and learn what their terms say."""

import json
import math
from dataclasses import dataclass

import lightning as L
import pytest
import torch
from scipy.stats import beta
from torch import nn

from causalcf.networks.smooth import SmoothClassifier, SmoothLeaky
from causalcf.training import surrogates
from causalcf.training.predictors import load_predictor, save_predictor
from causalcf.training.steps import Batches, derived_seed
from causalcf.training.surrogates import Distillation, distil
from causalcf.training.terms import Adversarial, MixUp, Smoothing, Term, divergence, log_probabilities
from causalcf.units import Units

WIDTHS = (8, 16)
FAST = {"widths": WIDTHS, "batch": 32, "rate": 3e-3}


class Sides:
    """Unlabelled images, one half of which is brighter."""

    def __init__(self, n=256, seed=0):
        generator = torch.Generator().manual_seed(seed)
        image = 0.2 + 0.3 * torch.rand(n, 1, 8, 8, generator=generator)
        lift = 0.3 * torch.rand(n, 2, generator=generator)
        self.content = {"image": image + lift.repeat_interleave(4, 1)[:, None, None]}

    def __len__(self):
        return len(next(iter(self.content.values())))

    def __getitem__(self, index):
        return {name: value[index] for name, value in self.content.items()}


def ragged(images):
    """Which half is brighter, with a gradient that is mostly ripples."""
    left, right = images[..., :4].mean((1, 2, 3)), images[..., 4:].mean((1, 2, 3))
    return 30 * (left - right) + 2 * (60 * images).sin().mean((1, 2, 3))


def thirds(images):
    """Three classes: the brighter half, or neither."""
    difference = 20 * (images[..., :4].mean((1, 2, 3)) - images[..., 4:].mean((1, 2, 3)))
    return torch.stack([difference, -difference, torch.ones_like(difference)], 1)


@pytest.fixture(scope="module")
def surrogate():
    return distil(ragged, Sides(), steps=100, **FAST)


def images(n=6):
    return Sides(n, seed=5)[:]["image"]


def logits(n=6, k=3, seed=0):
    return 2 * torch.randn(n, k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def linear(weight, bias):
    """A student of two or more classes."""
    return lambda x: (x.flatten(1) @ weight.T + bias).log_softmax(1)


def student(k=3):
    generator = torch.Generator().manual_seed(1)
    return linear(torch.randn(k, 64, generator=generator), torch.randn(k, generator=generator))


# ---- what it becomes


def test_it_agrees_with_the_classifier_on_images_it_has_not_seen(surrogate):
    test = Sides(300, seed=1)[:]["image"]
    said, found = ragged(test), surrogate(test)
    assert found.shape == said.shape
    assert ((found > 0) == (said > 0)).double().mean() > 0.93
    sure = said.abs() > 2
    assert ((found > 0) == (said > 0))[sure].double().mean() > 0.99
    assert torch.equal(surrogate.predict(test), (found > 0).long())


def test_rows_may_be_a_mapping():
    few = {**FAST, "steps": 2, "batch": 8}
    one, other = (distil(ragged, rows, **few) for rows in (Sides(20), Sides(20).content))
    assert torch.equal(one(images()), other(images()))
    with pytest.raises(ValueError, match="expected a column 'image', got x"):
        distil(ragged, {"x": images()}, **few)


def test_its_gradients_turn_less_than_those_of_the_classifier(surrogate):
    test = Sides(100, seed=2)[:]["image"]
    away = test + 0.05 * torch.randn(test.shape, generator=torch.Generator().manual_seed(0))

    def turned(f):
        slopes = []
        for x in (test, away):
            leaf = x.clone().requires_grad_()
            slopes.append(torch.autograd.grad(f(leaf).sum(), leaf)[0].flatten(1))
        return torch.cosine_similarity(*slopes).mean()

    assert turned(ragged) < 0.5
    assert turned(surrogate) > 0.85


@pytest.mark.parametrize("form", ["(B,)", "(B, 1)", "(B, 2)", "(B, 3)"])
def test_its_logits_have_the_form_of_the_classifiers(form, tmp_path):
    forms = {
        "(B,)": ragged,
        "(B, 1)": lambda x: ragged(x)[:, None],
        "(B, 2)": lambda x: thirds(x)[:, :2],
        "(B, 3)": thirds,
    }
    found = distil(forms[form], Sides(), steps=120, terms=(), **FAST)
    test = Sides(200, seed=1)[:]["image"]
    said = forms[form](test)
    assert found(test).shape == said.shape
    one = said.ndim == 1 or said.shape[1] == 1
    expected = (said.flatten() > 0).long() if one else said.argmax(1)
    assert (found.predict(test) == expected).double().mean() > 0.9
    assert found.loss(test, expected).shape == (200,)
    assert (found.loss(test, expected) < found.loss(test, 1 - expected.clamp(max=1)))[
        expected < 2
    ].double().mean() > 0.9
    save_predictor(found, tmp_path)
    assert load_predictor(tmp_path)(test).shape == said.shape


def test_it_is_a_function_of_each_image_alone_in_training_too(surrogate):
    x = images()
    whole = surrogate(x)
    surrogate.train()
    torch.testing.assert_close(surrogate(x[2:3]), whole[2:3], atol=1e-5, rtol=0)
    surrogate.eval()


def test_it_begins_with_channels_of_mean_0_and_variance_1():
    torch.manual_seed(0)
    images = 0.8 + 0.02 * torch.rand(64, 3, 16, 16)  # bright and flat: nearly the same in every channel
    network = SmoothClassifier(3, 2, (8, 8))
    network.standardise(images)
    x, seen = 2 * images - 1, 0
    for layer in network.body:
        x = layer(x)
        if isinstance(layer, torch.nn.Conv2d):
            torch.testing.assert_close(x.mean((0, 2, 3)), torch.zeros(8), atol=1e-3, rtol=0)
            torch.testing.assert_close(x.std((0, 2, 3)), torch.ones(8), atol=1e-3, rtol=0)
            seen += 1
    assert seen == 4


def test_its_activation_is_the_published_one():
    a = torch.tensor([-2.0, -0.1, 0.0, 0.1, 2.0], dtype=torch.float64)
    expected = [0.5 * (max(x, 0.1 * x) + math.log1p(math.exp(10 * x)) / 10) for x in a.tolist()]
    torch.testing.assert_close(SmoothLeaky()(a), torch.tensor(expected, dtype=torch.float64), atol=1e-8, rtol=0)


def test_it_is_saved_and_loaded(surrogate, tmp_path):
    save_predictor(surrogate, tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["type"] == "SmoothClassifier"
    again = load_predictor(tmp_path)
    assert isinstance(again, SmoothClassifier)
    assert not again.training
    test = Sides(50, seed=1)[:]["image"]
    torch.testing.assert_close(again(test), surrogate(test), atol=0.03, rtol=0.01)


def test_the_seed_decides_and_nothing_global_is_touched():
    state = torch.random.get_rng_state()
    first, again, other = (distil(ragged, Sides(), steps=4, seed=seed, **FAST) for seed in (0, 0, 1))
    for name, weight in first.state_dict().items():
        assert torch.equal(weight, again.state_dict()[name])
    assert not torch.equal(first.head.weight, other.head.weight)
    still = [distil(ragged, Sides(), steps=1, seed=seed, widths=WIDTHS, rate=1e-9).head.weight for seed in (0, 1)]
    assert not torch.allclose(*still, atol=1e-3)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_half_precision_learns_the_same():
    found = distil(ragged, Sides(), steps=60, terms=(), precision="bfloat16", **FAST)
    test = Sides(200, seed=1)[:]["image"]
    assert found.head.weight.dtype == torch.float32
    assert ((found(test) > 0) == (ragged(test) > 0)).double().mean() > 0.9


def test_a_module_stays_as_it_is_and_is_asked_in_eval_mode(monkeypatch):
    network = nn.Sequential(nn.BatchNorm2d(1), nn.Dropout(0.9), nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0))
    network.train()
    before = {name: value.clone() for name, value in network.state_dict().items()}
    said, real = [], surrogates._asked

    def spy(classifier, x):
        said.append((x, real(classifier, x)))
        return said[-1][1]

    monkeypatch.setattr(surrogates, "_asked", spy)
    distil(network, Sides(), steps=3, terms=(), **FAST)
    assert network.training
    assert all(p.requires_grad and p.grad is None for p in network.parameters())
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])
    network.eval()
    assert len(said) == 1 + 3
    for x, found in said:
        torch.testing.assert_close(found, network(x).detach())


# ---- what its terms are


def test_log_probabilities_of_every_form():
    x = logits(5, 1)
    p = torch.cat([1 - x.sigmoid(), x.sigmoid()], 1)
    torch.testing.assert_close(log_probabilities(x).exp(), p)
    torch.testing.assert_close(log_probabilities(x[:, 0]).exp(), p)
    torch.testing.assert_close(log_probabilities(logits()).exp(), logits().softmax(1))


def test_divergence_is_of_the_surrogate_from_the_classifier():
    p, q = logits().log_softmax(1), logits(seed=1).log_softmax(1)
    expected = [
        sum(math.exp(a) * (a - b) for a, b in zip(one, two, strict=True)) for one, two in zip(p, q, strict=True)
    ]
    torch.testing.assert_close(divergence(p, q), torch.tensor(expected, dtype=torch.float64))


def test_mixup_is_that_of_a_loop():
    x, said, units, own = images(40), logits(40).log_softmax(1).float(), Units(torch.arange(40), 7), student()
    found = MixUp(alpha=2.0)(own, x, said, units)
    uniform, gumbel = units.uniform("mixup"), units.gumbel("mixup.label", (3,))
    for row in range(40):
        share = beta(2, 2).ppf(uniform[row].item())
        mixed = share * x[row] + (1 - share) * x[row - 1]
        mixture = share * said[row].exp() + (1 - share) * said[row - 1].exp()
        label = int((mixture.log() + gumbel[row]).argmax())
        torch.testing.assert_close(found[row], -own(mixed[None])[0, label], atol=1e-4, rtol=1e-4)


def test_smoothing_is_that_of_a_loop():
    x, said, units, own = images(40), logits(40).log_softmax(1).float(), Units(torch.arange(40), 7), student()
    found = Smoothing(epsilon=0.5)(own, x, said, units)
    gumbel = units.gumbel("smoothing.label", (3,))
    for row in range(40):
        smoothed = 0.5 * said[row].exp() + 0.5 / 3
        label = int((smoothed.log() + gumbel[row]).argmax())
        torch.testing.assert_close(found[row], -own(x[row : row + 1])[0, label])


@pytest.mark.parametrize("term", [MixUp(), Smoothing(epsilon=0.3)])
def test_labels_follow_their_distribution(term):
    """A student that says the same of all images loses on average what their distribution says."""
    n, constant = 20_000, torch.tensor([0.7, 0.2, 0.1], dtype=torch.float64).log()
    even, odd = torch.tensor([0.9, 0.1, 0.0]), torch.tensor([0.1, 0.1, 0.8])
    said = torch.stack([even, odd]).double().clamp_min(1e-9).log().repeat(n // 2, 1)
    lost = term(lambda x: constant.expand(len(x), 3), torch.rand(n, 1, 1, 1), said, Units(torch.arange(n), 1))[::2]
    expected = (even + odd) / 2 if isinstance(term, MixUp) else 0.7 * even + 0.1
    assert abs(lost.mean() + expected.double() @ constant) < 4 * lost.std() / math.sqrt(len(lost))


def test_attacks_are_those_of_a_loop():
    x, said, units, own = images(), logits().log_softmax(1).float(), Units(torch.arange(6), 7), student()
    x[0] = 0  # where half of all directions are shut
    found = Adversarial(radius=0.05, steps=2)(own, x, said, units)
    noise, longest = units.normal("adversarial", (1, 8, 8)).float(), 0.05 * 8
    for row in range(6):

        def kept(d, row=row):
            d = d if d.norm() <= longest else longest * d / d.norm()
            return (x[row] + d).clamp(0, 1) - x[row]

        d = kept(0.05 * noise[row])
        for _ in range(2):
            leaf = d.clone().requires_grad_()
            lost = (said[row].exp() * (said[row] - own((x[row] + leaf)[None])[0])).sum()
            (slope,) = torch.autograd.grad(lost, leaf)
            d = kept(d + longest * slope / slope.norm())
        lost = (said[row].exp() * (said[row] - own((x[row] + d)[None])[0])).sum()
        torch.testing.assert_close(found[row], lost, atol=1e-5, rtol=1e-4)


def test_attacks_stay_near_and_reach_the_worst_of_a_linear_student():
    x, seen = images(), []
    weight = torch.randn(64, generator=torch.Generator().manual_seed(0))
    other = linear(torch.stack([0 * weight, weight]), torch.zeros(2))

    def watched(x):
        seen.append(x.detach())
        return other(x)

    said = torch.tensor([0.999, 0.001]).log().expand(6, 2)  # so that the worst is along the weights
    found = Adversarial(radius=0.02, steps=10)(watched, x, said, Units(torch.arange(6)))
    for y in seen:
        assert (y - x).flatten(1).norm(dim=1).max() <= 0.02 * 8 + 1e-5
        assert y.min() >= 0
        assert y.max() <= 1
    along = weight.reshape(1, 8, 8) / weight.norm()
    clean, worst = (divergence(said, other(x + d)) for d in (0, 0.02 * 8 * along))
    assert ((found - clean) / (worst - clean)).min() > 0.9
    assert ((found - clean) / (worst - clean)).max() <= 1 + 1e-4


def test_the_loss_is_the_weighted_sum(monkeypatch):
    losses, real = [], surrogates.Distillation.training_step
    order = list(Batches(256, 32, 4, 0, 3))
    terms = (MixUp(0.5), Smoothing(2.0), Adversarial(3.0))

    def spy(self, batch, index):
        found = real(self, batch, index)
        x, said = batch
        assert torch.equal(x, Sides()[order[index]]["image"])
        units = Units(torch.arange(len(x)), derived_seed(4, "terms", index))
        own = self.network(x)
        p = own.sigmoid()
        expected = p * (p.log() - said[:, 1]) + (1 - p) * ((1 - p).log() - said[:, 0])
        expected = expected.mean()
        for weight, term in zip((0.5, 2.0, 3.0), terms, strict=True):
            expected = expected + weight * term(lambda x: log_probabilities(self.network(x)), x, said, units).mean()
        torch.testing.assert_close(found, expected)
        torch.testing.assert_close(said, log_probabilities(ragged(x)))
        losses.append(found.item())
        return found

    monkeypatch.setattr(surrogates.Distillation, "training_step", spy)
    distil(ragged, Sides(), terms=terms, steps=3, seed=4, **FAST)
    assert len(losses) == len(set(losses)) == 3


def test_the_lightning_module_is_trained_by_any_trainer():
    torch.manual_seed(3)
    network = SmoothClassifier(1, None, WIDTHS)
    network.standardise(Sides()[:128]["image"])
    module = Distillation(network, ragged, Sides(), steps=5, batch=32, rate=3e-3, seed=3)
    L.Trainer(
        accelerator="cpu",
        max_steps=5,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    ).fit(module)
    expected = distil(ragged, Sides(), steps=5, seed=3, **FAST)
    for name, weight in network.state_dict().items():
        torch.testing.assert_close(weight.cpu(), expected.state_dict()[name])


def test_terms_of_weight_0_are_left_out():
    @dataclass(frozen=True)
    class Never(Term):
        def __call__(self, student, images, said, units):
            raise AssertionError

    none = distil(ragged, Sides(), steps=3, terms=(), **FAST)
    zero = distil(ragged, Sides(), steps=3, terms=(MixUp(0), Smoothing(0), Adversarial(0), Never(0)), **FAST)
    assert torch.equal(none.head.weight, zero.head.weight)
    with pytest.raises(AssertionError):
        distil(ragged, Sides(), steps=3, terms=(Never(),), **FAST)


# ---- what is refused


@pytest.mark.parametrize("kind", [MixUp, Smoothing, Adversarial])
@pytest.mark.parametrize("weight", [-0.1, math.nan, math.inf])
def test_weights_are_not_negative(kind, weight):
    with pytest.raises(ValueError, match=f"{kind.__name__}: expected a weight >= 0, got {weight}; 0 leaves it out"):
        kind(weight)


def test_bad_options_are_refused():
    with pytest.raises(ValueError, match="MixUp: expected alpha > 0, got 0"):
        MixUp(alpha=0)
    with pytest.raises(ValueError, match=r"Smoothing: expected epsilon in \[0, 1\], got 1\.5"):
        Smoothing(epsilon=1.5)
    with pytest.raises(ValueError, match=r"Adversarial: expected radius > 0 and steps >= 1, got 0\.02 and 0"):
        Adversarial(steps=0)
    with pytest.raises(ValueError, match=r"distil: expected steps and batch >= 1 and rate > 0, got 0, 64 and 0\.001"):
        distil(ragged, Sides(), steps=0)


@pytest.mark.parametrize(
    ("odd", "expected"),
    [
        (lambda x: x, r"\(2,\) or \(2, classes\), got \(2, 1, 8, 8\)"),
        (lambda x: ragged(x).sum(), r"got \(\)"),
        (lambda x: ragged(x)[:1], r"got \(1,\)"),
        (lambda x: thirds(x)[:, :0], r"got \(2, 0\)"),
    ],
)
def test_logits_of_another_shape_are_refused(odd, expected):
    with pytest.raises(ValueError, match=f"classifier: expected logits of shape .*{expected}"):
        distil(odd, Sides(), steps=2, **FAST)


def test_logits_whose_shape_changes_are_refused():
    with pytest.raises(ValueError, match="its first logits had 3 columns, later ones 2"):
        distil(lambda x: thirds(x)[:, : 3 if len(x) == 2 else 2], Sides(), steps=2, **FAST)
    with pytest.raises(ValueError, match="its first logits had no columns, later ones 3"):
        distil(lambda x: ragged(x) if len(x) == 2 else thirds(x), Sides(), steps=2, **FAST)


@pytest.mark.parametrize(
    "said",
    [
        lambda x: ragged(x).sigmoid(),
        lambda x: thirds(x).softmax(1).detach(),
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(64, 1), torch.nn.Sigmoid()),
    ],
    ids=["sigmoid", "softmax", "module"],
)
def test_probabilities_are_no_logits(said):
    with pytest.raises(ValueError, match="classifier: it gives probabilities; return logits"):
        distil(said, Sides(), steps=2, **FAST)


def test_logits_that_are_not_finite_are_refused():
    with pytest.raises(FloatingPointError, match="its logits are not finite"):
        distil(lambda x: ragged(x) / 0, Sides(), steps=2, **FAST)


def test_rows_without_images_in_0_to_1_are_refused():
    rows = Sides()
    rows.content = {"picture": rows.content["image"]}
    with pytest.raises(ValueError, match="expected a column 'image', got picture"):
        distil(ragged, rows, steps=2)
    rows.content = {"image": 255 * rows.content["picture"]}
    with pytest.raises(ValueError, match=r"values in \[0, 1\], got torch\.float32 of shape \(1, 1, 8, 8\), .*by 255"):
        distil(ragged, rows, steps=2)
    images = rows.content["image"] / 255
    images[7] *= 255  # not the first
    with pytest.raises(ValueError, match=r"image: expected values from 0 to 1, .* write image / 255"):
        distil(ragged, {"image": images}, steps=-(-len(images) // 8), **{**FAST, "batch": 8})
    with pytest.raises(ValueError, match="expected at least one image, got none"):
        distil(ragged, Sides(0), steps=2)


@pytest.mark.parametrize("step", [0, 2])
def test_a_loss_that_is_not_finite_stops_with_the_step(monkeypatch, step):
    real, seen = SmoothClassifier.forward, []

    def explodes(self, image):
        seen.append(1)
        return real(self, image) * (math.nan if len(seen) == step + 1 else 1.0)

    monkeypatch.setattr(SmoothClassifier, "forward", explodes)
    with pytest.raises(FloatingPointError, match=f"surrogate: the loss became nan at step {step}; lower rate"):
        distil(ragged, Sides(), steps=4, terms=(), **FAST)


def test_weights_that_are_not_finite_after_the_last_step_are_not_given(monkeypatch):
    real, seen = SmoothClassifier.forward, []

    def explodes(self, image):
        seen.append(1)
        odd = (self.head.weight[0, 0] * 0).sqrt() if len(seen) == 4 else 0
        return real(self, image) + odd

    monkeypatch.setattr(SmoothClassifier, "forward", explodes)
    with pytest.raises(FloatingPointError, match=r"surrogate: \S+ was no longer finite after step 3, where the loss"):
        distil(ragged, Sides(), steps=4, terms=(), **FAST)
