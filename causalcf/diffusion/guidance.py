"""What pulls each step towards the answer: changes to the predicted noise, which add up."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from causalcf.diffusion.denoiser import Denoiser, Images
from causalcf.diffusion.schedule import Levels


@dataclass(frozen=True)
class Step:
    """Where a guidance acts.

    Attributes:
        x: the noisy images, shape `(B, C, H, W)`.
        k: the index of their level.
        levels: the levels of the trajectory.
        epsilon: the noise predicted under the condition.
        change: what other guidances have added to it already.
    """

    x: Images
    k: int
    levels: Levels
    epsilon: Images
    change: Images | float = 0.0


class Guidance(ABC):
    """A change to the predicted noise; `a + b` is a guidance too, and applies both, b knowing what a has changed."""

    @property
    def asks(self) -> int:
        """How many branches it wants."""
        return 0

    @property
    def through(self) -> bool:
        """Whether it differentiates the noise under the condition, which then comes with its graph, and `x` as leaf."""
        return False

    @property
    def remedy(self) -> str:
        """What to change where the noise it gives is not finite."""
        return f"lower the scale of the guidance ({type(self).__name__})"

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:
        """Further conditions under which this guidance wants the noise at level `k`; asked in the same network call."""
        return ()

    @abstractmethod
    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:
        """What to add to `step.epsilon`, given the noise under each of `branches`."""

    def __add__(self, other: Guidance) -> Guidance:
        return Sum((self, other))


@dataclass(frozen=True)
class Sum(Guidance):
    """Several guidances at once."""

    parts: tuple[Guidance, ...]

    @property
    def asks(self) -> int:  # noqa: D102
        return sum(part.asks for part in self.parts)

    @property
    def through(self) -> bool:  # noqa: D102
        return any(part.through for part in self.parts)

    @property
    def remedy(self) -> str:  # noqa: D102
        return " and ".join(part.remedy for part in self.parts if not isinstance(part, NoGuidance))

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        return tuple(branch for part in self.parts for branch in part.branches(condition, k))

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        total, rest = torch.zeros_like(step.epsilon), branches
        for part in self.parts:
            change = part(replace(step, change=step.change + total), rest[: part.asks])
            total, rest = total + change, rest[part.asks :]
        return total


class NoGuidance(Guidance):
    """The condition alone."""

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        return torch.zeros_like(step.epsilon)


class Contrast(Guidance):
    """`e = e(r) + omega (e(c) - e(r))` for a reference condition r, which the subclass names as its only branch."""

    scale: float

    @property
    def asks(self) -> int:  # noqa: D102
        return 1

    @property
    def remedy(self) -> str:  # noqa: D102
        return f"lower omega={self.scale:g}"

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        return (self.scale - 1) * (step.epsilon - branches[0])


@dataclass(frozen=True)
class ClassifierFree(Contrast):
    r"""`e = e(null) + omega (e(c) - e(null))` (Ho and Salimans, 2022); `omega = 1` is the condition alone.

    Args:
        scale: omega.
        null: the learned null token, shape `(features,)`.
        keep: how many entries of the condition, its first, the null token leaves as they are.
    """

    scale: float
    null: Tensor
    keep: int = 0

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        null = self.null.to(condition.dtype).expand(len(condition), *self.null.shape)
        return (torch.cat([condition[:, : self.keep], null[:, self.keep :]], dim=1),)


@dataclass(frozen=True)
class Anchored(Contrast):
    r"""`e = e(r) + omega (e(c) - e(r))`, each row pushed away from a reference of its own.

    With the factual condition as reference ("negative-prompt inversion", Miyake et al., 2023,
    https://arxiv.org/abs/2305.16807) guidance cancels where nothing is intervened on; a counterfactual is pushed past
    its target by `omega - 1` of the effect. With one reference per level it is prediction by aligned tokens.

    Args:
        scale: omega.
        reference: the conditions, shape `(B, features)`, or `(B, S, features)`, the one of level k at place `k - 1`.
    """

    scale: float
    reference: Tensor

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        own = self.reference if self.reference.ndim == 2 else self.reference[:, max(k, 1) - 1]
        if len(own) != len(condition):
            raise ValueError(f"Anchored: {len(own)} references for {len(condition)} rows; generate all rows at once")
        return (own.to(condition.dtype),)


Model = Callable[[Images, int, Tensor | None], Images]


def finite(e: Images, k: int, denoiser: Denoiser, guidance: Guidance) -> Images:
    """The noise of a step, if it is finite in all rows.

    Raises:
        FloatingPointError: it names the level, the row, and what to change.
    """
    good = e.flatten(1).isfinite().all(1)
    if not good.all():
        row = int((~good).nonzero()[0])
        if isinstance(guidance, NoGuidance):
            remedy = "the parents of this row may lie far outside the training rows, or precision is too low"
        else:
            remedy = f"{guidance.remedy}, or take more steps"
        raise FloatingPointError(
            f"the step from level {k} of {denoiser.levels.steps} is not finite (row {row} of {len(e)}); {remedy}"
        )
    return e


def _differentiated(
    denoiser: Denoiser, condition: Tensor, branches: tuple[Tensor, ...], guidance: Guidance, x: Images, k: int
) -> Images:
    """The guided noise, where guidance needs the graph of the noise under the condition; branches need none."""
    with torch.enable_grad():
        leaf = x.detach().requires_grad_()
        e = denoiser.epsilon(leaf, k, condition)
    others: tuple[Images, ...] = ()
    if branches:
        with torch.no_grad():
            repeated = x.repeat(len(branches), 1, 1, 1)
            others = denoiser.epsilon(repeated, k, torch.cat(branches)).chunk(len(branches))
    return e.detach() + guidance(Step(leaf, k, denoiser.levels, e), tuple(others)).detach()


Memory = dict[int, tuple[Images, Images]]


def guided(denoiser: Denoiser, condition: Tensor, guidance: Guidance, memory: Memory | None = None) -> Model:
    """The noise a trajectory follows, `(x, k, rows) -> e`: condition and guidance in one batched network call.

    `rows`, where given, says which rows of the condition `x` holds.

    Args:
        denoiser: the network.
        condition: of all rows.
        guidance: what is added to the noise under the condition.
        memory: level -> the images last asked about there, and their noise under the condition. An inversion that reads
            the noise where it stands, and the retracing of its path, ask the same; who shares a memory asks once.
    """

    def model(x: Images, k: int, rows: Tensor | None = None) -> Images:
        own = condition if rows is None else condition[rows]
        branches = guidance.branches(own, k)
        if guidance.through:
            return finite(_differentiated(denoiser, own, branches, guidance, x, k), k, denoiser, guidance)
        known = memory.get(k) if memory is not None and rows is None else None
        parts = [known[1]] if known is not None and known[0] is x else []
        asked = branches if parts else (own, *branches)
        if asked:
            parts += denoiser.epsilon(x.repeat(len(asked), 1, 1, 1), k, torch.cat(asked)).chunk(len(asked))
        if memory is not None and rows is None:
            memory[k] = x, parts[0]
        return finite(
            parts[0] + guidance(Step(x, k, denoiser.levels, parts[0]), tuple(parts[1:])), k, denoiser, guidance
        )

    return model
