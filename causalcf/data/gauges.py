"""Gauges: what measures the factors of a drawn picture, by its colours and by templates, without any network."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.data.drawing import Colour

TOLERANCE = 1e-6  # an image may leave [0, 1] by one rounding


def unmix(
    images: Float[Tensor, "batch 3 height width"], palette: Sequence[Colour]
) -> Float[Tensor, "batch 4 height width"]:
    """How much of each of four colours there is in each pixel: the inverse of `paint`.

    The weights w of a pixel solve `sum_k w_k colour_k = rgb` and `sum_k w_k = 1`. They are then clipped to [0, 1],
    because an image that is not made of these colours may have others.

    Args:
        images: in [0, 1].
        palette: four colours that do not lie in a plane.

    Raises:
        TypeError: the images are not a tensor of floats.
        ValueError: they have the wrong shape, or values outside of [0, 1].

    Example:
        >>> palette = [(1.0, 1.0, 1.0), (1.0, 0.0, 0.0), (0.0, 0.0, 1.0), (0.0, 0.0, 0.0)]
        >>> pink = torch.tensor([1.0, 0.75, 0.75])[None, :, None, None]
        >>> unmix(pink, palette).flatten()
        tensor([0.7500, 0.2500, 0.0000, 0.0000])
    """
    _check(images)
    mixing = torch.tensor([[*colour, 1.0] for colour in palette], dtype=torch.float64).T
    solve = torch.linalg.inv(mixing).to(images.device, torch.float32)
    layers = torch.einsum("kc,bchw->bkhw", solve[:, :3], images.float()) + solve[:, 3, None, None]
    return layers.clamp(0, 1)


def _check(images: Tensor) -> None:
    if not isinstance(images, Tensor) or not images.is_floating_point():
        came = images.dtype if isinstance(images, Tensor) else type(images).__name__
        raise TypeError(
            f"images: expected a tensor of floats in [0, 1], got {came}; write images / 255 for grey levels"
        )
    if images.ndim != 4 or images.shape[1] != 3 or images.shape[2] != images.shape[3]:
        raise ValueError(f"images: expected shape (B, 3, size, size), got {tuple(images.shape)}")
    if len(images) and not (images.min() >= -TOLERANCE and images.max() <= 1 + TOLERANCE):
        raise ValueError(
            f"images: expected floats from 0 to 1, got {float(images.min()):g} to {float(images.max()):g}; "
            "write images / 255 for grey levels, images.clamp(0, 1) to cut off an overshoot"
        )


def fit(
    layer: Float[Tensor, "batch ..."], templates: Float[Tensor, "values ..."], values: Float[Tensor, " values"]
) -> Float[Tensor, " batch"]:
    """The value whose template correlates most with each layer, whatever the layer's contrast.

    The maximum is taken over the grid of values, and then of the parabola through it and its neighbours.

    Args:
        layer: what was seen.
        templates: what would be seen under each value.
        values: an even grid.

    Returns:
        Values within the grid; finite whatever is seen.

    Example:
        >>> values = torch.linspace(0.0, 1.0, 5)
        >>> bumps = torch.exp(-((torch.arange(9) / 8 - values[:, None]) ** 2))
        >>> fit(0.5 * bumps[2:3] + 0.1, bumps, values)
        tensor([0.5000])
    """
    templates = templates.flatten(1)
    templates = templates - templates.mean(1, keepdim=True)
    norm = templates.norm(dim=1, keepdim=True).clamp_min(1e-6)  # of what is too small for any pixel it is 0
    alike = layer.flatten(1) @ (templates / norm).T
    best = alike.argmax(1, keepdim=True).clamp(1, len(values) - 2)
    before, most, after = (alike.gather(1, best + step)[:, 0] for step in (-1, 0, 1))
    bend = (2 * most - before - after).clamp_min(1e-9)
    offset = (0.5 * (after - before) / bend).clamp(-1, 1)
    return values[best[:, 0]] + offset * (values[1] - values[0])


def box_ends(profile: Float[Tensor, "batch pixels"]) -> tuple[Float[Tensor, " batch"], Float[Tensor, " batch"]]:
    """Both ends of the box that a profile shows best.

    The box is first the run of pixels with the greatest sum of `2 profile - 1`. From the middle of the run, each end is
    then as far as the sum of the profile up to two pixels outside, scaled so that the inside of the run is 1.

    Args:
        profile: coverage along a line, 0 to 1.

    Returns:
        Where the box begins and where it ends, in pixels from the first pixel's edge.

    Example:
        >>> begin, end = box_ends(torch.tensor([[0.0, 0.0, 0.25, 1.0, 1.0, 1.0, 0.5, 0.0, 0.3]]))
        >>> float(begin), float(end)
        (2.75, 6.5)
    """
    gain = torch.nn.functional.pad((2 * profile - 1).cumsum(1), (1, 0))
    lowest, start = gain.cummin(1)
    last = (gain[:, 1:] - lowest[:, :-1]).argmax(1, keepdim=True)
    first = start.gather(1, last)
    pixel = torch.arange(profile.shape[1], device=profile.device)
    around, run, inside = (
        torch.where((pixel >= first - more) & (pixel <= last + more), profile, 0.0) for more in (2, 0, -1)
    )
    count = last - first - 1
    level = torch.where(count > 0, inside.sum(1, keepdim=True) / count.clamp_min(1), run.amax(1, keepdim=True))
    around = around / level.clamp_min(1e-6)
    middle = (first + last + 1) // 2
    begin = middle[:, 0] - (around * (pixel < middle)).sum(1)
    return begin, middle[:, 0] + (around * (pixel >= middle)).sum(1)
