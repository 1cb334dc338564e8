"""A classifier whose gradients are another's, so that any method can be led by them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Led:
    """What one classifier says, with the gradients of another.

    Args:
        classifier: whose word counts.
        leader: whose gradients are taken; its logits have the same form.
    """

    classifier: Callable[[Tensor], Tensor]
    leader: Callable[[Tensor], Tensor]

    def __call__(self, images: Tensor) -> Tensor:  # noqa: D102
        said = self.classifier(images).detach()
        if not images.requires_grad:
            return said
        led = self.leader(images)
        return said + led - led.detach()
