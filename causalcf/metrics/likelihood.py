"""Likelihood: how well a model's mechanisms explain rows that they have not seen."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from causalcf.metrics.tally import Label, Tally
from causalcf.world import World


class Likelihood(Tally):
    """The log density of each variable given its parents, in nats, on the observed rows.

    It says nothing of causes: of two models with the same density, one may answer every intervention wrongly. Among
    models of one graph it says which fits, and on the rows of training, held against these, whether they were learned
    by heart. Densities of numbers depend on their units.

    Args:
        names: the variables, by default all that have a density and are no images.

    Example:
        `cf.evaluate(scm, test, plan, [cf.metrics.Likelihood()])`
    """

    higher_is_better = True
    title = "log density"

    def __init__(self, names: Sequence[str] | None = None) -> None:
        super().__init__()
        self.names = None if names is None else list(names)

    @torch.no_grad()
    def trial(self, world: World) -> None:  # noqa: D102
        self._found(world)

    @torch.no_grad()
    def seen(self, world: World) -> None:  # noqa: D102
        for name, values in self._found(world).items():
            self.tally(Label(self.title, "", name, "nat"), values)

    def _found(self, world: World) -> dict[str, torch.Tensor]:
        scm = world.scm
        have = [name for name, mechanism in scm.mechanisms.items() if mechanism.has_density]
        names = [name for name in have if name not in scm.graph.images] if self.names is None else self.names
        return scm.log_prob(world.values(), on=names)
