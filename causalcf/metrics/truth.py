"""Error against the true counterfactual, where it is known."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from torch import Tensor

from causalcf.interventions import Do
from causalcf.metrics.tally import Label, Tally, distance, unit_of
from causalcf.world import World


class KnownTruth(Protocol):
    """A data set that knows what its rows would have been."""

    def knows(self, action: Do) -> bool:
        """Whether the true counterfactual of this intervention is known."""
        ...

    def true_counterfactual(self, rows: Mapping[str, Tensor], action: Do, seed: int = 0) -> Mapping[str, Tensor]:
        """The rows as they would have been."""
        ...


class CounterfactualError(Tally):
    r"""`|x* - x*_true|` for everything the intervention reaches, next to `|x - x*_true|`, the error of doing nothing.

    Of classes it is the share of the rows in which they differ.

    Args:
        data: the data set the rows come from, which knows their true counterfactuals.
    """

    higher_is_better = False
    title = "error against the truth"

    def __init__(self, data: KnownTruth | Any) -> None:
        super().__init__()
        self.data = data

    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        if not self.data.knows(action):
            return
        graph = world.scm.graph
        truth = self.data.true_counterfactual(world.values(), action, world.units.seed)
        for variable in (name for name in graph if name in graph.descendants(tuple(action))):
            image, true = bool(graph[variable].shape), truth[variable].to(world[variable])
            label = Label(self.title, name, variable, unit_of(world, variable))
            self.tally(label, distance(counterfactual[variable], true, image))
            self.tally(label._replace(reference="doing nothing"), distance(world[variable], true, image))
