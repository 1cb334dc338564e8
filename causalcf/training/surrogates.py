"""Distilling a classifier into a smooth surrogate, whose gradients lead further than its own."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import lightning as L
import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.data import DataLoader

from causalcf.hardware import Precision, seeded
from causalcf.networks.logits import refuse_saying_probabilities
from causalcf.networks.smooth import SmoothClassifier
from causalcf.rows import Dataset, table
from causalcf.training.divergence import diverged
from causalcf.training.network import train_network
from causalcf.training.steps import Batches, derived_seed
from causalcf.training.terms import (
    Adversarial,
    Images,
    LogProbabilities,
    MixUp,
    Smoothing,
    Term,
    divergence,
    log_probabilities,
)
from causalcf.units import Units
from causalcf.variables import Image

FIRST = 128  # images that the weights begin with
ADVICE = "lower rate, or divide the classifier's logits by a temperature if they are large"


class Distillation(L.LightningModule):
    r"""What `distil` trains, for a trainer of your own: `L.Trainer(max_steps=steps).fit(Distillation(...))`.

    Args:
        network: the surrogate, which learns; `network.standardise(images)` gives it a good start.
        classifier: images in [0, 1] -> logits, in eval mode, without gradients of its own.
        rows: a mapping, or a data set by a list of positions; only `"image"` is read.
        terms: what is asked beside agreement.
        steps: optimiser steps, over which the learning rate rises and falls.
        batch: rows per step.
        rate: the largest learning rate.
        seed: of order, mixtures, labels and attacks.
    """

    def __init__(
        self,
        network: SmoothClassifier,
        classifier: Callable[[Tensor], Tensor],
        rows: Mapping[str, Tensor] | Dataset,
        terms: Sequence[Term] = (MixUp(), Smoothing(), Adversarial()),
        steps: int = 1500,
        batch: int = 64,
        rate: float = 1e-3,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.network, self.ask, self.terms = network, classifier, terms
        self.rows: Any = table(rows)
        self.steps, self.batch, self.seed, self.rate = steps, batch, seed, rate
        self.last_loss = math.nan

    def train_dataloader(self) -> Any:
        """Batches of rows, `steps` of them."""
        order = Batches(len(self.rows), self.batch, self.seed, 0, self.steps)
        return DataLoader(self.rows, sampler=order, batch_size=None, collate_fn=None, generator=torch.Generator())

    def transfer_batch_to_device(
        self, batch: Mapping[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> tuple[Images, LogProbabilities]:
        """Images, and what the classifier says of them in its own precision, not in that of the training."""
        Image(*batch["image"].shape[1:]).check("image", batch["image"].float())
        images = batch["image"].to(device)
        logits = _asked(self.ask, images if isinstance(self.ask, nn.Module) else batch["image"])
        if (found := _outputs(logits)) != (expected := self.network.options["outputs"]):
            raise ValueError(
                f"classifier: its first logits had {expected or 'no'} columns, later ones {found or 'none'}"
            )
        return images.float(), log_probabilities(logits.to(device).float())

    def training_step(self, batch: tuple[Images, LogProbabilities], index: int) -> Tensor:
        """`KL(surrogate || f) + sum_k weight_k L_k`, the mean over rows."""
        step, (images, said) = self.trainer.global_step, batch
        units = Units(torch.arange(len(images)), derived_seed(self.seed, "terms", step))
        loss = divergence(self.student(images), said).mean()
        for term in self.terms:
            if term.weight:
                loss = loss + term.weight * term(self.student, images, said, units).mean()
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            raise diverged("surrogate", f"the loss became {self.last_loss} at step {step}", ADVICE)
        return loss

    def student(self, images: Images) -> LogProbabilities:
        """What the surrogate says, in float32."""
        return log_probabilities(self.network(images).float())

    def configure_optimizers(self) -> Any:
        """Adam, with a rate that rises and falls once."""
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.rate)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def distil(
    classifier: Callable[[Tensor], Tensor],
    rows: Mapping[str, Tensor] | Dataset,
    *,
    terms: Sequence[Term] = (MixUp(), Smoothing(), Adversarial()),
    widths: Sequence[int] = (32, 64, 128),
    steps: int = 1500,
    batch: int = 64,
    rate: float = 1e-3,
    seed: int = 0,
    precision: Precision = "float32",
) -> SmoothClassifier:
    r"""Teach a smooth network to say what a classifier says, so that explainers can follow its gradients instead.

    Minimises `KL(surrogate || f) + sum_k weight_k L_k` over images, of which no labels are read. Source: Bender et al.,
    "SCE-LITE-HQ" (2026), https://arxiv.org/abs/2603.17048, which prints no weights and no radius; those here are ours.

    Args:
        classifier: f, images in [0, 1] -> logits, `(B,)` for two classes, `(B, K)` for K. A module is copied, and asked
            in eval mode where the surrogate learns; anything else is asked with images on the rows' own device.
        rows: a mapping, or a data set by a list of positions; only `"image"` is read.
        terms: what is asked beside agreement; one of weight 0 is left out.
        widths: of the surrogate; see `SmoothClassifier`.
        steps: optimiser steps.
        batch: rows per step.
        rate: the largest learning rate.
        seed: of weights, order, mixtures, labels and attacks.
        precision: of the surrogate: "float32", "bfloat16" for autocast, or "auto", bfloat16 where the hardware has it.

    Returns:
        The surrogate, in eval mode; its logits have the form of the classifier's.

    Raises:
        ValueError: rows without images, logits of another shape, probabilities, options out of range.
        FloatingPointError: logits, a loss or weights that are not finite; says at which step.

    Example:
        `SCELiteHQ(surrogate=distil(classifier, train)).explain(classifier, generator, images)`
    """
    if steps < 1 or batch < 1 or not rate > 0:
        raise ValueError(f"distil: expected steps and batch >= 1 and rate > 0, got {steps}, {batch} and {rate}")
    rows = table(rows)
    sample = _sample(rows)
    ask: Any = classifier
    if isinstance(classifier, nn.Module):
        ask = copy.deepcopy(classifier).eval()
        for weights in ask.parameters():  # one of TorchScript has no requires_grad_
            weights.requires_grad_(False)
        own = next(ask.parameters(), sample).device
        sample = sample.to(own)
    outputs = _outputs(_asked(ask, sample))
    refuse_saying_probabilities("classifier", ask, sample)
    with seeded(seed):
        network = SmoothClassifier(sample.shape[1], outputs, widths)
        network.standardise(rows[list(range(min(FIRST, len(rows))))]["image"].cpu())
        training = Distillation(network, ask, rows, terms, steps, batch, rate, seed)
        return train_network(network, training, "surrogate", steps, precision, ADVICE)


def _sample(rows: Dataset) -> Images:
    """The first image, twice, so that logits of one row are not taken for those of one class."""
    if len(rows) < 1:
        raise ValueError("rows: expected at least one image, got none")
    first = rows[0:1]
    if "image" not in first:
        raise ValueError(f"rows: expected a column 'image', got {', '.join(sorted(first))}")
    image = first["image"]
    if image.ndim != 4 or not image.is_floating_point() or not 0 <= image.min() <= image.max() <= 1:
        raise ValueError(
            f"rows: expected images of shape (B, C, H, W) with values in [0, 1], got {image.dtype} of shape "
            f"{tuple(image.shape)}, {image.min().item():g} to {image.max().item():g}; divide grey levels by 255"
        )
    return torch.cat([image, image])


@torch.no_grad()
def _asked(classifier: Callable[[Tensor], Tensor], images: Images) -> Float[Tensor, "batch ..."]:
    logits = classifier(images)
    if logits.ndim not in (1, 2) or len(logits) != len(images) or 0 in logits.shape:
        raise ValueError(
            f"classifier: expected logits of shape ({len(images)},) or ({len(images)}, classes), got "
            f"{tuple(logits.shape)}"
        )
    if not logits.isfinite().all():
        raise FloatingPointError("classifier: its logits are not finite; does it expect images in [0, 1]?")
    return logits


def _outputs(logits: Float[Tensor, "batch ..."]) -> int | None:
    """Columns of logits; None where there are none."""
    return None if logits.ndim == 1 else logits.shape[1]
