"""Gumbel-max mechanisms of binary and categorical variables."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

import pyro.distributions as dist
import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor

from causalcf import variables
from causalcf.mechanisms.base import Mechanism, Noise, Parents, Recipe, as_recipe, recipe_config
from causalcf.mechanisms.features import Features
from causalcf.networks.mlp import mlp
from causalcf.units import Units

MARGIN = 1e-6  # by which the factual class wins, so that rounding cannot undo it


class _GumbelMax(Mechanism):
    """`x = argmax_k (logit_k(pa) + g_k)`, `g_k ~ Gumbel(0, 1)`; see `Categorical`."""

    exact = True
    has_density = True
    stochastic_abduction = True

    base: Tensor

    def __init__(
        self,
        hidden: Sequence[int] = (32, 32),
        probabilities: Sequence[float] | None = None,
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        given = None if probabilities is None else [float(p) for p in probabilities]
        if given is not None and not (all(p >= 0 for p in given) and abs(sum(given) - 1) <= 1e-6):  # nan fails
            raise ValueError(
                f"{type(self).__name__}: expected probabilities that are not negative and sum to 1, got {given}"
            )
        self.hidden, self.probabilities = tuple(hidden), given
        self.recipe = as_recipe(recipe, Recipe(steps=1000, batch=512, learning_rate=1e-2, weight_decay=1.0))

    def config(self) -> dict[str, Any]:
        return {
            "hidden": list(self.hidden),
            "probabilities": self.probabilities,
            "recipe": recipe_config(self.recipe),
        }

    @property
    @abstractmethod
    def classes(self) -> int:
        """How many values the variable has."""

    @property
    def known(self) -> bool:
        return self.probabilities is not None

    def _build(self) -> None:
        if self.probabilities is not None and len(self.probabilities) != self.classes:
            raise ValueError(
                f"{type(self).__name__}: expected {self.classes} probabilities for {self.variable}, "
                f"got {len(self.probabilities)}"
            )
        self.features = Features(self.parents)
        chances = torch.tensor(self.probabilities or [1 / self.classes] * self.classes)
        self.register_buffer("base", chances.clamp_min(1e-30).log())
        given = self.probabilities is not None
        self.network = mlp(self.features.width, self.classes, self.hidden) if self.parents and not given else None

    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Scales of the parents, and the classes' frequencies, which without parents are the whole mechanism."""
        self.features.calibrate(parents)
        if self.probabilities is None:
            count = torch.bincount(value, minlength=self.classes).double()
            self.base.copy_((count / count.sum()).clamp_min(1e-8).log())

    def logits(self, parents: Parents, rows: int) -> Float[Tensor, "batch classes"]:
        """Log probabilities of the classes given the parents, float64."""
        logits = self.base.double().expand(rows, -1)
        if self.network is not None:
            logits = logits + self.network(self.features(parents, rows)).double()
        return logits.log_softmax(1)

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        r"""Gumbel noise from its posterior: the largest sum first, the others below it (Maddison et al., 2014).

        `z_x ~ Gumbel(0)` for the factual class x, `z_k = -log(exp(-G_k - logit_k) + exp(-z_x))` for the others. These
        are other draws than those that `noise` decides a class by, and than those of an earlier abduction.
        """
        logits = self.logits(parents, len(value))
        gumbel = units.gumbel(f"{key}.posterior.{units.turn}", (self.classes,)).to(value.device)
        top = gumbel.gather(1, value[:, None])
        below = -torch.logaddexp(-gumbel - logits, -top)
        below = torch.minimum(below, top - MARGIN)
        return {"g": below.scatter(1, value[:, None], top) - logits}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        return (self.logits(parents, len(noise["g"])) + noise["g"]).argmax(1)

    def noise(self, units: Units, key: str) -> Noise:
        return {"g": units.gumbel(f"{key}.g", (self.classes,))}


class Categorical(_GumbelMax):
    r"""`x = argmax_k (logit_k(pa) + g_k)`, `g_k ~ Gumbel(0, 1)` (Oberst and Sontag, 2019).

    Several noises explain an observed class; abduction draws one from the posterior, by the unit, and the factual class
    is always reproduced. Without parents the logits are the log frequencies of the training rows.

    Args:
        hidden: widths of the hidden layers that read the parents.
        probabilities: of the classes, for a mechanism that is known; the parents are then ignored.
        recipe: of the training.
    """

    @property
    def classes(self) -> int:
        """How many values the variable has."""
        if not isinstance(self.variable, variables.Categorical):
            raise TypeError(f"Categorical models a Categorical variable, got {self.variable}")
        return self.variable.classes

    def distribution(self, parents: Parents) -> TorchDistributionMixin:
        """`Categorical(logits(pa))`; without parents the batch is one row."""
        rows = len(next(iter(parents.values()))) if parents else 1
        return dist.Categorical(logits=self.logits(parents, rows))


class Binary(_GumbelMax):
    """The Gumbel-max mechanism with two classes; see `Categorical`. `probabilities` are those of 0 and of 1."""

    @property
    def classes(self) -> int:
        """Two."""
        if not isinstance(self.variable, variables.Binary):
            raise TypeError(f"Binary models a Binary variable, got {self.variable}")
        return 2

    def distribution(self, parents: Parents) -> TorchDistributionMixin:
        """The two classes, as integers; without parents the batch is one row."""
        rows = len(next(iter(parents.values()))) if parents else 1
        return dist.Categorical(logits=self.logits(parents, rows))
