"""Repairing a classifier: counterfactuals under the labels that a teacher gives them, among its training rows."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Sampler

from causalcf.hardware import Precision, seeded
from causalcf.rows import Dataset, table
from causalcf.training.divergence import diverged
from causalcf.training.network import train_network
from causalcf.training.steps import Batches, derived_seed
from causalcf.training.surrogates import log_probabilities
from causalcf.training.targets import classes_of
from causalcf.variables import Image

UNKNOWN = -1
ADVICE = "lower rate"

Images = Float[Tensor, "batch channel height width"]
Labels = Int[Tensor, " batch"]


def relabelled(label: Labels, target: Labels, before: Labels, after: Labels) -> Labels:
    r"""The labels of counterfactuals, by what a teacher reads in the factual image and in its counterfactual.

    A counterfactual keeps the label where the teacher sees no change: a classifier that now decides for the target was
    fooled. It gets the target where the teacher sees that. It is left out, with label -1, where the teacher reads
    something else, or nothing (-1), or did not see the label in the factual image. Source: Bender et al., "Mitigating
    Clever Hans Strategies in Image Classifiers through Generating Counterexamples" (2025),
    https://arxiv.org/abs/2510.17524; leaving out what the teacher cannot tell is ours.

    Args:
        label: of the factual images.
        target: the classes that the counterfactuals were to have.
        before: what the teacher reads in the factual images.
        after: what it reads in the counterfactuals.

    Example:
        >>> label, target = torch.tensor([1, 1, 1, 1]), torch.tensor([0, 0, 2, 0])
        >>> relabelled(label, target, torch.tensor([1, 1, 1, 0]), torch.tensor([1, 0, 0, 0]))
        tensor([ 1,  0, -1, -1])
    """
    sure = (before == label) & ((after == before) | (after == target))
    return torch.where(sure, after, UNKNOWN)


class _Pairs(Sampler[tuple[list[int], list[int]]]):
    """Places of rows, and places of counterfactuals, of every step."""

    def __init__(self, rows: Batches, found: Batches) -> None:
        self.rows, self.found = rows, found

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[tuple[list[int], list[int]]]:
        return zip(self.rows, self.found, strict=True)


class _Mixture:
    """Rows under their own labels, and counterfactuals under the teacher's."""

    def __init__(self, rows: Dataset, label: str, images: Images, labels: Labels) -> None:
        self.rows, self.label, self.images, self.labels = rows, label, images, labels

    def __getitem__(self, places: tuple[list[int], list[int]]) -> tuple[Images, Labels]:
        seen, found = places
        rows = self.rows[seen]
        own = rows["image"].float()
        Image(*self.images.shape[1:]).check("image", own)
        images, labels = self.images[found].to(own.device), self.labels[found].to(rows[self.label].device)
        return torch.cat([own, images]), torch.cat([rows[self.label], labels])


class _Repair(L.LightningModule):
    def __init__(self, network: nn.Module, mixture: _Mixture, pairs: _Pairs, label: str, rate: float) -> None:
        super().__init__()
        self.network, self.mixture, self.pairs, self.label, self.rate = network, mixture, pairs, label, rate
        self.last_loss = math.nan

    def train_dataloader(self) -> Any:
        mixture: Any = self.mixture
        return DataLoader(mixture, sampler=self.pairs, batch_size=None, collate_fn=None, generator=torch.Generator())

    def training_step(self, batch: tuple[Images, Labels], index: int) -> Tensor:
        images, labels = batch
        loss = functional.nll_loss(log_probabilities(self.network(images).float()), labels)
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise diverged(self.label, f"the loss became {self.last_loss} at step {self.trainer.global_step}", ADVICE)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.network.parameters(), lr=self.rate, weight_decay=0.05)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=len(self.pairs) + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def repaired(
    classifier: nn.Module,
    rows: Mapping[str, Tensor] | Dataset,
    label: str,
    images: Images,
    labels: Labels,
    *,
    share: float = 0.5,
    steps: int = 300,
    batch: int = 64,
    rate: float = 1e-3,
    seed: int = 0,
    precision: Precision = "float32",
) -> nn.Module:
    """Fine-tune a classifier on its training rows, among which are counterfactuals under a teacher's labels.

    Args:
        classifier: images in [0, 1] -> logits, `(B,)` for two classes, `(B, K)` for K; it is copied.
        rows: training rows, a mapping or a data set by a list of positions.
        label: the column that it learned, int64 classes.
        images: the counterfactuals, in [0, 1].
        labels: theirs, see `relabelled`; those with label -1 are left out.
        share: of every batch that is counterfactuals; where the rows follow a shortcut closely, take 0.97 for
            example, as they keep the classifier at it.
        steps: optimiser steps.
        batch: images per step.
        rate: the largest learning rate.
        seed: of the order, and of what the classifier leaves to chance.
        precision: "float32", "bfloat16" for autocast, or "auto": bfloat16 where the hardware computes it.

    Returns:
        Another classifier, in eval mode.

    Raises:
        TypeError: a classifier without weights.
        ValueError: a column that is not there, images or labels that do not fit, options out of range.
        FloatingPointError: a loss or weights that are not finite; says at which step.

    Example:
        `better = repaired(classifier, train, "smiling", explanation.counterfactuals, labels)`
    """
    counted = round(share * batch) if 0 < share < 1 and batch > 1 else 0
    if not 0 < counted < batch or steps < 1 or not 0 < rate < math.inf:
        raise ValueError(
            f"repaired: expected share and batch that leave both kinds of images in a batch, steps >= 1 and rate > 0, "
            f"got share={share}, batch={batch}, steps={steps} and rate={rate}; write share=0.5, batch=64"
        )
    if not isinstance(classifier, nn.Module):
        raise TypeError(f"repaired: expected a torch module to fine-tune, got {type(classifier).__name__}")
    rows = table(rows)
    _check_images(rows, images)
    network = copy.deepcopy(classifier).eval()
    with torch.no_grad():
        logits = network(images[:2].to(next(network.parameters(), images)))
    _check_labels(rows, label, labels, len(images), log_probabilities(logits).shape[1])
    usable = (labels != UNKNOWN).nonzero()[:, 0]
    mixture = _Mixture(rows, label, images[usable.to(images.device)].float(), labels[usable])
    seen = Batches(len(rows), batch - counted, derived_seed(seed, "rows"), 0, steps)
    found = Batches(len(usable), counted, derived_seed(seed, "counterfactuals"), 0, steps)
    with seeded(seed):
        training = _Repair(network.train().requires_grad_(), mixture, _Pairs(seen, found), label, rate)
        return train_network(network, training, label, steps, precision, ADVICE)


def _check_images(rows: Dataset, images: Images) -> None:
    first = rows[0:1]
    if "image" not in first:
        raise ValueError(f"no column 'image'; the rows have {', '.join(sorted(first))}: give one of them that name")
    wanted = first["image"].shape[1:]
    if images.ndim != 4 or not images.is_floating_point() or images.shape[1:] != wanted:
        raise ValueError(
            f"images: expected floats of shape (B, {', '.join(map(str, wanted))}), as the rows have, got "
            f"{images.dtype} of shape {tuple(images.shape)}"
        )
    if len(images) == 0 or not 0 <= images.min() <= images.max() <= 1:
        raise ValueError("images: expected at least one, with values in [0, 1]; divide grey levels by 255")


def _check_labels(rows: Dataset, label: str, labels: Labels, count: int, classes: int) -> None:
    classes_of(rows, label, classes)
    if labels.dtype != torch.int64 or labels.shape != (count,):
        raise ValueError(
            f"labels: expected int64 classes, one for each of {count} images, got {labels.dtype} of shape "
            f"{tuple(labels.shape)}"
        )
    if labels.min() < UNKNOWN or labels.max() >= classes:
        raise ValueError(
            f"labels: expected classes 0 to {classes - 1}, or {UNKNOWN} to leave an image out, got "
            f"{labels.min()} to {labels.max()}"
        )
    if (labels == UNKNOWN).all():
        raise ValueError(
            f"labels: all {count} are {UNKNOWN}, and nothing is left to learn from; explain more rows, or make the "
            "explainer's scales larger"
        )
