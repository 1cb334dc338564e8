"""What a surrogate is asked beside agreement with a classifier: at mixed, at smoothed, and at attacked images."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy.special import betaincinv
from torch import Tensor
from torch.nn import functional

from causalcf.units import Units

Images = Float[Tensor, "batch channel height width"]
LogProbabilities = Float[Tensor, "batch classes"]
Student = Callable[[Images], LogProbabilities]


def log_probabilities(logits: Float[Tensor, "batch ..."]) -> LogProbabilities:
    """Of every class: `(B,)` and `(B, 1)` speak of two classes, `(B, K)` of K."""
    if logits.ndim == 2 and logits.shape[1] > 1:
        return logits.log_softmax(1)
    one = logits.reshape(len(logits))
    return torch.stack([functional.logsigmoid(-one), functional.logsigmoid(one)], 1)


def divergence(p: LogProbabilities, q: LogProbabilities) -> Float[Tensor, " batch"]:
    """`KL(p || q)`, of logarithms."""
    return (p.exp() * (p - q)).sum(1)


def sampled(p: LogProbabilities, units: Units, name: str) -> Int[Tensor, " batch"]:
    """One class per row, drawn with these probabilities."""
    return (p + units.gumbel(name, p.shape[1:]).to(p)).argmax(1)


@dataclass(frozen=True)
class Term(ABC):
    """What a surrogate is asked beside agreement with the classifier.

    Args:
        weight: at least 0, where it is not asked.
    """

    weight: float = 1.0

    def __post_init__(self) -> None:
        if not (math.isfinite(self.weight) and self.weight >= 0):
            raise ValueError(f"{type(self).__name__}: expected a weight >= 0, got {self.weight}; 0 leaves it out")

    @abstractmethod
    def __call__(
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        """The loss of every row.

        Args:
            student: what learns.
            images: in [0, 1].
            said: what the classifier says of them.
            units: which decide what is random.
        """


@dataclass(frozen=True)
class MixUp(Term):
    r"""Cross-entropy at mixed images: `lambda x_i + (1 - lambda) x_j` with `lambda ~ Beta(alpha, alpha)`.

    The label is drawn from the mixture `lambda f(x_i) + (1 - lambda) f(x_j)` (Zhang et al., 2018,
    https://arxiv.org/abs/1710.09412).

    Args:
        weight: of the term.
        alpha: large ones mix by halves.
    """

    alpha: float = 10.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.alpha > 0:
            raise ValueError(f"MixUp: expected alpha > 0, got {self.alpha}")

    def __call__(  # noqa: D102
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        share = torch.from_numpy(betaincinv(self.alpha, self.alpha, units.uniform("mixup").numpy())).to(images)
        here, there = share.reshape(-1, 1, 1, 1), (1 - share).reshape(-1, 1, 1, 1)
        mixed = here * images + there * images.roll(1, 0)  # the order of rows is random already
        mixture = torch.logaddexp(share.log()[:, None] + said, (1 - share).log()[:, None] + said.roll(1, 0))
        return functional.nll_loss(student(mixed), sampled(mixture, units, "mixup.label"), reduction="none")


@dataclass(frozen=True)
class Smoothing(Term):
    r"""Cross-entropy with a label drawn from the smoothed categorical `(1 - epsilon) f(x) + epsilon / K`.

    Args:
        weight: of the term.
        epsilon: how much is spread over all classes.
    """

    epsilon: float = 0.05

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.epsilon <= 1:
            raise ValueError(f"Smoothing: expected epsilon in [0, 1], got {self.epsilon}")

    def __call__(  # noqa: D102
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        smoothed = ((1 - self.epsilon) * said.exp() + self.epsilon / said.shape[1]).log()
        return functional.nll_loss(student(images), sampled(smoothed, units, "smoothing.label"), reduction="none")


@dataclass(frozen=True)
class Adversarial(Term):
    r"""`KL(f(x) || surrogate(x + d))` at the worst `d` with `|d|_2 <= radius sqrt(D)` that projected gradients find.

    Source: Goldblum et al., "Adversarially Robust Distillation" (2020), https://arxiv.org/abs/1905.09747, with the L2
    ball of Madry et al. (2018), https://arxiv.org/abs/1706.06083.

    Args:
        weight: of the term.
        radius: root mean square of the longest `d`, of images in [0, 1] with D values.
        steps: of the projected gradient ascent, from a random `d`, each of `2 / steps` radii.
    """

    radius: float = 0.02
    steps: int = 3

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.radius > 0 or self.steps < 1:
            raise ValueError(f"Adversarial: expected radius > 0 and steps >= 1, got {self.radius} and {self.steps}")

    def __call__(  # noqa: D102
        self, student: Student, images: Images, said: LogProbabilities, units: Units
    ) -> Float[Tensor, " batch"]:
        longest = self.radius * math.sqrt(images[0].numel())

        def inside(d: Images) -> Images:
            shorter = d * (longest / _lengths(d)).clamp_max(1)
            return (images + shorter).clamp(0, 1) - images

        d = inside(self.radius * units.normal("adversarial", images.shape[1:]).to(images))
        for _ in range(self.steps):
            leaf = d.detach().requires_grad_()
            (slope,) = torch.autograd.grad(divergence(said, student(images + leaf)).sum(), leaf)
            d = inside(d + 2 / self.steps * longest * slope / _lengths(slope))
        return divergence(said, student(images + d.detach()))


def _lengths(d: Images) -> Tensor:
    return d.flatten(1).norm(dim=1).clamp_min(1e-30).reshape(-1, 1, 1, 1)
