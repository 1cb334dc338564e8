"""Means over rows with their intervals, as torchmetrics: what every soundness metric is made of."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import ClassVar, NamedTuple, TypeVar

import torch
from scipy.special import stdtrit
from torch import Tensor
from torchmetrics import Metric

from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.world import World


class Estimate(NamedTuple):
    """A mean over rows.

    Attributes:
        n: rows.
        mean: their mean.
        sd: their standard deviation; NaN of one row, which says nothing of how rows differ.
    """

    n: int
    mean: float
    sd: float

    @property
    def half_width(self) -> float:
        """Half of Student's 95 % interval of the mean, `t sd / sqrt(n)`, t the quantile of n - 1 degrees of freedom."""
        return float(stdtrit(self.n - 1, 0.975)) * self.sd / math.sqrt(self.n) if self.n > 1 else math.nan


def estimate(values: Tensor) -> Estimate:
    """Mean and standard deviation over rows; rows without a value (NaN) are left out, and n says how many are in.

    Example:
        >>> estimate(torch.tensor([1.0, float("nan"), 3.0])).n
        2
    """
    values = values.detach().double().cpu()
    values = values[~values.isnan()]
    if not len(values):
        return Estimate(0, math.nan, math.nan)
    return Estimate(len(values), values.mean().item(), values.std().item() if len(values) > 1 else math.nan)


class Label(NamedTuple):
    """What a number is about.

    Attributes:
        metric: its name.
        action: the intervention, as text; empty where there is none.
        variable: whose values were compared.
        unit: of the number.
        reference: what a number of this kind should be held against, empty for the number itself.
    """

    metric: str
    action: str
    variable: str
    unit: str
    reference: str = ""


class Tally(Metric):
    """A soundness metric: sums over rows, kept per label in float64, which add up over batches and over ranks.

    Subclasses call `tally(label, values)` in `seen` (once per batch of observed rows) or in `done` (once per batch and
    intervention). Units and image scales are part of the label.

    Attributes:
        title: the metric's name in tables.
        node: the variable that is measured, where a metric is of one, and it was named.
        rows: label -> the values themselves, batch by batch, of this rank alone; NaN for a row that does not count.
    """

    full_state_update = False
    title: ClassVar[str]
    node: str | None = None

    def __init__(self) -> None:
        super().__init__()
        self.labels: dict[Label, str] = {}
        self.rows: dict[Label, list[Tensor]] = {}

    def reset(self) -> None:
        """Forget all rows."""
        super().reset()
        self.rows.clear()

    def update(
        self, world: World, action: Do | None = None, name: str = "", counterfactual: World | None = None
    ) -> None:
        """Take in one batch: the factual world alone, or with a counterfactual world and what was done."""
        if counterfactual is None or action is None:
            self.seen(world)
        else:
            self.done(world, action, name, counterfactual)

    def on(self, world: World) -> str:
        """The variable that is measured: the one named, the only image, or the last variable where there is none."""
        return node_of(world.scm.graph, self.node)

    def trial(self, world: World) -> None:
        """Raise where it cannot measure such observed rows; asked before anything is sampled."""
        if self.node is not None:
            world.scm.graph.require(self.node)

    def seen(self, world: World) -> None:
        """Take in a batch of observed rows."""

    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:
        """Take in the counterfactual of a batch under one intervention, which tables call `name`."""

    def tally(self, label: Label, values: Tensor, counted: Tensor | None = None) -> None:
        """Add one value per row to the sums of a label.

        Args:
            label: what they are about.
            values: one per row.
            counted: which rows count, by default all that are numbers. The others keep their place among `rows`, so
                that two metrics of the same rows can be compared row by row.

        Raises:
            ValueError: not one value per row.
        """
        if values.ndim != 1:
            raise ValueError(f"{label.metric}: expected one value per row, shape (B,), got {tuple(values.shape)}")
        if label not in self.labels:
            state = f"sums_{len(self.labels)}"
            self.labels[label] = state
            self.add_state(state, torch.zeros(3, dtype=torch.float64), dist_reduce_fx="sum")
        values = values.detach().double().cpu()
        counted = ~values.isnan() if counted is None else counted.cpu() & ~values.isnan()
        self.rows.setdefault(label, []).append(values.where(counted, math.nan))
        values = values[counted]
        sums = torch.stack([torch.tensor(float(len(values)), dtype=torch.float64), values.sum(), values.square().sum()])
        setattr(self, self.labels[label], getattr(self, self.labels[label]) + sums.to(self.device))

    def compute(self) -> dict[Label, Estimate]:
        """The estimates by label."""
        result = {}
        for label, state in self.labels.items():
            n, total, square = getattr(self, state).tolist()
            if not n:
                continue
            own = estimate(torch.cat(self.rows[label])) if label in self.rows else Estimate(0, math.nan, math.nan)
            if own.n == n:  # no other rank has any: from the rows themselves, which loses no digits
                result[label] = own
                continue
            mean = total / n
            sd = math.sqrt(max(square / n - mean**2, 0.0) * n / (n - 1)) if n > 1 else math.nan
            result[label] = Estimate(int(n), mean, sd)
        return result


def node_of(graph: CausalGraph, node: str | None) -> str:
    """The variable that is measured where this one is named, or none."""
    if node is not None:
        graph.require(node)
        return node
    return graph.image() if graph.images else graph.nodes[-1]


R = TypeVar("R")
AT_ONCE = 64  # reference images encoded together


def read(what: str, network: Callable[[Tensor], R], images: Tensor) -> R:
    """What an oracle or an encoder says of images.

    Raises:
        ValueError: it does not take them.
    """
    try:
        return network(images)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        raise ValueError(
            f"{what} does not take images of shape {tuple(images.shape)}; give one of this size and number of channels "
            f"({str(error).splitlines()[0]})"
        ) from error


def flat(what: str, features: Tensor) -> Tensor:
    """Features, one vector per row.

    Raises:
        ValueError: maps, or something else.
    """
    if features.ndim != 2:
        raise ValueError(f"{what} gave shape {tuple(features.shape)}, expected (B, D); write features.flatten(1)")
    return features


def distance(a: Tensor, b: Tensor, image: bool) -> Tensor:
    """Mean absolute difference per row; images on the scale of 0 to 255, numbers in their own unit.

    Of classes, whether they differ.
    """
    if not b.is_floating_point():
        return (a != b).double()
    difference = (a.double() - b.double()).abs()
    return 255 * difference.flatten(1).mean(1) if image else difference


def unit_of(world: World, name: str) -> str:
    """The unit in which `distance` is given for a variable."""
    variable = world.scm.graph[name]
    if not variable.dtype.is_floating_point:
        return "share"
    return "grey 0-255" if variable.shape else getattr(variable, "unit", "") or "-"
