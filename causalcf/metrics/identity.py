"""Identity preservation: how far the counterfactual is from where it came from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from causalcf.interventions import Do
from causalcf.metrics.tally import Label, Tally, distance, unit_of
from causalcf.world import World


class Identity(Tally):
    """Distance of the counterfactual to the observation, and to its reconstruction (IDP; Rasal et al., 2025).

    The published score takes the reconstruction, which forgives what abduction loses. Doing nothing is best at both:
    read them next to effectiveness alone.

    Args:
        node: the image.
        encode: images -> features `(B, D)`, compared by `1 - cosine`; by default pixels are compared on 0 to 255.
    """

    higher_is_better = False
    title = "identity"

    def __init__(self, node: str = "image", encode: Callable[[Tensor], Tensor] | None = None) -> None:
        super().__init__()
        self.node, self.encode = node, encode
        self.again = torch.empty(0)

    @torch.no_grad()
    def seen(self, world: World) -> None:  # noqa: D102
        self.again = world.do(recompute=True)[self.node]

    @torch.no_grad()
    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        unit = unit_of(world, self.node) if self.encode is None else "1 - cosine"
        for kind, other in (("observation", world[self.node]), ("reconstruction", self.again)):
            label = Label(f"{self.title}, to the {kind}", name, self.node, unit)
            self.tally(label, self._apart(counterfactual[self.node], other))

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        if self.encode is None:
            return distance(a, b, image=True)
        return 1 - torch.cosine_similarity(self.encode(a).double(), self.encode(b).double(), dim=1)
