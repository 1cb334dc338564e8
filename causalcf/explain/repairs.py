"""Counterfactual knowledge distillation: explain a classifier, let a teacher judge, fine-tune, and explain it again."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from causalcf.explain.attributes import Changes, Reader, changes, read
from causalcf.explain.explainer import Explainer
from causalcf.explain.explanation import Explanation
from causalcf.explain.generators import Generator
from causalcf.explain.queries import Classifier, Query, decided
from causalcf.rows import Dataset, table
from causalcf.training.repair import UNKNOWN, relabelled, repaired
from causalcf.training.steps import derived_seed

Teacher = Callable[[Tensor], Int[Tensor, " batch"]]


def gain(before: float, after: float) -> float:
    """The share of the errors that a repair undid, `(after - before) / (1 - before)` of two accuracies; NaN from 1.

    Example:
        >>> gain(0.5, 0.875)
        0.75
    """
    return (after - before) / (1 - before) if before < 1 else math.nan


@torch.no_grad()
def accuracy(
    classifier: Callable[[Tensor], Tensor], rows: Mapping[str, Tensor] | Dataset, label: str, batch: int = 256
) -> float:
    """The share of rows that a classifier has right.

    Args:
        classifier: images in [0, 1] -> logits.
        rows: a mapping, or a data set by slices.
        label: the column of true classes.
        batch: rows at a time.
    """
    rows, right = table(rows), 0
    weight = next(classifier.parameters(), None) if isinstance(classifier, nn.Module) else None
    for start in range(0, len(rows), batch):
        part = rows[start : start + batch]
        images = part["image"] if weight is None else part["image"].to(weight.device)
        right += int((decided(classifier(images)).cpu() == part[label].cpu()).sum())
    return right / len(rows)


@dataclass(frozen=True)
class Round:
    """One round of a repair.

    Attributes:
        explanation: of the classifier as it was before the round.
        labels: of its counterfactuals, by the teacher; -1 where they were left out.
        fooled: of the counterfactuals that were used, the share whose label stayed though the classifier flipped.
        changes: which attributes the counterfactuals changed, if readers were given.
        accuracy: of the classifier after the round, on unbiased rows, if they were given.
    """

    explanation: Explanation
    labels: Int[Tensor, " batch"]
    fooled: float
    changes: Changes | None
    accuracy: float | None

    def to_dict(self) -> dict[str, Any]:
        """Plain data, without the images."""
        return {
            "explained": len(self.explanation),
            "flipped": int(self.explanation.flipped.sum()),
            "used": int((self.labels != UNKNOWN).sum()),
            "fooled": self.fooled,
            "changes": None if self.changes is None else self.changes.to_dict(),
            "accuracy": self.accuracy,
        }


@dataclass(frozen=True)
class Repair:
    """A repaired classifier, and how it came about.

    Attributes:
        classifier: after the last round, in eval mode.
        rounds: one after the other.
        accuracy: of the classifier as it was given, on unbiased rows, if they were given.
    """

    classifier: nn.Module
    rounds: tuple[Round, ...]
    accuracy: float | None

    @property
    def gain(self) -> float:
        """`(after - before) / (1 - before)`, of accuracies on unbiased rows; NaN if none were given."""
        after = self.rounds[-1].accuracy
        return math.nan if self.accuracy is None or after is None else gain(self.accuracy, after)

    def to_dict(self) -> dict[str, Any]:
        """Plain data."""
        return {"accuracy": self.accuracy, "gain": self.gain, "rounds": [each.to_dict() for each in self.rounds]}


def repair(
    classifier: nn.Module,
    explainer: Explainer,
    generator: Generator,
    rows: Mapping[str, Tensor] | Dataset,
    teacher: Teacher,
    *,
    label: str,
    rounds: int = 1,
    count: int = 256,
    target: int | None = None,
    readers: Mapping[str, Reader] | None = None,
    unbiased: Mapping[str, Tensor] | Dataset | None = None,
    asked: Callable[[nn.Module], Classifier] = lambda classifier: classifier,
    seed: int = 0,
    **training: Any,
) -> Repair:
    r"""Find what fools a classifier by explaining it, and teach it otherwise.

    In each round some training rows are explained. A teacher reads each row and its counterfactual: where it sees no
    change the counterfactual keeps the row's label, so that the classifier unlearns what it flipped on; where it sees
    the target, it gets that. The classifier is fine-tuned on its rows and on the counterfactuals of all rounds. Source:
    Bender et al., "Mitigating Clever Hans Strategies in Image Classifiers through Generating Counterexamples" (2025),
    https://arxiv.org/abs/2510.17524.

    Args:
        classifier: images in [0, 1] -> logits, a module in eval mode; it is not changed.
        explainer: how counterfactuals are found.
        generator: what draws them; it must have seen what the classifier is fooled by.
        rows: its training rows, shortcut and all; a mapping, or a data set by slices and lists of positions.
        teacher: images -> int64 classes, -1 where it cannot tell: an oracle, another classifier, a human's answers.
        label: the column that the classifier learned.
        rounds: how many.
        count: rows explained in each round, other ones in each.
        target: the class of the counterfactuals, of the rows that are decided otherwise; None is the other one of two.
        readers: attribute -> what reads its class from images, so that the rounds say what changed.
        unbiased: rows without the shortcut, for accuracies and the gain.
        asked: what is explained, made of the classifier of each round: by default itself; to follow gradients of a
            student of it, `lambda classifier: cf.explain.Led(classifier, distil(classifier, rows))`.
        seed: of the choice of rows and of the training.
        training: what `causalcf.training.repair.repaired` takes: share, steps, batch, rate, precision.

    Returns:
        The repaired classifier, and of each round its counterfactuals, the teacher's labels, and what changed.

    Raises:
        ValueError: options out of range, or rows that do not fit.
        TypeError: a teacher that gives no classes.
        RuntimeError: no counterfactual that could be used.

    Example:
        `cf.explain.repair(classifier, cf.explain.MaskDiME(), generator, rows, teacher, label="smiling").gain`
    """
    rows = table(rows)
    if rounds < 1 or not 1 <= count * rounds <= len(rows):
        raise ValueError(
            f"repair: expected rounds and count >= 1, and no more than the {len(rows)} rows in all rounds, got "
            f"rounds={rounds} and count={count}"
        )
    if classifier.training:
        raise ValueError("repair: the classifier is in training mode, where answers depend on the batch; call .eval()")
    first = rows[0:1]
    if label not in first:
        raise ValueError(f"repair: no column {label!r}; the rows have {', '.join(sorted(first))}: give one of them")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(derived_seed(seed, "repair")))
    start = None if unbiased is None else accuracy(classifier, unbiased, label)
    done: list[Round] = []
    for number in range(rounds):
        part = rows[order[number * count : (number + 1) * count].tolist()]
        part = _askable(classifier, {**part, "image": part["image"].to(generator.null.device)}, target)
        explanation = explainer.explain(asked(classifier), generator, part["image"], target, part.get("id"))
        labels = _judged(explanation, part[label], teacher)
        used = labels != UNKNOWN
        spoken = [*((each.explanation, each.labels) for each in done), (explanation, labels)]
        known = torch.cat([each for _, each in spoken])
        if (known == UNKNOWN).all():
            raise RuntimeError(
                f"repair: of {len(known)} counterfactuals {int(explanation.flipped.sum())} flipped the classifier, and "
                "the teacher could tell of none; make the explainer's scales or its depth larger, or explain more rows"
            )
        classifier = repaired(
            classifier,
            rows,
            label,
            torch.cat([each.counterfactuals for each, _ in spoken]),
            known,
            seed=derived_seed(seed, number),
            **training,
        ).to(generator.null.device)
        fooled = (labels != explanation.target.cpu())[used].double().mean().item()
        seen = changes(explanation, readers) if readers and explanation.flipped.any() else None
        done.append(
            Round(
                explanation,
                labels,
                fooled,
                seen,
                None if unbiased is None else accuracy(classifier, unbiased, label),
            )
        )
    return Repair(classifier, tuple(done), start)


@torch.no_grad()
def _askable(classifier: nn.Module, part: Mapping[str, Tensor], target: int | None) -> Mapping[str, Tensor]:
    """The rows that the classifier does not decide for the target anyway."""
    if target is None:
        return part
    left = (Query(classifier, part["image"], target).predicted != target).nonzero()[:, 0]
    if not len(left):
        raise ValueError(
            f"repair: the classifier decides all {len(part['image'])} rows of a round for class {target} already; "
            "explain more rows, or take target=None"
        )
    return {name: column[left.to(column.device)] for name, column in part.items()}


def _judged(explanation: Explanation, label: Tensor, teacher: Teacher) -> Int[Tensor, " batch"]:
    """The teacher's labels of the counterfactuals that flipped the classifier."""
    before, after = (read("teacher", teacher, images) for images in (explanation.images, explanation.counterfactuals))
    labels = relabelled(label.cpu(), explanation.target.cpu(), before, after)
    return torch.where(explanation.flipped.cpu(), labels, UNKNOWN)
