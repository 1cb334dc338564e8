"""Sequences in pictures: what was observed, and what a model and the truth say after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from matplotlib.figure import Figure
from torch import Tensor

from causalcf.metrics.tally import distance
from causalcf.plot.sheet import Caption, Group, Panel, pictures, sheet

LEGEND = "Below an answer: its error against the truth beside it, in grey levels of 0 to 255."


def strip(
    observed: Tensor,
    answers: Mapping[str, Tensor],
    truth: Mapping[str, Tensor],
    titles: Sequence[str],
    units: int = 4,
) -> Figure:
    """A line per unit: the observed picture, and after each step the model's answer beside the true one.

    Args:
        observed: the first pictures.
        answers: step -> the model's pictures.
        truth: step -> the true ones.
        titles: of the steps.
        units: how many rows of the data are shown.
    """
    groups = [Group("observed", [Panel("observed", "", pictures(observed[:units]))])]
    for title, (step, answer) in zip(titles, answers.items(), strict=True):
        mine, right = answer[:units], truth[step][:units]
        errors = [[Caption(f"{error:.1f}")] for error in distance(mine, right, image=True).tolist()]
        panels = [Panel(step, "model", pictures(mine), errors), Panel(f"truth of {step}", "truth", pictures(right))]
        groups.append(Group(title, panels))
    return sheet(groups, LEGEND)
