"""Reports on explanations hold a value per row, so that two ways of explaining are compared row by row."""

import math

import pytest
import torch

from causalcf.metrics.explanation_report import explanation_scores
from causalcf.metrics.explanation_sets import jackknife, split_fid, split_fid_without

COUNT = 40
TWO = "rows with two flips"


def classifier(x):
    return 20 * (x.mean((1, 2, 3)) - 0.5)


def judge(x):
    return 20 * (x[:, :, :4].mean((1, 2, 3)) - 0.5)


def features(x):
    return x[:, 0].flatten(1)[:, :3]


def scored(size, **options):
    """Rows are moved towards the other class by `size`, and a little by chance."""
    x = torch.rand(COUNT, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    target = 1 - (classifier(x) > 0).long()
    towards = (2.0 * target - 1).reshape(-1, 1, 1, 1)
    noise = torch.rand(x.shape, generator=torch.Generator().manual_seed(1))
    y, again = ((x + towards * size * n).clamp(0, 1) for n in (noise, 0.6 * noise.flip(0)))
    options = {"independent": judge, "concepts": features, "others": [(again, classifier(again))]} | options
    report = explanation_scores(x, y, classifier(x), classifier(y), target, **options)
    flipped, both = ((classifier(z) > 0).long() == target for z in (y, again))
    return report, flipped, flipped & both


def test_rows_that_do_not_count_have_no_value():
    report, flipped, both = scored(0.1)
    assert 5 < flipped.sum() < COUNT - 5
    assert 0 < both.sum() < flipped.sum()
    assert torch.equal(report["flip rate", "", "all rows"].values, flipped.double())
    for metric in ("L1", "sparsity", "flips that flip the independent classifier (NA)"):
        values = report[metric, "", "flipped rows"].values
        assert torch.equal(values.isnan(), ~flipped), metric
    assert torch.equal(report["diversity of 2, 1 - |cosine|", "", TWO].values.isnan(), ~both)
    for line in report.lines:
        if line.values is not None:
            assert line.values.shape == (COUNT,)
            assert math.isclose(line.values.nanmean().item(), line.estimate.mean, rel_tol=1e-12)
    assert {line.metric for line in report.lines if line.values is None} == {"NAFR / flip rate"}


def test_two_ways_are_compared_where_both_count():
    (first, few, _), (second, many, _) = scored(0.1), scored(0.2)
    assert few.sum() < many.sum()
    found = second.against(first)
    assert found["flip rate", "", "all rows"].n == COUNT
    near = found["L1", "", "flipped rows"]
    assert near.n == (few & many).sum()
    each = [report["L1", "", "all rows"].values[few & many] for report in (second, first)]
    assert math.isclose(near.mean, (each[0] - each[1]).mean())
    assert near.half_width < 0.8 * second["L1", "", "flipped rows"].estimate.half_width


def test_the_error_of_a_difference_of_sfid_is_that_of_other_samples():
    def drawn(seed):
        generator = torch.Generator().manual_seed(seed)
        real = torch.randn(200, 2, generator=generator)
        return real, real + 0.6 + 0.2 * torch.randn(200, 2, generator=generator), real + 0.5

    differences, errors = [], []
    for seed in range(20):
        real, first, second = drawn(seed)
        one, other = (split_fid_without(real, moved, repeats=2) for moved in (first, second))
        errors.append(jackknife([a - b for a, b in zip(one, other, strict=True)]))
        differences.append(split_fid(real, first, repeats=2).mean - split_fid(real, second, repeats=2).mean)
    spread = torch.tensor(differences).std().item()
    assert 0.6 * spread < sum(errors) / len(errors) < 1.7 * spread


def test_groups_are_left_out_of_both_sides():
    real = torch.randn(30, 2, generator=torch.Generator().manual_seed(0))
    flipped = torch.arange(30) % 4 > 0
    found = split_fid_without(real, real + 1, flipped, groups=3, repeats=2)
    kept = torch.arange(30) % 3 != 1
    assert found[1] == pytest.approx(split_fid(real[kept], real[kept] + 1, flipped[kept], repeats=2).mean)
    assert len(found) == 3
