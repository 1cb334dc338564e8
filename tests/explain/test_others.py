"""ACE, LDCE, SCE and SCE-LITE-HQ: what they cost, where they may change, and when they agree with simpler things."""

import math

import pytest
import torch
from torch.nn.functional import avg_pool2d, interpolate

from causalcf.diffusion.codec import Codec
from causalcf.diffusion.consensus import Consensus, blocks, consensus, unblocked
from causalcf.diffusion.descent import Descent, OneStep, Term, stepwise
from causalcf.diffusion.guidance import NoGuidance, guided
from causalcf.diffusion.masks import Blurred
from causalcf.diffusion.solvers import DDIM, Explicit, move
from causalcf.explain import ACE, LDCE, SCE, Led, SCELiteHQ, SmoothGrad, page
from causalcf.explain.explainer import Attempt
from causalcf.explain.generators import Generator
from causalcf.explain.queries import Query
from causalcf.explain.repainting import repainted
from causalcf.units import Units

IDS = torch.arange(5)
KINDS = {
    "ACE": (ACE, {"steps": 20, "depth": 3, "iterations": 4, "rate": 8.0, "dilation": 3}),
    "LDCE": (LDCE, {"steps": 20, "strength": 0.3, "angle": 180.0}),
    "SCE": (SCE, {"steps": 20, "strength": 0.15, "iterations": 4}),
    "SCE-LITE-HQ": (SCELiteHQ, {"steps": 20, "strength": 0.3, "scales": (3.0,), "threshold": 0.01}),
}
BY_NAME = {"argvalues": KINDS.values(), "ids": KINDS.keys()}


@pytest.fixture
def told(generator):
    """The same generator, which can be told a class."""
    return Generator(
        generator.network, generator.null, generator.schedule, conditions=lambda classes: torch.eye(3).double()[classes]
    )


def test_a_code_may_change_if_any_of_its_pixels_may():
    factual = torch.zeros(1, 1, 16, 16)
    moved = factual.clone()
    moved[..., 1:3, 1:3] = 1
    for both, codes in ((False, 1), (True, 0)):  # the published form looks at one pixel of each code
        masks = Blurred(factual, lambda clean: moved, threshold=0.9, size=1, both=both)
        masks.begin()
        masks.see(torch.zeros(1, 4, 2, 2), None, 0)
        assert int(masks.noisy.sum()) == codes


@pytest.mark.parametrize(("kind", "options"), **BY_NAME)
def test_rows_do_not_depend_on_their_batch_and_move_towards_the_target(kind, options, told, classifier, images):
    whole = kind(**options, batch=5).explain(classifier, told, images, ids=IDS)
    parts = kind(**options, batch=2).explain(classifier, told, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-9, rtol=0)
    assert whole.after.mean() > whole.before.mean() + 0.02
    kept = ~whole.mask
    assert torch.equal(whole.counterfactuals[kept.expand_as(images)], images[kept.expand_as(images)])


@pytest.mark.parametrize("parity", [None, "published"])
def test_network_evaluations_are_those_of_the_cost_model(told, classifier, images, parity, monkeypatch):
    decided, repaint = torch.zeros(5), SCE.repaint

    def spy(self, z, attempt, *given):
        decided[attempt.rows] += ((classifier(z) > 0) == attempt.query.target[attempt.rows]).float()
        return repaint(self, z, attempt, *given)

    monkeypatch.setattr(SCE, "repaint", spy)
    shared = {"steps": 20, "parity": parity}
    ace = ACE(**shared, depth=3, iterations=4).explain(classifier, told, images, ids=IDS)
    assert (ace.forward.unique().tolist(), ace.backward.unique().tolist()) == ([4 * 3 + 3], [4 * 3])
    ldce = LDCE(**shared, strength=0.3).explain(classifier, told, images, ids=IDS)
    assert (ldce.forward.unique().tolist(), ldce.backward.unique().tolist()) == ([2 * 6], [2 * 6])
    lite = SCELiteHQ(**shared, strength=0.3, scales=(1.0,)).explain(classifier, told, images, ids=IDS)
    assert (lite.forward.unique().tolist(), lite.backward.unique().tolist()) == ([6], [0])
    sce = SCE(**shared, strength=0.15, iterations=4, rate=1e-4).explain(classifier, told, images, ids=IDS)
    assert (sce.forward.unique().tolist(), sce.backward.unique().tolist()) == ([4 * 3], [4 * 3])
    assert not decided.any()
    early = SCE(**shared, strength=0.15, iterations=4, rate=0.2, blur=3).explain(classifier, told, images, ids=IDS)
    assert early.flipped.all()
    assert early.backward.mean() < 4 * 3
    assert torch.equal(early.forward - early.backward, 3 * decided)  # published, each is repainted beside
    assert (decided > 0).all() == (parity == "published")


@pytest.mark.parametrize("parity", [None, "published"])
def test_what_a_row_of_sce_took_does_not_depend_on_its_batch(parity, generator, classifier, images):
    images = images[:3].clone()
    images[0, ..., :4] -= images[0, ..., :4].mean() - images[0, ..., 4:].mean() - 0.02  # is decided for early
    options = {"steps": 20, "strength": 0.15, "iterations": 8, "rate": 0.05, "parity": parity}
    options["threshold"] = 0.3 if parity else 0.01
    whole = SCE(**options, batch=3).explain(classifier, generator, images, ids=IDS[:3])
    alone = SCE(**options, batch=1).explain(classifier, generator, images, ids=IDS[:3])
    assert len(set(alone.forward.tolist())) > 1
    assert whole.forward.tolist() == alone.forward.tolist()
    assert whole.backward.tolist() == alone.backward.tolist()
    painted = whole.forward - whole.backward  # no gradient is taken through the repainting
    assert painted.any() == bool(parity)


def test_every_gradient_through_the_network_is_counted(generator, images):
    levels = generator.levels(20)
    denoiser, null = generator.denoiser(levels), generator.nothing(5)
    generator.count()
    leaf = images.clone().requires_grad_()
    e = denoiser.epsilon(leaf, 5, null)
    assert (generator.forward, generator.backward) == (5, 0)
    for number in (1, 2):
        torch.autograd.grad(e.square().sum(), leaf, retain_graph=True)
        assert generator.backward == 5 * number
    with torch.no_grad():
        denoiser.epsilon(leaf, 5, null)
    torch.autograd.grad(denoiser.epsilon(leaf[:2], 5, null[:2]).sum(), leaf)
    assert (generator.forward, generator.backward) == (12, 12)


def test_the_share_of_kept_blocks_is_logged_at_every_step(told, classifier, images, caplog, monkeypatch):
    shares = []

    def spy(*given):
        found, share = consensus(*given)
        shares.append(share)
        return found, share

    monkeypatch.setattr("causalcf.diffusion.consensus.consensus", spy)
    with caplog.at_level("INFO", "causalcf.explain.ldce"):
        LDCE(steps=20, strength=0.3, angle=60.0, batch=5).explain(classifier, told, images, ids=IDS)
    assert len(set(shares[0].tolist())) > 1
    expected = [f"{value:.3f}" for share in shares for value in share.tolist()]
    assert [share for line in caplog.messages for share in line.partition("agree ")[2].split(", ")] == expected
    assert [line.partition(":")[0] for line in caplog.messages] == [f"level {k}" for k in range(6, 0, -1)]


def test_published_ace_depends_on_its_batch(generator, classifier, images):
    options = {"steps": 20, "depth": 3, "iterations": 3, "rate": 8.0, "distance": 0.02, "parity": "published"}
    whole = ACE(**options, batch=5).explain(classifier, generator, images, ids=IDS)
    alone = ACE(**options, batch=1).explain(classifier, generator, images, ids=IDS)
    corrected = ACE(**{**options, "parity": None}, batch=5).explain(classifier, generator, images, ids=IDS)
    assert not torch.allclose(whole.counterfactuals, alone.counterfactuals, atol=1e-6)
    torch.testing.assert_close(corrected.counterfactuals, alone.counterfactuals, atol=1e-9, rtol=0)


class Halved(Codec):
    """Means of squares of two pixels."""

    def encode(self, images):
        return avg_pool2d(2 * images - 1, 2)

    def decode(self, x):
        return (interpolate(x, scale_factor=2) + 1) / 2


def test_a_pixel_of_a_mask_is_repainted_with_the_codes_that_hold_it(generator, classifier, images):
    generator.codec = Halved()
    images = torch.cat([images, images], 3)[:3].repeat_interleave(2, 2)
    where = torch.zeros_like(images, dtype=torch.bool)
    where[0, 0, 5, 7] = where[1, 0, 2:6, 4:8] = True  # of the third row, nothing
    levels, query = generator.levels(20), Query(classifier, images, None)

    def painted(rows):
        shown, units = images[rows], Units(IDS[rows], 0)
        asked = Attempt(
            query, generator, shown, generator.codec.encode(shown), rows, units, 1.0, 0, torch.zeros(2, 3), {}
        )
        model = guided(generator.denoiser(levels), generator.nothing(len(rows)), NoGuidance())
        return repainted(0.9 * shown, where[rows], asked, model, levels, 4, "small")

    whole = painted(torch.arange(3))
    assert torch.equal(whole != images, where)
    for row in range(3):
        torch.testing.assert_close(painted(torch.tensor([row]))[0], whole[row], atol=1e-12, rtol=0)
    factual = generator.codec.encode(images)
    free = generator.codec.decode(factual)
    assert (whole - free)[where].abs().min() > 1e-6  # drawn anew, not the codes of the factual image


def test_blocks_are_cut_and_put_together():
    x = torch.randn(2, 3, 4, 6)
    cut = blocks(x, 2)
    assert cut.shape == (2, 6, 12)
    torch.testing.assert_close(cut[1, 1].sort().values, x[1, :, :2, 2:4].flatten().sort().values)
    assert torch.equal(unblocked(cut, 2, x), x)
    with pytest.raises(ValueError, match="blocks of 4 do not divide 4x6"):
        blocks(x, 4)


@pytest.mark.parametrize("size", [1, 2])
def test_consensus_keeps_blocks_within_the_angle(size):
    generator = torch.Generator().manual_seed(0)
    direction, gradient = (torch.randn(3, 4, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    direction[0, :, :size, :size] = 0  # no direction
    gradient[1, :, :size, :size] = 0
    gradient[2, :, :size, :size] = -direction[2, :, :size, :size]  # opposite
    found, share = consensus(direction, gradient, 80.0, size)
    for row in range(3):
        own, other, after = (blocks(x[row : row + 1], size)[0] for x in (gradient, direction, found))
        kept = 0
        for one, two, three in zip(own, other, after, strict=True):
            angle = 180.0
            if one.norm() > 0 and two.norm() > 0:
                angle = math.degrees(math.acos(min(1, max(-1, float(one @ two / one.norm() / two.norm())))))
            assert torch.equal(three, one if angle <= 80 else torch.zeros_like(one))
            kept += angle <= 80
        assert share[row] == kept / len(own)
    assert 0 < share.mean() < 1


def test_published_consensus_keeps_blocks_whose_angle_is_not_a_number():
    generator = torch.Generator().manual_seed(0)
    direction, gradient = (torch.randn(2, 3, 16, 16, generator=generator) for _ in range(2))
    direction[0, :, 0, 0] = 0
    gradient[1] = -direction[1]  # opposite, with cosines on either side of -1
    cosine = (direction * gradient).sum(1, keepdim=True) / direction.norm(dim=1, keepdim=True)
    expected = ~(torch.rad2deg((cosine / gradient.norm(dim=1, keepdim=True)).acos()) > 80)
    found, share = consensus(direction, gradient, 80.0, lenient=True)
    assert torch.equal(found[0], gradient[0] * expected[0])
    assert expected[0, 0, 0, 0]
    assert found[1].any()
    assert share[1] < 1
    strict, share = consensus(direction, gradient, 80.0)
    assert not strict[0, :, 0, 0].any()
    assert not strict[1].any()
    assert share[1] == 0


def test_the_cone_turns_blocks_to_its_edge():
    generator = torch.Generator().manual_seed(1)
    direction, gradient = (torch.randn(2, 4, 4, 4, generator=generator, dtype=torch.float64) for _ in range(2))
    found, _ = consensus(direction, gradient, 50.0, 2, "cone")
    own, other, after = (blocks(x, 2) for x in (gradient, direction, found))
    torch.testing.assert_close(after.norm(dim=2), own.norm(dim=2))
    cosine = (after * other).sum(2) / after.norm(dim=2) / other.norm(dim=2)
    before = (own * other).sum(2) / own.norm(dim=2) / other.norm(dim=2)
    edge = math.cos(math.radians(50))
    torch.testing.assert_close(cosine, before.clamp_min(edge))


def test_consensus_goes_through_the_network(told, images):
    """Its change is that of finite differences of the losses, rescaled."""
    levels = told.levels(20)
    denoiser, k, sigma = told.denoiser(levels), 6, levels.sigma[6].item()
    x = (
        2 * images
        - 1
        + 0.3 * torch.randn(images.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    )
    weight = torch.randn(images.shape[1:], generator=torch.Generator().manual_seed(3), dtype=torch.float64)

    def loss(clean):
        return (clean * weight).flatten(1).sum(1)

    def zero(clean):
        return 0 * clean.flatten(1).sum(1)

    target = torch.eye(3).double()[torch.zeros(5, dtype=torch.int64)]
    guidance = Consensus(target, loss, zero, (1.0, 1.0), 2.0, 180.0)
    null = told.nothing(5)
    change = guided(denoiser, null, guidance)(x, k, None) - denoiser.epsilon(x, k, null)
    alpha = levels.alpha[k].item()
    step = torch.zeros_like(x)
    step[:, 0, 3, 4] = 1e-5
    clean = [loss((y - sigma * denoiser.epsilon(y, k, null)) / alpha) for y in (x + step, x - step)]
    slope = (clean[0] - clean[1]) / 2e-5
    away = (denoiser.epsilon(x, k, target) - denoiser.epsilon(x, k, null)).flatten(1).norm(dim=1)
    torch.testing.assert_close(change.flatten(1).norm(dim=1), 2 * away)
    ratio = change[:, 0, 3, 4] / slope
    assert (ratio > 0).all()
    every = change / ratio.reshape(-1, 1, 1, 1)
    torch.testing.assert_close(every[:, 0, 3, 4], slope)


def test_stepwise_gradients_move_the_image_after_the_step(generator, images):
    levels, k = generator.levels(20), 5
    denoiser, null = generator.denoiser(levels), generator.nothing(5)
    x = 2 * images - 1

    def loss(clean):
        return clean.square().flatten(1).sum(1)

    descent = Descent([Term(loss, 1.0)], OneStep(), x, rate=stepwise, size=0.1, divided=False)
    (found,) = DDIM(Explicit()).step(guided(denoiser, null, descent), (x,), k, levels)
    e = denoiser.epsilon(x, k, null)
    clean = (x - levels.sigma[k] * e) / levels.alpha[k]
    torch.testing.assert_close(found, move(x, e, levels, k, k - 1) - 0.1 * 2 * clean)


@pytest.mark.parametrize("kind", [SCE, SCELiteHQ])
def test_further_explanations_keep_out_of_earlier_ones(kind, generator, images):
    def classifier(images):
        return 40 * (images.mean((1, 2, 3)) - 0.45)

    options = {"steps": 20, "strength": 0.3, "threshold": 0.02, "blur": 1}
    first, second = kind(**options).diverse(classifier, generator, images, ids=IDS, count=2, threshold=0.15, blur=1)
    changed = (first.counterfactuals - images).abs().mean(1, keepdim=True) >= 0.15
    assert 0 < changed.double().mean() < 1
    assert torch.equal(second.counterfactuals[changed], images[changed])
    assert not torch.equal(second.counterfactuals[~changed], images[~changed])


@pytest.mark.parametrize(("strength", "warmup", "masked"), [(0.5, 0.8, 1), (0.5, 0.9, 0), (1.0, 0.8, 2), (1.0, 0.4, 6)])
def test_masks_begin_after_the_share_of_steps(generator, classifier, images, monkeypatch, strength, warmup, masked):
    seen = []
    real = Blurred.see
    monkeypatch.setattr(Blurred, "see", lambda self, *given: real(self, *given) or seen.append(self.pixels is not None))
    options = {"steps": 10, "strength": strength, "warmup": warmup, "scales": (1.0,)}
    SCELiteHQ(**options).explain(classifier, generator, images[:1])
    assert seen == [False] * (int(10 * strength) - masked) + [True] * masked


def test_published_sce_halves_threshold_and_distance_for_every_further_explanation(generator, images):
    def classifier(images):
        return 40 * (images.mean((1, 2, 3)) - 0.45)

    options = {"steps": 20, "strength": 0.15, "iterations": 3, "rate": 0.2, "limit": 0.5, "blur": 1}
    published, corrected = (
        SCE(**options, threshold=0.8, distance=2.0, parity=parity) for parity in ("published", None)
    )
    found = published.diverse(classifier, generator, images, ids=IDS, count=2, threshold=0.15, blur=1)
    locked = (found[0].counterfactuals - images).abs() >= 0.15
    halved = SCE(**options, threshold=0.4, distance=1.0, parity="published", seed=1)
    expected = halved.explain(classifier, generator, images, ids=IDS, locked=locked)
    assert torch.equal(found[1].counterfactuals, expected.counterfactuals)
    assert (published.further(2).threshold, published.further(2).distance) == (0.2, 0.5)
    assert (corrected.further(2).threshold, corrected.further(2).distance) == (0.8, 2.0)
    assert (published.threshold, published.distance, published.seed) == (0.8, 2.0, 0)


@pytest.mark.parametrize("kind", ["SCE", "SCE-LITE-HQ"])
def test_published_forms_of_sce_do_not_depend_on_the_batch(kind, told, classifier, images):
    kind, options = KINDS[kind]
    options = {**options, "limit": 0.3, "threshold": 0.3, "blur": 3, "parity": "published"}
    whole = kind(**options, batch=5).explain(classifier, told, images, ids=IDS)
    parts = kind(**options, batch=2).explain(classifier, told, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-9, rtol=0)


def test_a_surrogate_gives_the_gradients_and_the_classifier_the_word(generator, classifier, images):
    def opposite(images):
        return -classifier(images)

    options = {"steps": 20, "strength": 0.3, "scales": (3.0,), "threshold": 0.01}
    own = SCELiteHQ(**options).explain(classifier, generator, images, ids=IDS)
    misled = SCELiteHQ(surrogate=opposite, **options).explain(classifier, generator, images, ids=IDS)
    assert own.after.mean() > own.before.mean() > misled.after.mean()
    assert torch.equal(own.before, misled.before)
    led = ACE(steps=20, depth=2, iterations=1).explain(Led(classifier, SmoothGrad(classifier)), generator, images)
    assert [found.about.get("surrogate") for found in (own, misled, led)] == [None, "opposite", "SmoothGrad"]
    assert "surrogate=&quot;SmoothGrad&quot;" in page(led)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: ACE(depth=50), "expected 1 <= depth < steps"),
        (lambda: LDCE(angle=0.0), r"expected an angle in \(0, 180\]"),
        (lambda: LDCE(strength=1.5), r"expected a strength in \(0, 1\]"),
        (lambda: SCE(temperature=0.0), "rate and temperature > 0"),
        (lambda: SCELiteHQ(warmup=1.0), "warmup in"),
        (lambda: SCELiteHQ(limit=0.0), "expected rate and limit > 0"),
        (lambda: SCE(limit=-1.0), "expected threshold >= 0 and limit > 0, got 0.03 and -1.0"),
        (lambda: ACE(dilation=4), "expected an odd number of pixels, got 4; write 5"),
        (lambda: SCE(blur=4), "expected an odd number of pixels, got 4; write 5"),
        (lambda: SCELiteHQ(blur=0), "expected an odd number of pixels, got 0; write 1"),
        (lambda: ACE(loss="bce"), "ACE: expected loss 'logit' or 'log-probability', got 'bce'"),
        (lambda: SCE(loss="bce"), "SCE: expected loss"),
        (lambda: SCELiteHQ(loss="bce"), "SCELiteHQ: expected loss"),
        (lambda: ACE(variance="learned"), "ACE: expected variance 'small' or 'large', got 'learned'"),
        (lambda: SCE(variance="learned"), "SCE: expected variance"),
    ],
)
def test_options_without_a_meaning_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_a_generator_that_cannot_be_told_a_class_is_refused(generator, classifier, images):
    with pytest.raises(ValueError, match="this generator cannot be told a class"):
        LDCE(steps=20).explain(classifier, generator, images)


@pytest.mark.parametrize(("strength", "depth"), [(0.382, 191), (0.342, 171), (0.502, 251)])
def test_depths_are_the_published_ones(strength, depth):
    assert LDCE(strength=strength).depth == depth
