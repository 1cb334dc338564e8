"""Moments of the abducted noise: is it the noise the mechanism was trained to read?"""

from __future__ import annotations

from collections.abc import Sequence

from causalcf.metrics.tally import Label, Tally
from causalcf.world import World


class NoiseMoments(Tally):
    r"""Mean and mean square of the abducted noise `u`, which should be 0 and 1 for standard normal noise.

    For an image also the correlation of neighbours, `mean(u_{i,j} u_{i,j+1}) / mean(u^2)`, which should be 0. A
    low composition error says little if these are off: the noise then lies where prediction was never trained.

    Args:
        nodes: whose noise; by default every variable whose mechanism has noise `u`.
    """

    title = "abducted noise"

    def __init__(self, nodes: Sequence[str] | None = None) -> None:
        super().__init__()
        self.nodes = None if nodes is None else tuple(nodes)

    def seen(self, world: World) -> None:  # noqa: D102
        for name in self.nodes or tuple(world):
            noise = world.noise[name]
            if "u" not in noise or not noise["u"].is_floating_point():
                continue
            u = noise["u"].double().reshape(len(world), -1)
            self.tally(Label("noise mean", "", name, "sd"), u.mean(1))
            self.tally(Label("noise mean square", "", name, "sd^2"), u.square().mean(1))
            if noise["u"].ndim == 4:
                grid = noise["u"].double()
                pairs = (grid[..., 1:] * grid[..., :-1]).flatten(1).mean(1)
                self.tally(Label("noise correlation", "", name, "-"), pairs / u.square().mean(1))
