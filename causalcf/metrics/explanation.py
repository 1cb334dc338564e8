"""How good counterfactual explanations of a classifier are, row by row.

Images are `(B, C, H, W)` in [0, 1], as they left the method: files with losses change realism and transition scores.
Logits are `(B,)` or `(B, 1)` of a binary classifier, which decides for class 1 where they are positive, or `(B, K)`.
Networks take images in [0, 1], do their own normalisation, once, and are in eval mode. Scores are float64, one per row,
and do not depend on what else is in the batch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations
from typing import get_args

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.metrics.minimality import Form

Network = Callable[[Tensor], Tensor]
Logits = Float[Tensor, "batch *classes"]


def class_probabilities(logits: Logits) -> Float[Tensor, "batch classes"]:
    """Softmax, or of a binary classifier `(1 - sigmoid(l), sigmoid(l))`, so that both kinds have a column per class.

    Raises:
        ValueError: logits that are not `(B,)` or `(B, K)`.
    """
    if logits.ndim not in (1, 2) or 0 in logits.shape[1:]:
        raise ValueError(
            f"expected logits of shape (B,) or (B, 1) for a binary classifier, or (B, K), got {tuple(logits.shape)}"
        )
    logits = _alone(logits)
    if logits.ndim == 1:
        return torch.stack([-logits, logits], 1).double().sigmoid()
    return logits.double().softmax(1)


def predicted_class(logits: Logits) -> Int[Tensor, " batch"]:
    """What the classifier decides: `1[l > 0]`, or the class of the largest logit; never a threshold on raw logits.

    Raises:
        ValueError: logits that are NaN, which decide nothing.
    """
    logits = _alone(logits)
    if logits.isnan().any():
        raise ValueError("expected logits, got NaN, which decides for no class; check the classifier and its images")
    return (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)


def flips(logits: Logits, target: Int[Tensor, " batch"]) -> Bool[Tensor, " batch"]:
    """Whether a counterfactual is decided as its target, `f(x_cf) = y'`; the mean is the flip rate, or validity.

    Higher is better. A row whose factual was decided as the target already counts too.

    Raises:
        ValueError: logits that are NaN, or targets that are not one per row.

    Example:
        >>> flips(torch.tensor([2.0, -1.0, 0.3]), torch.tensor([1, 1, 0]))
        tensor([ True, False, False])
    """
    return predicted_class(logits) == _per_row(target, logits)


def target_probability(logits: Logits, target: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """`p(y' | x)` under the classifier, from 0 to 1; higher is better.

    Raises:
        ValueError: logits that are not `(B,)` or `(B, K)`, or targets that are not one per row.
    """
    return class_probabilities(logits).gather(1, _per_row(target, logits)[:, None])[:, 0]


def bkl(logits: Logits, target: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """`1 - p(y' | x_cf)`, from 0 to 1; lower is better (Jeanneret et al., DiME, 2022).

    It bears the name of a divergence, but was always computed as this; under the explained classifier.
    """
    return 1 - target_probability(logits, target)


def probability_change(before: Logits, after: Logits, label: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """`p(c | x_cf) - p(c | x0)`, from -1 to 1; its mean is MD, the mean of its size MAD (Weng et al., FastDiME, 2024).

    With the target as label, higher is better. To see what toggling a shortcut does, the label is one class for all
    rows, MD is taken apart for rows with and without the shortcut, and 0 is best.
    """
    return target_probability(after, label) - target_probability(before, label)


def l1_change(
    factual: Float[Tensor, "batch channel height width"], counterfactual: Float[Tensor, "batch channel height width"]
) -> Float[Tensor, " batch"]:
    """`mean |x_cf - x0|` over pixels and channels, from 0 to 1; lower is better, and doing nothing is best."""
    return (counterfactual.double() - factual.double()).abs().flatten(1).mean(1)


def feature_cosine(
    features: Float[Tensor, "batch features"], others: Float[Tensor, "batch features"]
) -> Float[Tensor, " batch"]:
    """Cosine of an encoder's outputs for x0 and x_cf, from -1 to 1; higher is better, and doing nothing is best.

    S3 with a self-supervised encoder, failures included (Jeanneret et al., ACE, 2023); FS with one of face identity,
    of rows that flipped, and FVA is the share above 0.5. Encoders differ in what cosine is high. 0 where an output is.
    """
    return _cosine(features, others).nan_to_num(0.0)


def sparsity(change: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
    """`1 - mean |d| / max |d|` of the change d of the features, from 0 to 1 - 1/D; higher is better (SCE-LITE-HQ).

    A row in which no feature changes has 1, as published: doing nothing is best, and even out of reach of a change.

    Example:
        >>> sparsity(torch.tensor([[0.0, 0.0, -2.0, 0.0]])).item()
        0.75
    """
    size = change.double().abs()
    return 1 - size.mean(1) / _positive(size.amax(1))


def sparsity_without_maximum(change: Float[Tensor, "batch features"]) -> Float[Tensor, " batch"]:
    """As `sparsity`, with the largest left out of the mean, `1 - (sum |d| - max |d|) / ((D - 1) max |d|)`: from 0 to 1.

    Higher is better; 1 is a change of one feature alone, or of none. What the code behind the published values does.
    NaN for encoders of one feature.

    Example:
        >>> sparsity_without_maximum(torch.tensor([[0.0, 0.0, -2.0, 0.0]])).item()
        1.0
    """
    size = change.double().abs()
    largest = size.amax(1)
    return 1 - (size.sum(1) - largest) / ((size.shape[1] - 1) * _positive(largest))


def diversity(
    change: Float[Tensor, "batch features"], other: Float[Tensor, "batch features"]
) -> Float[Tensor, " batch"]:
    """`1 - cos(d1, d2)` of two explanations' changes of the features, from 0 to 2; higher is better (SCE-LITE-HQ).

    Opposite changes score above unrelated ones. NaN where one changes no feature: there is no angle.
    """
    return 1 - _cosine(change, other)


def pairwise_diversity(
    changes: Float[Tensor, "explanation batch features"], flipped: Bool[Tensor, "explanation batch"]
) -> Float[Tensor, " batch"]:
    """`1 - mean |cos(d_i, d_j)|` over the pairs of a row's explanations that both flip, from 0 to 1; higher is better.

    Opposite changes are as alike as equal ones, unlike in `diversity`. NaN where a row has no such pair.

    Raises:
        ValueError: fewer than two explanations.
    """
    if len(changes) < 2:
        raise ValueError(f"pairwise_diversity: expected at least two explanations of each row, got {len(changes)}")
    cosines = []
    for i, j in combinations(range(len(changes)), 2):
        cosines.append(_cosine(changes[i], changes[j]).abs().where(flipped[i] & flipped[j], math.nan))
    return 1 - torch.stack(cosines).nanmean(0)


def changed_attributes(
    before: Float[Tensor, "batch attributes"], after: Float[Tensor, "batch attributes"]
) -> Float[Tensor, " batch"]:
    """How many attributes an oracle reads otherwise, `sum_a 1[(p_a > 0.5) != (p_a' > 0.5)]`; the mean is MNAC.

    From 0 to A with the target's own attribute among them, which should change: near 1 is best (Rodriguez et al., DiVE,
    2021). Takes probabilities, and the same as `correlation_difference`: published values of the two on CelebA-HQ came
    from images normalised twice and once.
    """
    return ((before > 0.5) != (after > 0.5)).sum(1).double()


@dataclass(frozen=True)
class Transition:
    """Probabilities while the counterfactual is pasted into the factual, the most changed pixels first.

    Attributes:
        score: area below `target` less that below `source`: COUT, shape `(B,)`.
        share: of the pixels that are pasted, shape `(S,)`.
        target: `p(y')` at each share, shape `(B, S)`.
        source: `p(y)` at each share, shape `(B, S)`.
    """

    score: Float[Tensor, " batch"]
    share: Float[Tensor, " share"]
    target: Float[Tensor, "batch share"]
    source: Float[Tensor, "batch share"]


@torch.no_grad()
def cout(
    factual: Float[Tensor, "batch channel height width"],
    counterfactual: Float[Tensor, "batch channel height width"],
    classifier: Network,
    target: Int[Tensor, " batch"],
    source: Int[Tensor, " batch"] | None = None,
    *,
    increments: int = 50,
    parity: Form = "corrected",
    batch: int = 64,
) -> Transition:
    r"""Counterfactual transition: does the class change with the pixels that changed most? (Khorram and Fuxin, 2022).

    Pixels are ordered by `sum_ch |x_cf - x0|` and pasted in equal increments; the score is
    `AUC[p(y')] - AUC[p(y)]` by the trapezoidal rule, from -1 to 1, higher is better. If the first increment takes p(y')
    from 0 to 1 it is `1 - 1 / increments`, if the last does `-1 + 1 / increments`; where x_cf is x0, `p(y') - p(y)`.

    The published form takes steps of `max(1, HW // increments)` pixels and counts the last for a whole one, so that the
    share ends beyond 1 and so may the score: 51 steps and 1.018 at 128 x 128. Of a binary classifier it takes the
    factual's own decision for y and its complement for y', whatever the target. Values were published for rows that
    the classifier had right, failures to flip included. Equal changes go in the order of the pixels.

    Args:
        factual: images.
        counterfactual: their explanations.
        classifier: images -> logits.
        target: y'.
        source: y, for classifiers of several classes; by default what is decided for the factual. Where it is the
            target, the score is 0. Of a binary classifier y is always the complement of y'.
        increments: how many.
        parity: "corrected" or "published".
        batch: rows at a time.

    Raises:
        ValueError: no images, no increments, an unknown parity.
    """
    if increments < 1 or len(factual) == 0:
        raise ValueError(f"cout: expected increments and images, got {increments} and {len(factual)}")
    if parity not in get_args(Form):
        raise ValueError(f"cout: expected parity in {get_args(Form)}, got {parity!r}")
    count = factual[0, 0].numel()
    if parity == "published":
        step = max(1, count // increments)
        pasted = list(range(0, count + step, step))
    else:
        pasted = sorted({round(place * count / increments) for place in range(increments + 1)})
    parts = []
    for start in range(0, len(factual), batch):
        rows = slice(start, start + batch)
        here = None if source is None else source[rows]
        parts.append(_curves(factual[rows], counterfactual[rows], classifier, target[rows], here, pasted, parity))
    towards, away = (torch.cat(curves) for curves in zip(*parts, strict=True))
    share = torch.tensor(pasted, dtype=torch.float64) / count
    return Transition(torch.trapezoid(towards - away, share), share, towards, away)


def _curves(
    factual: Tensor,
    counterfactual: Tensor,
    classifier: Network,
    target: Tensor,
    source: Tensor | None,
    pasted: list[int],
    parity: Form,
) -> tuple[Tensor, Tensor]:
    size = (counterfactual.double() - factual.double()).abs().sum(1).flatten(1)
    rank = size.argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(len(size), 1, *factual.shape[2:])
    logits = [_alone(classifier(counterfactual.where(rank < count, factual)).cpu()) for count in pasted]
    decided = predicted_class(logits[0])
    if logits[0].ndim > 1:
        source = decided if source is None else source.cpu()
    elif parity == "published":
        source, target = decided, 1 - decided
    else:
        source = 1 - target.cpu()
    towards, away = ([target_probability(x, label.cpu()) for x in logits] for label in (target, source))
    return torch.stack(towards, 1), torch.stack(away, 1)


def iou_above_threshold(
    factual: Float[Tensor, "batch channel height width"],
    counterfactual: Float[Tensor, "batch channel height width"],
    owned: Bool[Tensor, "batch height width"],
    threshold: float = 0.1,
) -> Float[Tensor, " batch"]:
    """Intersection over union of the edited pixels with those the attribute owns, from 0 to 1; higher is better.

    Edited is where `mean_ch |x_cf - x0|` is above the threshold, which the score depends on: read it beside
    `iou_at_true_size`. NaN where nothing is edited and nothing owned.
    """
    return _iou(_size(factual, counterfactual) > threshold, owned)


def iou_at_true_size(
    factual: Float[Tensor, "batch channel height width"],
    counterfactual: Float[Tensor, "batch channel height width"],
    owned: Bool[Tensor, "batch height width"],
) -> Float[Tensor, " batch"]:
    """As `iou_above_threshold`, of the most changed pixels, as many as the attribute owns; there is no threshold.

    Pixels that did not change at all are not edited, even where too few did. NaN where nothing is owned.
    """
    size = _size(factual, counterfactual)
    rank = size.flatten(1).argsort(dim=1, descending=True, stable=True).argsort(dim=1).reshape(size.shape)
    wanted = owned.to(size.device).sum((1, 2), keepdim=True)
    return _iou((rank < wanted) & (size > 0), owned)


def _per_row(target: Tensor, logits: Logits) -> Int[Tensor, " batch"]:
    """Targets of rows, where one class may stand for all; others would be spread over the rows, or leave some out."""
    if target.ndim and target.shape != logits.shape[:1]:
        raise ValueError(f"target: expected classes of shape ({len(logits)},), one per row, got {tuple(target.shape)}")
    return target.expand(len(logits))


def _alone(logits: Logits) -> Logits:
    """`(B,)` where a binary classifier gives `(B, 1)`: the largest of one column says nothing."""
    return logits[:, 0] if logits.shape[1:] == (1,) else logits


def _size(factual: Tensor, counterfactual: Tensor) -> Float[Tensor, "batch height width"]:
    return (counterfactual.double() - factual.double()).abs().mean(1)


def _iou(edited: Tensor, owned: Tensor) -> Float[Tensor, " batch"]:
    edited, owned = edited.flatten(1), owned.to(edited.device).flatten(1)
    return (edited & owned).sum(1).double() / (edited | owned).sum(1).double()


def _cosine(a: Tensor, b: Tensor) -> Float[Tensor, " batch"]:
    """NaN where a vector is 0; exact for short ones, which `torch.cosine_similarity` takes for longer than they are."""
    a, b = a.double(), b.double()
    return (a / a.norm(dim=1, keepdim=True) * (b / b.norm(dim=1, keepdim=True))).sum(1).clamp(-1, 1)


def _positive(size: Tensor) -> Tensor:
    return size.where(size > 0, 1.0)
