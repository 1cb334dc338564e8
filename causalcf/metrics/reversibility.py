"""Reversibility: does the way back lead back?"""

from __future__ import annotations

from collections.abc import Sequence

from causalcf.assignments import Value
from causalcf.interventions import Do
from causalcf.metrics.tally import Label, Tally, distance, unit_of
from causalcf.world import World


class Reversibility(Tally):
    r"""Distance from the observation after `do(a*)`, abducting anew, and `do(a)` with the factual value.

    One cycle is there and back. The counterfactual rows are observed as if they were real, so descendants of the
    intervened variables have to return through the noise abducted from them.

    Args:
        node: the variable compared, by default the only image, or the last variable where there is none.
        cycles: the numbers of cycles to report.
    """

    higher_is_better = False
    title = "reversibility"

    def __init__(self, node: str | None = None, cycles: Sequence[int] = (1,)) -> None:
        super().__init__()
        if not cycles or min(cycles) < 1:
            raise ValueError(f"Reversibility: expected cycles >= 1, got {tuple(cycles)}")
        self.node, self.cycles = node, tuple(sorted(cycles))

    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        node = self.on(world)
        image = bool(world.scm.graph[node].shape)
        away = Do({target: (Value(counterfactual[target]),) for target in action})
        home = Do({target: (Value(world[target]),) for target in action})
        there = counterfactual
        for cycle in range(1, self.cycles[-1] + 1):
            back = there.reabduct().do(home)
            if cycle in self.cycles:
                plural = "cycle" if cycle == 1 else "cycles"
                label = Label(f"{self.title}, {cycle} {plural}", name, node, unit_of(world, node))
                self.tally(label, distance(back[node], world[node], image))
            if cycle < self.cycles[-1]:
                there = back.reabduct().do(away)
