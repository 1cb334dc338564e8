"""Training a network that is no mechanism: in one go, without checkpoints."""

from __future__ import annotations

from typing import Literal, Protocol, TypeVar

import lightning as L
from torch import nn

from causalcf.training.divergence import diverged, spoiled
from causalcf.training.fit import quiet

Precision = Literal["float32", "bfloat16"]
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
        precision: "float32", or "bfloat16" for autocast.
        advice: what to change if it diverges.

    Raises:
        FloatingPointError: weights that are not finite after the last step.
    """
    assert isinstance(module, L.LightningModule)
    with quiet():
        L.Trainer(
            accelerator="auto",
            devices=1,
            precision="bf16-mixed" if precision == "bfloat16" else "32-true",
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
