"""Distilling a classifier into a smooth surrogate, whose gradients lead further than its own."""

from __future__ import annotations

import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from jaxtyping import Float, Int
from scipy.special import betaincinv
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader

from causalcf.networks.smooth import SmoothClassifier
from causalcf.rows import Dataset
from causalcf.training.divergence import diverged
from causalcf.training.network import Precision, train_network
from causalcf.training.steps import Batches, derived_seed
from causalcf.units import Units

FIRST = 128  # images that the weights begin with
ADVICE = "lower rate, or divide the classifier's logits by a temperature if they are large"

Images = Float[Tensor, "batch channel height width"]
LogProbabilities = Float[Tensor, "batch classes"]
Student = Callable[[Images], LogProbabilities]


def log_probabilities(logits: Float[Tensor, "batch ..."]) -> LogProbabilities:
    """Of every class: `(B,)` and `(B, 1)` speak of two classes, `(B, K)` of K."""
    if logits.ndim == 2 and logits.shape[1] > 1:
        return logits.log_softmax(1)
    one = logits.reshape(len(logits))
    return torch.stack([functional.logsigmoid(-one), functional.logsigmoid(one)], 1)


def divergence(p: LogProbabilities, q: LogProbabilities) -> Float[Tensor, " batch"]:
    """`KL(p || q)`, of logarithms."""
    return (p.exp() * (p - q)).sum(1)


def sampled(p: LogProbabilities, units: Units, name: str) -> Int[Tensor, " batch"]:
    """One class per row, drawn with these probabilities."""
    return (p + units.gumbel(name, p.shape[1:]).to(p)).argmax(1)


@dataclass(frozen=True)
class Term(ABC):
    """What a surrogate is asked beside agreement with the classifier.

    Args:
        weight: at least 0, where it is not asked.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"{type(self).__name__}: expected a weight >= 0, got {self.weight}; 0 leaves it out")

    @abstractmethod
    def __call__(
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        """The loss of every row.

        Args:
            student: what learns.
            images: in [0, 1].
            said: what the classifier says of them.
            units: which decide what is random.
        """


@dataclass(frozen=True)
class MixUp(Term):
    r"""Cross-entropy at mixed images: `lambda x_i + (1 - lambda) x_j` with `lambda ~ Beta(alpha, alpha)`.

    The label is drawn from the mixture `lambda f(x_i) + (1 - lambda) f(x_j)` (Zhang et al., 2018,
    https://arxiv.org/abs/1710.09412).

    Args:
        weight: of the term.
        alpha: large ones mix by halves.
    """

    alpha: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise ValueError(f"MixUp: expected alpha > 0, got {self.alpha}")

    def __call__(  # noqa: D102
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha, units.uniform("mixup").numpy())).to(images)
        here, there = share.reshape(-1, 1, 1, 1), (1 - share).reshape(-1, 1, 1, 1)
        mixed = here * images + there * images.roll(1, 0)  # the order of rows is random already
        mixture = torch.logaddexp(share.log()[:, None] + said, (1 - share).log()[:, None] + said.roll(1, 0))
        return functional.nll_loss(student(mixed), sampled(mixture, units, "mixup.label"), reduction="none")


@dataclass(frozen=True)
class Smoothing(Term):
    r"""Cross-entropy with a label drawn from the smoothed categorical `(1 - epsilon) f(x) + epsilon / K`.

    Args:
        weight: of the term.
        epsilon: how much is spread over all classes.
    """

    epsilon: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"Smoothing: expected epsilon in [0, 1], got {self.epsilon}")

    def __call__(  # noqa: D102
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        smoothed = ((1 - self.epsilon) * said.exp() + self.epsilon / said.shape[1]).log()
        return functional.nll_loss(student(images), sampled(smoothed, units, "smoothing.label"), reduction="none")


@dataclass(frozen=True)
class Adversarial(Term):
    r"""`KL(f(x) || surrogate(x + d))` at the worst `d` with `|d|_2 <= radius sqrt(D)` that projected gradients find.

    Source: Goldblum et al., "Adversarially Robust Distillation" (2020), https://arxiv.org/abs/1905.09747, with the L2
    ball of Madry et al. (2018), https://arxiv.org/abs/1706.06083.

    Args:
        weight: of the term.
        radius: root mean square of the longest `d`, of images in [0, 1] with D values.
        steps: of the projected gradient ascent, from a random `d`, each of `2 / steps` radii.
    """

    radius: float = 0.02
    steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.radius > 0 or self.steps < 1:
            raise ValueError(f"Adversarial: expected radius > 0 and steps >= 1, got {self.radius} and {self.steps}")

    def __call__(  # noqa: D102
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        longest = self.radius * math.sqrt(images[0].numel())

        def inside(d: Images) -> Images:
            shorter = d * (longest / _lengths(d)).clamp_max(1)
            return (images + shorter).clamp(0, 1) - images

        d = inside(self.radius * units.normal("adversarial", images.shape[1:]).to(images))
        for _ in range(self.steps):
            leaf = d.detach().requires_grad_()
            (slope,) = torch.autograd.grad(divergence(said, student(images + leaf)).sum(), leaf)
            d = inside(d + 2 / self.steps * longest * slope / _lengths(slope))
        return divergence(said, student(images + d.detach()))


def _lengths(d: Images) -> Tensor:
    return d.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)


class _Distillation(L.LightningModule):
    def __init__(
        self, network: SmoothClassifier, ask: Any, rows: Any, terms: Sequence[Term], run: tuple[int, int, int, float]
    ) -> None:
        super().__init__()
        self.network, self.ask, self.rows, self.terms = network, ask, rows, terms
        self.steps, self.batch, self.seed, self.rate = run
        self.last_loss = math.nan

    def train_dataloader(self) -> Any:
        order = Batches(len(self.rows), self.batch, self.seed, 0, self.steps)
        return DataLoader(self.rows, sampler=order, batch_size=None, collate_fn=None, generator=torch.Generator())

    def transfer_batch_to_device(
        self, batch: Mapping[str, Tensor], device: torch.device, dataloader_idx: int
    ) -> tuple[Images, LogProbabilities]:
        """Images, and what the classifier says of them in its own precision, not in that of the training."""
        images = batch["image"].to(device)
        logits = _asked(self.ask, images if isinstance(self.ask, nn.Module) else batch["image"])
        if (found := _outputs(logits)) != (expected := self.network.options["outputs"]):
            raise ValueError(
                f"classifier: its first logits had {expected or 'no'} columns, later ones {found or 'none'}"
            )
        return images.float(), log_probabilities(logits.to(device).float())

    def training_step(self, batch: tuple[Images, LogProbabilities], index: int) -> Tensor:
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
        optimizer = torch.optim.Adam(self.network.parameters(), lr=self.rate)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, self.rate, total_steps=self.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def distil(
    classifier: Callable[[Tensor], Tensor],
    rows: Dataset,
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
        rows: by a list of positions; only `"image"` is read.
        terms: what is asked beside agreement; one of weight 0 is left out.
        widths: of the surrogate; see `SmoothClassifier`.
        steps: optimiser steps.
        batch: rows per step.
        rate: the largest learning rate.
        seed: of weights, order, mixtures, labels and attacks.
        precision: "float32", or "bfloat16" for autocast of the surrogate.

    Returns:
        The surrogate, in eval mode; its logits have the form of the classifier's.

    Raises:
        ValueError: rows without images, logits of another shape, options out of range.
        FloatingPointError: logits, a loss or weights that are not finite; says at which step.

    Example:
        `SCELiteHQ(surrogate=distil(classifier, train)).explain(classifier, generator, images)`
    """
    if steps < 1 or batch < 1 or not rate > 0:
        raise ValueError(f"distil: expected steps and batch >= 1 and rate > 0, got {steps}, {batch} and {rate}")
    sample = _sample(rows)
    ask: Any = classifier
    if isinstance(classifier, nn.Module):
        ask = copy.deepcopy(classifier).eval().requires_grad_(False)
        own = next(ask.parameters(), sample).device
        outputs = _outputs(_asked(ask, sample.to(own)))
    else:
        outputs = _outputs(_asked(ask, sample))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = SmoothClassifier(sample.shape[1], outputs, widths)
        network.standardise(rows[list(range(min(FIRST, len(rows))))]["image"].cpu())
        training = _Distillation(network, ask, rows, terms, (steps, batch, seed, rate))
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
