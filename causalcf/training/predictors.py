"""Predictors of an attribute from an image: the oracles that judge counterfactuals, trained apart from the models."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

import lightning as L
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader

from causalcf.hardware import Precision, seeded
from causalcf.networks.classifier import Classifier, Predictor, Regressor
from causalcf.networks.smooth import SmoothClassifier
from causalcf.numbers import whole
from causalcf.rows import Dataset, table
from causalcf.training.divergence import diverged
from causalcf.training.network import train_network
from causalcf.training.steps import Batches
from causalcf.training.targets import classes_of, values_of
from causalcf.variables import Image

P = TypeVar("P", bound=Predictor)
ADVICE = "check the images and the targets for extreme values"


class _Training(L.LightningModule):
    def __init__(
        self, network: Predictor, rows: Any, target: str, node: str, steps: int, batch: int, seed: int
    ) -> None:
        super().__init__()
        self.network, self.rows, self.target, self.node = network, rows, target, node
        self.steps, self.batch, self.seed = steps, batch, seed
        self.last_loss = math.nan

    def train_dataloader(self) -> Any:
        order = Batches(len(self.rows), self.batch, self.seed, 0, self.steps)
        return DataLoader(self.rows, sampler=order, batch_size=None, collate_fn=None, generator=torch.Generator())

    def training_step(self, batch: Mapping[str, Tensor], index: int) -> Tensor:
        image = batch[self.node]
        Image(*image.shape[1:]).check(self.node, image)
        loss = self.network.loss(image, batch[self.target]).mean()
        self.last_loss = loss.item()
        if not math.isfinite(self.last_loss):
            what = f"the loss became {self.last_loss} at step {self.trainer.global_step}"
            raise diverged(self.target, what, ADVICE)
        return loss

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(self.parameters(), lr=3e-3, weight_decay=0.05)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=self.steps + 1)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": cycle, "interval": "step"}}


def fit_classifier(
    rows: Mapping[str, Tensor] | Dataset,
    target: str,
    classes: int,
    *,
    node: str = "image",
    steps: int = 1500,
    batch: int = 128,
    seed: int = 0,
    precision: Precision = "float32",
) -> Classifier:
    """Train a classifier of `rows[target]` from the images `rows[node]`.

    Args:
        rows: training rows, or a data set that gives rows for a list of positions.
        target: the attribute, int64 classes.
        classes: how many.
        node: the image.
        steps: optimiser steps.
        batch: rows per step.
        seed: of weights and order.
        precision: "float32", "bfloat16" for autocast, or "auto": bfloat16 where the hardware computes it.

    Returns:
        The classifier, in eval mode.

    Raises:
        ValueError: a column that is not there, or does not hold classes; images that do not lie in [0, 1]; options out
            of range.
        FloatingPointError: a loss or weights that are not finite; says at which step.
    """
    data = table(rows)
    classes_of(data, target, classes, node)
    return _fitted(
        lambda channels: Classifier(channels, classes, reads=target), data, target, node, steps, batch, seed, precision
    )


def fit_regressor(
    rows: Mapping[str, Tensor] | Dataset,
    target: str,
    *,
    node: str = "image",
    steps: int = 1500,
    batch: int = 128,
    seed: int = 0,
    precision: Precision = "float32",
) -> Regressor:
    """Train a regressor of the continuous `rows[target]` from the images `rows[node]`; see `fit_classifier`."""
    data = table(rows)
    values = values_of(data, target, node)

    def make(channels: int) -> Regressor:
        network = Regressor(channels, reads=target)
        network.mean.copy_(values.mean())
        network.std.copy_(values.std().clamp_min(1e-6))
        return network

    return _fitted(make, data, target, node, steps, batch, seed, precision)


def _fitted(
    make: Callable[[int], P],
    rows: Dataset,
    target: str,
    node: str,
    steps: int,
    batch: int,
    seed: int,
    precision: Precision,
) -> P:
    whole(f"the predictor of {target}", 1, steps=steps, batch=batch)
    first = rows[0:1][node]
    if first.ndim != 4:
        raise ValueError(f"{node}: expected shape (B, C, H, W), got {tuple(first.shape)}; write {node}.unsqueeze(1)")
    with seeded(seed):
        network = make(first.shape[1])
        training = _Training(network, rows, target, node, steps, batch, seed)
        return train_network(network, training, target, steps, precision, ADVICE)


LAST = "config.json"  # of the files of a predictor to be written
KINDS: dict[str, Callable[..., Predictor]] = {kind.__name__: kind for kind in (Classifier, Regressor, SmoothClassifier)}


def save_predictor(network: Predictor, folder: str | Path) -> None:
    """Write a predictor in half precision: weights.safetensors, and config.json when that is whole."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors = {key: t.half() if t.is_floating_point() and t.ndim > 1 else t for key, t in network.state_dict().items()}
    weights, config = folder / "weights.part", folder / "config.part"
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, weights)
    (folder / LAST).unlink(missing_ok=True)
    os.replace(weights, folder / "weights.safetensors")
    config.write_text(json.dumps({"type": type(network).__name__, "options": network.options}) + "\n")
    os.replace(config, folder / LAST)


def has_predictor(folder: str | Path) -> bool:
    """Whether `save_predictor` came to its end in this folder; one that was killed while writing leaves none."""
    return (Path(folder) / LAST).is_file()


def load_predictor(folder: str | Path) -> Predictor:
    """Read a predictor that `save_predictor` wrote.

    Raises:
        ValueError: files that are damaged or hold something else.
    """
    folder = Path(folder)
    try:
        config = json.loads((folder / LAST).read_text())
        network = KINDS[config["type"]](**config["options"])
        expected = network.state_dict()
        found = load_file(folder / "weights.safetensors")
        network.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in found.items()})
    except (OSError, json.JSONDecodeError, KeyError, TypeError, RuntimeError, SafetensorError) as error:
        raise ValueError(f"{folder} holds no predictor, or a damaged one ({error}); copy it again") from None
    return network.eval()
