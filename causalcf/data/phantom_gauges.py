"""Phantom gauges: what reads a phantom's attributes from its mammogram, without any network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional

from causalcf.data.drawing import Canvas, Coverage
from causalcf.data.phantoms import FAT, GLAND, MASS, RING, SIDE, breast, corners, radial, ring, thickness

FINE = 2  # times the picture's pixels, in which markers are looked for
REACH = 7.0  # of a template around its middle
EDGE = 0.17  # how bright the breast is at its edge
NEAR = 2.5  # around a mass or a marker, where nothing else is read
WITHIN = 1.9  # of the middle of any mass
STANDING = 0.076  # by how much a marker stands out at least
SOLID = 0.8  # share of a mass that is as bright as one

Form = Callable[[Canvas, float, float], Coverage]
Pictures = Float[Tensor, "batch 1 size size"]


class Film:
    """Mammograms whose breast is found.

    Args:
        images: in [0, 1].
    """

    def __init__(self, images: Pictures) -> None:
        self.image = images[:, 0]
        self.canvas = Canvas(images.shape[-1], 0.0, SIDE, 0.0, SIDE, images.device)
        width, height = self.canvas.pixel
        seen = (self.image / EDGE).clamp(0, 1)
        chest = seen[:, :, :2].mean(2)
        high = chest.sum(1) * height / 2
        y = (chest * self.canvas.y).sum(1) / chest.sum(1).clamp_min(1e-6)
        deep = (seen * (self.canvas.y - y[:, None]).abs().lt(2)[..., None]).sum((1, 2)) * width
        deep = deep / (self.canvas.y - y[:, None]).abs().lt(2).sum(1).clamp_min(1)
        self.shape = deep.clamp_min(1.0), high.clamp_min(1.0), y
        self.even = self.image / thickness(self.canvas, *self.shape)

    def density(self) -> Float[Tensor, " batch"]:
        """Per cent of gland, where neither mass nor marker is."""
        bright = self._summed(self.even > (GLAND + MASS) / 2, NEAR) > 0.5
        weight = breast(self.canvas, *self.shape) * (radial(self.canvas, *self.shape) < 1) * ~bright[:, 0]
        share = ((self.even - FAT) / (GLAND - FAT)).clamp(0, 1)
        return 100 * (weight * share).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-6)

    def mass(self) -> Int[Tensor, " batch"]:
        """Whether anything round is as bright as a mass throughout, and no brighter."""
        solid = (self.even > (GLAND + MASS) / 2) & (self.even < 1.15 * MASS)
        whole = self._disk(WITHIN).sum()
        return ((self._summed(solid, WITHIN) / whole).flatten(1).amax(1) > SOLID).long()

    def marker(self, form: Form, other: Form) -> Float[Tensor, " batch"]:
        """By how much the brightest lines of a form stand out, more than those of another form do nearby."""
        large = functional.interpolate(self.image[:, None], scale_factor=FINE, mode="bilinear", align_corners=False)
        count = 2 * round(REACH * FINE / self.canvas.pixel[0]) + 1
        own, others = (self._standing(large, count, *forms) for forms in ((form, other), (other, form)))
        near = 2 * round(NEAR * FINE / self.canvas.pixel[0]) + 1
        beside = functional.max_pool2d(others, near, 1, near // 2)
        return (own - beside.clamp_min(0)).flatten(1).amax(1)

    def _standing(self, large: Pictures, count: int, form: Form, other: Form) -> Pictures:
        """By how much a form is brighter than what is within and around it, and than lines of another form."""
        side = count * self.canvas.pixel[0] / FINE / 2
        small = Canvas(count, -side, side, -side, side, self.image.device)
        line, lines = form(small, 0.0, 0.0)[0], other(small, 0.0, 0.0)[0]
        wide = small.disk(0.0, 0.0, RING + 2.4)[0]
        within = small.disk(0.0, 0.0, RING - 1.6)[0] * (1 - line)
        around = (wide - small.disk(0.0, 0.0, RING + 1.2)[0]).clamp(0, 1) * (1 - line)
        parts = (line, within, around, lines * (1 - line))
        on, *off = correlated(large, torch.stack([part / part.sum() for part in parts])).unbind(1)
        return (on - torch.stack(off).amax(0))[:, None]

    def _summed(self, where: Tensor, radius: float) -> Pictures:
        """How many pixels of some are within a radius of each."""
        disk = self._disk(radius)
        return functional.conv2d(where.float()[:, None], disk, padding=disk.shape[-1] // 2)

    def _disk(self, radius: float) -> Float[Tensor, "1 1 side side"]:
        count = 2 * round((radius + 1) / self.canvas.pixel[0]) + 1
        side = count * self.canvas.pixel[0] / 2
        return Canvas(count, -side, side, -side, side, self.image.device).disk(0.0, 0.0, radius)[:, None]


def correlated(images: Pictures, kernels: Float[Tensor, "kernel side side"]) -> Float[Tensor, "batch kernel size size"]:
    """What kernels of odd side see around each pixel, black beyond the edge; by Fourier transforms, as they are large.

    Example:
        >>> correlated(torch.eye(2)[None, None], torch.ones(1, 3, 3))[0, 0].round()
        tensor([[2., 2.],
                [2., 2.]])
    """
    size, half = images.shape[-1], kernels.shape[-1] // 2
    whole = (size + 2 * half, size + 2 * half)
    spectrum = torch.fft.rfft2(images, whole) * torch.fft.rfft2(kernels, whole).conj()
    return torch.fft.irfft2(spectrum, whole).roll((half, half), (-2, -1))[..., :size, :size]


READERS: Mapping[str, Callable[[Tensor], Tensor]] = {
    "density": lambda images: Film(images).density(),
    "mass": lambda images: Film(images).mass(),
    "circle": lambda images: (Film(images).marker(ring, corners) > STANDING).long(),
    "triangle": lambda images: (Film(images).marker(corners, ring) > STANDING).long(),
}
