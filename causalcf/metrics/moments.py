"""Moments of the abducted noise: is it the noise the mechanism was trained to read?"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from causalcf.metrics.tally import Label, Tally
from causalcf.world import World

SITES = {"u": "", "z": " of z", "w": " of w"}
"""Noise sites that are standard normal in training, and how their lines say which they are of."""


class NoiseMoments(Tally):
    r"""Mean and mean square of the abducted noise `u`, which should be 0 and 1 for standard normal noise.

    For an image also the correlation of neighbours, `mean(u_{i,j} u_{i,j+1}) / mean(u^2)`, which should be 0. A
    low composition error says little if these are off: the noise then lies where prediction was never trained.

    A semantic code `z` and the second image `w` of a reversible solver have lines of their own, where there are any.
    The code is the mean of a posterior: where all posteriors together are the prior, its mean square falls short of 1
    by their variance, and an entry that encodes nothing has mean square 0.

    Args:
        nodes: whose noise; by default every variable whose mechanism has noise `u`, `z` or `w`.
    """

    title = "abducted noise"

    def __init__(self, nodes: Sequence[str] | None = None) -> None:
        super().__init__()
        self.nodes = None if nodes is None else tuple(nodes)

    def seen(self, world: World) -> None:  # noqa: D102
        for name in self.nodes or tuple(world):
            noise = world.noise[name]
            for site, of in SITES.items():
                if site in noise and noise[site].is_floating_point():
                    self._add(name, of, noise[site].double())

    def _add(self, name: str, of: str, noise: Tensor) -> None:
        flat = noise.reshape(len(noise), -1)
        square = flat.square().mean(1)
        self.tally(Label(f"noise mean{of}", "", name, "sd"), flat.mean(1))
        self.tally(Label(f"noise mean square{of}", "", name, "sd^2"), square)
        if noise.ndim == 4:
            pairs = (noise[..., 1:] * noise[..., :-1]).flatten(1).mean(1)
            self.tally(Label(f"noise correlation{of}", "", name, "-"), pairs / square)
