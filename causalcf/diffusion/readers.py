"""What reads attributes from images inside a trajectory, and guidance by the readings alone."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Guidance, Step

Reader = Callable[[Tensor], Tensor]
Target = Tensor
BETWEEN = (2.0, math.inf)  # signal over noise at which images are read


def as_reader(name: str, reader: Any) -> Reader:
    """The function that reads `name` from images: a function, or a predictor with `predict`.

    Raises:
        ValueError: a predictor that was trained on another attribute.
    """
    reads = getattr(getattr(reader, "__self__", reader), "reads", name)
    if reads and reads != name:
        raise ValueError(
            f"{name}: this predictor reads {reads!r}; give the one trained on {name!r}, "
            f"fit_regressor(rows, {name!r}) or fit_classifier(rows, {name!r}, classes)"
        )
    return getattr(reader, "predict", reader)


def missed(read: Tensor, target: Tensor) -> Float[Tensor, " batch"]:
    """How far readings are off: a difference, or 1 for a class that is not the target's."""
    if target.is_floating_point():
        return read - target.to(read.dtype)
    return (read != target).double()


def read(name: str, reader: Reader, image: Tensor) -> Tensor:
    """What a reader says of images, in full precision: bfloat16 has three digits, and is for the denoiser.

    Raises:
        FloatingPointError: a row is NaN or infinite.
    """
    with torch.autocast(image.device.type, enabled=False):
        found = reader(image)
    if not found.isfinite().all():
        raise FloatingPointError(
            f"the reader of {name} is not finite on an image of this trajectory; leave it out, or lower omega"
        )
    return found


@dataclass(frozen=True)
class Reading(Guidance):
    r"""The least change of the clean image after which predictors read the targets.

    To first order the change is `-J^T (J J^T)^{-1} (h(x0) - target)`, with J the gradients of the continuous readings;
    it is added to the clean image at every level between two ratios of signal to noise, and carried over to the noise.
    One forward and backward pass of each reader, no call of the denoiser. A target given as the reading of the factual
    image plus the intended change forgives the readers their own errors; with replay the null intervention is exact.

    Args:
        readers: attribute -> what reads it from images in [0, 1], differentiable.
        targets: attribute -> the values to read, shape `(B,)`.
        between: the least and the largest signal to noise, `alpha / sigma`, at which images are read.
        share: how much of the change is made at one level.
        dtype: of the images that readers see.
    """

    readers: Mapping[str, Reader]
    targets: Mapping[str, Target]
    between: tuple[float, float] = BETWEEN
    share: float = 1.0
    dtype: torch.dtype = torch.float32

    @property
    def remedy(self) -> str:  # noqa: D102
        return f"leave the readers of {', '.join(self.readers)} out"

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        alpha, sigma = step.levels.alpha[step.k].item(), step.levels.sigma[step.k].item()
        if not self.between[0] <= alpha / sigma <= self.between[1]:
            return torch.zeros_like(step.epsilon)
        clean = ((step.x - sigma * (step.epsilon + step.change)) / alpha).detach()
        change = -self.share * self._needed(clean)
        return -(alpha / sigma) * change.to(step.epsilon)

    def _needed(self, clean: Images) -> Images:
        """`J^T (J J^T)^{-1} (h(x0) - target)`, row by row."""
        slopes, off = [], []
        with torch.inference_mode(False), torch.enable_grad():
            leaf = clean.to(self.dtype).clone().requires_grad_()
            image = (leaf + 1) / 2
            for name, reader in self.readers.items():
                found = read(name, reader, image)
                (slope,) = torch.autograd.grad(found.sum(), leaf, retain_graph=True)
                slopes.append(slope.flatten(1))
                off.append(missed(found.detach(), self.targets[name]))
        jacobian, miss = torch.stack(slopes, 1).double(), torch.stack(off, 1).double()
        gram = jacobian @ jacobian.mT
        ridge = 1e-6 * gram.diagonal(dim1=1, dim2=2).mean(1).clamp_min(1e-12)
        gram = gram + torch.diag_embed(ridge[:, None].expand(-1, gram.shape[1]))
        weights = torch.linalg.solve(gram, miss[..., None])
        return (jacobian.mT @ weights).reshape(clean.shape)
