"""What depends on the machine: where networks are trained, in which numbers, and what draws at random there."""

from __future__ import annotations

import functools
import logging
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any, Literal

import torch

log = logging.getLogger(__name__)

Precision = Literal["auto", "float32", "bfloat16"]
CHOICES = ("auto", "float32", "bfloat16")


def known(kind: str, precision: object) -> None:
    """Raise a ValueError where it is no precision."""
    if precision not in CHOICES:
        raise ValueError(f"{kind}: expected precision 'auto', 'float32' or 'bfloat16', got {precision!r}")


def computes_bfloat16(kind: str) -> bool:
    """Whether a kind of device multiplies bfloat16 itself; others imitate it, some twenty times slower than float32.

    Args:
        kind: of device, "cpu" or "cuda" for example.
    """
    if kind == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    if kind == "mps":
        return torch.backends.mps.is_macos_or_newer(14, 0)
    return kind != "cpu" or (
        torch.backends.mkldnn.is_available() and bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def halves(precision: Precision, device: torch.device) -> bool:
    """Whether a network computes in bfloat16 there."""
    if precision == "bfloat16":
        _warn_of_imitation(device.type)
    return precision == "bfloat16" or (precision == "auto" and computes_bfloat16(device.type))


@functools.cache
def _warn_of_imitation(kind: str) -> None:
    if not computes_bfloat16(kind):
        log.warning(
            "precision='bfloat16': this %s only imitates it, some twenty times slower than float32; write "
            "precision='auto', which takes float32 here",
            "processor" if kind == "cpu" else f"{kind} device",
        )


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[Any]:
    """Within it, networks compute in that precision."""
    return torch.autocast(device.type, torch.bfloat16) if halves(precision, device) else nullcontext()


def accelerator() -> torch.device:
    """Where networks are trained if nothing is said: the machine's accelerator, or its processor."""
    return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")


@contextmanager
def seeded(seed: int) -> Iterator[None]:
    """Within it, what the processor or the current CUDA device draws follows a seed; after it, all is as before.

    `torch.manual_seed` would reseed every GPU for good.
    """
    devices = [torch.cuda.current_device()] if accelerator().type == "cuda" else []
    with torch.random.fork_rng(devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed(seed)
        yield
