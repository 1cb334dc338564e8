"""Fine-tuning a mechanism on its own counterfactuals, no worse at the data than it was."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from causalcf.mechanisms.base import Parents
from causalcf.networks.classifier import Predictor
from causalcf.training.steps import Training, derived_seed
from causalcf.units import Units

Proposal = Callable[[Mapping[str, Tensor], int], Parents]


class Tuning(Training):
    r"""A mechanism under counterfactual fine-tuning: predictors read counterfactuals, a constraint keeps the rest.

    Minimises `L_cf = sum_k loss_k(x*, pa*_k)` subject to `L(x) <= bound`, L being what the mechanism was trained on, by
    the damped Lagrangian `L_cf - (price - damping * sg(gap)) gap` with `gap = bound - L(x)`; the price, at least 0, is
    raised while the constraint is broken and lowered while it holds. Source: De Sousa Ribeiro et al., "High Fidelity
    Image Counterfactuals with Probabilistic Causal Models" (2023), https://arxiv.org/abs/2306.15764.

    Args:
        training: the arguments of `Training`; its mechanism is fitted, with a differentiable counterfactual.
        predictors: parent -> what reads it from images; not trained.
        proposal: `(rows, seed) -> parents` after an intervention.
        bound: the largest loss on the data.
        damping: how steeply the constraint pushes near its bound.
        climb: step size of the price.
    """

    price: Tensor

    def __init__(
        self,
        *training: Any,
        predictors: Mapping[str, Predictor],
        proposal: Proposal,
        bound: float,
        damping: float,
        climb: float,
    ) -> None:
        super().__init__(*training)
        self.predictors, self.proposal = dict(predictors), proposal
        self.bound, self.damping, self.climb = bound, damping, climb
        self.register_buffer("price", torch.zeros(()))

    def step_loss(self, batch: Mapping[str, Tensor], seed: int) -> Tensor:  # noqa: D102
        image, parents = batch[self.name], {parent: batch[parent] for parent in self.parent_names}
        other = self.proposal(batch, derived_seed(seed, "intervention"))
        units = Units(torch.arange(len(image), device=image.device), seed)
        noise = self.mechanism.abduct(image, parents, units, self.name)
        counterfactual = self.mechanism.predict(noise, other)
        missed = torch.stack(
            [predictor.loss(counterfactual, other[name]).mean() for name, predictor in self.predictors.items()]
        ).sum()
        gap = self.bound - self._loss(self.mechanism, batch, seed)
        price = self.price
        self.price = (price - self.climb * gap.detach()).clamp_min(0)
        return missed - (price - self.damping * gap.detach()) * gap
