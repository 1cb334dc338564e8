"""Composition: does doing nothing change nothing?"""

from __future__ import annotations

from collections.abc import Sequence

from causalcf.metrics.tally import Label, Tally, distance, unit_of
from causalcf.world import World


class Composition(Tally):
    r"""Distance of the null intervention's result from the observation (Monteiro et al., 2023), lower is better.

    `x^(m) = CF(x^(m-1), pa; null)`, `composition_m = |x^(m) - x|`: abduction and prediction are forced, every cycle
    abducts the output of the one before, and the parents stay as observed.

    Args:
        node: the variable, by default the only image, or the last variable where there is none.
        cycles: the m to report.
    """

    higher_is_better = False
    title = "composition"

    def __init__(self, node: str | None = None, cycles: Sequence[int] = (1, 10)) -> None:
        super().__init__()
        if not cycles or min(cycles) < 1:
            raise ValueError(f"Composition: expected cycles >= 1, got {tuple(cycles)}")
        self.node, self.cycles = node, tuple(sorted(cycles))

    def seen(self, world: World) -> None:  # noqa: D102
        scm, rows, current = world.scm, world.values(), world
        node = self.on(world)
        image = bool(scm.graph[node].shape)
        for cycle in range(1, self.cycles[-1] + 1):
            value = current.recomputed(node)
            if cycle in self.cycles:
                plural = "cycle" if cycle == 1 else "cycles"
                label = Label(f"{self.title}, {cycle} {plural}", "", node, unit_of(world, node))
                self.tally(label, distance(value, rows[node], image))
            current = scm.observe({**rows, node: value}, world.units.seed)
