"""What is asked of an explained classifier: logits, decisions and targets, of whatever kind it is."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional

from causalcf.networks.logits import refuse_probabilities

Classifier = Callable[[Tensor], Tensor]
LossForm = Literal["logit", "log-probability"]


def label(classifier: Classifier, index: int) -> Classifier:
    """One label of a multi-label classifier, as a binary classifier of its own.

    Args:
        classifier: images in [0, 1] -> logits `(B, K)`.
        index: of the label.

    Example:
        `smiling = cf.explain.label(attributes, 31)`
    """
    return _Label(classifier, index)


class _NoLabel(ValueError):
    """What is asked for is not among the labels; it says all there is to say."""


@dataclass(frozen=True)
class _Label:
    classifier: Classifier
    index: int

    def __call__(self, images: Tensor) -> Tensor:
        logits = self.classifier(images)
        if logits.ndim != 2 or not -logits.shape[1] <= self.index < logits.shape[1]:
            known = f"give one from 0 to {logits.shape[1] - 1}" if logits.ndim == 2 else "explain it as it is"
            raise _NoLabel(
                f"label: the classifier gives logits of {tuple(logits.shape)}, without label {self.index}; {known}"
            )
        return logits[:, self.index]


def held(classifier: Any) -> Iterator[Any]:
    """A classifier; what it holds, as `label`, `Led` and others do; and what that holds."""
    yield classifier
    while not isinstance(classifier, nn.Module) and hasattr(classifier, "classifier"):
        classifier = classifier.classifier
        yield classifier


def innermost(classifier: Any) -> Any:
    """What says the logits."""
    return list(held(classifier))[-1]


class Query:
    """A classifier with the classes its explanations are to reach.

    Args:
        classifier: images in [0, 1] -> logits, `(B,)` or `(B, 1)` for two classes, `(B, K)` for K.
        images: the factual images.
        target: a class, one class per row, or None for the other one of two.
    """

    def __init__(self, classifier: Any, images: Tensor, target: int | Tensor | None) -> None:
        self.classifier: Classifier = classifier
        self.name = "classifier"
        with torch.no_grad():
            logits = self.logits(images)
        refuse_probabilities(self.name, logits)
        self.classes = _classes(logits)
        self.predicted = decided(logits)
        self.target = self._targets(target, len(images)).to(logits.device)
        self.before = probability(logits, self.target)

    def through(self, surrogate: Any, temperature: float = 1.0) -> Query:
        """The same targets, asked of another classifier, whose logits are divided by a temperature."""
        other = copy.copy(self)
        own = self.classifier if surrogate is None else surrogate
        other.classifier = own if temperature == 1 else lambda images: own(images) / temperature
        other.name = "classifier" if surrogate is None else "surrogate"
        return other

    def _targets(self, target: int | Tensor | None, rows: int) -> Int[Tensor, " batch"]:
        if target is None:
            if self.classes != 2:
                raise ValueError(f"target: the classifier knows {self.classes} classes; say which one to reach")
            return 1 - self.predicted
        try:
            found = torch.as_tensor(target)
        except (TypeError, ValueError, RuntimeError):
            raise TypeError(
                f"target: expected a class, a number from 0 to {self.classes - 1}, or int64 classes of shape "
                f"({rows},), got {target!r}"
            ) from None
        if (
            found.is_floating_point()
            or found.dtype == torch.bool
            or found.ndim > 1
            or (found.ndim == 1 and len(found) != rows)
        ):
            raise ValueError(
                f"target: expected a class or int64 classes of shape ({rows},), got {found.dtype} of shape "
                f"{tuple(found.shape)}"
            )
        if found.min() < 0 or found.max() >= self.classes:
            raise ValueError(
                f"target: the classifier knows the classes 0 to {self.classes - 1}, got {found.min().item()} to "
                f"{found.max().item()}"
            )
        return found.long().expand(rows).clone()

    def logits(self, images: Tensor) -> Float[Tensor, "batch ..."]:
        """What the classifier says, `(B,)` for two classes."""
        shown = tuple(images.shape)
        try:
            logits = self.classifier(images)
        except (torch.OutOfMemoryError, _NoLabel):
            raise
        except (RuntimeError, AssertionError) as error:  # of a layer or a guard in the middle of a network
            said = str(error).strip().partition("\n")[0]
            if said.startswith("Guard failed"):  # of torch.export
                said += "; if that is the number of images, export it with dynamic_shapes, or explain with --batch 1"
            raise ValueError(
                f"{self.name}: it does not take images of shape {shown}, {images.dtype}: {said}"
            ) from error
        except Exception as error:
            raise ValueError(
                f"{self.name}: asked about images of shape {shown}, {images.dtype}, it raised {type(error).__name__}: "
                f"{error}; give a function of images in [0, 1] that returns logits"
            ) from error
        if not isinstance(logits, Tensor):
            raise TypeError(
                f"{self.name}: expected logits, a tensor, got {type(logits).__name__}; of a model that answers with "
                "more, pass lambda images: model(images).logits"
            )
        if logits.ndim == 2 and logits.shape[1] == 1:
            logits = logits[:, 0]
        if logits.ndim not in (1, 2) or len(logits) != len(images):
            raise ValueError(
                f"{self.name}: expected logits of shape ({len(images)},) or ({len(images)}, classes), got "
                f"{tuple(logits.shape)}"
            )
        if not logits.isfinite().all():
            raise FloatingPointError(f"{self.name}: its logits are not finite; does it expect images in [0, 1]?")
        return logits

    def refuse_unfit(self, images: Float[Tensor, "batch channel height width"]) -> None:
        """Raise if the logits are probabilities, or of other classes than the targets, or no image has a gradient."""
        with torch.no_grad():
            known = _classes(self.logits(images[:1]))
        if known != self.classes:
            raise ValueError(
                f"{self.name}: it knows {known} classes, the classifier {self.classes}; distil it from this classifier"
            )
        with torch.enable_grad():
            leaf = images[:1].detach().requires_grad_()
            refuse_probabilities(self.name, self.logits(leaf))
            loss = self.loss(leaf, torch.zeros(1, dtype=torch.int64, device=images.device), "logit").sum()
            gradient = torch.autograd.grad(loss, leaf, allow_unused=True)[0] if loss.requires_grad else None
        if gradient is None:
            raise ValueError(
                f"{self.name}: no gradient of its logits reaches the image, and explanations follow that; leave out "
                "torch.no_grad(), .detach(), .numpy() and argmax, or give it a surrogate, Led(classifier, surrogate)"
            )
        if not gradient.isfinite().all():
            raise FloatingPointError(
                f"{self.name}: the gradient of its logits is not finite; look for logarithms, roots and "
                "divisions near 0"
            )

    def loss(self, images: Tensor, rows: Tensor, form: LossForm) -> Float[Tensor, " batch"]:
        """What guidance lowers: minus the target's logit, or minus the logarithm of its probability."""
        logits, target = self.logits(images), self.target[rows]
        if logits.ndim == 1:
            signed = torch.where(target == 1, logits, -logits)
            return -signed if form == "logit" else functional.softplus(-signed)
        if form == "logit":
            return -logits.gather(1, target[:, None])[:, 0]
        return functional.cross_entropy(logits, target, reduction="none")


def _classes(logits: Float[Tensor, "batch ..."]) -> int:
    return 2 if logits.ndim == 1 else logits.shape[1]


def decided(logits: Float[Tensor, "batch ..."]) -> Int[Tensor, " batch"]:
    """The class a classifier decides for, of logits `(B,)`, `(B, 1)` or `(B, K)`."""
    logits = logits[:, 0] if logits.shape[1:] == (1,) else logits
    return (logits > 0).long() if logits.ndim == 1 else logits.argmax(1)


def probability(logits: Float[Tensor, "batch ..."], target: Int[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The probability of the targets."""
    if logits.ndim == 1:
        return torch.where(target == 1, logits, -logits).sigmoid()
    return logits.softmax(1).gather(1, target[:, None])[:, 0]


def refuse_held(held: Bool[Tensor, " batch"]) -> None:
    """Raise if the classifier decides some rows for their target already: there is nothing to explain.

    Args:
        held: of all rows, which these are.
    """
    rows = held.nonzero()[:, 0].tolist()
    if rows:
        first = ", ".join(map(str, rows[:5])) + (", ..." if len(rows) > 5 else "")
        raise ValueError(
            f"target: {len(rows)} of {len(held)} rows are decided for it already (row {first}); leave them out, or ask "
            "for another class"
        )
