"""PNG and JPEG files as arrays: what a pixel means, and which noise belongs to a file."""

from __future__ import annotations

import hashlib
import warnings
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

TWELVE_BITS = 4095
ENDINGS = (".png", ".jpg", ".jpeg")


def read_pixels(file: Path, what: str = "images", white: int = 65535) -> np.ndarray:
    """An image as floats from 0 to 1, `(H, W, 3)`, turned as its camera says; grey ones in three equal channels.

    Args:
        file: a PNG or JPEG file of 8 or 16 bits.
        what: what to call it in messages.
        white: grey level that is white in files of 16 bits: 4095 where a scanner of 12 bits wrote them.

    Raises:
        ValueError: it cannot be read, has 32 bits a pixel, places that are transparent, or is brighter than white.
    """
    try:
        with Image.open(file) as opened:
            opened.load()
            image = ImageOps.exif_transpose(opened)
    except (UnidentifiedImageError, OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(f"{what}: {file.name} cannot be read ({error}); convert it to PNG, or take it away") from None
    if image.mode.startswith("I;16"):  # Pillow cuts these off at 255 where it converts
        deep = np.asarray(image, dtype=np.float32)
        if (most := int(deep.max())) > white:
            raise ValueError(f"{what}: {file.name} has grey levels up to {most}, and white is to be {white}")
        if most <= TWELVE_BITS < white:
            warnings.warn(
                f"{what}: {file.name}, a file of 16 bits, has grey levels up to {most} only, as if it had been written "
                f"with 12 bits; if so, say what white is, white={TWELVE_BITS}",
                stacklevel=2,
            )
        return np.repeat((deep / white)[..., None], 3, 2)
    if image.mode in ("I", "F"):
        raise ValueError(f"{what}: {file.name} has 32 bits a pixel, and no white that is known; save it with 8")
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        raise ValueError(f"{what}: {file.name} has transparent places; put it on a background")
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


def coloured(pixels: np.ndarray) -> bool:
    """Whether any pixel of `(H, W, 3)` is not grey."""
    return bool((pixels != pixels[..., :1]).any())


def as_tensor(pixels: np.ndarray, channels: int) -> Float[Tensor, "channel height width"]:
    """The first channels of an array of pixels."""
    return torch.from_numpy(pixels[..., :channels]).movedim(-1, 0).contiguous()


def is_text(name: str) -> bool:
    """Whether a name could be read; what could not is kept as lone surrogates."""
    return not any("\ud800" <= letter <= "\udfff" for letter in name)


def name_digest(name: str) -> int:
    """An id for what has this name, which decides its noise wherever it stands."""
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little", signed=True)
