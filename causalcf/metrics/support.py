"""Support: does an intervention ask about combinations of values that the data show?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.metrics.tally import AT_ONCE, Label, Tally
from causalcf.numbers import whole
from causalcf.rows import Dataset, Table, spread
from causalcf.variables import Discrete
from causalcf.world import World

EXACT = "donot_use_mm_for_euclid_dist"  # what is the same point is at a distance of 0


class Support(Tally):
    r"""The share of rows that an intervention takes where hardly any data are.

    A model answers there by extrapolation, and no measurement of its images says whether it does so rightly. Rows are
    compared by all variables but images, numbers in units of their standard deviation in the reference and classes by
    columns of 0 and 1; a row is outside where it is further from its k-th nearest reference row than all but a share
    :math:`\alpha` of the reference rows are from theirs. Beside it stands the same share of the observed rows, which is
    about :math:`\alpha` where they are drawn as the reference is.

    Args:
        reference: rows that the model was fitted on, a mapping or a data set.
        names: the variables, by default all but images.
        neighbours: k.
        tail: :math:`\alpha`.
        most: how many reference rows are held, evenly spaced.

    Raises:
        ValueError: a tail that is no share; and, before anything is sampled, not more reference rows than neighbours,
            or names of images.

    Example:
        `cf.evaluate(scm, test, plan, [*metrics, cf.metrics.Support(train)])`
    """

    higher_is_better = False
    title = "outside of the data"

    def __init__(
        self,
        reference: Mapping[str, Tensor] | Dataset,
        names: Sequence[str] | None = None,
        neighbours: int = 10,
        tail: float = 0.01,
        most: int = 5000,
    ) -> None:
        super().__init__()
        whole("Support", 1, neighbours=neighbours, most=most)
        if not 0 < tail < 1:
            raise ValueError(f"Support: expected tail between 0 and 1, got {tail}")
        self.rows_seen, self.names = reference, names
        self.neighbours, self.tail, self.most = neighbours, tail, most
        self.held: _Held | None = None

    def trial(self, world: World) -> None:  # noqa: D102
        if self.held is None or self.held.graph != world.scm.graph:
            self.held = self._read(world.scm.graph)

    def _read(self, graph: CausalGraph) -> _Held:
        names = [name for name in graph if not graph[name].shape] if self.names is None else list(self.names)
        graph.require(*names)
        if not names or any(graph[name].shape for name in names):
            raise ValueError(f"Support: expected names of numbers and classes, got {', '.join(names) or 'none'}")
        table = Table(self.rows_seen, graph, "Support: the reference")
        if min(len(table), self.most) <= self.neighbours:
            raise ValueError(f"Support: expected more reference rows than {self.neighbours}, got {len(table)}")
        place = torch.tensor(spread(len(table), self.most))
        columns = {name: values.cpu()[place] for name, values in table.columns(names).items()}
        units = {name: float(values.double().std()) or 1.0 for name, values in columns.items()}
        held = _Held(graph, units, torch.empty(0), 0.0)
        points = held.place(columns)
        own = torch.cat([self._distance(part, points, itself=1) for part in points.split(AT_ONCE)])
        return replace(held, points=points, furthest=own.quantile(1 - self.tail).item())

    def seen(self, world: World) -> None:  # noqa: D102
        self.tally(Label(self.title, "", self._variable(world), "share", "as observed"), self._outside(world))

    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        self.tally(Label(self.title, name, self._variable(world), "share"), self._outside(counterfactual))

    def _variable(self, world: World) -> str:
        return ", ".join(world.scm.graph.images or world.scm.graph)

    def _outside(self, world: World) -> Float[Tensor, " batch"]:
        assert self.held is not None
        points = self.held.place({name: world[name].cpu() for name in self.held.units})
        return (self._distance(points, self.held.points) > self.held.furthest).double()

    def _distance(self, points: Tensor, among: Tensor, itself: int = 0) -> Float[Tensor, " batch"]:
        """How far the k-th nearest is; `itself` is 1 where the points are among them."""
        return torch.cdist(points, among, compute_mode=EXACT).kthvalue(self.neighbours + itself, 1).values


@dataclass(frozen=True)
class _Held:
    """The reference as points.

    Attributes:
        graph: of the rows.
        units: variable -> its standard deviation, or 1 where it does not vary.
        points: one per row.
        furthest: that a row may be from its k-th nearest.
    """

    graph: CausalGraph
    units: Mapping[str, float]
    points: Float[Tensor, "rows width"]
    furthest: float

    def place(self, rows: Mapping[str, Tensor]) -> Float[Tensor, "batch width"]:
        """The points of some rows."""
        columns = []
        for name, unit in self.units.items():
            variable = self.graph[name]
            if isinstance(variable, Discrete):
                columns.append(torch.nn.functional.one_hot(rows[name], variable.classes).double())
            else:
                columns.append(rows[name].double()[:, None] / unit)
        return torch.cat(columns, 1)
