"""Noise levels: how much signal and how much noise there is at each training step, and which levels to visit."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from jaxtyping import Float, Int
from torch import Tensor

Kind = Literal["linear", "cosine"]
Spacing = Literal["uniform", "quadratic", "log-snr"]
TOP = {
    "linear": 999,
    "cosine": 990,
}  # above, the capped cosine leaves 1e-3 of the signal and moves amplify errors


@dataclass(frozen=True)
class Levels:
    """The noise levels of a trajectory, from the image (index 0) to the noise (index S).

    `x_k = alpha_k x_0 + sigma_k e`. The image itself is taken to be at level 0, in both directions.

    Attributes:
        timestep: the training step of each level, which is what the network is told; shape `(S + 1,)`.
        alpha: signal, float64, shape `(S + 1,)`.
        sigma: noise, float64, shape `(S + 1,)`.
    """

    timestep: Int[Tensor, " levels"]
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


@dataclass(frozen=True)
class Schedule:
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

    def levels(self, steps: int, spacing: Spacing = "uniform", top: int | None = None) -> Levels:
        """Choose S + 1 of the training steps, the first and `top` among them.

        Args:
            steps: S, the number of network evaluations of one pass.
            spacing: "uniform" in t, "quadratic" in t (finer near the image), or uniform in "log-snr".
            top: the noisiest training step; by default T - 1, or 99 % of T for the cosine, whose capped end has no
                signal left to invert.

        Raises:
            ValueError: there are not that many distinct levels.
        """
        top = TOP[self.kind] * (self.length - 1) // 999 if top is None else top
        if not 0 < top < self.length:
            raise ValueError(f"schedule: expected 0 < top < {self.length}, got top={top}")
        if isinstance(steps, bool) or not isinstance(steps, int) or not 1 <= steps <= top:
            raise ValueError(
                f"schedule: steps={steps!r} do not fit between level 0 and level {top}; use 1 to {top} whole steps"
            )
        abar = self.alpha_bar
        part = torch.linspace(0, 1, steps + 1, dtype=torch.float64)
        if spacing == "uniform":
            timestep = (part * top).round().long()
        elif spacing == "quadratic":
            timestep = (part**2 * top).round().long()
        elif spacing == "log-snr":
            half_log_snr = 0.5 * torch.log(abar / (1 - abar))
            wanted = half_log_snr[0] + part * (half_log_snr[top] - half_log_snr[0])
            timestep = torch.searchsorted(-half_log_snr, -wanted).clamp(max=top)
        else:
            raise ValueError(f"schedule: expected spacing in {get_args(Spacing)}, got {spacing!r}")
        index = torch.arange(steps + 1)
        timestep = torch.maximum(timestep, index)  # close to the image the training steps may lie too far apart
        timestep = (timestep - index).cummax(0).values + index
        timestep = torch.minimum(timestep, top - steps + index)
        return Levels(timestep, abar[timestep].sqrt(), (1 - abar[timestep]).sqrt())
