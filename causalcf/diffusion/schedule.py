"""Noise levels: how much signal and how much noise there is at each training step, and which levels to visit."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Literal, final, get_args

import torch
from jaxtyping import Float, Real
from torch import Tensor

Kind = Literal["linear", "cosine"]
Spacing = Literal["uniform", "quadratic", "log-snr", "fine log-snr"]
FINE = 4 / 3  # about the best of the powers 1 to 1.75 for the spread of abducted noise, in 12 and in 24 steps
TOP = {
    "linear": 999,
    "cosine": 990,
}  # above, the capped cosine leaves 1e-3 of the signal and moves amplify errors


@dataclass(frozen=True)
class Levels:
    """The noise levels of a trajectory, from the image (index 0) to the noise (index S).

    `x_k = alpha_k x_0 + sigma_k e`. The image itself is taken to be at level 0, in both directions.

    Attributes:
        timestep: what the network is told of each level, its training step, or a flow's time; shape `(S + 1,)`.
        alpha: signal, float64, shape `(S + 1,)`.
        sigma: noise, float64, shape `(S + 1,)`.
    """

    timestep: Real[Tensor, " levels"]
    alpha: Float[Tensor, " levels"]
    sigma: Float[Tensor, " levels"]

    @property
    def steps(self) -> int:
        """The number S of steps between the image and the noise."""
        return len(self.timestep) - 1

    def with_clean(self) -> Levels:
        """With a level of no noise below the lowest, so that level k is now level k + 1; no network is asked there."""
        first = self.timestep[:1], self.alpha.new_ones(1), self.sigma.new_zeros(1)
        return Levels(*(torch.cat(pair) for pair in zip(first, (self.timestep, self.alpha, self.sigma), strict=True)))


def preserving(alpha_bar: Float[Tensor, " levels"]) -> Levels:
    """Levels whose variance is one, of training steps 0, 1, ..., given `abar_t`, the share of signal in it."""
    return Levels(torch.arange(len(alpha_bar)), alpha_bar.sqrt(), (1 - alpha_bar).sqrt())


class NoiseSchedule(ABC):
    """The levels a network was trained at, of which a trajectory visits some."""

    @abstractmethod
    def trained(self) -> Levels:
        """The levels of all T training steps, the noisiest last."""

    @property
    def last(self) -> int:
        """The noisiest training step with any signal left; beyond it no clean image can be told."""
        return int((self.trained().alpha > 0).sum()) - 1

    @property
    def top(self) -> int:
        """The noisiest training step of a trajectory, unless told otherwise."""
        return self.last

    def levels(self, steps: int, spacing: Spacing = "uniform", top: int | None = None, bottom: int = 0) -> Levels:
        """Choose S + 1 of the training steps, `bottom` and `top` among them.

        Args:
            steps: S, the number of network evaluations of one pass.
            spacing: "uniform" in t, "quadratic" in t (finer near the image), uniform in "log-snr", or "fine log-snr",
                `log-snr_bottom + s^(4/3) (log-snr_top - log-snr_bottom)` at s uniform in (0, 1), finer near the image.
            top: the noisiest training step; by default the last one with signal, or 99 % of T for the cosine, whose
                capped end has no signal left to invert.
            bottom: the training step with the least noise.

        Raises:
            ValueError: there are not that many distinct levels.
        """
        trained, last = self.trained(), self.last
        top = self.top if top is None else top
        if not 0 < top <= last:
            raise ValueError(f"schedule: expected 0 < top <= {last}, the last step with any signal, got top={top}")
        if isinstance(bottom, bool) or not isinstance(bottom, int) or not 0 <= bottom < top:
            raise ValueError(
                f"schedule: expected the lowest level to be a training step from 0 to {top - 1}, got {bottom!r}"
            )
        reach = top - bottom
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= reach:
            raise ValueError(
                f"schedule: steps={steps!r} do not fit between level {bottom} and level {top}; "
                f"use 1 to {reach} whole steps"
            )
        part = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        if spacing == "uniform":
            chosen = bottom + (part * reach).round().long()
        elif spacing == "quadratic":
            chosen = bottom + (part**2 * reach).round().long()
        elif spacing in ("log-snr", "fine log-snr"):
            part = part**FINE if spacing == "fine log-snr" else part
            half_log_snr = torch.log(trained.alpha / trained.sigma)
            wanted = half_log_snr[bottom] + part * (half_log_snr[top] - half_log_snr[bottom])
            chosen = torch.searchsorted(-half_log_snr, -wanted).clamp(min=bottom, max=top)
        else:
            raise ValueError(f"schedule: expected spacing in {get_args(Spacing)}, got {spacing!r}")
        index = torch.arange(steps + 1)
        chosen = torch.maximum(chosen, bottom + index)  # close to the image the training steps may lie too far apart
        chosen = (chosen - index).cummax(0).values + index
        chosen = torch.minimum(chosen, top - steps + index)
        return Levels(trained.timestep[chosen], trained.alpha[chosen], trained.sigma[chosen])


@final
@dataclass(frozen=True)
class Schedule(NoiseSchedule):
    r"""A variance-preserving schedule `x_t = sqrt(abar_t) x_0 + sqrt(1 - abar_t) e`, t = 0 .. T-1, in float64.

    Linear (Ho et al., 2020): beta from 1e-4 to 0.02, scaled by 1000 / T. Cosine (Nichol and Dhariwal, 2021):
    `abar(s) = cos^2((s + 0.008) / 1.008 * pi / 2)`, beta capped at 0.999.

    Args:
        kind: "linear" or "cosine".
        length: T, the number of training steps.
    """

    kind: Kind = "linear"
    length: int = 1000

    def __post_init__(self) -> None:
        if self.kind not in get_args(Kind):
            raise ValueError(f"schedule: expected 'linear' or 'cosine', got {self.kind!r}")
        if self.length < 2:
            raise ValueError(f"schedule: expected at least 2 training steps, got length={self.length}")

    @property
    def alpha_bar(self) -> Float[Tensor, " length"]:
        """`abar_t`, the share of signal in the variance."""
        if self.kind == "linear":
            scale = 1000 / self.length
            beta = torch.linspace(1e-4 * scale, 0.02 * scale, self.length, dtype=torch.float64).clamp(max=0.999)
        else:
            s = torch.arange(self.length + 1, dtype=torch.float64) / self.length
            curve = torch.cos((s + 0.008) / 1.008 * math.pi / 2) ** 2
            beta = (1 - curve[1:] / curve[:-1]).clamp(max=0.999)
        return torch.cumprod(1 - beta, 0)

    def trained(self) -> Levels:  # noqa: D102
        return preserving(self.alpha_bar)

    @property
    def top(self) -> int:  # noqa: D102
        return TOP[self.kind] * (self.length - 1) // 999


@final
@dataclass(frozen=True, eq=False)
class Tabulated(NoiseSchedule):
    r"""A variance-preserving schedule that comes with a network, `abar_t` of each training step.

    Args:
        alpha_bar: the share of signal in the variance, falling with t; where it reaches 0 ("zero terminal SNR"),
            levels stop one step short.
    """

    alpha_bar: Float[Tensor, " length"]

    def __post_init__(self) -> None:
        table = self.alpha_bar
        if table.ndim != 1 or len(table) < 2 or not table.isfinite().all():
            raise ValueError(f"schedule: expected finite alpha_bar of shape (T,), T >= 2, got {tuple(table.shape)}")
        if not (table[0] < 1 and table[1] > 0 and table[-1] >= 0 and (table.diff() <= 0).all()):
            raise ValueError(
                "schedule: expected alpha_bar to fall with t, from below 1 to 0 or above; "
                "write Tabulated(torch.cumprod(1 - betas, 0))"
            )

    def trained(self) -> Levels:  # noqa: D102
        return preserving(self.alpha_bar.to("cpu", torch.float64))


@final
@dataclass(frozen=True)
class FlowSchedule(NoiseSchedule):
    r"""A rectified flow `x_t = (1 - t) x_0 + t e` (Liu et al., 2023), whose network is told `T t`.

    Times are `t = shift s / (1 + (shift - 1) s)` for `s = 1/T .. 1`: more of them in the noise, for images of many
    pixels (Esser et al., 2024, https://arxiv.org/abs/2403.03206). At `t = 1` there is no signal, and no level.

    Args:
        length: T, the number of times.
        shift: 1 is even in t; Stable Diffusion 3 has 3.
    """

    length: int = 1000
    shift: float = 3.0

    def __post_init__(self) -> None:
        if self.length < 3 or not 0 < self.shift < math.inf:
            raise ValueError(f"schedule: expected length >= 3 and shift > 0, got {self.length} and {self.shift}")

    def trained(self) -> Levels:  # noqa: D102
        s = torch.arange(1, self.length + 1, dtype=torch.float64) / self.length
        t = self.shift * s / (1 + (self.shift - 1) * s)
        return Levels(self.length * t, 1 - t, t)
