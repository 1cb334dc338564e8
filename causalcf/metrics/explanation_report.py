"""`explanation_scores`: one call that measures counterfactual explanations of a classifier, and reports on them."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.metrics import explanation as rows
from causalcf.metrics import explanation_sets as sets
from causalcf.metrics.explanation import Logits, Network
from causalcf.metrics.report import Line, Report
from causalcf.metrics.tally import Estimate, distance
from causalcf.networks.logits import refuse_probabilities

ALL, FLIPPED, CORRECT = "all rows", "flipped rows", "correctly decided rows"


class Sheet:
    """Lines of a report, each of which says over which rows it is.

    Args:
        method: what tables call the method.
        subsets: name -> which rows are in it.
    """

    def __init__(self, method: str, subsets: dict[str, Tensor]) -> None:
        self.method, self.subsets = method, subsets
        self.rate = sets.estimate(subsets[FLIPPED])
        self.lines: list[Line] = []

    def mean(self, metric: str, values: Tensor, *over: str, unit: str = "-", nothing: Tensor | None = None) -> None:
        """A mean over rows, for each subset; beside the value of doing nothing, if it is given."""
        for subset in over:
            if subset in self.subsets:
                chosen = self.subsets[subset]
                reference = None if nothing is None else sets.estimate(nothing.detach().cpu()[chosen])
                counted = values.detach().cpu().double().where(chosen, math.nan)
                self.add(metric, sets.estimate(counted), subset, unit, reference, counted)

    def value(self, metric: str, n: int, value: float, subset: str, unit: str = "-") -> None:
        """A number of a set as a whole, which has no standard deviation."""
        self.add(metric, Estimate(n, value, math.nan), subset, unit)

    def add(
        self,
        metric: str,
        estimate: Estimate,
        subset: str,
        unit: str,
        nothing: Estimate | None = None,
        values: Tensor | None = None,
    ) -> None:
        """A line; what leaves failures out stands beside the flip rate. Values have one entry per row, or NaN."""
        against, reference = "", None
        if nothing is not None:
            against, reference = "doing nothing", nothing
        elif subset not in (ALL, CORRECT):
            against, reference = "flip rate", self.rate
        self.lines.append(Line(metric, self.method, subset, unit, estimate, against, reference, values))


@torch.no_grad()
def explanation_scores(
    factual: Float[Tensor, "batch channel height width"],
    counterfactual: Float[Tensor, "batch channel height width"],
    before: Logits,
    after: Logits,
    target: Int[Tensor, " batch"],
    *,
    label: Int[Tensor, " batch"] | None = None,
    classifier: Network | None = None,
    independent: Network | None = None,
    oracle: Network | None = None,
    query: int | None = None,
    data_correlation: Float[Tensor, " attributes"] | None = None,
    encoder: Network | None = None,
    realism: Network | None = None,
    concepts: Network | None = None,
    others: Sequence[tuple[Tensor, Tensor]] = (),
    owned: Bool[Tensor, "batch height width"] | None = None,
    truth: Float[Tensor, "batch channel height width"] | None = None,
    threshold: float = 0.1,
    repeats: int = 10,
    seed: int = 0,
    batch: int = 64,
    method: str = "",
) -> Report:
    """Measure counterfactual explanations by everything that the arguments allow.

    The report's column "variable" says over which rows a number is: all, those that flipped, or those whose factual the
    classifier had right. A method that flips few rows can look better on those: such lines stand beside the flip rate.
    A subset without rows has a line with n = 0 and NaN. Rows without a value (an angle with no change, say) are left
    out, and n says so. Frechet distances and CD have no interval.

    Lines hold their values, one per row given, NaN where a row does not count: two ways of explaining the same rows are
    compared row by row, where both have a value, by `first.against(second)` of two reports of the same `method` name.

    Args:
        factual: images x0 in [0, 1].
        counterfactual: their explanations x_cf.
        before: logits of the explained classifier for x0.
        after: and for x_cf.
        target: the classes y' wanted.
        label: true classes; adds the rows that the classifier had right, on which COUT and S3 were published.
        classifier: the explained one, images -> logits; for COUT.
        independent: another, of the same classes, for NAFR and NA.
        oracle: images -> probabilities `(B, A)` of attributes, for MNAC and CD.
        query: which of them the classifier reads, for CD.
        data_correlation: of every attribute with that one, by `attribute_correlations`, for CD.
        encoder: images -> features `(B, D)`, for the cosine (FS, FVA, S3), and for what follows unless given.
        realism: the encoder of FID and sFID.
        concepts: the encoder in whose outputs sparsity and diversity are.
        others: further explanations of the same rows, each as images and logits, for diversity.
        owned: which pixels the attribute owns, where it is known.
        truth: the true counterfactuals, where they are known.
        threshold: change above which a pixel counts as edited.
        repeats: splits of sFID.
        seed: of the splits.
        batch: rows at a time; the numbers do not depend on it.
        method: what tables call the method.

    Returns:
        A report; `report["COUT", method, "all rows"].estimate.mean`.

    Raises:
        ValueError: no rows, images out of [0, 1], shapes, classes or logits that do not fit, an option that needs more.

    Example:
        >>> dark, bright = torch.zeros(4, 1, 8, 8), torch.ones(4, 1, 8, 8)
        >>> classifier = lambda x: 8 * x.mean((1, 2, 3)) - 4
        >>> report = explanation_scores(dark, bright, classifier(dark), classifier(bright), torch.ones(4).long())
        >>> report["flip rate", "", "all rows"].estimate.mean
        1.0
    """
    before, after, target = before.detach().cpu(), after.detach().cpu(), torch.as_tensor(target).cpu()
    _check(factual, counterfactual, before, after, target)
    space = encoder if concepts is None else concepts
    _check_options(factual, before, oracle, query, data_correlation, space, others, label, owned, truth)
    target = target.long()
    flipped, subsets = rows.flips(after, target), {ALL: torch.ones(len(target), dtype=torch.bool)}
    subsets[FLIPPED] = flipped
    if label is not None:
        subsets[CORRECT] = rows.predicted_class(before) == label.cpu()
    sheet = Sheet(method, subsets)

    def pair(network: Network) -> tuple[Tensor, Tensor]:
        return _features(network, factual, batch), _features(network, counterfactual, batch)

    _decisions(sheet, before, after, target)
    if independent is not None:
        said = _outputs(independent, counterfactual, batch)
        _check_independent(said, before)
        _confirmed(sheet, flipped, rows.flips(said, target))
    sheet.mean("L1", rows.l1_change(factual, counterfactual), ALL, FLIPPED)
    if classifier is not None:
        sheet.mean("COUT", rows.cout(factual, counterfactual, classifier, target, batch=batch).score, ALL, CORRECT)
    if oracle is not None:
        _attributes(sheet, *pair(oracle), query, data_correlation)
    near = None if encoder is None else pair(encoder)
    if near is not None:
        _similarity(sheet, *near)
    if (both := near if realism is None else pair(realism)) is not None:
        _realism(sheet, *both, repeats, seed)
    if space is not None:
        start, end = near if near is not None and space is encoder else pair(space)
        changes = [end - start, *(_features(space, images, batch) - start for images, _ in others)]
        flips = [flipped, *(rows.flips(logits.cpu(), target) for _, logits in others)]
        _concepts(sheet, torch.stack(changes), torch.stack(flips))
    if owned is not None:
        _pixels(sheet, factual, counterfactual, owned, threshold)
    if truth is not None:
        truth = truth.to(counterfactual)
        off, nothing = (distance(x, truth, image=True) for x in (counterfactual, factual.to(counterfactual)))
        sheet.mean("error against the truth", off, ALL, FLIPPED, unit="grey 0-255", nothing=nothing)
    about = {
        "rows": len(target),
        "flipped": int(flipped.sum()),
        "decided as the target before": int(rows.flips(before, target).sum()),
        "seed": seed,
    }
    return Report(tuple(sheet.lines), about)


def _decisions(sheet: Sheet, before: Tensor, after: Tensor, target: Tensor) -> None:
    sheet.mean("flip rate", rows.flips(after, target), ALL, unit="share")
    sheet.mean("probability of the target", rows.target_probability(after, target), ALL, unit="share")
    sheet.mean("BKL", rows.bkl(after, target), ALL, unit="share")
    moved = rows.probability_change(before, after, target)
    sheet.mean("MAD", moved.abs(), ALL)
    sheet.mean("MD, of the target", moved, ALL)


def _confirmed(sheet: Sheet, flipped: Tensor, independent: Tensor) -> None:
    sheet.mean("flip rate of the independent classifier (NAFR)", independent, ALL, unit="share")
    sheet.mean("flips that flip the independent classifier (NA)", independent, FLIPPED, unit="share")
    sheet.add("NAFR / flip rate", sets.flip_rate_ratio(flipped, independent), ALL, "ratio")


def _attributes(
    sheet: Sheet, before: Tensor, after: Tensor, query: int | None, data_correlation: Tensor | None
) -> None:
    low, high = min(before.min(), after.min()), max(before.max(), after.max())
    if not 0 <= low <= high <= 1:
        raise ValueError(
            f"explanation_scores: the oracle gave values from {low:.3g} to {high:.3g}; expected probabilities, "
            "torch.sigmoid(logits)"
        )
    sheet.mean("attributes changed (MNAC)", rows.changed_attributes(before, after), FLIPPED)
    if query is None or data_correlation is None:
        return
    if data_correlation.shape != before.shape[1:] or not 0 <= query < before.shape[1]:
        raise ValueError(
            f"explanation_scores: the oracle has {before.shape[1]} attributes; query {query} or data_correlation of "
            f"shape {tuple(data_correlation.shape)} does not fit"
        )
    chosen = sheet.subsets[FLIPPED]
    found = sets.correlation_difference(before[chosen], after[chosen], data_correlation, query)
    sheet.value("correlation difference (CD)", found.n, found.value, FLIPPED)
    undefined = math.nan if math.isnan(found.value) else float(found.undefined)
    sheet.value("attributes without correlation, taken as 0", found.n, undefined, FLIPPED, "attributes")


def _similarity(sheet: Sheet, before: Tensor, after: Tensor) -> None:
    cosine = rows.feature_cosine(before, after)
    sheet.mean("cosine (S3, FS)", cosine, ALL, FLIPPED, CORRECT)
    sheet.mean("cosine above 0.5 (FVA)", cosine > 0.5, FLIPPED, unit="share")


def _realism(sheet: Sheet, before: Tensor, after: Tensor, repeats: int, seed: int) -> None:
    chosen = sheet.subsets[FLIPPED]
    sheet.value("FID, to all factuals", int(chosen.sum()), sets.fid(before, after[chosen]), FLIPPED)
    split = sets.split_fid(before, after, chosen, repeats=repeats, seed=seed)
    sheet.value(f"sFID, mean of {repeats} splits", split.n, split.mean, FLIPPED)
    sheet.value(f"sFID, standard deviation of {repeats} splits", split.n, split.sd, FLIPPED)


def _concepts(sheet: Sheet, changes: Tensor, flipped: Tensor) -> None:
    sheet.mean("sparsity", rows.sparsity(changes[0]), ALL, FLIPPED)
    sheet.mean("sparsity without the maximum", rows.sparsity_without_maximum(changes[0]), ALL, FLIPPED)
    if len(changes) == 2:
        both = rows.diversity(changes[0], changes[1]).where(flipped.all(0), math.nan)
        sheet.mean("diversity, 1 - cosine", both, FLIPPED)
    if len(changes) > 1:
        each = rows.pairwise_diversity(changes, flipped)
        title = f"diversity of {len(changes)}, 1 - |cosine|"
        sheet.add(title, sets.estimate(each), "rows with two flips", "-", values=each)


def _pixels(sheet: Sheet, factual: Tensor, counterfactual: Tensor, owned: Tensor, threshold: float) -> None:
    found = rows.iou_above_threshold(factual, counterfactual, owned, threshold)
    sheet.mean(f"IoU with owned pixels, change above {threshold:g}", found, ALL, FLIPPED)
    found = rows.iou_at_true_size(factual, counterfactual, owned)
    sheet.mean("IoU with owned pixels, as many", found, ALL, FLIPPED)


def _outputs(network: Network, images: Tensor, batch: int) -> Tensor:
    return torch.cat([network(images[start : start + batch]).cpu() for start in range(0, len(images), batch)])


def _features(network: Network, images: Tensor, batch: int) -> Tensor:
    found = _outputs(network, images, batch).double()
    if found.ndim != 2 or len(found) != len(images):
        raise ValueError(
            f"explanation_scores: an encoder or oracle gave shape {tuple(found.shape)} for {len(images)} images; "
            "expected (B, D), for example features.flatten(1)"
        )
    if not found.isfinite().all():
        raise ValueError("explanation_scores: an encoder or oracle gave NaN or inf; give one that reads such images")
    return found


def _check(factual: Tensor, counterfactual: Tensor, before: Tensor, after: Tensor, target: Tensor) -> None:
    if factual.ndim != 4 or not len(factual):
        raise ValueError(f"explanation_scores: expected images (B, C, H, W), got shape {tuple(factual.shape)}")
    _check_images("factual", factual, factual)
    _check_images("counterfactual", counterfactual, factual)
    classes = rows.class_probabilities(before).shape[1]
    if len(before) != len(factual):
        raise ValueError(f"explanation_scores: before: expected logits of {len(factual)} rows, got {len(before)}")
    for name, logits in (("before", before), ("after", after)):
        _check_logits(name, logits, before)
    whole = not target.is_floating_point() and target.dtype != torch.bool
    if target.shape != (len(factual),) or not whole or not bool(((target >= 0) & (target < classes)).all()):
        raise ValueError(
            f"explanation_scores: target: expected classes 0 to {classes - 1} as integers of shape ({len(factual)},), "
            f"got {target.dtype} of shape {tuple(target.shape)}"
        )


def _check_options(
    factual: Tensor,
    before: Tensor,
    oracle: Network | None,
    query: int | None,
    data_correlation: Tensor | None,
    space: Network | None,
    others: Sequence[tuple[Tensor, Tensor]],
    label: Tensor | None,
    owned: Tensor | None,
    truth: Tensor | None,
) -> None:
    if (query is None) != (data_correlation is None) or (query is not None and oracle is None):
        raise ValueError("explanation_scores: CD needs all of oracle, query and data_correlation; MNAC only oracle")
    if others and space is None:
        raise ValueError("explanation_scores: others: diversity is measured in features; give encoder or concepts")
    for place, (images, logits) in enumerate(others):
        _check_images(f"others[{place}]", images, factual)
        _check_logits(f"others[{place}]", logits, before)
    if truth is not None:
        _check_images("truth", truth, factual)
    if label is not None and label.shape != before.shape[:1]:
        raise ValueError(f"explanation_scores: label: expected {len(before)} classes, got shape {tuple(label.shape)}")
    shape = tuple(factual[:, 0].shape)
    if owned is not None and (owned.dtype != torch.bool or owned.shape != shape):
        raise ValueError(
            f"explanation_scores: owned: expected booleans of shape {shape}, got {owned.dtype} of {tuple(owned.shape)}"
        )


def _check_logits(name: str, logits: Tensor, like: Tensor) -> None:
    if logits.shape != like.shape or not logits.isfinite().all():
        raise ValueError(
            f"explanation_scores: {name}: expected finite logits of shape {tuple(like.shape)}, got "
            f"{tuple(logits.shape)}{' with NaN or inf' if not logits.isfinite().all() else ''}"
        )
    refuse_probabilities(f"explanation_scores: {name}", logits)


def _check_independent(logits: Tensor, like: Tensor) -> None:
    classes, known = (rows.class_probabilities(said).shape[1] for said in (like, logits))
    if known != classes or len(logits) != len(like) or not logits.isfinite().all():
        raise ValueError(
            f"explanation_scores: independent: expected finite logits of {len(like)} rows and {classes} classes, got "
            f"shape {tuple(logits.shape)}{' with NaN or inf' if not logits.isfinite().all() else ''}"
        )
    if logits.ndim == 1 or logits.shape[1] == 1:  # of several classes it is asked for the largest alone
        refuse_probabilities("explanation_scores: independent", logits)


def _check_images(name: str, images: Tensor, like: Tensor) -> None:
    if images.shape != like.shape:
        raise ValueError(f"explanation_scores: {name}: expected shape {tuple(like.shape)}, got {tuple(images.shape)}")
    lowest, highest = images.min().item(), images.max().item()
    if not (images.is_floating_point() and lowest >= -1e-3 and highest <= 1 + 1e-3 and images.isfinite().all()):
        raise ValueError(
            f"explanation_scores: {name}: expected floats in [0, 1], got {images.dtype} from {lowest:.4g} to "
            f"{highest:.4g}; images in [-1, 1] become (x + 1) / 2, bytes x / 255"
        )
