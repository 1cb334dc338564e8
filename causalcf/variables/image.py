"""Images, with values from 0 to 1."""

from dataclasses import dataclass

import torch
from torch import Tensor

from causalcf.variables.variable import Variable, check_finite, check_float, is_size, refuse

TOLERANCE = 1e-6  # a decoded image may leave [0, 1] by one rounding


@dataclass(frozen=True)
class Image(Variable):
    """An image with values in [0, 1]; float32 (float64 is kept) of shape ``(B, C, H, W)``.

    Args:
        channels: 1 for grey, 3 for colour.
        height: Rows of pixels.
        width: Columns of pixels.

    Example:
        >>> Image(1, 28, 28).check("image", torch.rand(4, 28, 28))
        Traceback (most recent call last):
        ValueError: image: expected shape (B, 1, 28, 28), got (4, 28, 28); write image.unsqueeze(1)
    """

    channels: int
    height: int
    width: int

    def __post_init__(self) -> None:
        for field in ("channels", "height", "width"):
            if not is_size(getattr(self, field)):
                raise ValueError(
                    f"Image: expected {field} to be a positive integer, got {getattr(self, field)!r}; "
                    "write Image(channels, height, width), e.g. Image(1, 28, 28)"
                )
            object.__setattr__(self, field, int(getattr(self, field)))

    @property
    def shape(self) -> tuple[int, ...]:
        """``(C, H, W)``."""
        return (self.channels, self.height, self.width)

    @property
    def dtype(self) -> torch.dtype:
        """float32."""
        return torch.float32

    def _check_dtype(self, name: str, value: Tensor) -> None:
        check_float(name, value, f"{name}.float() / 255" if value.dtype == torch.uint8 else f"{name}.float()")

    def _check_support(self, name: str, value: Tensor) -> None:
        check_finite(name, value)
        low, high = (float(bound) for bound in value.aminmax())
        if low >= -TOLERANCE and high <= 1 + TOLERANCE:
            return
        if low >= 0 and high <= 255:
            remedy = f"for grey levels of 0 to 255 write {name} / 255"
        elif low >= 0 and high <= 65535 and high > 2 * 255:
            remedy = f"for 16 bits write {name} / 65535, for 12 bits {name} / 4095"
        elif low >= -1 - TOLERANCE and high <= 1 + TOLERANCE:
            remedy = f"for values of -1 to 1 write ({name} + 1) / 2; to cut off an overshoot, {name}.clamp(0, 1)"
        else:
            remedy = f"undo the normalisation, or write {name}.clamp(0, 1)"
        refuse(name, value, (value < -TOLERANCE) | (value > 1 + TOLERANCE), "values from 0 to 1", remedy)

    def _reshape(self, name: str, value: Tensor) -> str:
        shape = tuple(value.shape)
        if shape == self.shape:
            return f"write {name}.unsqueeze(0) for a single image"
        if shape[1:] == self.shape[1:] and len(shape) == 3 and self.channels == 1:
            return f"write {name}.unsqueeze(1)"
        if shape[1:] == (self.height, self.width, self.channels):
            return f"write {name}.permute(0, 3, 1, 2)"
        if len(shape) == 4 and shape[2:] == self.shape[1:]:
            ours = f"{self.channels} channel{'s' if self.channels > 1 else ''}"
            return f"give {ours}, or declare Image({shape[1]}, {self.height}, {self.width})"
        return (
            f"resize the images, or declare Image({', '.join(str(size) for size in shape[1:])})"
            if (len(shape) == 4)
            else "give a batch of images, channels first"
        )
