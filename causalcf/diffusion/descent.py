"""Guidance down the gradient of losses of the clean image that a noisy one leads to."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from causalcf.diffusion.ancestral import Variance, leverage
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Guidance, Model, Step
from causalcf.diffusion.masks import Everywhere, Mask
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, State, move
from causalcf.diffusion.trajectory import generate

Loss = Callable[[Images], Float[Tensor, " batch"]]
Shape = Callable[[Images], Images]


def whole(gradient: Images) -> Images:
    """A gradient as it is."""
    return gradient


def sparse(gradient: Images, share: float = 0.1) -> Images:
    """A gradient without the entries below a share of the row's largest."""
    size = gradient.abs()
    return torch.where(size < share * _largest(size), 0.0, gradient)


def clipped(gradient: Images, limit: float | None) -> Images:
    """A gradient shortened, where need be, so that no entry of the row is larger than the limit."""
    return gradient if limit is None else gradient * (limit / _largest(gradient).clamp_min(1e-30)).clamp_max(1)


def _largest(gradient: Images) -> Float[Tensor, "batch 1 1 1"]:
    return gradient.flatten(1).abs().amax(1).reshape(-1, 1, 1, 1)


@dataclass(frozen=True)
class Term:
    """A weighted loss, one value per row.

    Attributes:
        loss: of clean estimates, or of noisy images.
        weight: its factor.
        of: "clean" estimates, or "noisy" images as they are.
        leads: whether it is the classifier's, whose gradient masks look at.
        shape: what is done to its gradient.
    """

    loss: Loss
    weight: float
    of: Literal["clean", "noisy"] = "clean"
    leads: bool = False
    shape: Shape = whole

    def gradient(self, images: Images) -> Images:
        """Of the weighted sum over rows, which leaves every row its own."""
        with torch.enable_grad():
            leaf = images.detach().requires_grad_()
            values = self.loss(leaf)
            if values.shape != (len(images),):
                raise ValueError(f"a loss gave shape {tuple(values.shape)} for {len(images)} rows; give one per row")
            (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return self.shape(self.weight * gradient)


class Estimate(ABC):
    """How the clean image that a noisy one leads to is found."""

    @abstractmethod
    def __call__(self, step: Step) -> Images:
        """The clean images of a step, at which gradients are taken."""

    def seen(self, step: Step) -> Images:
        """What masks look at."""
        return tweedie(step)

    def begin(self) -> None:  # noqa: B027
        """Forget earlier steps, before another trajectory."""


def tweedie(step: Step) -> Images:
    """`(x - sigma e) / alpha`, the mean of clean images given the noisy one."""
    alpha, sigma = step.levels.alpha[step.k].item(), step.levels.sigma[step.k].item()
    return (step.x - sigma * step.epsilon) / alpha


def beyond(step: Step) -> Images:
    """The clean image read off what an Euler step reaches, as if still at the level left, as SCE-LITE-HQ has it.

    Of a rectified flow, `x_{k-1} - t_k v`.
    """
    return tweedie(step) + move(step.x, step.epsilon, step.levels, step.k, step.k - 1) - step.x


@dataclass
class OneStep(Estimate):
    """`(x - sigma e) / alpha`, of the noise without guidance; no further call of the network.

    Args:
        first: what the first step takes instead, if anything.
    """

    first: Images | None = None
    _begun: bool = field(default=False, init=False)

    def begin(self) -> None:  # noqa: D102
        self._begun = False

    def __call__(self, step: Step) -> Images:  # noqa: D102
        begun, self._begun = self._begun, True
        return tweedie(step) if begun or self.first is None else self.first


@dataclass
class Lagging(Estimate):
    """The one-step estimate of the step before, as codes of FastDiME and SCE-LITE-HQ have it.

    Args:
        factual: what the first step takes.
        read: the estimate of a step, `tweedie` or `beyond`.
    """

    factual: Images
    read: Callable[[Step], Images] = tweedie
    _last: Images | None = field(default=None, init=False)

    def seen(self, step: Step) -> Images:  # noqa: D102
        return self.read(step)

    def begin(self) -> None:  # noqa: D102
        self._last = None

    def __call__(self, step: Step) -> Images:  # noqa: D102
        last, self._last = self._last, self.read(step)
        return self.factual if last is None else last


@dataclass
class Chain(Estimate):
    """A whole trajectory down to the image, without guidance: as many network calls as levels (DiME).

    Args:
        model: the noise without guidance.
        sampler: how a step is taken, given the level at which the chain starts.
        first: what the first step takes, the factual images.
    """

    model: Model
    sampler: Callable[[int], Sampler]
    first: Images
    _begun: bool = field(default=False, init=False)

    def begin(self) -> None:  # noqa: D102
        self._begun = False

    def __call__(self, step: Step) -> Images:  # noqa: D102
        if not self._begun:
            self._begun = True
            return self.first
        return generate(self.model, step.x, step.levels, self.sampler(step.k), depth=step.k)


Rate = Callable[[Levels, int], float]


def ancestrally(variance: Variance = "small") -> Rate:
    """Gradients shift the mean of an ancestral step by `-Sigma g`."""
    return lambda levels, k: leverage(levels, k, variance)


def deterministically(levels: Levels, k: int) -> float:
    """Gradients are scores: they change the noise by `sigma g`."""
    return levels.sigma[k].item()


def stepwise(levels: Levels, k: int) -> float:
    """Gradients move the image itself, after a deterministic step: `x_{k-1} <- x_{k-1} - g`."""
    alpha, sigma = levels.alpha, levels.sigma
    return 1 / (alpha[k - 1] / alpha[k] * sigma[k] - sigma[k - 1]).item()


@dataclass
class Descent(Guidance):
    r"""Down the gradient of losses of the clean estimate, `g = sum_i w_i (1 / alpha_k) grad L_i(x0)`.

    The network's Jacobian is left out: `x_k` is `alpha_k x0` and noise.

    Args:
        terms: the losses.
        estimate: the clean images they are taken at.
        factual: the factual images, clean.
        mask: where estimates may differ from the factual images; it is shown every estimate and the class gradient.
        rate: what gradients are scaled by to become noise, `ancestrally()` or `deterministically`.
        size: a factor of all terms.
        divided: whether gradients at clean estimates are divided by alpha.
        shape: what is done to their sum.
    """

    terms: Sequence[Term]
    estimate: Estimate
    factual: Images
    mask: Mask = field(default_factory=Everywhere)
    rate: Rate = field(default_factory=ancestrally)
    size: float = 1.0
    divided: bool = True
    shape: Shape = whole
    _still: Bool[Tensor, " batch"] | None = field(default=None, init=False)

    @property
    def still(self) -> Bool[Tensor, " batch"] | None:
        """The rows whose gradient, at the last step, was exactly zero."""
        return self._still

    def begin(self) -> None:
        """Forget earlier steps, before another trajectory."""
        self.estimate.begin()
        self.mask.begin()

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        clean = self.mask.kept(self.estimate(step), self.factual)
        alpha = step.levels.alpha[step.k].item() if self.divided else 1.0
        total, leading = torch.zeros_like(step.x), torch.zeros_like(step.x)
        for term in self.terms:
            gradient = term.gradient(clean) / alpha if term.of == "clean" else term.gradient(step.x)
            total = total + gradient
            if term.leads:
                leading = leading + gradient
        self._still = (total == 0).flatten(1).all(1)
        self.mask.see(self.estimate.seen(step), leading, step.k)
        return self.rate(step.levels, step.k) * self.size * self.shape(total)


@dataclass(frozen=True)
class Waiting(Sampler):
    """Rows whose gradient is exactly zero stay where they are, now taken to be a level lower, as MaskDiME has it.

    Args:
        sampler: takes the steps of the others.
        descent: whose gradients they are.
    """

    sampler: Sampler
    descent: Descent

    def begin(self, noise: State, depth: int) -> tuple[State, int]:  # noqa: D102
        return self.sampler.begin(noise, depth)

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        x, *rest = self.sampler.step(model, state, k, levels)
        still = self.descent.still
        return (x if still is None else torch.where(still.reshape(-1, 1, 1, 1), state[0], x), *rest)
