"""What users hand in, looked at before anything is drawn."""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import Any, get_args

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.dropout import _DropoutNd

from causalcf.diffusion.ancestral import Variance
from causalcf.explain.generator import Generator
from causalcf.explain.queries import LossForm, Query, innermost, probability

SLIP = 0.01  # by so much rounding may leave [0, 1]
BRIGHT = 2.5  # beyond it are grey levels of 255, rather than sums of images
CHANGEABLE = ("BatchNorm", "Drop", "StochasticDepth")  # layers of which rows depend on their batch, or on chance
ALIKE = 0.02  # probabilities of a row alone and in its batch, beyond what rounding moves


def refuse_images(images: Any) -> None:
    """Raise if these are no images in [0, 1], one row each."""
    if not isinstance(images, Tensor):
        write = "torch.stack(images)" if isinstance(images, list | tuple) else "torch.as_tensor(images)"
        raise TypeError(f"images: expected a tensor of shape (B, C, H, W), got {type(images).__name__}; write {write}")
    if images.ndim != 4:
        more = "; write images[None] for one image, images[:, None] for grey ones" if images.ndim == 3 else ""
        raise ValueError(f"images: expected shape (B, C, H, W), got {tuple(images.shape)}{more}")
    if len(images) == 0:
        raise ValueError("images: expected at least one row, with values in [0, 1], got none")
    if not images.is_floating_point():
        raise ValueError(f"images: expected floats in [0, 1], got {images.dtype}; write images.float() / 255")
    finite = images.flatten(1).isfinite().all(1)
    if not finite.all():
        row = int((~finite).nonzero()[0])
        raise ValueError(f"images: row {row} has values that are NaN or infinite; leave it out, or mend it")
    low, high = images.min().item(), images.max().item()
    if low < 0 or high > 1:
        raise ValueError(f"images: expected values in [0, 1]; {_remedy(low, high)}; these are from {low:g} to {high:g}")


def _remedy(low: float, high: float) -> str:
    if low >= -SLIP and high <= 1 + SLIP:
        return "write images.clamp(0, 1)"
    if low >= 0:
        return "divide grey levels by 255" if high > BRIGHT else "look where brighter ones come from"
    if low >= -1 - SLIP and high <= 1 + SLIP:
        return "write (images + 1) / 2 for images in [-1, 1]"
    return "undo the normalisation of channels, images * std + mean"


def refuse_unknown(name: str, loss: Any, variance: Any = "small") -> None:
    """Raise if a loss or a variance is none that there is.

    Args:
        name: of the explainer.
        loss: of the classifier.
        variance: of ancestral steps.
    """
    if loss not in get_args(LossForm):
        raise ValueError(f"{name}: expected loss 'logit' or 'log-probability', got {loss!r}")
    if variance not in get_args(Variance):
        raise ValueError(f"{name}: expected variance 'small' or 'large', got {variance!r}")


def per_row(target: Any, rows: int) -> Any:
    """Targets of rows as a tensor, of a list or an array too; anything else as it is, for a query to judge.

    Args:
        target: of the user.
        rows: how many there are.
    """
    try:
        found = torch.as_tensor(target)
    except (TypeError, ValueError, RuntimeError):
        return target
    if found.ndim == 1 and len(found) != rows:
        raise ValueError(f"target: expected one class per row, {rows}, got {len(found)}")
    return found if found.ndim else target


def refuse_locked(locked: Any, images: Tensor) -> None:
    """Raise if these are no places of the images."""
    shape = (len(images), 1, *images.shape[2:])
    if not isinstance(locked, Tensor):
        raise TypeError(f"locked: expected a tensor of bool, of shape {shape}, got {type(locked).__name__}")
    if locked.dtype != torch.bool or locked.shape != shape:
        raise ValueError(
            f"locked: expected bool of shape {shape}, got {locked.dtype} of shape {tuple(locked.shape)}; write "
            "locked > 0 for numbers, locked[:, None] for masks without a channel"
        )


def refuse_other(generator: Any) -> None:
    """Raise if this is no generator."""
    if not isinstance(generator, Generator):
        raise TypeError(
            f"generator: expected a Generator, got {type(generator).__name__}; make one of a pipeline of diffusers "
            "with cf.explain.generators.from_diffusers, of a fitted model with cf.explain.generators.from_scm"
        )


@torch.enable_grad()
def refuse_features(encoder: Any, images: Tensor) -> None:
    """Raise if what is to give features of images gives none, or none with a gradient."""
    leaf = images[:1].detach().requires_grad_()
    try:
        found = encoder(leaf)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"perceptual: it does not take images of shape {tuple(images[:1].shape)}, {images.dtype}: {said}"
        ) from error
    if not isinstance(found, Tensor) or found.ndim < 2 or len(found) != 1:
        got = f"shape {tuple(found.shape)}" if isinstance(found, Tensor) else type(found).__name__
        raise ValueError(f"perceptual: expected features, a tensor with a row of values for each image, got {got}")
    if not found.requires_grad or torch.autograd.grad(found.sum(), leaf, allow_unused=True)[0] is None:
        raise ValueError(
            "perceptual: no gradient of its features reaches the image, and they are kept near by that; leave out "
            "torch.no_grad(), .detach(), .numpy() and argmax"
        )


@torch.no_grad()
def warn_of_company(name: str, query: Query, images: Tensor) -> None:
    """Warn if a row is decided otherwise alone than in its batch, as behind a function no mode can be seen.

    Args:
        name: what to call the classifier.
        query: of the first batch.
        images: all of them.
    """
    with suppress(Exception):  # what does not take one image is asked again later, and said then
        alone = probability(query.logits(images[:1]), query.target[:1])
        if (apart := (alone - query.before[:1].to(alone)).abs().item()) > ALIKE:
            warnings.warn(
                f"{name}: its probability of the first image's target differs by {apart:.2g} between the image alone "
                "and in its batch; if a network in it is in training mode, call its .eval(), or explanations "
                "will depend on the batch and on chance",
                stacklevel=3,
            )


def refuse_training(network: Any, name: str) -> None:
    """Raise if a network is in a mode in which rows depend on their batch, or on chance.

    Args:
        network: a module, or something that holds one as `classifier`.
        name: what to call it.
    """
    network = innermost(network)
    if not isinstance(network, nn.Module):
        return
    for part in network.modules():
        kind = getattr(part, "original_name", type(part).__name__)  # of a scripted one, what it was
        if part.training and (isinstance(part, _BatchNorm | _DropoutNd) or kind.startswith(CHANGEABLE)):
            raise ValueError(
                f"{name}: it is in training mode, where a row of {kind} depends on chance or on the rest of the batch; "
                f"call {name}.eval()"
            )
