"""Differences of the same rows: their interval, and when they are more than chance."""

import math
from itertools import pairwise

import pytest
import torch
from scipy.stats import binomtest, ttest_1samp

from causalcf.metrics.tally import estimate
from experiments.paired import half_of, sign_test, sure


@pytest.mark.parametrize("count", [2, 10, 30, 200])
def test_the_interval_is_that_of_a_t_test(count):
    rows = torch.randn(count, generator=torch.Generator().manual_seed(count)).double() + 0.3
    interval = ttest_1samp(rows.numpy(), 0).confidence_interval(0.95)
    found = {"n": count, "mean": rows.mean().item(), "sd": rows.std().item(), "half_width": 0.7}
    assert 2 * half_of(found) == pytest.approx(interval.high - interval.low)
    assert math.isnan(half_of({**found, "n": 1}))
    assert math.isnan(half_of({**found, "sd": None, "half_width": None}))


def test_chance_is_judged_as_by_a_t_test():
    noise = torch.randn(30, generator=torch.Generator().manual_seed(0)).double()
    noise = (noise - noise.mean()) / noise.std() * 30**0.5  # so that the standard error is 1
    for mean, found in ((1.95, False), (2.0, False), (2.04, False), (2.05, True), (-2.04, False), (-2.05, True)):
        each = (noise + mean).tolist()
        assert sure(each) is bool(ttest_1samp(each, 0).pvalue < 0.05) is found
    assert not sure([*each, math.nan][20:], fewest=12)
    assert not sure([1.5])
    assert not sure([])
    assert not sure([math.nan])


def test_rows_that_are_right_or_wrong_are_judged_exactly():
    for wins, losses in ((5, 0), (6, 0), (8, 1), (7, 1), (30, 14), (2, 9)):
        each = [1.0] * wins + [-1.0] * losses + [0.0] * 150 + [math.nan] * 3
        expected = binomtest(wins, wins + losses).pvalue
        assert sign_test(wins, losses) == pytest.approx(expected)
        assert sure(each) is bool(expected < 0.05)
    few = estimate(torch.tensor([1.0] * 5 + [0.0] * 150))
    assert few.half_width < few.mean  # which would be too narrow
    assert sign_test(0, 0) == sign_test(3, 3) == 1
    tails = [sign_test(wins, 20 - wins) for wins in range(10, 21)]
    assert all(more > less for more, less in pairwise(tails))
