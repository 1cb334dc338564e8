"""Trying a reader of a variable on blank images, before anything that takes time."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.readers import Reader, as_reader
from causalcf.networks.classifier import Classifier
from causalcf.variables import Categorical, Continuous, Variable


def tried(asking: str, name: str, given: Any, variable: Variable, blank: Tensor, differentiable: bool) -> Reader:
    """The function that reads a variable from images, if it can.

    Args:
        asking: what needs it, for messages.
        name: of the variable.
        given: a function of images in [0, 1], or a predictor with `predict`.
        variable: what it must read.
        blank: two images.
        differentiable: whether readings of numbers need a gradient.

    Raises:
        ValueError: it reads another variable or other images, gives another kind of values, or none that are finite.
    """
    reader, number = as_reader(name, given), isinstance(variable, Continuous)
    with torch.inference_mode(False), torch.enable_grad():
        images = blank.clone().requires_grad_()
        try:
            read = reader(images)
        except (RuntimeError, ValueError, IndexError) as error:
            reason = str(error).splitlines()[0]
            raise ValueError(
                f"{asking}: the reader of {name} cannot read images of shape {tuple(blank.shape[1:])}: {reason}"
            ) from error
    if read.shape != (len(blank),) or read.is_floating_point() != number:
        wanted = "floats" if number else "int64 classes"
        raise ValueError(
            f"{asking}: expected the reader of {name} to give {wanted} of shape (B,), got {read.dtype} of shape "
            f"{tuple(read.shape)} for 2 images"
        )
    if not read.isfinite().all():
        raise ValueError(f"{asking}: the reader of {name} gives {read[0].item()} for a blank image; leave it out")
    if number and differentiable and not read.requires_grad:
        raise ValueError(
            f"{asking}: the reader of {name} is not differentiable in the image; take by='omega', or a network"
        )
    if isinstance(variable, Categorical):
        owner = getattr(given, "__self__", given)
        known = owner.options["classes"] if isinstance(owner, Classifier) else variable.classes
        if known != variable.classes:
            raise ValueError(f"{asking}: the reader of {name} knows {known} classes, but {name} has {variable.classes}")
        if read.max() >= variable.classes:
            raise ValueError(
                f"{asking}: the reader of {name} gives class {int(read.max())}, but {name} has {variable.classes}"
            )
    return reader
