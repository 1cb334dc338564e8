"""Scores of explanations against loops written out in numpy, and against cases whose answer is known."""

import itertools
import json
import math
from functools import partial

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import torch

from causalcf import metrics as m
from causalcf.metrics.explanation import class_probabilities

B = 24


def images(seed=0, count=B, shape=(3, 7, 9)):
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(count, *shape, generator=generator)


def edited(x, seed=1, strength=0.6):
    """A patch of each image, drawn at random, is changed, and the rest a little."""
    generator = torch.Generator().manual_seed(seed)
    y = x + 0.02 * torch.randn(x.shape, generator=generator)
    patch = y[..., 1:6, 2:8]
    patch += strength * torch.randn(patch.shape, generator=generator)
    return y.clamp(0, 1)


def linear(outputs, seed=2, width=3 * 7 * 9):
    """Logits, float64 so that numpy agrees whatever the batch."""
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(width, max(outputs, 1), generator=generator).double() / 2
    bias = -weight.sum(0) / 2

    def network(x):
        found = x.double().flatten(1) @ weight + bias
        return found[:, 0] if outputs == 0 else found

    return network


BINARY, CLASSES = linear(0), linear(4)


def classes(logits):
    """Probabilities of classes by scipy, and decisions."""
    logits = logits.numpy()
    if logits.ndim == 1:
        p = scipy.special.expit(logits)
        return np.stack([1 - p, p], 1), (logits > 0).astype(int)
    return scipy.special.softmax(logits, 1), logits.argmax(1)


def close(found, expected, **tolerance):
    expected = torch.as_tensor(np.asarray(expected, dtype=np.float64))
    torch.testing.assert_close(found, expected, equal_nan=True, **(tolerance or {"rtol": 1e-9, "atol": 1e-12}))


@pytest.mark.parametrize("classifier", [BINARY, CLASSES], ids=["binary", "classes"])
def test_decisions_and_probabilities_are_those_of_scipy(classifier):
    before, after = classifier(images()), classifier(edited(images()))
    target = torch.arange(B) % class_probabilities(before).shape[1]
    (p, _), (q, decided) = classes(before), classes(after)
    wanted = q[np.arange(B), target]
    close(m.flips(after, target).double(), decided == target.numpy())
    assert 0 < m.flips(after, target).sum() < B
    close(m.target_probability(after, target), wanted)
    close(m.bkl(after, target), 1 - wanted)
    close(m.probability_change(before, after, target), wanted - p[np.arange(B), target])
    rate = m.flip_rate(after, target)
    hits = (decided == target.numpy()).astype(float)
    assert rate.n == B
    assert math.isclose(rate.mean, hits.mean())
    assert math.isclose(rate.sd, hits.std(ddof=1))


def test_a_decision_is_no_threshold_on_logits_nor_on_confidence():
    # logits of 0.02 and 0.3 decide for class 1, although below 0.5 and, as a confidence, below 0.51
    assert m.flips(torch.tensor([0.02, 0.3, -0.02]), torch.tensor([1, 1, 1])).tolist() == [True, True, False]
    # of three classes the likeliest wins with less than half
    assert m.flips(torch.tensor([[0.1, 0.2, 0.0]]), torch.tensor([1])).tolist() == [True]
    with pytest.raises(ValueError, match=r"expected logits of shape .* got \(3, 1, 1\)"):
        m.bkl(torch.zeros(3, 1, 1), torch.zeros(3, dtype=torch.int64))


def test_targets_in_a_column_and_logits_that_decide_nothing_are_refused():
    logits, target = torch.tensor([2.0, -1.0, 0.3, 1.0]), torch.tensor([1, 1, 0, 1])
    for asked in (m.flips, m.flip_rate, m.target_probability, m.bkl, partial(m.probability_change, logits)):
        for odd, shape in ((target[:, None], r"\(4, 1\)"), (target[:1], r"\(1,\)"), (target[:3], r"\(3,\)")):
            with pytest.raises(ValueError, match=rf"target: expected classes of shape \(4,\), one per row.*{shape}"):
                asked(logits, odd)
    for asked in (m.flips, m.flip_rate):
        for broken in (logits / 0 * 0, torch.full((4, 3), math.nan)):
            with pytest.raises(ValueError, match="expected logits, got NaN"):
                asked(broken, 0 * target)
    assert m.flips(logits, torch.tensor(1)).tolist() == [True, False, True, True]
    assert torch.equal(m.target_probability(logits, torch.tensor(1)), logits.double().sigmoid())


def test_a_binary_classifier_may_have_a_column():
    x, y, target = images(), edited(images()), 1 - (BINARY(images()) > 0).long()

    def column(x):
        return BINARY(x)[:, None]

    def scores(f):
        told = {"label": target, "classifier": f, "independent": f}
        return m.explanation_scores(x, y, f(x), f(y), target, **told)

    assert 0 < m.flips(BINARY(y), target).sum() < B
    assert torch.equal(m.flips(column(y), target), m.flips(BINARY(y), target))
    assert torch.equal(m.target_probability(column(y), target), m.target_probability(BINARY(y), target))
    one, other = scores(column), scores(BINARY)
    assert repr(one.lines) == repr(other.lines)
    assert one.about == other.about
    for parity in ("corrected", "published"):
        one, other = (m.cout(x, y, f, target, parity=parity) for f in (column, BINARY))
        assert torch.equal(one.score, other.score)


def test_a_binary_probability_close_to_one_keeps_its_complement():
    assert m.bkl(torch.tensor([100.0]).double(), torch.tensor([1])).item() == 0.0
    tiny = m.target_probability(torch.tensor([100.0]).double(), torch.tensor([0])).item()
    assert math.isclose(tiny, math.exp(-100), rel_tol=1e-9)


def test_changes_of_pixels_and_features_are_those_of_loops():
    x, y = images(), edited(images())
    a, b = linear(5)(x), linear(5)(y)
    change = (b - a).numpy()
    l1 = [
        np.mean([abs(float(p) - float(q)) for p, q in zip(i.flatten(), j.flatten(), strict=True)])
        for i, j in zip(x, y, strict=True)
    ]
    close(m.l1_change(x, y), l1)
    assert m.l1_change(x, x).eq(0).all()
    cosine = [np.dot(p, q) / np.linalg.norm(p) / np.linalg.norm(q) for p, q in zip(a.numpy(), b.numpy(), strict=True)]
    close(m.feature_cosine(a, b), cosine)
    close(m.feature_cosine(1e-12 * a, 1e-12 * b), cosine)
    close(m.feature_cosine(a, 3 * a), np.ones(B))
    assert m.feature_cosine(a, 0 * a).eq(0).all()
    close(m.sparsity(b - a), [1 - np.mean(np.abs(d)) / np.max(np.abs(d)) for d in change])
    rest = [1 - np.mean(np.delete(np.abs(d), np.abs(d).argmax())) / np.max(np.abs(d)) for d in change]
    close(m.sparsity_without_maximum(b - a), rest)
    close(
        m.diversity(b - a, a),
        [1 - np.dot(d, p) / np.linalg.norm(d) / np.linalg.norm(p) for d, p in zip(change, a.numpy(), strict=True)],
    )


def test_the_ends_of_sparsity():
    one, all_, none = torch.tensor([0.0, -3.0, 0.0, 0.0]), torch.full((4,), -2.0), torch.zeros(4)
    change = torch.stack([one, all_, none])
    assert m.sparsity(change).tolist() == [0.75, 0.0, 1.0]
    assert m.sparsity_without_maximum(change).tolist() == [1.0, 0.0, 1.0]


def test_diversity_knows_directions_and_what_has_none():
    d = torch.tensor([[1.0, 2.0]])
    assert math.isclose(m.diversity(d, -d).item(), 2.0)
    assert math.isclose(m.diversity(d, 5 * d).item(), 0.0, abs_tol=1e-12)
    assert m.diversity(d, 0 * d).isnan().all()
    flipped = torch.ones(2, 1, dtype=torch.bool)
    assert math.isclose(m.pairwise_diversity(torch.stack([d, -d]), flipped).item(), 0.0, abs_tol=1e-12)
    assert m.pairwise_diversity(torch.stack([d, 0 * d]), flipped).isnan().all()
    with pytest.raises(ValueError, match="at least two"):
        m.pairwise_diversity(d[None], flipped[:1])


def test_diversity_of_several_counts_pairs_that_both_flip():
    generator = torch.Generator().manual_seed(0)
    changes = torch.randn(4, B, 6, generator=generator).double()
    flipped = torch.rand(4, B, generator=generator) < 0.5
    expected = []
    for row in range(B):
        cosines = [
            abs(np.dot(p, q)) / np.linalg.norm(p) / np.linalg.norm(q)
            for (p, f), (q, g) in itertools.combinations(zip(changes[:, row].numpy(), flipped[:, row], strict=True), 2)
            if f and g
        ]
        expected.append(1 - np.mean(cosines) if cosines else np.nan)
    assert 0 < np.isnan(expected).sum() < B
    close(m.pairwise_diversity(changes, flipped), expected)


def transition_by_hand(x, y, classifier, target, source, counts, shares):
    """One row at a time, one increment at a time, in numpy."""
    x, y = x.numpy(), y.numpy()
    order = np.argsort(-np.abs(y.astype(np.float64) - x.astype(np.float64)).sum(0).ravel(), kind="stable")
    towards, away = [], []
    for count in counts:
        mixed = x.copy().reshape(len(x), -1)
        for pixel in order[:count]:
            mixed[:, pixel] = y.reshape(len(y), -1)[:, pixel]
        p, _ = classes(classifier(torch.from_numpy(mixed.reshape(x.shape))[None]))
        towards.append(p[0, target])
        away.append(p[0, source])

    def area(curve):
        steps = zip(itertools.pairwise(shares), itertools.pairwise(curve), strict=True)
        return sum((b - a) * (p + q) / 2 for (a, b), (p, q) in steps)

    return area(towards) - area(away), towards, away


@pytest.mark.parametrize("parity", ["corrected", "published"])
@pytest.mark.parametrize("classifier", [BINARY, CLASSES], ids=["binary", "classes"])
def test_cout_is_that_of_loops(classifier, parity):
    x, y, size = images(count=6), edited(images(count=6)), 63
    decided = classes(classifier(x))[1]
    target = torch.from_numpy((decided + 1) % class_probabilities(classifier(x)).shape[1])
    increments = 20
    if parity == "published":
        step = max(1, size // increments)
        counts = [0, *[start + step for start in range(0, size, step)]]
    else:
        counts = [round(place * size / increments) for place in range(increments + 1)]
    shares = [count / size for count in counts]
    assert shares[-1] == 1.0 or parity == "published"
    found = m.cout(x, y, classifier, target, increments=increments, parity=parity, batch=4)
    close(found.share, shares)
    for row in range(6):
        score, towards, away = transition_by_hand(x[row], y[row], classifier, target[row], decided[row], counts, shares)
        close(found.target[row], towards)
        close(found.source[row], away)
        assert math.isclose(found.score[row], score, rel_tol=1e-9)


def test_cout_of_a_classifier_that_never_moves_is_the_difference_of_its_probabilities():
    x, y = images(), edited(images())
    constant = lambda x: torch.full((len(x),), 1.3, dtype=torch.float64)  # noqa: E731
    p = scipy.special.expit(1.3)
    close(m.cout(x, y, constant, torch.ones(B).long()).score, np.full(B, 2 * p - 1))
    close(m.cout(x, y, constant, torch.zeros(B).long()).score, np.full(B, 1 - 2 * p))
    logits = torch.tensor([0.2, -1.0, 1.5]).double()
    q = scipy.special.softmax(logits.numpy())
    several = m.cout(x, y, lambda x: logits.expand(len(x), 3), torch.ones(B).long(), torch.zeros(B).long())
    close(several.score, np.full(B, q[1] - q[0]))


def test_cout_of_nothing_done_is_the_difference_of_probabilities():
    x = images()
    for classifier in (BINARY, CLASSES):
        p, decided = classes(classifier(x))
        target = torch.from_numpy((decided + 1) % p.shape[1])
        found = m.cout(x, x.clone(), classifier, target)
        close(found.score, p[np.arange(B), target] - p[np.arange(B), decided])
    close(m.cout(x, x.clone(), CLASSES, torch.from_numpy(decided)).score, np.zeros(B))
    source, target = torch.arange(B) % 4, torch.arange(B) % 3
    given = m.cout(x, x.clone(), CLASSES, target, source, batch=7)
    close(given.score, p[np.arange(B), target] - p[np.arange(B), source])


def test_cout_of_flips_at_the_first_and_at_the_last_increment():
    x, y = torch.zeros(2, 1, 10, 10), torch.full((2, 1, 10, 10), 0.5)
    y[0, 0, 0, 0] = y[1, 0, 0, 0] = 1.0  # pasted first
    y[0, 0, 9, 9] = y[1, 0, 9, 9] = 0.4  # pasted last
    first = m.cout(x, y, lambda x: 1000 * (x[:, 0, 0, 0] - 0.5), torch.ones(2).long())
    last = m.cout(x, y, lambda x: 1000 * (x[:, 0, 9, 9] - 0.2), torch.ones(2).long())
    close(first.score, [1 - 1 / 50] * 2)
    close(last.score, [-1 + 1 / 50] * 2)
    close(m.cout(x, y, lambda x: 1000 * (x[:, 0, 0, 0] - 0.5), torch.ones(2).long(), increments=5).score, [0.8, 0.8])


def test_published_cout_counts_a_range_beyond_one():
    x = torch.zeros(1, 1, 128, 128)
    y = torch.rand(1, 1, 128, 128, generator=torch.Generator().manual_seed(0))
    sure = lambda x: torch.full((len(x),), -50.0)  # noqa: E731
    published = m.cout(x, y, sure, torch.ones(1).long(), parity="published")
    assert len(published.share) == 52
    assert math.isclose(published.share[-1], 51 * 327 / 16384)
    assert math.isclose(published.score, -51 * 327 / 16384, rel_tol=1e-12)
    corrected = m.cout(x, y, sure, torch.ones(1).long())
    assert len(corrected.share) == 51
    assert math.isclose(corrected.score, -1.0, rel_tol=1e-12)


def test_published_cout_of_two_classes_goes_by_the_decision_and_not_by_the_target():
    x, y = images(), edited(images())
    decided = BINARY(x) > 0
    asked = m.cout(x, y, BINARY, torch.ones(B).long())
    published = m.cout(x, y, BINARY, torch.ones(B).long(), increments=21, parity="published")
    corrected = m.cout(x, y, BINARY, (~decided).long(), increments=21)
    close(published.score, corrected.score)
    assert not torch.allclose(asked.score[decided], published.score[decided], atol=1e-2)


def test_cout_of_more_increments_than_pixels_takes_one_pixel_at_a_time():
    x = torch.zeros(3, 1, 2, 2)
    found = m.cout(x, edited(x), lambda x: x.sum((1, 2, 3)), torch.ones(3).long())
    close(found.share, [0, 0.25, 0.5, 0.75, 1])


def test_cout_orders_equal_changes_alike_in_every_batch():
    x = torch.zeros(B, 1, 6, 6)
    y = torch.full_like(x, 0.5)
    classifier = lambda x: 100 * (x[:, 0, 2, 3].double() - 0.25)  # noqa: E731
    whole = m.cout(x, y, classifier, torch.ones(B).long(), increments=36)
    close(whole.score, np.full(B, 1 - 2 * (16 - 0.5) / 36), atol=1e-9, rtol=0)  # the 16th pixel, row by row
    for batch in (1, 5, 7):
        torch.testing.assert_close(
            m.cout(x, y, classifier, torch.ones(B).long(), increments=36, batch=batch).score, whole.score
        )


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda x: m.cout(x, x, BINARY, torch.ones(B).long(), parity="old"), "expected parity in"),
        (lambda x: m.cout(x, x, BINARY, torch.ones(B).long(), increments=0), "expected increments"),
        (lambda x: m.cout(x[:0], x[:0], BINARY, torch.ones(0).long()), "50 and 0"),
    ],
)
def test_a_cout_that_cannot_be_is_refused(wrong, message):
    with pytest.raises(ValueError, match=message):
        wrong(images())


def oracle(x):
    """Four attributes that change, and one that never does."""
    return torch.cat([linear(4, seed=5)(x).sigmoid(), torch.full((len(x), 1), 0.9).double()], 1)


def test_attributes_changed():
    before = torch.tensor([[0.4, 0.6, 0.9], [0.5, 0.5, 0.5], [0.1, 0.2, 0.3]])
    after = torch.tensor([[0.6, 0.4, 0.51], [0.4, 0.6, 0.5], [0.1, 0.2, 0.3]])
    assert m.changed_attributes(before, after).tolist() == [2.0, 1.0, 0.0]
    x = images()
    assert m.changed_attributes(oracle(x), oracle(x)).eq(0).all()
    a, b = oracle(x).numpy(), oracle(edited(x)).numpy()
    expected = [sum((p > 0.5) != (q > 0.5) for p, q in zip(i, j, strict=True)) for i, j in zip(a, b, strict=True)]
    assert max(expected) > 1
    close(m.changed_attributes(oracle(x), oracle(edited(x))), expected)


def test_correlation_difference_is_that_of_numpy():
    x = images(count=60)
    before, after = oracle(x), oracle(edited(x))
    labels = (torch.rand(300, 5, generator=torch.Generator().manual_seed(3)) < 0.4).long()
    labels[:, 1] = labels[:, 0] ^ (labels[:, 1] & labels[:, 2])
    data = m.attribute_correlations(labels, 0)
    expected = [np.corrcoef(labels[:, 0], labels[:, a])[0, 1] for a in range(5)]
    close(data, expected)
    delta = (after > 0.5).numpy().astype(int) - (before > 0.5).numpy().astype(int)
    total, undefined = 0.0, 0
    for a in range(5):
        if len(set(delta[:, a])) == 1:
            found, undefined = 0.0, undefined + 1
        else:
            found = np.corrcoef(delta[:, a], delta[:, 0])[0, 1]
        total += abs(found - expected[a])
    cd = m.correlation_difference(before, after, data, 0)
    assert math.isclose(cd.value, total, rel_tol=1e-9)
    assert (cd.undefined, cd.n) == (undefined, 60) == (1, 60)


def test_a_correlation_that_does_not_exist_counts_as_none():
    for count in range(2, 30):  # the mean of a constant is not always exactly that constant
        labels = torch.full((count, 2), 0.1, dtype=torch.float64)
        labels[:, 1] = torch.arange(count)
        assert m.attribute_correlations(labels, 1).isnan().tolist() == [True, False]
        assert m.attribute_correlations(labels, 0).isnan().all()
    before, after = torch.tensor([[0.1, 0.1, 0.1]] * 4), torch.tensor([[0.9, 0.9, 0.1], [0.9, 0.1, 0.1]] * 2)
    # all move q the same way: no correlation exists, whatever attribute 1 does
    one_way = m.correlation_difference(before, after, torch.tensor([1.0, 0.3, -0.2]), 0)
    assert math.isclose(one_way.value, 1.5, rel_tol=1e-6)
    assert one_way.undefined == 3
    unknown = m.correlation_difference(before, after, torch.tensor([1.0, math.nan, -0.2]), 0)
    assert math.isclose(unknown.value, 1.2, rel_tol=1e-6)
    both_ways = m.correlation_difference(
        torch.cat([before, after]), torch.cat([after, before]), torch.tensor([1.0, math.nan, math.nan]), 0
    )
    delta = np.array([[1, 1], [1, 0], [1, 1], [1, 0], [-1, -1], [-1, 0], [-1, -1], [-1, 0]])
    assert math.isclose(both_ways.value, np.corrcoef(delta.T)[0, 1], rel_tol=1e-9)
    assert both_ways.undefined == 2
    one, none = (m.correlation_difference(before[:k], after[:k], torch.zeros(3), 0) for k in (1, 0))
    assert math.isnan(one.value)
    assert math.isnan(none.value)
    assert (one.n, none.n) == (1, 0)


def test_explanations_that_move_attributes_as_the_data_have_no_correlation_difference():
    labels = torch.tensor([[0.1, 0.1], [0.9, 0.9], [0.1, 0.9], [0.9, 0.1], [0.9, 0.9]])
    data = m.attribute_correlations((labels > 0.5).double(), 0)
    rows = torch.cat([labels, 1 - labels])
    moved = m.correlation_difference(1 - rows, rows, data, 0)
    both = (2 * (rows > 0.5).double() - 1).numpy()
    expected = abs(np.corrcoef(both.T)[0, 1] - data[1])
    assert math.isclose(moved.value, expected, rel_tol=1e-9)
    alike = torch.tensor([[0.9, 0.9], [0.1, 0.1]])
    assert math.isclose(m.correlation_difference(1 - alike, alike, torch.ones(2), 0).value, 0.0, abs_tol=1e-12)


def test_flips_of_both_are_not_a_ratio_of_flip_rates():
    flipped = torch.tensor([True, True, True, False, False, False, False, False])
    independent = torch.tensor([True, False, True, True, True, False, False, False])
    share, ratio = m.non_adversarial_share(flipped, independent), m.flip_rate_ratio(flipped, independent)
    assert (share.n, ratio.n) == (3, 8)
    assert math.isclose(share.mean, 2 / 3)
    assert math.isclose(ratio.mean, 4 / 3)
    assert math.isnan(ratio.sd)
    assert m.non_adversarial_share(flipped.long(), independent) == share
    never = torch.zeros(8, dtype=torch.bool)
    assert m.non_adversarial_share(never, independent).n == 0
    assert math.isnan(m.non_adversarial_share(never, independent).mean)
    assert math.isnan(m.flip_rate_ratio(never, independent).mean)
    assert m.flip_rate_ratio(flipped, never).mean == 0.0


def frechet_by_hand(x, y):
    x, y = x.double().numpy(), y.double().numpy()
    cx, cy = np.atleast_2d(np.cov(x.T)), np.atleast_2d(np.cov(y.T))
    return np.sum((x.mean(0) - y.mean(0)) ** 2) + np.trace(cx + cy - 2 * scipy.linalg.sqrtm(cx @ cy).real)


def features(seed, count=80, width=3):
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_frechet_distance_of_features():
    x, y = features(0), 1.3 * features(1, 50) + 0.4
    assert abs(m.fid(x, x)) < 1e-6
    assert math.isclose(m.fid(x, y), frechet_by_hand(x, y), rel_tol=1e-6)
    assert math.isclose(m.fid(x[:, :1], y[:, :1]), frechet_by_hand(x[:, :1], y[:, :1]), rel_tol=1e-6)
    assert math.isnan(m.fid(x, y[:1]))
    assert math.isnan(m.fid(x[:0], y))


def test_split_distance_is_between_halves_that_share_no_image():
    x, y = features(0), 1.2 * features(1) + 0.3
    flipped = torch.rand(80, generator=torch.Generator().manual_seed(4)) < 0.6
    found, expected = m.split_fid(x, y, flipped, repeats=4, seed=7), []
    for repeat in range(4):
        order = torch.randperm(80, generator=torch.Generator().manual_seed(70_000 + repeat)).tolist()
        pair = []
        for one, other in ((order[:40], order[40:]), (order[40:], order[:40])):
            assert not set(one) & set(other)
            pair.append(frechet_by_hand(x[one], y[[row for row in other if flipped[row]]]))
        expected.append(np.mean(pair))
    assert math.isclose(found.mean, np.mean(expected), rel_tol=1e-6)
    assert math.isclose(found.sd, np.std(expected, ddof=1), rel_tol=1e-4)
    assert found.n == flipped.sum()
    assert m.split_fid(x, y, flipped.long(), repeats=4, seed=7) == found


def test_split_distance_of_a_set_to_itself_is_above_zero():
    x = features(0)
    found = m.split_fid(x, x)
    assert found.mean > 0.01
    assert found.mean > 100 * abs(m.fid(x, x))
    assert found.sd > 0
    assert found == m.split_fid(x, x)
    assert found != m.split_fid(x, x, seed=100)
    one, other = (m.split_fid(x, x, repeats=10, seed=seed) for seed in (0, 1))
    later = [m.split_fid(x, x, repeats=count).mean * count for count in (1, 10, 11)]
    assert not math.isclose(10 * other.mean, later[2] - later[0], rel_tol=1e-6)  # other splits, not the same a step on
    assert math.isclose(10 * one.mean, later[1])
    assert math.isclose(m.split_fid(x, x, repeats=1).mean, m.split_fid(x, x, repeats=1, seed=0).mean)
    assert math.isnan(m.split_fid(x, x, repeats=1).sd)


def test_split_distance_is_of_rows_that_flipped_and_of_all_originals():
    x, y, flipped = features(0), features(1), torch.arange(80) % 2 == 0
    found = m.split_fid(x, y, flipped)
    other = y.clone()
    other[~flipped] += 100
    assert m.split_fid(x, other, flipped) == found
    moved = x.clone()
    moved[~flipped] += 1
    assert m.split_fid(moved, y, flipped).mean > found.mean
    few = m.split_fid(x, y, torch.arange(80) == 3)
    assert math.isnan(few.mean)
    assert few.n == 1


def test_overlap_with_owned_pixels():
    x = torch.zeros(5, 2, 2, 3)
    y = x.clone()
    y[0, :, 0, 0], y[0, 0, 0, 1], y[0, :, 1, 2] = 0.5, 0.3, 0.05  # means over channels 0.5, 0.15, 0.05
    y[1, :, 1, 1] = 1.0
    y[3, :, 0, 0] = 1.0
    y[4, :, 1, 2] = 1.0
    owned = torch.zeros(5, 2, 3, dtype=torch.bool)
    owned[0, 0, 0] = owned[0, 1, 2] = True
    owned[1, 1, 1] = owned[2, 0, 0] = True
    owned[4, 0, :2] = owned[4, 1, 2] = True
    # rows: half right; right; nothing edited; nothing owned; one of three edited and no other
    close(m.iou_above_threshold(x, y, owned), [1 / 3, 1, 0, 0, 1 / 3])
    close(m.iou_above_threshold(x, y, owned, threshold=0.2), [1 / 2, 1, 0, 0, 1 / 3])
    close(m.iou_at_true_size(x, y, owned), [1 / 3, 1, 0, math.nan, 1 / 3])
    assert m.iou_above_threshold(x, x, owned & False).isnan().all()


def test_overlap_is_that_of_loops():
    x, y = images(), edited(images(), strength=0.2)
    owned = torch.rand(B, 7, 9, generator=torch.Generator().manual_seed(0)) < 0.3
    above, sized = [], []
    for row in range(B):
        change = np.abs(y[row].double().numpy() - x[row].double().numpy()).mean(0).ravel()
        true = {i for i, own in enumerate(owned[row].flatten().tolist()) if own}
        for result, found in (
            (above, {i for i, c in enumerate(change) if c > 0.05}),
            (sized, set(sorted(range(63), key=lambda i: -change[i])[: len(true)])),
        ):
            result.append(len(found & true) / len(found | true))
    close(m.iou_above_threshold(x, y, owned, 0.05), above)
    close(m.iou_at_true_size(x, y, owned), sized)


def everything(**changed):
    x = images(count=40)
    y, again = edited(x), edited(x, seed=9)
    options = {
        "label": (BINARY(x) > 0.3).long(),
        "classifier": BINARY,
        "independent": linear(0, seed=11),
        "oracle": oracle,
        "query": 0,
        "data_correlation": torch.tensor([1.0, 0.2, -0.1, 0.0, math.nan]),
        "encoder": linear(3, seed=6),
        "concepts": linear(5, seed=8),
        "others": [(again, BINARY(again))],
        "owned": torch.rand(40, 7, 9, generator=torch.Generator().manual_seed(0)) < 0.3,
        "truth": edited(x, seed=3),
        "repeats": 3,
        "method": "drawn",
    } | changed
    return m.explanation_scores(x, y, BINARY(x), BINARY(y), 1 - (BINARY(x) > 0).long(), **options)


def test_the_report_holds_every_score_with_its_rows():
    x = images(count=40)
    y, again = edited(x), edited(x, seed=9)
    target, flipped = 1 - (BINARY(x) > 0).long(), (BINARY(y) > 0) != (BINARY(x) > 0)
    right = (BINARY(x) > 0.3) == (BINARY(x) > 0)
    assert 2 < flipped.sum() < 38
    assert 2 < right.sum() < 40
    report, every = everything(), torch.ones(40, dtype=torch.bool)
    near, far = (linear(3, seed=6)(z) for z in (x, y))
    change, second = (linear(5, seed=8)(z) - linear(5, seed=8)(x) for z in (y, again))
    independent = m.flips(linear(0, seed=11)(y), target)
    owned, truth = torch.rand(40, 7, 9, generator=torch.Generator().manual_seed(0)) < 0.3, edited(x, seed=3)
    moved = m.probability_change(BINARY(x), BINARY(y), target)
    cosine, cout = m.feature_cosine(near, far), m.cout(x, y, BINARY, target).score
    both = flipped & m.flips(BINARY(again), target)
    cd = m.correlation_difference(
        oracle(x)[flipped], oracle(y)[flipped], torch.tensor([1.0, 0.2, -0.1, 0.0, math.nan]), 0
    )
    split = m.split_fid(near, far, flipped, repeats=3)
    off = 255 * (y.double() - truth).abs().mean((1, 2, 3))
    means = {
        ("flip rate", "all rows"): (flipped, every),
        ("probability of the target", "all rows"): (m.target_probability(BINARY(y), target), every),
        ("BKL", "all rows"): (m.bkl(BINARY(y), target), every),
        ("MAD", "all rows"): (moved.abs(), every),
        ("MD, of the target", "all rows"): (moved, every),
        ("flip rate of the independent classifier (NAFR)", "all rows"): (independent, every),
        ("flips that flip the independent classifier (NA)", "flipped rows"): (independent, flipped),
        ("L1", "all rows"): (m.l1_change(x, y), every),
        ("L1", "flipped rows"): (m.l1_change(x, y), flipped),
        ("COUT", "all rows"): (cout, every),
        ("COUT", "correctly decided rows"): (cout, right),
        ("attributes changed (MNAC)", "flipped rows"): (m.changed_attributes(oracle(x), oracle(y)), flipped),
        ("cosine (S3, FS)", "all rows"): (cosine, every),
        ("cosine (S3, FS)", "flipped rows"): (cosine, flipped),
        ("cosine (S3, FS)", "correctly decided rows"): (cosine, right),
        ("cosine above 0.5 (FVA)", "flipped rows"): (cosine > 0.5, flipped),
        ("sparsity", "all rows"): (m.sparsity(change), every),
        ("sparsity", "flipped rows"): (m.sparsity(change), flipped),
        ("sparsity without the maximum", "all rows"): (m.sparsity_without_maximum(change), every),
        ("sparsity without the maximum", "flipped rows"): (m.sparsity_without_maximum(change), flipped),
        ("diversity, 1 - cosine", "flipped rows"): (m.diversity(change, second), both),
        ("diversity of 2, 1 - |cosine|", "rows with two flips"): (1 - (1 - m.diversity(change, second)).abs(), both),
        ("IoU with owned pixels, change above 0.1", "all rows"): (m.iou_above_threshold(x, y, owned), every),
        ("IoU with owned pixels, change above 0.1", "flipped rows"): (m.iou_above_threshold(x, y, owned), flipped),
        ("IoU with owned pixels, as many", "all rows"): (m.iou_at_true_size(x, y, owned), every),
        ("IoU with owned pixels, as many", "flipped rows"): (m.iou_at_true_size(x, y, owned), flipped),
        ("error against the truth", "all rows"): (off, every),
        ("error against the truth", "flipped rows"): (off, flipped),
    }
    values = {
        ("NAFR / flip rate", "all rows"): (independent.sum() / flipped.sum(), 40),
        ("correlation difference (CD)", "flipped rows"): (cd.value, flipped.sum()),
        ("attributes without correlation, taken as 0", "flipped rows"): (1, flipped.sum()),
        ("FID, to all factuals", "flipped rows"): (m.fid(near, far[flipped]), flipped.sum()),
        ("sFID, mean of 3 splits", "flipped rows"): (split.mean, flipped.sum()),
        ("sFID, standard deviation of 3 splits", "flipped rows"): (split.sd, flipped.sum()),
    }
    assert {(line.metric, line.variable) for line in report.lines} == {*means, *values}
    assert len(report.lines) == len(means) + len(values)
    for (metric, over), (rows, chosen) in means.items():
        found, expected = report[metric, "drawn", over].estimate, rows[chosen].double().numpy()
        assert found.n == len(expected), metric
        assert math.isclose(found.mean, expected.mean(), rel_tol=1e-6, abs_tol=1e-9), metric
        assert math.isclose(found.sd, expected.std(ddof=1), rel_tol=1e-5, abs_tol=1e-9), metric
    for (metric, over), (value, n) in values.items():
        found = report[metric, "drawn", over].estimate
        assert math.isclose(found.mean, value, rel_tol=1e-6), metric
        assert found.n == n
        assert math.isnan(found.half_width)
    nothing = 255 * (x.double() - truth).abs().mean((1, 2, 3))
    for over, chosen in (("all rows", every), ("flipped rows", flipped)):
        line = report["error against the truth", "drawn", over]
        assert line.against == "doing nothing"
        assert math.isclose(line.reference.mean, nothing[chosen].mean(), rel_tol=1e-6)
    for line in report.lines:
        if "flip" in line.variable and "truth" not in line.metric:
            assert line.against == "flip rate"
            assert math.isclose(line.reference.mean, flipped.double().mean())
            assert line.reference.n == 40
    assert report.about == {"rows": 40, "flipped": flipped.sum(), "decided as the target before": 0, "seed": 0}
    assert json.loads(json.dumps(report.to_dict()))["about"]["rows"] == 40


def test_the_report_does_not_depend_on_the_batch():
    whole = everything()
    for batch in (1, 7, 40):
        parts = everything(batch=batch)
        for a, b in zip(whole.lines, parts.lines, strict=True):
            assert a.estimate.n == b.estimate.n
            assert math.isclose(a.estimate.mean, b.estimate.mean, rel_tol=1e-9, abs_tol=1e-9), a.metric


def test_scores_of_rows_do_not_depend_on_the_other_rows():
    x, y = images(), edited(images())
    target, owned = torch.arange(B) % 4, torch.rand(B, 7, 9) < 0.3
    for score in (
        lambda r: m.l1_change(x[r], y[r]),
        lambda r: m.cout(x[r], y[r], CLASSES, target[r]).score,
        lambda r: m.sparsity(CLASSES(y[r]) - CLASSES(x[r])),
        lambda r: m.diversity(CLASSES(y[r]), CLASSES(x[r])),
        lambda r: m.changed_attributes(oracle(x[r]), oracle(y[r])),
        lambda r: m.iou_above_threshold(x[r], y[r], owned[r]),
        lambda r: m.iou_at_true_size(x[r], y[r], owned[r]),
    ):
        whole = score(slice(None))
        assert whole.dtype == torch.float64
        parts = torch.cat([score(slice(start, start + 5)) for start in range(0, B, 5)])
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)


def test_where_nothing_flips_lines_are_empty_and_say_so():
    x = images(count=10)
    target = 1 - (BINARY(x) > 0).long()
    report = m.explanation_scores(
        x,
        x.clone(),
        BINARY(x),
        BINARY(x),
        target,
        classifier=BINARY,
        independent=BINARY,
        oracle=oracle,
        query=0,
        data_correlation=torch.zeros(5),
        encoder=linear(3),
        others=[(x, BINARY(x)), (x, BINARY(x))],
        owned=torch.zeros(10, 7, 9, dtype=torch.bool),
        truth=x,
    )
    empty = [line for line in report.lines if line.variable not in ("all rows",)]
    assert len(empty) > 10
    assert all(line.estimate.n == 0 and math.isnan(line.estimate.mean) for line in empty)
    assert math.isnan(report["NAFR / flip rate", "", "all rows"].estimate.mean)
    assert report["flip rate", "", "all rows"].estimate == m.Estimate(10, 0.0, 0.0)
    assert report["IoU with owned pixels, as many", "", "all rows"].estimate.n == 0
    assert report["L1", "", "all rows"].estimate.mean == 0
    assert report["COUT", "", "all rows"].estimate.mean < 0
    assert "nan" in str(report)
    assert "| nan |" in report.to_markdown()


def test_the_report_holds_what_its_arguments_allow():
    x, y = images(), edited(images())
    basic = m.explanation_scores(x, y, CLASSES(x), CLASSES(y), torch.arange(B) % 4)
    assert {line.metric for line in basic.lines} == {
        "flip rate",
        "probability of the target",
        "BKL",
        "MAD",
        "MD, of the target",
        "L1",
    }
    already = int((CLASSES(x).argmax(1) == torch.arange(B) % 4).sum())
    assert basic.about["decided as the target before"] == already > 0
    small = m.explanation_scores(x, y, CLASSES(x), CLASSES(y), (torch.arange(B) % 4).to(torch.uint8), realism=linear(2))
    assert {line.metric.split(",")[0] for line in small.lines} >= {"FID", "sFID"}
    assert "sparsity" not in {line.metric for line in small.lines}
    only = m.explanation_scores(x, y, CLASSES(x), CLASSES(y), torch.arange(B) % 4, concepts=linear(2), oracle=oracle)
    names = {line.metric for line in only.lines}
    assert {"sparsity", "attributes changed (MNAC)"} <= names
    assert not any("FID" in name or "CD" in name or "cosine" in name for name in names)
    three = m.explanation_scores(
        x, y, CLASSES(x), CLASSES(y), torch.arange(B) % 4, encoder=linear(3), others=[(y, CLASSES(y)), (x, CLASSES(x))]
    )
    assert "diversity of 3, 1 - |cosine|" in {line.metric for line in three.lines}


def test_logits_that_may_be_probabilities_are_warned_of():
    x = images(count=16)
    given = {"factual": x, "counterfactual": x, "target": torch.ones(16, dtype=torch.int64)}
    logits = BINARY(x)
    with pytest.warns(UserWarning, match="explanation_scores: before: all of 16 logits are from 0 to 1"):
        m.explanation_scores(before=logits.sigmoid(), after=logits, **given)
    with pytest.warns(UserWarning, match="explanation_scores: independent: all of 16 logits are from 0 to 1"):
        m.explanation_scores(before=logits, after=logits, independent=lambda x: BINARY(x).sigmoid(), **given)
    column = logits[:, None]
    with pytest.warns(UserWarning, match="before: all of 16 logits are from 0 to 1"):
        m.explanation_scores(before=column.sigmoid(), after=column, **given)
    one_hot = lambda x: torch.eye(2)[(BINARY(x) > 0).long()]  # noqa: E731  decides as well as logits do
    report = m.explanation_scores(before=logits, after=logits, independent=one_hot, **given)
    rates = [report[name, "", "all rows"].estimate.mean for name in ("flip rate", "NAFR / flip rate")]
    assert rates == [(logits > 0).double().mean().item(), 1.0]


X, T = images(count=6), torch.ones(6, dtype=torch.int64)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"factual": 2 * X - 1}, r"\[0, 1\].*\(x \+ 1\) / 2"),
        ({"counterfactual": (255 * X).to(torch.uint8)}, r"counterfactual: expected floats.*x / 255"),
        ({"counterfactual": 255 * X}, r"counterfactual: expected floats.*x / 255"),
        ({"counterfactual": X * math.nan}, "counterfactual: expected floats"),
        ({"counterfactual": X[:3]}, r"expected shape \(6, 3, 7, 9\), got \(3, 3, 7, 9\)"),
        ({"factual": X[:0], "counterfactual": X[:0]}, r"images \(B, C, H, W\), got shape \(0,"),
        ({"before": torch.zeros(6, 1, 1)}, r"\(B, 1\) for a binary classifier, or \(B, K\), got \(6, 1, 1\)"),
        ({"after": torch.zeros(6, 2)}, r"after: expected finite logits of shape \(6,\)"),
        ({"after": torch.full((6,), math.inf)}, "with NaN or inf"),
        ({"before": CLASSES(X).softmax(1), "after": CLASSES(X)}, "before: it gives probabilities; return logits"),
        ({"before": CLASSES(X), "after": CLASSES(X).softmax(1)}, "after: it gives probabilities"),
        ({"before": torch.zeros(5), "after": torch.zeros(5)}, "expected logits of 6 rows, got 5"),
        (
            {"independent": linear(3)},
            r"independent: .* 6 rows and 2 classes, got shape \(6, 3\)",
        ),
        ({"independent": lambda x: BINARY(x) * math.nan}, r"independent: .* got shape \(6,\) with NaN"),
        ({"independent": lambda x: BINARY(x)[:2]}, r"independent: .* of 6 rows .* got shape \(2,\)"),
        ({"target": 2 * T}, "expected classes 0 to 1 as integers"),
        ({"target": T.float()}, "expected classes 0 to 1 as integers"),
        ({"label": T[:2]}, "label: expected 6 classes"),
        ({"oracle": linear(3)}, r"probabilities, torch.sigmoid\(logits\)"),
        ({"query": 0, "data_correlation": torch.zeros(5)}, "CD needs all of oracle, query and data_correlation"),
        ({"oracle": oracle, "query": 0}, "CD needs all"),
        ({"oracle": oracle, "query": 5, "data_correlation": torch.zeros(5)}, "5 attributes; query 5"),
        ({"oracle": oracle, "query": 0, "data_correlation": torch.zeros(4)}, "5 attributes"),
        ({"encoder": lambda x: x}, r"features.flatten\(1\)"),
        ({"encoder": lambda x: math.nan * linear(3)(x)}, "encoder or oracle gave NaN or inf"),
        ({"concepts": lambda x: linear(3)(x) / 0}, "encoder or oracle gave NaN or inf"),
        ({"oracle": lambda x: math.nan * oracle(x)}, "encoder or oracle gave NaN or inf"),
        ({"others": [(X, torch.zeros(6))]}, "give encoder or concepts"),
        ({"others": [(X[:2], torch.zeros(6))], "encoder": linear(2)}, r"others\[0\]: expected shape"),
        ({"others": [(X, torch.zeros(4))], "encoder": linear(2)}, r"others\[0\]: expected finite logits"),
        ({"owned": torch.zeros(6, 3, 7, 9, dtype=torch.bool)}, "owned: expected booleans of shape"),
        ({"owned": torch.zeros(6, 7, 9)}, "owned: expected booleans"),
        ({"truth": X[:, :1]}, "truth: expected shape"),
    ],
)
def test_wrong_inputs_are_refused_where_they_enter(changed, message):
    given = {"factual": X, "counterfactual": X, "before": BINARY(X), "after": BINARY(X), "target": T} | changed
    with pytest.raises(ValueError, match=message):
        m.explanation_scores(**given)
