"""Guidance whose scale is found row by row: no stronger than it takes for a predictor to read the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import ClassifierFree, Guidance, Step
from causalcf.diffusion.readers import Reader, Target, missed, read

OMEGAS = (1.0, 1.25, 1.5, 2.0, 3.0)


@dataclass(frozen=True)
class Calibrated(Guidance):
    r"""Classifier-free guidance at the smallest `omega` of a list at which the clean image reads as intended.

    At each level the clean image `(x - sigma e_omega) / alpha` is computed for every omega (they all come from the
    same two predictions, so the denoiser is not asked again), and read by predictors of the attributes. A row takes the
    first omega at which all readings are within their tolerance of the target, and the one with the smallest miss if
    there is none. Where noise outweighs signal the clean image cannot be read, and omega is the smallest.

    The predictors must not be the oracles that judge the result.

    Args:
        free: the guidance to scale; its own scale is not used.
        readers: attribute -> what reads it from images in [0, 1].
        targets: attribute -> the values to read, shape `(B,)`.
        tolerance: attribute -> how far a reading may be off, in the attribute's unit; 0 or 1 for a class.
        omegas: the scales to choose from, in rising order.
        ratio: the least signal to noise, `alpha / sigma`, at which images are read.
        wanted: the rows to calibrate, shape `(B,)`; the others take the smallest scale. All rows by default.
    """

    free: ClassifierFree
    readers: Mapping[str, Reader]
    targets: Mapping[str, Target]
    tolerance: Mapping[str, float]
    omegas: Sequence[float] = OMEGAS
    ratio: float = 1.0
    wanted: Tensor | None = None

    def __post_init__(self) -> None:
        if list(self.omegas) != sorted(self.omegas) or not self.omegas:
            raise ValueError(f"Calibrated: expected rising omegas, got {list(self.omegas)}")
        for name in self.readers:
            if name not in self.targets or name not in self.tolerance:
                raise ValueError(f"Calibrated: the reader of {name} has no target or no tolerance; give both")

    @property
    def asks(self) -> int:  # noqa: D102
        return 1

    @property
    def remedy(self) -> str:  # noqa: D102
        return f"lower omega={self.omegas[0]:g}, or leave the readers of {', '.join(self.readers)} out"

    def branches(self, condition: Tensor, k: int) -> tuple[Tensor, ...]:  # noqa: D102
        return self.free.branches(condition, k)

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        omega = self.chosen(step, branches[0])
        return (omega - 1).reshape(-1, 1, 1, 1).to(step.epsilon) * (step.epsilon - branches[0])

    def chosen(self, step: Step, reference: Images) -> Float[Tensor, " batch"]:
        """The scale of each row at this step, given the noise under the reference condition."""
        alpha, sigma = step.levels.alpha[step.k].item(), step.levels.sigma[step.k].item()
        if alpha < self.ratio * sigma:
            return torch.full((len(step.x),), self.omegas[0], dtype=torch.float64, device=step.x.device)
        push = step.epsilon - reference
        misses = [self._miss((step.x - sigma * (step.epsilon + (w - 1) * push)) / alpha) for w in self.omegas]
        found = self._first(torch.stack(misses))
        return found if self.wanted is None else torch.where(self.wanted, found, self.omegas[0])

    def _miss(self, clean: Images) -> Float[Tensor, " batch"]:
        """The largest miss of a reading, in tolerances."""
        image = ((clean + 1) / 2).clamp(0, 1).to(self.free.null.dtype)
        parts = [
            missed(read(name, reader, image), self.targets[name]).abs() / max(self.tolerance[name], 1e-12)
            for name, reader in self.readers.items()
        ]
        return torch.stack([part.double() for part in parts]).amax(0)

    def _first(self, misses: Float[Tensor, "omegas batch"]) -> Float[Tensor, " batch"]:
        good = misses <= 1
        index = torch.where(good.any(0), good.double().argmax(0), misses.argmin(0))
        return torch.tensor(list(self.omegas), dtype=torch.float64, device=misses.device)[index]
