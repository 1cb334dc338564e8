"""Trajectories that may leave the factual one only where a mask lets them."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from causalcf.diffusion.ancestral import Draw
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Model
from causalcf.diffusion.masks import Mask
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler, State, noised


@dataclass(frozen=True)
class Pasted(Sampler):
    """After each step the factual image is put back where the mask says so, at the noise of the level reached.

    Args:
        sampler: takes the steps.
        mask: where they count.
        factual: the factual images, clean.
        draw: noise of the level that factual images are put at; what other steps draw must be other noise.
        late: puts them at the level left instead of the one reached, as published code does.
    """

    sampler: Sampler
    mask: Mask
    factual: Images
    draw: Draw
    late: bool = False

    def begin(self, noise: State, depth: int) -> tuple[State, int]:  # noqa: D102
        return self.sampler.begin(noise, depth)

    def step(self, model: Model, state: State, k: int, levels: Levels) -> State:  # noqa: D102
        x, *rest = self.sampler.step(model, state, k, levels)
        return (self.pasted(x, k if self.late else k - 1, levels), *rest)

    def pasted(self, x: Images, level: int, levels: Levels) -> Images:
        """With the factual image at a level where the mask says so."""
        where = self.mask.noisy
        if where is None:
            return x
        return torch.where(where, x, noised(self.factual, self.draw(level).to(x), level, levels))
