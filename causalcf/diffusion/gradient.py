"""Guidance along the gradient of what noise-aware predictors say, with scales that adjust themselves."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf import numbers
from causalcf.diffusion.denoiser import Images
from causalcf.diffusion.guidance import Guidance, Step

Representation = Callable[[Tensor, Tensor], Tensor]  # (x, timestep) -> (B, K)
Likelihood = Callable[[Tensor, Tensor], Tensor]  # (x, timestep) -> (B,)
PerRow = Float[Tensor, " batch"]
LENGTH = 1_000_003  # more than any schedule's, so that seeds and training steps do not meet


@dataclass(frozen=True)
class Slope:
    r"""The gradient `g` of a log-likelihood at the noisy images, and what scales need to know of it.

    Attributes:
        gradient: shape `(B, C, H, W)`.
        jacobian: Frobenius norms of the Jacobian of the standardised representation, where there is one.
        sigma: noise of the level.
        lever: by how much a unit of predicted noise moves the next image down.
    """

    gradient: Images
    jacobian: PerRow | None
    sigma: float
    lever: float

    @property
    def length(self) -> PerRow:
        """Norms of the gradient, never 0."""
        return self.gradient.flatten(1).norm(dim=1).clamp_min(1e-8)

    @property
    def dimensions(self) -> int:
        """Pixels times channels."""
        return self.gradient[0].numel()


class Scale(ABC):
    r"""`lambda_t`: how strongly a gradient pulls at one level, so that `e` changes by `-lambda_t sigma_t g`."""

    @abstractmethod
    def __call__(self, slope: Slope) -> PerRow:
        """The scale of every row."""


@dataclass(frozen=True)
class Sized(Scale):
    """A form of the scale, times a size.

    Args:
        size: the multiplier, finite and not negative.
    """

    size: float = 1.0

    def __post_init__(self) -> None:
        numbers.finite(type(self).__name__, 0, size=self.size)


@dataclass(frozen=True)
class Constant(Sized):
    """The same at every level.

    Args:
        size: lambda.
    """

    def __call__(self, slope: Slope) -> PerRow:  # noqa: D102
        return torch.full_like(slope.length, self.size)


@dataclass(frozen=True)
class Empirical(Sized):
    r"""The pull has the variance of the noise: `lambda_t = size sigma_t sqrt(d) / |g_t|`.

    Its length does not depend on how far the target is: it needs a tolerance within which it stops.

    Args:
        size: kappa, a multiplier.
    """

    def __call__(self, slope: Slope) -> PerRow:  # noqa: D102
        return self.size * slope.sigma * math.sqrt(slope.dimensions) / slope.length


@dataclass(frozen=True)
class Balanced(Sized):
    r"""The pull is expected to have the variance of the noise: `lambda_t = size sigma_t sqrt(d) / |J_t|_F`.

    A residual of unit variance in every factor gives a gradient of variance `|J|_F^2 / d`. As that does not look at
    the residual, the pull dies out near the target.

    Args:
        size: kappa, a multiplier.
    """

    def __call__(self, slope: Slope) -> PerRow:  # noqa: D102
        if slope.jacobian is None:
            raise TypeError("Balanced needs the Jacobian of a representation; use Empirical or Constant here")
        return self.size * slope.sigma * math.sqrt(slope.dimensions) / slope.jacobian.clamp_min(1e-8)


@dataclass(frozen=True)
class Ancestral(Sized):
    r"""The shift `lambda_t Sigma_t g_t` of an ancestral step's mean has the variance of the noise, whatever `Sigma_t`.

    Given as the change of predicted noise that shifts a deterministic step by as much.

    Args:
        size: kappa, a multiplier.
    """

    def __call__(self, slope: Slope) -> PerRow:  # noqa: D102
        shift = self.size * slope.sigma * math.sqrt(slope.dimensions) / slope.length
        return shift / max(slope.lever * slope.sigma, 1e-12)


@dataclass
class Pulls:
    """How long pulls were meant to be, how many the limit cut short, and what they cost; summed over a trajectory.

    Attributes:
        count: rows times levels.
        cut: how many of them were longer than the limit.
        longest: the longest that was asked for, in standard deviations of its level's noise.
        vectors: rows of vectors taken backwards through what reads.
    """

    count: int = 0
    cut: int = 0
    longest: float = 0.0
    vectors: int = 0

    @property
    def share(self) -> float:
        """Of the pulls that were cut short."""
        return self.cut / self.count if self.count else 0.0

    def since(self, before: Pulls) -> Pulls:
        """What has been added; `longest` is of all."""
        return Pulls(self.count - before.count, self.cut - before.cut, self.longest, self.vectors - before.vectors)


class Ascent(Guidance):
    """A pull along the gradient of a log-likelihood at the noisy images, no longer than a limit.

    Subclasses say what the gradient is.
    """

    scale: Scale
    limit: float
    pulls: Pulls | None

    def __post_init__(self) -> None:
        if not self.limit > 0:
            raise ValueError(
                f"{type(self).__name__}: expected limit > 0, math.inf for none, got {self.limit!r}; a scale of size 0 "
                "does not pull"
            )

    @property
    def remedy(self) -> str:  # noqa: D102
        return "lower the size or the limit of the pull along the gradient"

    @abstractmethod
    def _slope(self, x: Tensor, timestep: Tensor) -> tuple[Images, PerRow | None]:
        """Gradient and Jacobian norm at images that require no gradient."""

    def _scaled(self, slope: Slope, timestep: Tensor) -> PerRow:
        """`lambda_t`, which must be finite: a limit would hide what is not."""
        scale = self.scale(slope)
        if not scale.isfinite().all():
            row = int((~scale.isfinite()).nonzero()[0])
            raise FloatingPointError(
                f"lambda_t of {type(self.scale).__name__} is {float(scale[row])} (row {row} of {len(scale)}, training "
                f"step {int(timestep[row])}), and must be finite; look for a division by what may be 0 in this scale, "
                "or take Balanced, whose norms are kept from 0"
            )
        return scale

    def __call__(self, step: Step, branches: tuple[Images, ...]) -> Images:  # noqa: D102
        alpha, sigma = step.levels.alpha, step.levels.sigma
        k, here = step.k, float(sigma[step.k])
        below = max(k - 1, 0)
        lever = float(alpha[below] / alpha[k] * sigma[k] - sigma[below])
        timestep = step.levels.timestep[k].to(step.x.device).expand(len(step.x))
        gradient, jacobian = self._slope(step.x, timestep)
        slope = Slope(gradient.to(step.epsilon), jacobian, here, lever)
        pull = self._scaled(slope, timestep).to(step.epsilon) * here
        unit = here**2 * math.sqrt(slope.dimensions) / slope.length
        longest = self.limit * unit
        if self.pulls is not None:
            self.pulls.count += len(pull)
            self.pulls.cut += int((pull > longest).sum())
            self.pulls.longest = max(self.pulls.longest, float((pull / unit).max()))
        return -torch.minimum(pull, longest).reshape(-1, 1, 1, 1) * slope.gradient


@dataclass(frozen=True)
class Towards(Ascent):
    r"""A pull that makes a representation of the noisy images read the targets.

    With `p(z* | x_t) = N(z*; z(x_t, t), spread^2)`, the gradient is `J^T (z* - z) / spread^2`, one vector-Jacobian
    product; the Frobenius norm of `J / spread`, which `Balanced` needs, comes from the same backward pass, exactly or
    by random probes. Source: Zhu et al., "DiffusionCounterfactuals" (2024), https://arxiv.org/abs/2407.20553, as far as
    it is known: the scale is reconstructed from the principle it names.

    Args:
        reads: the representation, `(x, timestep) -> (B, K)`, differentiable, each row on its own.
        target: shape `(B, K)`; entries that are not finite are free.
        spread: standard deviations of the representation's error, shape `(K,)`, or what gives them, shape `(B, K)`, at
            the training step of each row.
        scale: how strongly it pulls.
        limit: the longest `lambda_t g_t`, in standard deviations of the level's noise.
        tolerance: misses below it, in spreads, do not pull.
        probes: random vectors that estimate the Jacobian's norm; 0 takes all K rows of it.
        seed: of the probes, which are others at each level; one for all rows, or one per row, shape `(B,)`.
        pulls: where it is added up how long they were, and what they cost.
        names: of the K factors, for messages.
    """

    reads: Representation
    target: Tensor
    spread: Tensor | Callable[[Tensor], Tensor]
    scale: Scale = field(default_factory=Balanced)
    limit: float = 3.0
    tolerance: float = 0.0
    probes: int = 0
    seed: int | Tensor = 0
    pulls: Pulls | None = None
    names: Sequence[str] = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        numbers.finite("Towards", 0, tolerance=self.tolerance)
        if not isinstance(self.probes, int) or self.probes < 0:
            raise ValueError(
                f"Towards: expected a whole number probes >= 0, got {self.probes!r}; 0 computes the norm itself"
            )

    def _slope(self, x: Tensor, timestep: Tensor) -> tuple[Images, PerRow | None]:
        if len(self.target) != len(x):
            raise ValueError(f"Towards: {len(self.target)} targets for {len(x)} rows; generate all rows at once")
        spread = self.spread if isinstance(self.spread, Tensor) else self.spread(timestep)
        spread = spread.detach()
        with torch.enable_grad():
            leaf = x.detach().to(spread.dtype).requires_grad_()
            z = self.reads(leaf, timestep)
            if self.target.shape != z.shape:
                raise ValueError(
                    f"Towards: expected targets of the shape that is read, {tuple(z.shape)}, got "
                    f"{tuple(self.target.shape)}; give one per row and factor, nan for what is free"
                )
            z = z / spread
        finite("what reads the factors", z.detach(), x, timestep, self.names)
        miss = self.target.to(z) / spread - z.detach()
        pulls = miss.isfinite() & (miss.abs() > self.tolerance)
        miss = torch.where(pulls, miss, 0.0)
        width = z.shape[1]
        if isinstance(self.scale, Balanced):
            vectors = torch.cat([miss[None], self._probes(width, timestep, z)])
        else:
            vectors = miss[None]
        (rows,) = torch.autograd.grad(z, leaf, vectors, is_grads_batched=True)
        if self.pulls is not None:
            self.pulls.vectors += len(vectors) * len(x)
        finite("the gradient of the factors read", rows[0], x, timestep)
        finite("the Jacobian of the factors read", rows[1:].transpose(0, 1), x, timestep)
        if len(vectors) == 1:
            return rows[0], None
        square = rows[1:].flatten(2).square().sum(2)
        return rows[0], (square.mean(0) if self.probes else square.sum(0)).sqrt()

    def _probes(self, width: int, timestep: Tensor, like: Tensor) -> Tensor:
        """Vectors v, with which the norms of `J^T v` give that of J: all unit vectors, or random signs."""
        if not self.probes:
            return torch.eye(width, dtype=like.dtype, device=like.device)[:, None].expand(-1, len(timestep), -1)
        generator = torch.Generator()
        seeds = torch.as_tensor(self.seed).expand(len(timestep)).tolist()
        rows = []
        for seed, level in zip(seeds, timestep.tolist(), strict=True):
            generator.manual_seed((seed * LENGTH + int(level)) % 2**32)
            rows.append(torch.randint(2, (self.probes, width), generator=generator))
        return (2 * torch.stack(rows, 1) - 1).to(like)


@dataclass(frozen=True)
class Likely(Ascent):
    r"""A pull along `grad log p(a* | x_t)` of a noise-aware classifier (Dhariwal and Nichol, 2021; Sanchez, 2022).

    Args:
        log_likelihood: `(x, timestep) -> (B,)`, differentiable, each row on its own.
        scale: how strongly it pulls.
        limit: the longest `lambda_t g_t`, in standard deviations of the level's noise.
        dtype: in which it computes.
        pulls: where it is added up how long they were, and what they cost.
    """

    log_likelihood: Likelihood
    scale: Scale = field(default_factory=Constant)
    limit: float = 3.0
    dtype: torch.dtype = torch.float32
    pulls: Pulls | None = None

    def _slope(self, x: Tensor, timestep: Tensor) -> tuple[Images, PerRow | None]:
        with torch.enable_grad():
            leaf = x.detach().to(self.dtype).requires_grad_()
            value = self.log_likelihood(leaf, timestep)
            (gradient,) = torch.autograd.grad(value.sum(), leaf)
        if self.pulls is not None:
            self.pulls.vectors += len(x)
        finite("the log-likelihood of the classifier", value.detach()[:, None], x, timestep)
        finite("the gradient of the classifier", gradient, x, timestep)
        return gradient, None


FAR = 100.0  # noisy images are of size 1; further out, it is the pulls that have driven them there


def refuse_inference_mode(what: str) -> None:
    """Raise where torch gives no gradients."""
    if torch.is_inference_mode_enabled():
        raise RuntimeError(f"{what} needs gradients, which torch.inference_mode() forbids; write torch.no_grad()")


def finite(what: str, values: Tensor, x: Images, timestep: Tensor, names: Sequence[str] = ()) -> None:
    """Raise if values, rows first, are not finite; `names` are of their columns, where they have any.

    Raises:
        FloatingPointError: it names what, the row, the noise level, and what to change.
    """
    good = values.flatten(1).isfinite().all(1)
    if good.all():
        return
    row = int((~good).nonzero()[0])
    entries = (~values[row].isfinite()).flatten().nonzero()[:, 0].tolist()
    which = f"entry {entries[0]}, " if values.ndim == 2 and values.shape[1] > 1 else ""
    which = f"{names[entries[0]]}, " if which and names else which
    far = float(x[row].abs().max())
    if far > FAR:
        remedy = f"the pulls have driven its pixels out to {far:.3g}; lower the size or the limit of the pull"
    else:
        remedy = (
            "no size of the pull changes that: look for weights of the projector, or of the equations, that are not "
            "finite, compute in float64, scm.double(), or fit again with a lower learning rate"
        )
    raise FloatingPointError(
        f"{what} is not finite ({which}row {row} of {len(values)}, training step {int(timestep[row])}); {remedy}"
    )
