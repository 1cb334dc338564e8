"""Whether a classifier says logits, or probabilities that would be taken for them."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import suppress

import torch
from jaxtyping import Float
from torch import Tensor

PASSING = ("Alias", "Clone", "Index", "Select", "Slice", "Squeeze", "ToCopy", "Unsqueeze", "View")  # values as they are
LOGITS = "return logits: leave out the last sigmoid or softmax, or use torch.logit, or of a softmax .log()"
MANY = 16  # logits that are all between 0 and 1 by no chance


def refuse_probabilities(name: str, logits: Float[Tensor, "batch ..."]) -> None:
    """Raise if these are probabilities: rows of a softmax, or what a sigmoid or softmax said last.

    Of single values whose origin cannot be seen it warns, where many lie between 0 and 1.

    Args:
        name: of what gave them.
        logits: as it gave them, with the graph of their gradient if there is one.
    """
    logits = logits[:, 0] if logits.ndim == 2 and logits.shape[1] == 1 else logits
    last = logits.grad_fn
    while last is not None and last.name().partition("Backward")[0] in PASSING:
        last = last.next_functions[0][0]
    shares = logits.ndim == 2 and bool((logits >= 0).all() and ((logits.sum(1) - 1).abs() < 1e-4).all())
    if shares or (last is not None and last.name().partition("Backward")[0] in ("Sigmoid", "Softmax")):
        raise ValueError(f"{name}: it gives probabilities; {LOGITS}")
    if logits.ndim == 1 and len(logits) >= MANY and bool(((logits >= 0) & (logits <= 1)).all()):
        what = f"{name}: all of {len(logits)} logits are from 0 to 1; if these are probabilities, {LOGITS}"
        warnings.warn(what, stacklevel=2)


def refuse_saying_probabilities(
    name: str, classifier: Callable[[Tensor], Tensor], images: Float[Tensor, "batch channel height width"]
) -> None:
    """As `refuse_probabilities`, of what a classifier says where its gradient is not asked for otherwise.

    Args:
        name: of the classifier.
        classifier: images in [0, 1] -> logits, with a gradient or without.
        images: a few.
    """
    logits = None
    with torch.enable_grad(), suppress(Exception):  # some can be asked without gradients alone
        logits = classifier(images.detach().requires_grad_())
    if isinstance(logits, Tensor) and logits.ndim:
        refuse_probabilities(name, logits)
