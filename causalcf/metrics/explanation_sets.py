"""How good counterfactual explanations are, taken together; and `explanation_scores`, the report on a set of them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.metrics.explanation import Logits, flips
from causalcf.metrics.realism import frechet
from causalcf.metrics.tally import Estimate, estimate

SPLITS = 10_000  # of a seed, before those of the next one begin


def flip_rate(logits: Logits, target: Int[Tensor, " batch"]) -> Estimate:
    """`mean 1[f(x_cf) = y']`, validity, from 0 to 1; higher is better.

    Under the explained classifier this is FR; under an independent one, NAFR (SCE-LITE-HQ): what attacks the explained
    classifier alone does not flip the other.
    """
    return estimate(flips(logits, target))


def non_adversarial_share(flipped: Bool[Tensor, " batch"], independent: Bool[Tensor, " batch"]) -> Estimate:
    """NA as defined, a conjunction: of the rows that flip f, the share that also flips an independent classifier.

    `#(f flips and f' flips) / #(f flips)`, from 0 to 1; higher is better (SCE-LITE-HQ). n is the rows that flip f. Not
    the ratio of the two flip rates, `flip_rate_ratio`, which forgets which rows flipped.

    Example:
        >>> flipped, independent = torch.tensor([[True, True, False, False], [True, False, True, True]])
        >>> non_adversarial_share(flipped, independent).mean, flip_rate_ratio(flipped, independent).mean
        (0.5, 1.5)
    """
    return estimate(independent[flipped.bool()])


def flip_rate_ratio(flipped: Bool[Tensor, " batch"], independent: Bool[Tensor, " batch"]) -> Estimate:
    """`NAFR / FR`, 0 or more, which code has published as NA: no share, it exceeds 1 where f flips less often.

    Higher is better up to 1. NaN where nothing flips f; there is no standard deviation.
    """
    count = int(flipped.sum())
    return Estimate(len(flipped), int(independent.sum()) / count if count else math.nan, math.nan)


def attribute_correlations(labels: Float[Tensor, "row attributes"], query: int) -> Float[Tensor, " attributes"]:
    """`corr(a, q)` of every attribute with the queried one, over rows; NaN for what never varies.

    For `correlation_difference` the rows are training labels, 0 and 1; not readings of an oracle, nor test rows.
    """
    labels = labels.detach().double().cpu()
    varies = labels.amax(0) > labels.amin(0)
    apart = labels - labels.mean(0)
    spread = apart.square().sum(0).sqrt()
    correlation = (apart * apart[:, [query]]).sum(0) / (spread * spread[query])
    return correlation.clamp(-1, 1).where(varies & varies[query], math.nan)


class CorrelationDifference(NamedTuple):
    """How far explanations move attributes together otherwise than they go together in the data.

    Attributes:
        value: CD.
        undefined: of how many attributes a correlation did not exist and counted as 0.
        n: explanations.
    """

    value: float
    undefined: int
    n: int


def correlation_difference(
    before: Float[Tensor, "batch attributes"],
    after: Float[Tensor, "batch attributes"],
    data: Float[Tensor, " attributes"],
    query: int,
) -> CorrelationDifference:
    """`sum_a |corr_cf(delta_a, delta_q) - corr_data(a, q)|`, from 0 to 2A; lower is better (Jeanneret et al., 2022).

    delta in {-1, 0, 1} is the change of an attribute that an oracle reads, q the attribute the classifier reads. All
    rows given count, also those where the oracle does not see q change; published values are of rows that flipped.
    A correlation that does not exist, of an attribute that never changes, counts as 0. If explanations all move q the
    same way then none exists, q's own neither, and CD is `sum_a |corr_data(a, q)|` whatever else changes: give rows of
    both directions. NaN for fewer than two rows.

    Args:
        before: the oracle's probabilities for the factuals.
        after: and for the counterfactuals.
        data: `corr_data`, of `attribute_correlations` of the training labels.
        query: index of q.
    """
    if len(before) < 2:
        return CorrelationDifference(math.nan, 0, len(before))
    moved = attribute_correlations((after > 0.5).double() - (before > 0.5).double(), query)
    known = data.detach().double().cpu()
    undefined = int((moved.isnan() | known.isnan()).sum())
    return CorrelationDifference((moved.nan_to_num(0) - known.nan_to_num(0)).abs().sum().item(), undefined, len(before))


def fid(real: Float[Tensor, "row features"], other: Float[Tensor, "batch features"]) -> float:
    """Frechet distance of features of real images and of counterfactuals, 0 or more; lower is better.

    The distance is high where there are few images, and much too high where they are no more than the features:
    compare only equal n and the same encoder. Counterfactuals that leave an image almost as it is have a distance near
    0, because the same images are on both sides: see `split_fid`. NaN for fewer than two rows on a side.
    """
    if min(len(real), len(other)) < 2:
        return math.nan
    moments = []
    for features in (real.detach().double().cpu(), other.detach().double().cpu()):
        width = features.shape[1]
        moments += [features.mean(0), torch.cov(features.T).reshape(width, width)]
    return frechet(*moments)


class SplitFrechet(NamedTuple):
    """`split_fid` over repeats.

    Attributes:
        mean: over the repeats.
        sd: over the repeats; not an error of the mean, as they share their images.
        n: counterfactuals.
    """

    mean: float
    sd: float
    n: int


def split_fid(
    real: Float[Tensor, "batch features"],
    other: Float[Tensor, "batch features"],
    flipped: Bool[Tensor, " batch"] | None = None,
    *,
    repeats: int = 10,
    seed: int = 0,
) -> SplitFrechet:
    """sFID: the distance of counterfactuals to the originals of other rows; lower is better (Jeanneret et al., 2023).

    Rows are split at random in halves a, b, and `(FID(real_a, cf_b) + FID(real_b, cf_a)) / 2` is averaged over
    splits: no image meets its own original. Not the spatial FID of the same name. Of a set with itself it is the
    distance of two disjoint halves, above 0: never on one scale with `fid`. Originals all take part, counterfactuals
    only where they flipped, so the two sides differ in size. NaN if a half ever has fewer than two of either.

    Args:
        real: features of the factuals.
        other: of their counterfactuals, row by row.
        flipped: which counterfactuals take part, by default all.
        repeats: how many splits.
        seed: of the splits, which no two seeds share; split k is the same whatever the number of repeats.
    """
    flipped = torch.ones(len(real), dtype=torch.bool) if flipped is None else flipped.cpu().bool()
    real, other = real.detach().cpu(), other.detach().cpu()
    values = []
    for repeat in range(repeats):
        order = torch.randperm(len(real), generator=torch.Generator().manual_seed(SPLITS * seed + repeat))
        a, b = order[: len(real) // 2], order[len(real) // 2 :]
        values.append((fid(real[a], other[b[flipped[b]]]) + fid(real[b], other[a[flipped[a]]])) / 2)
    found = torch.tensor(values, dtype=torch.float64)
    sd = found.std().item() if repeats > 1 else math.nan
    return SplitFrechet(found.mean().item(), sd, int(flipped.sum()))


def split_fid_without(
    real: Float[Tensor, "batch features"],
    other: Float[Tensor, "batch features"],
    flipped: Bool[Tensor, " batch"] | None = None,
    *,
    groups: int = 10,
    repeats: int = 10,
    seed: int = 0,
) -> list[float]:
    """`split_fid` with one group of rows left out at a time: what its error, or that of a difference, is told from.

    Group g are the rows g, g + groups, g + 2 groups and so on, so that lists of two methods that explained the same
    rows belong together: `jackknife([a - b for a, b in zip(first, second)])` is the standard error of the difference.

    Args:
        real: as for `split_fid`.
        other: as for `split_fid`.
        flipped: as for `split_fid`.
        groups: how many.
        repeats: as for `split_fid`.
        seed: as for `split_fid`.
    """
    flipped = torch.ones(len(real), dtype=torch.bool) if flipped is None else flipped.cpu().bool()
    group = torch.arange(len(real)) % groups
    kept = [(group != number).nonzero()[:, 0] for number in range(groups)]
    return [split_fid(real[k], other[k], flipped[k], repeats=repeats, seed=seed).mean for k in kept]


def jackknife(without: Sequence[float]) -> float:
    """Standard error of a number from what it is with each of G groups of rows left out (Efron and Stein, 1981).

    `sqrt((G - 1) / G sum_g (x_g - mean)^2)`. Of a mean over rows, each its own group, it is `sd / sqrt(n)`.

    Example:
        >>> jackknife([2.5, 2.0, 1.5]), torch.tensor([1.0, 2.0, 3.0]).std().item() / 3**0.5
        (0.5773502691896257, 0.5773502691896258)
    """
    values = torch.tensor(without, dtype=torch.float64)
    return ((len(values) - 1) / len(values) * (values - values.mean()).square().sum()).sqrt().item()
