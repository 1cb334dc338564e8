"""A mechanism is a module that turns noise and parents into a value, and back."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from inspect import signature
from typing import Any, ClassVar, Self

import torch
from jaxtyping import Float
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from causalcf.hardware import Precision, known, seeded
from causalcf.units import Units
from causalcf.variables import Variable

Noise = dict[str, Tensor]
Parents = Mapping[str, Tensor]


@dataclass(frozen=True)
class Recipe:
    """How a mechanism is trained: AdamW on random batches under a one-cycle learning rate, averaged over time.

    Args:
        steps: optimiser steps.
        batch: rows per step.
        learning_rate: the peak of the cycle.
        weight_decay: of AdamW.
        clip: largest norm of the gradient.
        skip: norm of the gradient, before clipping, above which a step is not taken.
        ema: decay of the exponential moving average whose weights are kept; 0 keeps the last ones.
        precision: "float32", "bfloat16" for autocast, or "auto": bfloat16 where the hardware computes it.
        checkpoint: steps between checkpoints.
    """

    steps: int = 1000
    batch: int = 256
    learning_rate: float = 1e-2
    weight_decay: float = 0.0
    clip: float = 1.0
    skip: float = 1e9
    ema: float = 0.0
    precision: Precision = "float32"
    checkpoint: int = 200

    def __post_init__(self) -> None:
        for name in ("steps", "batch", "checkpoint"):
            value = getattr(self, name)
            if not isinstance(value, int) or value < 1:
                raise ValueError(f"Recipe: expected a whole number {name} >= 1, got {value!r}")
        for name in ("learning_rate", "clip", "skip"):
            value = getattr(self, name)
            if not _finite(value) or value <= 0:
                raise ValueError(f"Recipe: expected a finite {name} > 0, got {value!r}")
        if not _finite(self.weight_decay) or self.weight_decay < 0:
            raise ValueError(f"Recipe: expected a finite weight_decay >= 0, got {self.weight_decay!r}")
        if not _finite(self.ema) or not 0 <= self.ema < 1:
            raise ValueError(f"Recipe: expected 0 <= ema < 1, got {self.ema!r}")
        known("Recipe", self.precision)

    def but(self, **changes: Any) -> Recipe:
        """The same recipe with some entries changed."""
        return replace(self, **changes)


def _finite(value: object) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


class Mechanism(nn.Module, ABC):
    """The structural equation `x = predict(u, pa)` of one variable, with `u = abduct(x, pa)`.

    A mechanism is given to an SCM unbuilt, by its options alone; the SCM builds it for its variable and parents. It
    owns its scaling: values and parents come and go in the variables' own units.

    Attributes:
        exact: whether `predict(abduct(x, pa), pa)` is `x` up to rounding.
        has_density: whether `log_prob` is known.
        stochastic_abduction: whether several noises explain a value, so that abduction draws one of them.
        variable: what it models; known once built.
        parents: its parents' variables, in declared order; known once built.
        recipe: how it is trained by gradient.
    """

    exact: ClassVar[bool]
    has_density: ClassVar[bool]
    stochastic_abduction: ClassVar[bool] = False

    variable: Variable
    parents: dict[str, Variable]
    recipe: Recipe = Recipe()
    built: bool = False
    fitted: bool = False
    trained: ClassVar[frozenset[str]] = frozenset()
    """Options that say how it was trained, which a fitted mechanism cannot change."""

    def build(
        self,
        variable: Variable,
        parents: Mapping[str, Variable],
        causes: Mapping[str, Sequence[str]] | None = None,
    ) -> Self:
        """Make the networks for a variable with these parents; raise if this mechanism cannot model it.

        Args:
            variable: what it models.
            parents: the variables it listens to.
            causes: parent -> the other parents that cause it, where a graph says so.
        """
        if self.built:
            raise ValueError(
                f"{type(self).__name__}: this mechanism is built already; give every node a mechanism of its own"
            )
        self.variable, self.parents = variable, dict(parents)
        if causes is not None:
            self._relate(causes)
        with torch.random.fork_rng(devices=[]):
            self._build()
        self.built, self.fitted = True, self.known
        return self

    def initialise(self, seed: int) -> None:
        """Make the networks anew, with weights that `seed` decides."""
        device, dtype = self.device, self.dtype
        with seeded(seed):
            self._build()
        self.to(device, dtype)

    def but(self, kind: type[Mechanism] | None = None, **options: Any) -> Mechanism:
        """The same fitted mechanism with other options, which are validated; weights are shared.

        Args:
            kind: another class that can hold these weights, for example `DynamicDiffusion` for a `SemanticDiffusion`,
                or back, without the options that it does not have.
            options: what to change; anything that decides the shape of the weights cannot be.

        Raises:
            TypeError: a kind that is no mechanism.
            ValueError: an option that does not exist, is out of range, or asks for other weights.
        """
        given: Any = kind or type(self)
        if not (isinstance(given, type) and issubclass(given, Mechanism)):
            raise TypeError(f"but: expected kind to be a class of mechanisms, such as mechanisms.Flow, got {given!r}")
        kind, own = given, self.config()
        if kind is not type(self):
            taken = {name for part in kind.__mro__ for name in signature(part.__init__).parameters}
            own = {name: value for name, value in own.items() if name in taken}
        for name in sorted(self.trained & options.keys()):
            if self.fitted and options[name] != own.get(name):
                raise ValueError(
                    f"{kind.__name__}: {name}={own.get(name)!r} is what this {type(self).__name__} was trained with; "
                    f"for {name}={options[name]!r} make one anew and fit it"
                )
        try:
            made = kind(**{**own, **options}).build(self.variable, self.parents)
        except TypeError as error:
            raise ValueError(f"{kind.__name__}: {error}") from None
        made.to(self.device, self.dtype)
        if made.known:  # its options say everything
            return made.train(self.training)
        try:
            made.load_state_dict(self.state_dict(), assign=True)
        except RuntimeError as error:
            asked = ", ".join(options) or kind.__name__
            raise ValueError(
                f"{kind.__name__}: {asked} would need other weights than those of this {type(self).__name__} "
                f"({str(error).splitlines()[-1].strip()}); change them before fit"
            ) from None
        made.fitted = self.fitted
        return made.train(self.training)

    @abstractmethod
    def _build(self) -> None: ...

    def _relate(self, causes: Mapping[str, Sequence[str]]) -> None:
        """Take from the graph how the parents relate to each other, as options, before the networks are made."""

    @abstractmethod
    def config(self) -> dict[str, Any]:
        """Constructor arguments, JSON-able."""

    def calibrate(self, value: Tensor, parents: Parents) -> None:
        """Take from the training rows what has a closed form: scales, frequencies, least squares.

        Of an image some rows are given, evenly spaced, and of its parents all.
        """

    def settle(self, value: Tensor, parents: Parents) -> None:
        """Measure on training rows, after training, what depends on the weights it ended with."""

    @property
    def known(self) -> bool:
        """Whether its options say everything, so that nothing is to be fitted."""
        return False

    @property
    def learns(self) -> bool:
        """Whether anything is left to train by gradient after `calibrate`."""
        return any(parameter.requires_grad for parameter in self.parameters())

    def loss(
        self,
        value: Tensor,
        parents: Parents,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, " batch"]:
        """What training minimises, per row; by default the negative log-likelihood."""
        return -self.log_prob(value, parents)

    @abstractmethod
    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """The exogenous noise of observed values; `units` and `key` decide what is left to chance."""

    def act(self, noise: Noise, intervened: Collection[str]) -> Noise:
        """The noise, with what prediction is to know of interventions on the parents; by default nothing.

        Args:
            noise: of the rows.
            intervened: the parents whose own equations no longer hold.
        """
        return noise

    @abstractmethod
    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """The value that this noise takes under these parents."""

    @abstractmethod
    def noise(self, units: Units, key: str) -> Noise:
        """Noise drawn from its prior."""

    def distribution(self, parents: Parents) -> TorchDistributionMixin:
        """The Pyro distribution of the value given its parents."""
        raise NotImplementedError(f"{type(self).__name__} has no density")

    def log_prob(self, value: Tensor, parents: Parents) -> Float[Tensor, " batch"]:
        """Log density of the value given its parents, in the variable's own unit."""
        return self.distribution(parents).log_prob(value)

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:
        """The noise sites of one row whose prior is standard normal, for mechanisms without a density."""
        raise NotImplementedError(f"{type(self).__name__} is a Pyro distribution and has no noise sites")

    @property
    def device(self) -> torch.device:
        """Where its tensors are."""
        return next((t.device for t in [*self.parameters(), *self.buffers()]), torch.device("cpu"))

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of its values and networks."""
        floats = (t.dtype for t in [*self.parameters(), *self.buffers()] if t.is_floating_point())
        return next(floats, torch.float32)


def recipe_config(recipe: Recipe) -> dict[str, Any]:
    """A recipe as plain data."""
    return asdict(recipe)


def as_recipe(recipe: Recipe | Mapping[str, Any] | None, default: Recipe) -> Recipe:
    """A recipe from what a user or a file gave."""
    if recipe is None:
        return default
    if isinstance(recipe, Recipe):
        return recipe
    known = [field.name for field in fields(Recipe)]
    if unknown := [name for name in recipe if name not in known]:
        raise TypeError(f"Recipe: it has no {unknown[0]!r}; it has {', '.join(known)}")
    return Recipe(**recipe)
