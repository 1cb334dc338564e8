"""Training that diverges stops: at which step, what it was, and what to do."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor


def spoiled(tensors: Mapping[str, Tensor]) -> str | None:
    """The name of the first tensor with an entry that is not finite."""
    return next((name for name, tensor in tensors.items() if not tensor.isfinite().all()), None)


def diverged(name: str, what: str, *remedies: str) -> FloatingPointError:
    """The error to raise.

    Args:
        name: of what is trained.
        what: happened, and at which step.
        remedies: what is left, and what to change.
    """
    return FloatingPointError("; ".join([f"{name}: {what}", *remedies]))
