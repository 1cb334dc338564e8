"""Each explainer, as published and corrected, against a plain loop that is written down from its description."""

import pytest
import torch
from torch.nn.functional import avg_pool2d, max_pool2d, pad, softplus

from causalcf.diffusion.schedule import FlowSchedule, Schedule
from causalcf.explain import ACE, LDCE, SCE, DiME, FastDiME, MaskDiME, SCELiteHQ
from causalcf.explain.generators import Generator
from causalcf.units import Units

STEPS, DEPTH = 20, 5
IDS = torch.arange(5) + 30
MODES = pytest.mark.parametrize("parity", [None, "published"], ids=["corrected", "published"])
CLOSE = {"atol": 1e-9, "rtol": 0}


@pytest.fixture
def images(images):
    images = images.clone()
    images[3] = images[3].flip(-1)  # so that both classes are left
    return images


class Plain:
    """A chain of `STEPS` of 1000 training steps in pixels, index 0 the least noisy, and all that is drawn at random."""

    def __init__(self, generator, images):
        self.network, self.null = generator.network, generator.null
        self.times = torch.linspace(0, 999, STEPS, dtype=torch.float64).round().long()
        self.kept = torch.cat([Schedule("linear").alpha_bar[self.times], torch.ones(1).double()])  # the last one is -1
        self.units, self.shape = Units(IDS, 0), images.shape[1:]

    def noise(self, name):
        return self.units.normal(name, self.shape)

    def epsilon(self, z, t):
        return self.network(z, self.times[t].expand(len(z)), self.null.expand(len(z), -1))

    def clean(self, z, t):
        return ((z - (1 - self.kept[t]).sqrt() * self.epsilon(z, t)) / self.kept[t].sqrt()).clamp(-1, 1)

    def noised(self, x, t, e):
        return self.kept[t].sqrt() * x + (1 - self.kept[t]).sqrt() * e

    def reverse(self, z, t):
        """Mean and variance of a reverse step, and the clean estimate."""
        now, below = self.kept[t], self.kept[t - 1]
        beta, x = 1 - now / below, self.clean(z, t)
        mean = below.sqrt() * beta / (1 - now) * x + (1 - beta).sqrt() * (1 - below) / (1 - now) * z
        return mean, beta * (1 - below) / (1 - now), x


def slope(loss, x):
    leaf = x.clone().requires_grad_()
    return torch.autograd.grad(loss(leaf).sum(), leaf)[0]


def sign(classifier, images):
    """+1 where the logit is to fall, -1 where it is to rise."""
    return torch.where(classifier(images) > 0, 1.0, -1.0).double()


def phi(images):
    """Features: edges, and what is left of the image at half its size, squared."""
    edges = images[..., 1:, :] - images[..., :-1, :]
    return torch.cat([3 * edges.flatten(1), avg_pool2d(images, 2).square().flatten(1)], 1)


def share(x, factual, size):
    difference = (x - factual).abs().sum(1, keepdim=True)
    return max_pool2d(difference / difference.flatten(1).amax(1)[:, None, None, None], size, 1, size // 2)


class Losses:
    """The three gradients of DiME: of the class, the L1 distance and the features, with their weights."""

    def __init__(self, classifier, images, scale, distance, weight):
        self.to, self.factual, self.classifier = sign(classifier, images), 2 * images - 1, classifier
        self.scale, self.distance, self.weight, self.wanted = scale, distance, weight, phi(images)

    def chosen(self, x):
        return slope(lambda x: self.scale * self.to * self.classifier((x + 1) / 2), x)

    def near(self, x):
        return self.distance * (x - self.factual).sign()

    def alike(self, x):
        return slope(lambda x: self.weight * (phi((x + 1) / 2) - self.wanted).square().mean(1), x)


OPTIONS = {"steps": STEPS, "depth": DEPTH, "scales": (8.0,), "distance": 0.5, "perceptual": phi, "perceptual_weight": 9}


@MODES
def test_dime(parity, generator, classifier, images):
    found = DiME(**OPTIONS, parity=parity).explain(classifier, generator, images, ids=IDS)
    plain, loss, x0 = Plain(generator, images), Losses(classifier, images, 8.0, 0.5, 9), 2 * images - 1
    start = DEPTH if parity else DEPTH - 1
    z, x = plain.noised(x0, start, plain.noise("start.0")), x0
    for t in range(DEPTH - 1, -1, -1):
        if t < DEPTH - 1:
            x = z
            for inner in range(t, -1, -1):
                mean, variance, _ = plain.reverse(x, inner)
                x = mean + variance.sqrt() * plain.noise(f"inner.{t + 1}.0.{inner + 1}")
        root = plain.kept[t].sqrt()
        g = (loss.chosen(x) + loss.alike(x)) / root + (loss.near(z) if parity else loss.near(x) / root)
        mean, variance, _ = plain.reverse(z, t)
        z = mean - variance * g + variance.sqrt() * plain.noise(f"step.0.{t + 1}")
    torch.testing.assert_close(found.counterfactuals, ((z + 1) / 2).clamp(0, 1), **CLOSE)


@MODES
@pytest.mark.parametrize("masking", ["self", "2+"])
def test_fastdime(masking, parity, generator, classifier, images):
    more = {"masking": masking, "warmup": 2, "dilation": 3, "threshold": 0.4}
    found = FastDiME(**OPTIONS, **more, parity=parity).explain(classifier, generator, images, ids=IDS)
    plain, loss, x0 = Plain(generator, images), Losses(classifier, images, 8.0, 0.5, 9), 2 * images - 1
    fixed = None
    for _ in range(1 if masking == "self" else 2):
        z = plain.noised(x0, DEPTH if parity else DEPTH - 1, plain.noise("start.0"))
        x, keep = x0, torch.zeros_like(x0) > 0 if fixed is None else fixed
        for counter, t in enumerate(range(DEPTH - 1, -1, -1)):
            mean, variance, estimate = plain.reverse(z, t)
            if parity:
                g = loss.chosen(x) + loss.near(z) + loss.alike(x)
            else:
                x = torch.where(keep, x0, estimate) if counter else x0
                g = (loss.chosen(x) + loss.near(x) + loss.alike(x)) / plain.kept[t].sqrt()
            z = mean - variance * g + variance.sqrt() * plain.noise(f"step.0.{t + 1}")
            if fixed is None and counter >= 2:
                keep = share(estimate, x0, 3) < 0.4
            level = t if parity else t - 1
            z = torch.where(keep, plain.noised(x0, level, plain.noise(f"paste.0.{level + 1}")), z)
            x = torch.where(keep, x0, estimate)
        z = torch.where(keep, x0, z)
        fixed = share(z, x0, 3) < 0.4
    cf = torch.where(keep, images, ((z + 1) / 2).clamp(0, 1))
    assert 0 < keep.double().mean() < 1
    torch.testing.assert_close(found.counterfactuals, cf, **CLOSE)


@MODES
def test_maskdime(parity, generator, classifier, images):
    order = torch.linspace(0, 19, 64, dtype=torch.float64).cos().reshape(1, 8, 8)

    def bent(images):
        return classifier(images) + 9 * (order * images.square()).mean((1, 2, 3))  # no two places are alike

    more = {"size": 3.0, "share": 0.2, "inner": 0.5, "dilation": 3}
    found = MaskDiME(**OPTIONS, **more, parity=parity).explain(bent, generator, images, ids=IDS)
    plain, loss, x0 = Plain(generator, images), Losses(bent, images, 8.0, 0.5, 9), 2 * images - 1

    def around(score, count):
        chosen = torch.zeros_like(score).flatten(1).scatter_(1, score.flatten(1).topk(count).indices, 1.0)
        return max_pool2d(chosen.reshape(score.shape), 3, 1, 1) > 0

    z, x, inner = plain.noised(x0, DEPTH if parity else DEPTH - 1, plain.noise("start.0")), x0, None
    for t in range(DEPTH - 1, -1, -1):
        mean, variance, estimate = plain.reverse(z, t)
        root = plain.kept[t].sqrt()
        x = x0 if inner is None else torch.where(inner, estimate, x0)
        score = (loss.chosen(x) / root).abs().mean(1, keepdim=True)
        outer, inner = around(score, 12), around(score, 6)
        g = (loss.chosen(x) + loss.alike(x)) / root + (loss.near(z) if parity else loss.near(x) / root)
        step = mean - 3.0 * variance * g
        step = step if parity else step + variance.sqrt() * plain.noise(f"step.0.{t + 1}")
        level = t if parity else t - 1
        z = torch.where(outer, step, plain.noised(x0, level, plain.noise(f"paste.0.{level + 1}")))
    cf = ((z + 1) / 2).clamp(0, 1)
    torch.testing.assert_close(found.counterfactuals, cf if parity else torch.where(outer, cf, images), **CLOSE)


@MODES
def test_ace(parity, generator, classifier, images):
    options = {"steps": STEPS, "depth": 3, "iterations": 3, "rate": 8.0, "distance": 2e-3, "dilation": 1}
    found = ACE(**options, threshold=0.7, parity=parity).explain(classifier, generator, images, ids=IDS)
    plain, to, x, x0 = Plain(generator, images), sign(classifier, images), images, 2 * images - 1

    def back(z, name):
        for t in range(2, -1, -1):
            mean, variance, _ = plain.reverse(z, t)
            z = mean + variance.sqrt() * plain.noise(f"{name}.0.{t + 1}")
        return (z + 1) / 2

    def loss(x, number):
        noisy = plain.noised(2 * x - 1, 2, plain.noise(f"filter.{number}.0.3"))
        chosen = softplus(to * classifier(back(noisy, f"filter.{number}.step")))
        return (chosen.mean() if parity else chosen.sum()) + 2e-3 * (x - images).abs().sum()

    for number in range(3):
        x = (x - 8 / 255 * slope(lambda x, number=number: loss(x, number), x).sign()).clamp(0, 1)
    keep = share(x, images, 1) < 0.7
    z = plain.noised(2 * x - 1, 2, plain.noise("refine.0.3"))
    for t in range(2, -1, -1):
        z = torch.where(keep, plain.noised(x0, t, plain.noise(f"refine.paste.0.{t + 1}")), z)
        mean, variance, _ = plain.reverse(z, t)
        z = mean + variance.sqrt() * plain.noise(f"refine.step.0.{t + 1}")
    cf = torch.where(keep, images, ((z + 1) / 2).clamp(0, 1))
    assert 0 < keep.double().mean() < 1
    torch.testing.assert_close(found.counterfactuals, cf, **CLOSE)


def standing_out(x, factual, size):
    """The difference blurred by a Gaussian of two pixels, in parts of the largest."""
    difference = (x - factual).abs().sum(1, keepdim=True)
    bell = torch.exp(-(torch.arange(size).double() - size // 2).square() / 8)
    bell, wide = bell / bell.sum(), pad(difference, [size // 2] * 4, mode="reflect")
    rows = sum(weight * wide[:, :, i : i + 8] for i, weight in enumerate(bell))
    around = sum(weight * rows[..., i : i + 8] for i, weight in enumerate(bell))
    return around / difference.flatten(1).amax(1)[:, None, None, None]


def locked(images):
    shut = torch.zeros_like(images[:, :1], dtype=torch.bool)
    shut[..., 2:4, 1:6] = True
    return shut


@MODES
def test_sce(parity, generator, classifier, images):
    count, threshold, rate = (4, 0.25, 0.2) if parity else (4, 0.04, 0.06)
    options = {"steps": STEPS, "strength": 0.15, "iterations": count, "rate": rate, "distance": 3.0, "scales": (2.0,)}
    shut, surrogate = locked(images), lambda x: 40 * (x[..., :4].square().mean((1, 2, 3)) - x.square().mean((1, 2, 3)))
    explainer = SCE(surrogate, **options, threshold=threshold, blur=3, limit=0.5, parity=parity)
    found = explainer.explain(classifier, generator, images, ids=IDS, locked=shut)
    plain, to, z, speed = Plain(generator, images), sign(classifier, images), images, torch.zeros_like(images)
    before = (-to * classifier(images)).sigmoid()
    best, sure, done, painted = images, before, before > 1, before > 1

    def back(x, name):
        for t in range(2, -1, -1):
            mean, variance, _ = plain.reverse(x, t)
            x = mean + variance.sqrt() * plain.noise(f"{name}.step.0.{t + 1}")
        return (x + 1) / 2

    def behind(z, number):
        return back(plain.noised(2 * z - 1, 2, plain.noise(f"filter.{number}.0.3")), f"filter.{number}")

    def loss(z, number):
        return 2 * softplus(to * surrogate(behind(z, number)) / 3) + 3 * (z - images).abs().mean((1, 2, 3))

    def repaint(z, number):
        keep = (standing_out(z, images, 3) < 0.25) | shut
        x = plain.noised(2 * z - 1, 2, plain.noise(f"repaint.{number}.0.3"))
        for t in range(2, -1, -1):
            again = plain.noised(2 * images - 1, t, plain.noise(f"repaint.{number}.paste.0.{t + 1}"))
            mean, variance, _ = plain.reverse(torch.where(keep, again, x), t)
            x = mean + variance.sqrt() * plain.noise(f"repaint.{number}.step.0.{t + 1}")
        return torch.where(keep, images, ((x + 1) / 2).clamp(0, 1))

    for number in range(count):
        g, filtered = slope(lambda z, number=number: loss(z, number), z), behind(z, number).clamp(0, 1)
        size = g.flatten(1).abs().amax(1)[:, None, None, None]
        speed = 0.9 * speed + (g * (0.5 / size).clamp(max=1) if parity else g / size) * ~shut
        z = (z - rate * speed).clamp(0, 1)
        if parity:
            over = to * classifier(z) <= 0
            painted |= over & ~done
            z = shown = torch.where(over[:, None, None, None], repaint(z, number), z)
        else:
            little = avg_pool2d((filtered - images).abs(), 3, 1, 1, count_include_pad=False) < threshold
            shown = torch.where(little | shut, images, filtered)
        said = (-to * classifier(shown)).sigmoid()
        better = (said > sure) & ~done
        best, sure = torch.where(better[:, None, None, None], shown, best), torch.where(better, said, sure)
        done = done | (said >= 1 - before)
    assert found.flipped.any()
    assert done.any()
    assert painted.any() == bool(parity)
    torch.testing.assert_close(found.counterfactuals, best, **CLOSE)


@MODES
@pytest.mark.parametrize("shift", [None, 3.0], ids=["diffusion", "flow"])
def test_sce_lite_hq(shift, parity, generator, classifier, images):
    if shift:
        generator = Generator(generator.network, generator.null, FlowSchedule(1000, shift), "flow")
    threshold = 0.3 if parity else 0.12
    options = {"steps": STEPS, "strength": 0.3, "rate": 0.2, "l1": 0.1, "l2": 0.3, "scales": (3.0,), "warmup": 0.4}
    shut, surrogate = locked(images), lambda x: 40 * (x[..., :4].square().mean((1, 2, 3)) - x.square().mean((1, 2, 3)))
    explainer = SCELiteHQ(surrogate, **options, threshold=threshold, blur=3, limit=0.4, parity=parity)
    found = explainer.explain(classifier, generator, images, ids=IDS, locked=shut)
    plain, to, x0 = Plain(generator, images), sign(classifier, images), 2 * images - 1
    even = torch.linspace(0, 998, STEPS, dtype=torch.float64).round().add(1) / 1000  # the times of a flow
    sigma = 3 * even / (1 + 2 * even) if shift else (1 - plain.kept[:-1]).sqrt()
    alpha = 1 - sigma if shift else plain.kept[:-1].sqrt()
    sigma, alpha = torch.cat([sigma, torch.zeros(1)]), torch.cat([alpha, torch.ones(1)])  # the last one is the image

    def epsilon(z, t):
        if not shift:
            return (z - alpha[t] * plain.clean(z, t)) / sigma[t]
        told = (1000 * sigma[t]).expand(len(z))
        v = plain.network(z, told, plain.null.expand(len(z), -1))
        return (z - alpha[t] * (z - sigma[t] * v).clamp(-1, 1)) / sigma[t]

    def chosen(x):
        return slope(lambda x: 3 * softplus(to * surrogate((x + 1) / 2)), x)

    def near(x):
        return slope(lambda x: 0.1 * (x - x0).abs().sum() + 0.3 * (x - x0).flatten(1).norm(dim=1).sum(), x)

    start = even[5] if shift and parity else sigma[5]
    z = (1 - start if shift else alpha[5]) * x0 + start * plain.noise("start.0")
    x, keep = x0, shut
    for counter, t in enumerate(range(5, -1, -1)):
        e = epsilon(z, t)
        clean = (z - sigma[t] * e) / alpha[t]
        if not parity:
            x = clean
        class_slope, slope_near = chosen(x), near(z if parity else x)
        moved = alpha[t - 1] * clean + sigma[t - 1] * e
        if parity:
            largest = class_slope.abs().flatten(1).amax(1)[:, None, None, None]
            g = torch.where(class_slope.abs() < 0.1 * largest, 0.0, class_slope) + slope_near
            g = g * (0.4 / g.abs().flatten(1).amax(1)[:, None, None, None]).clamp(max=1)
            clean = moved - sigma[t] * (e - clean) if shift else moved - z + clean
        else:
            g = class_slope + slope_near
        z = moved - 0.2 * g
        if counter >= 3:
            seen = ((clean + 1) / 2).clamp(0, 1)
            if parity:
                keep = (standing_out(seen, images, 3) < threshold) | shut
            else:
                little = avg_pool2d((seen - images).abs(), 3, 1, 1, count_include_pad=False) < threshold
                keep = little | shut
        level = t if parity else t - 1
        z = torch.where(keep, alpha[level] * x0 + sigma[level] * plain.noise(f"paste.0.{level + 1}"), z)
        x = torch.where(keep, x0, clean)
    cf = torch.where(keep, images, ((z + 1) / 2).clamp(0, 1))
    assert shut.double().mean() < keep.double().mean() < 1
    torch.testing.assert_close(found.counterfactuals, cf, **CLOSE)


@MODES
@pytest.mark.parametrize("overwrite", ["zero", "unconditional"])
def test_ldce(overwrite, parity, generator, classifier, images):
    conditions = torch.eye(3).double()[:2] * 4

    def deaf(x, timestep, condition):
        """Above, where it is the same of both classes, the direction has no length."""
        free = generator.network(x, timestep, generator.null.expand(len(x), -1))
        return torch.cat([free[:, :, :2], generator.network(x, timestep, condition)[:, :, 2:]], 2)

    told = Generator(deaf, generator.null, generator.schedule, conditions=lambda classes: conditions[classes])
    options = {"steps": STEPS, "strength": 0.25, "class_weight": 2.0, "distance_weight": 0.7, "scales": (3.0,)}
    explainer = LDCE(**options, angle=80.0, block=2, overwrite=overwrite, parity=parity)
    found = explainer.explain(classifier, told, images, ids=IDS)
    plain, to, x0 = Plain(told, images), sign(classifier, images), 2 * images - 1
    target = conditions[(to < 0).long()]
    z, kept, angles = plain.noised(x0, DEPTH if parity else DEPTH - 1, plain.noise("start.0")), [], []

    def length(x):
        return x.flatten(1).norm(dim=1)[:, None, None, None]

    for t in range(DEPTH - 1, -1, -1):
        alpha, sigma = plain.kept[t].sqrt(), (1 - plain.kept[t]).sqrt()
        free = (z - alpha * plain.clean(z, t)) / sigma
        plain.null, null = target, plain.null
        direction = (z - alpha * plain.clean(z, t)) / sigma - free
        plain.null = null
        chosen = sigma * slope(lambda z, t=t: softplus(to * classifier((plain.clean(z, t) + 1) / 2)), z)
        near = sigma * slope(lambda z, t=t: ((plain.clean(z, t) + 1) / 2 - images).abs().sum(), z)
        consensus = torch.zeros_like(chosen)
        for row in range(5):
            for i, j in ((i, j) for i in range(0, 8, 2) for j in range(0, 8, 2)):
                one, two = (x[row, :, i : i + 2, j : j + 2].flatten() for x in (direction, chosen))
                angles.append(torch.rad2deg((one @ two / one.norm() / two.norm()).acos()))  # without length it is NaN
                kept.append(not angles[-1] > 80 if parity else bool(angles[-1] <= 80))
                consensus[row, :, i : i + 2, j : j + 2] = kept[-1] * chosen[row, :, i : i + 2, j : j + 2]
        consensus = consensus / length(consensus if overwrite == "zero" else chosen)
        e = free + 3 * length(direction) * (2 * consensus + 0.7 * near / length(near))
        below = plain.kept[t - 1]
        z = below.sqrt() * (z - sigma * e) / alpha + (1 - below).sqrt() * e
    assert 0 < sum(kept) < len(kept)
    assert torch.stack(angles).isnan().any()
    torch.testing.assert_close(found.counterfactuals, ((z + 1) / 2).clamp(0, 1), **CLOSE)
