"""Where an image may change: masks that are fixed, that follow the change itself, or that follow a gradient."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn import functional

from causalcf.diffusion.denoiser import Images

Where = Bool[Tensor, "batch 1 height width"]
Differs = Callable[[Images, Images, float, int], Where]  # images, factual ones, threshold, size of the blur


def dilated(mask: Where, size: int) -> Where:
    """Every pixel within a square of `size` pixels around one of the mask."""
    refuse_even(size)
    return functional.max_pool2d(mask.float(), size, stride=1, padding=size // 2) > 0


def blurred(images: Images, size: int) -> Images:
    """Means over squares of `size` pixels, the border's of what lies inside."""
    refuse_even(size)
    return functional.avg_pool2d(images, size, stride=1, padding=size // 2, count_include_pad=False)


def changed(images: Images, others: Images) -> Float[Tensor, "batch 1 height width"]:
    """Sum over channels of absolute differences, as a share of the row's largest; 0 where nothing differs."""
    difference = (images - others).abs().sum(1, keepdim=True)
    largest = difference.flatten(1).amax(1).reshape(-1, 1, 1, 1)
    return torch.where(largest > 0, difference / largest.clamp_min(1e-30), 0.0)


def largest(score: Float[Tensor, "batch 1 height width"], share: float, lots: Tensor | None = None) -> Where:
    """The pixels of the largest scores, `max(1, floor(share * H W))` of each row.

    Args:
        score: of the pixels.
        share: of the pixels of a row.
        lots: in the shape of the scores, by which equal ones are told apart; without them the first are taken.
    """
    flat = score.flatten(1)
    count = max(1, int(share * flat.shape[1] + 1e-9))
    if lots is None:
        order = flat.sort(dim=1, descending=True, stable=True).indices
    else:
        drawn = lots.flatten(1).argsort(1)
        order = drawn.gather(1, flat.gather(1, drawn).sort(dim=1, descending=True, stable=True).indices)
    order = order[:, :count]
    return torch.zeros_like(flat, dtype=torch.bool).scatter_(1, order, True).reshape(score.shape)


def refuse_even(size: int) -> None:
    """Raise if a square of so many pixels has no middle."""
    if size < 1 or size % 2 == 0:
        raise ValueError(f"mask: expected an odd number of pixels, got {size}; write {max(1, size) | 1}")


class Mask(ABC):
    """Where noisy images may leave the factual trajectory, and where clean estimates may leave the factual image."""

    def see(self, clean: Images, gradient: Images, k: int) -> None:  # noqa: B027
        """Take in the clean estimate at level k, and the classifier's gradient there."""

    @property
    @abstractmethod
    def noisy(self) -> Where | None:
        """Where noisy images may change; None is everywhere."""

    @property
    def clean(self) -> Where | None:
        """Where clean estimates may; by default where noisy images may."""
        return self.noisy

    def begin(self) -> None:  # noqa: B027
        """Forget what was seen, before another trajectory."""

    def kept(self, clean: Images, factual: Images) -> Images:
        """A clean estimate, with the factual image where it may not change."""
        return clean if self.clean is None else torch.where(self.clean, clean, factual)


class Everywhere(Mask):
    """No mask."""

    @property
    def noisy(self) -> Where | None:  # noqa: D102
        return None


@dataclass
class Fixed(Mask):
    """The same places at all levels.

    Args:
        where: the places that may change.
    """

    where: Where

    @property
    def noisy(self) -> Where | None:  # noqa: D102
        return self.where


@dataclass
class Difference(Mask):
    """Where the clean estimate differs from the factual image, looked at anew at every level (Weng et al., 2024).

    Args:
        factual: the factual images, in the space of clean estimates.
        dilation: side of the square by which the difference is dilated.
        threshold: the share of the largest difference from which on a pixel may change.
        start: the highest level at which there is a mask; None masks all.
    """

    factual: Images
    dilation: int = 5
    threshold: float = 0.15
    start: int | None = None
    _where: Where | None = field(default=None, init=False)

    def begin(self) -> None:  # noqa: D102
        self._where = None

    def see(self, clean: Images, gradient: Images, k: int) -> None:  # noqa: D102
        if self.start is None or k <= self.start:
            self._where = differing(clean, self.factual, self.dilation, self.threshold)

    @property
    def noisy(self) -> Where | None:  # noqa: D102
        return self._where


def differing(clean: Images, factual: Images, dilation: int, threshold: float) -> Where:
    """Where images differ by at least a share of the row's largest difference, dilated; nowhere if they are equal."""
    share = functional.max_pool2d(changed(clean, factual), dilation, stride=1, padding=dilation // 2)
    return share >= threshold


@dataclass
class AdaptiveDual(Mask):
    """The places of the largest class gradients for noisy images, the inner share of them for clean ones.

    Source: Guo et al., "MaskDiME" (2026), https://arxiv.org/abs/2602.18792.

    Args:
        share: of the pixels that may change.
        inner: share of these that clean estimates may change.
        dilation: side of the square by which both are dilated.
        draw: noise of each level, in the shape of the images, by which equal gradients are told apart; without it the
            first places are taken.
    """

    share: float = 0.05
    inner: float = 0.5
    dilation: int = 5
    draw: Callable[[int], Tensor] | None = None
    _noisy: Where | None = field(default=None, init=False)
    _clean: Where | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        if not (0 < self.share <= 1 and 0 < self.inner <= 1):
            raise ValueError(f"AdaptiveDual: expected shares in (0, 1], got share={self.share}, inner={self.inner}")
        refuse_even(self.dilation)

    def begin(self) -> None:  # noqa: D102
        self._noisy = self._clean = None

    def see(self, clean: Images, gradient: Images, k: int) -> None:  # noqa: D102
        score = gradient.abs().mean(1, keepdim=True)
        pixels = score[0].numel()
        outer = max(1, int(self.share * pixels + 1e-9))
        inner = max(1, int(self.inner * outer + 1e-9))
        lots = None if self.draw is None else self.draw(k)[:, :1]
        self._noisy = dilated(largest(score, outer / pixels, lots), self.dilation)
        self._clean = dilated(largest(score, inner / pixels, lots), self.dilation)

    @property
    def noisy(self) -> Where | None:  # noqa: D102
        return self._noisy

    @property
    def clean(self) -> Where | None:  # noqa: D102
        return self._clean


@dataclass
class Blurred(Mask):
    """Where the decoded estimate differs from the factual image by more than a threshold, blurred, and was not before.

    Args:
        factual: the factual images, in [0, 1].
        decode: of clean estimates.
        threshold: of the blurred difference.
        size: side of the square that blurs.
        locked: places that earlier counterfactuals changed, and this one may not.
        start: the highest level at which there is a mask; None masks all. Locked places are masked at all.
        differs: how images differ, `moved` or `outstanding`.
        both: whether clean estimates, too, may differ only there.
    """

    factual: Images
    decode: Callable[[Images], Images]
    threshold: float = 0.05
    size: int = 5
    locked: Where | None = None
    start: int | None = None
    differs: Differs = field(default_factory=lambda: moved)
    both: bool = False
    _where: Where | None = field(default=None, init=False)
    _like: torch.Size | None = field(default=None, init=False)

    def begin(self) -> None:  # noqa: D102
        self._where = None if self.locked is None else ~self.locked

    def see(self, clean: Images, gradient: Images, k: int) -> None:  # noqa: D102
        self._like = clean.shape[2:]
        if self.start is None or k <= self.start:
            where = self.differs(self.decode(clean).clamp(0, 1), self.factual, self.threshold, self.size)
            self._where = where if self.locked is None else where & ~self.locked

    @property
    def noisy(self) -> Where | None:  # noqa: D102
        if self._where is None or self._like is None:
            return None
        where, like = self._where.float(), tuple(self._like)
        if self.both:
            return functional.interpolate(where, like) > 0
        return functional.adaptive_max_pool2d(where, like) > 0  # a code may change if any of its pixels may

    @property
    def clean(self) -> Where | None:  # noqa: D102
        return self.noisy if self.both else None

    @property
    def pixels(self) -> Where | None:
        """The same in the size of the image."""
        return self._where


def moved(images: Images, factual: Images, threshold: float, size: int) -> Where:
    """Where the blurred absolute difference, mean over channels, reaches a threshold."""
    return blurred((images - factual).abs().mean(1, keepdim=True), size) >= threshold


def outstanding(images: Images, factual: Images, threshold: float, size: int, sigma: float = 2.0) -> Where:
    """Where the difference, summed over channels and blurred by a Gaussian, reaches a share of the row's largest.

    The largest is that before the blur; where images are equal, nothing stands out. So it is in code of SCE.
    """
    refuse_even(size)
    difference = (images - factual).abs().sum(1, keepdim=True)
    place = torch.arange(size, device=images.device, dtype=images.dtype) - size // 2
    bell = (-0.5 * (place / sigma).square()).exp()
    kernel = (bell[:, None] * bell / bell.sum() ** 2)[None, None]
    around = functional.conv2d(functional.pad(difference, [size // 2] * 4, mode="reflect"), kernel)
    largest = difference.flatten(1).amax(1).reshape(-1, 1, 1, 1)
    return (largest > 0) & (around >= threshold * largest)
