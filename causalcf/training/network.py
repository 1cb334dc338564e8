"""Training a network that is no mechanism: in one go, without checkpoints."""

from __future__ import annotations

from typing import Protocol, TypeVar

import lightning as L
from torch import nn

from causalcf.hardware import Precision, accelerator, halves, known
from causalcf.training.divergence import diverged, spoiled
from causalcf.training.fit import quiet

N = TypeVar("N", bound=nn.Module)


class Watched(Protocol):
    """A Lightning module that remembers its loss."""

    last_loss: float


def train_network(network: N, module: Watched, name: str, steps: int, precision: Precision, advice: str) -> N:
    """Train a network, and give it back in eval mode on the CPU.

    Args:
        network: what the module trains, in place.
        module: a Lightning module.
        name: what to call it in messages.
        steps: optimiser steps.
        precision: as in `Recipe`.
        advice: what to change if it diverges.

    Raises:
        ValueError: an unknown precision.
        FloatingPointError: weights that are not finite after the last step.
    """
    assert isinstance(module, L.LightningModule)
    known(name, precision)
    with quiet():
        L.Trainer(
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if halves(precision, accelerator()) else "32-true",
            max_steps=steps,
            logger=False,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
        ).fit(module)
    if bad := spoiled(network.state_dict()):
        at = f"after step {steps - 1}, where the loss was {module.last_loss:.6g}"
        raise diverged(name, f"{bad} was no longer finite {at}", advice)
    return network.cpu().eval()
