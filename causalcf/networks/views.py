"""Random views of an image, in which chosen properties are disturbed and everything else is as it was."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

KINDS = ("shear", "rotation", "scale", "brightness", "stroke")


def view(
    image: Float[Tensor, "batch channel height width"],
    sizes: Mapping[str, float],
    generator: torch.Generator | None = None,
) -> Float[Tensor, "batch channel height width"]:
    """Disturb images in [0, 1] about their centre, each in its own way.

    Args:
        image: the images.
        sizes: how much: "shear" and "rotation" up to so many radians, "scale" and "brightness" by a factor of up to
            1 plus or minus this, "stroke" a blend towards dilation or erosion by one pixel, of up to this weight.
        generator: of the draws.
    """
    drawn = {
        name: size * (2 * torch.rand(len(image), generator=generator, device=image.device, dtype=image.dtype) - 1)
        for name, size in sizes.items()
    }
    none = torch.zeros(len(image), device=image.device, dtype=image.dtype)
    if {"shear", "rotation", "scale"} & set(drawn):
        turn, zoom = drawn.get("rotation", none), 1 + drawn.get("scale", none)
        lean = torch.tan(drawn.get("shear", none))
        aspect = image.shape[2] / image.shape[3]  # both sides of the grid are 2 long
        top = torch.stack([turn.cos(), aspect * (-turn.sin() + lean * turn.cos()), none], -1)
        bottom = torch.stack([turn.sin() / aspect, turn.cos() + lean * turn.sin(), none], -1)
        matrix = torch.stack([top, bottom], 1) * zoom[:, None, None]
        grid = nn.functional.affine_grid(matrix, list(image.shape), align_corners=False)
        image = nn.functional.grid_sample(image, grid, align_corners=False)
    if "stroke" in drawn:
        weight = drawn["stroke"].reshape(-1, 1, 1, 1)
        wide = nn.functional.max_pool2d(image, 3, stride=1, padding=1)
        thin = -nn.functional.max_pool2d(-image, 3, stride=1, padding=1)
        image = image + weight.abs() * (torch.where(weight > 0, wide, thin) - image)
    if "brightness" in drawn:
        image = image * (1 + drawn["brightness"]).reshape(-1, 1, 1, 1)
    return image.clamp(0, 1)
