"""Networks that read attributes from faces: the classifier that is explained, and those that judge."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.nn import functional

from causalcf.hardware import autocast
from causalcf.networks.classifier import Classifier
from causalcf.networks.smooth import SmoothClassifier
from causalcf.training.steps import Batches
from causalcf.training.surrogates import distil
from causalcf.training.terms import Adversarial, MixUp, Smoothing
from experiments.explain.data import Held

WIDTHS = (16, 32, 64)
# A drawn smile is 4 away from none (L2, median): attacks of radius 0.02, which are 2.2 long, could often undo it.
TERMS = (MixUp(), Smoothing(), Adversarial(radius=0.01, steps=1))


def fit_reader(
    rows: Held,
    names: Sequence[str],
    *,
    widths: Sequence[int] = WIDTHS,
    steps: int = 600,
    batch: int = 64,
    rate: float = 3e-3,
    seed: int = 0,
) -> Classifier:
    """Train a classifier of one attribute, with two classes, or of several, with one logit each.

    Args:
        rows: training rows.
        names: of the attributes.
        widths: of the network.
        steps: optimiser steps, of AdamW under a one-cycle rate.
        batch: rows per step.
        rate: the largest.
        seed: of weights and order.
    """
    one = len(names) == 1
    labels = rows.columns(names)
    wanted = torch.stack([labels[name] for name in names], 1)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = Classifier(3, 2 if one else len(names), widths, reads=names[0] if one else "attributes").train()
        optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.05)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
        for index in Batches(len(rows), batch, seed, 0, steps):
            with autocast("auto", torch.device("cpu")):
                logits = network(rows[index]["image"]).float()
            if one:
                loss = functional.cross_entropy(logits, wanted[index, 0], label_smoothing=0.05)
            else:
                loss = functional.binary_cross_entropy_with_logits(logits, wanted[index].float())
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            cycle.step()
    return network.eval()


def student(network: nn.Module, rows: Held, steps: int, seed: int = 0) -> SmoothClassifier:
    """A smooth student of a classifier, distilled with mixtures, smoothed labels and attacks."""
    options: dict[str, Any] = {"terms": TERMS, "widths": WIDTHS, "batch": 32, "rate": 3e-3, "precision": "auto"}
    return distil(network, rows, steps=steps, seed=seed, **options)


@torch.no_grad()
def accuracy(network: Classifier, images: torch.Tensor, wanted: torch.Tensor) -> float:
    """Share of the labels that are read as they are."""
    logits = network.eval()(images)
    found = logits.argmax(1) if wanted.ndim == 1 else (logits > 0).long()
    return (found == wanted).double().mean().item()
