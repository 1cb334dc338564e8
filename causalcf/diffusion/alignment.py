"""Counterfactual trajectory alignment: tokens that make guided generation retrace an inversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.denoiser import Denoiser, Images
from causalcf.diffusion.guidance import Anchored, Model, NoGuidance, finite
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, State, move
from causalcf.diffusion.trajectory import generate


def aligned(
    denoiser: Denoiser,
    path: Sequence[Images],
    condition: Float[Tensor, "batch features"],
    null: Float[Tensor, "batch features"],
    omega: float,
    passes: int,
    rate: float,
    tolerance: float,
    length: int,
) -> Float[Tensor, "batch steps features"]:
    r"""One token per row and level, by gradient, such that DDIM guided by `omega` follows the path.

    At each level, from the noisiest down, `|move(y, e(tau) + omega (e(c) - e(tau))) - X_{k-1}|^2` is lowered by
    `passes` steps of a fresh Adam with rate `rate (1 - t_k / 2T)`, starting from the token of the level above; a row
    stops when its loss is below the tolerance, alone; then y takes one step with the token found. `e(c)` is computed
    once a level. Costs `2 + passes` network calls a level, `passes` of them with a backward pass. The tokens of rows
    do not see each other. Source: Rasal et al. (2025), dynamic semantic abduction, after null-text inversion (Mokady
    et al., 2023, https://arxiv.org/abs/2211.09794).

    Args:
        denoiser: the network, at the levels of the path.
        path: the inversion, level 0 first.
        condition: the factual condition.
        null: where the tokens start.
        omega: the guidance scale of prediction.
        passes: gradient steps per level.
        rate: their size.
        tolerance: mean squared error of a pixel at which a row stops.
        length: T, the number of training steps.
    """
    solver = _Align(denoiser, path, condition, null, omega, passes, rate, tolerance, length)
    generate(solver.conditional, path[-1], denoiser.levels, solver)
    return torch.stack(solver.tokens, 1)


@dataclass(frozen=True)
class _Aligning(Anchored):
    """Guidance by tokens that are being found."""

    @property
    def remedy(self) -> str:
        return f"lower rate, or omega={self.scale:g}"


class _Align(Sampler):
    """DDIM steps, each with the token that it finds first."""

    def __init__(
        self,
        denoiser: Denoiser,
        path: Sequence[Images],
        condition: Tensor,
        null: Tensor,
        omega: float,
        passes: int,
        rate: float,
        tolerance: float,
        length: int,
    ) -> None:
        self.denoiser, self.path, self.condition, self.omega = denoiser, path, condition, omega
        self.passes, self.rate, self.tolerance, self.length = passes, rate, tolerance, length
        self.token = null
        self.tokens: list[Tensor] = [null] * denoiser.levels.steps

    def conditional(self, x: Images, k: int, rows: Tensor | None = None) -> Images:
        return finite(self.denoiser.epsilon(x, k, self.condition), k, self.denoiser, NoGuidance())

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:
        y, e = state[0], model(state[0], k, None)
        timestep = int(levels.timestep[k])
        self.token = self._found(y, e, k, levels, self.rate * (1 - timestep / (2 * self.length)))
        self.tokens[k - 1] = self.token
        return (self._moved(y, e, self.token, k, levels),)

    def _moved(self, y: Images, e: Images, token: Tensor, k: int, levels: Levels) -> Images:
        away = self.denoiser.epsilon(y, k, token)
        guided = finite(away + self.omega * (e - away), k, self.denoiser, _Aligning(self.omega, token))
        return move(y, guided, levels, k, k - 1)

    def _found(self, y: Images, e: Images, k: int, levels: Levels, rate: float) -> Tensor:
        token = self.token.clone()
        rows = torch.arange(len(y), device=y.device)
        first, second = torch.zeros_like(token), torch.zeros_like(token)
        for number in range(1, self.passes + 1):
            with torch.enable_grad():
                leaf = token[rows].requires_grad_()
                miss = self._moved(y[rows], e[rows], leaf, k, levels) - self.path[k - 1][rows]
                loss = miss.square().flatten(1).mean(1)
                (slope,) = torch.autograd.grad(loss.sum(), leaf)
            still = loss.detach() >= self.tolerance
            rows, slope = rows[still], slope[still]
            if not len(rows):
                break
            first[rows] = 0.9 * first[rows] + 0.1 * slope
            second[rows] = 0.999 * second[rows] + 0.001 * slope.square()
            mean, spread = first[rows] / (1 - 0.9**number), second[rows] / (1 - 0.999**number)
            token[rows] = token[rows] - rate * mean / (spread.sqrt() + 1e-8)
        return token
