"""Draw explanations of a classifier: a line per image, what it was, what it became, what changed and what might."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from causalcf.plot.sheet import GREY_LEVELS, Caption, Group, Panel, change, pictures, sheet

if TYPE_CHECKING:
    from causalcf.explain.explanation import Explanation

__all__ = ["explanations"]

DOTS, CELL = 150, 0.8  # of an inch: pixels, and the least width of a picture
LETTERS = 8  # of a class, if two are to stand on one line
LEGEND = (
    "p: probability of the class asked for; strong where the classifier decides for it",
    "change: mean absolute change, in grey levels",
    "difference: of the channel that changed most",
    "mask: where the image might change, and which share of it",
)


def explanations(
    *found: Explanation,
    rows: int = 6,
    titles: Sequence[str] | None = None,
    classes: Sequence[str] | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw the same images as several methods explain them: one line per image, and a group of columns per method.

    On the left is the factual image, with the class that the classifier decides for, the class asked for and its
    probability. For each method come the counterfactual image, its difference from the factual one (red where it became
    brighter, blue where it became darker, on one scale for the whole figure), and the mask, if the method has one.

    Args:
        found: explanations of the same images with the same targets.
        rows: how many images to draw, from the first on.
        titles: of the methods; by default their names.
        classes: names of the classes; by default their numbers.
        names: of the images, by default none.

    Returns:
        A figure apart from pyplot. Axes have the gids `factual:<line>`, `counterfactual:<method>:<line>`,
        `difference:...`, `mask:...` and `scale`.

    Raises:
        ValueError: no explanation, or such that do not explain the same images.

    Example:
        `explanations(dime, maskdime, classes=["neutral", "smiling"]).savefig("grid.png")`
    """
    _check(found, rows, titles, classes, names)
    first, count = found[0], min(rows, len(found[0]))
    said = [str(one) for one in (range(1 + _greatest(first)) if classes is None else classes)]
    between = " → " if max(map(len, said)) <= LETTERS else " →\n"
    below = [
        [
            *([Caption(names[row])] if names else []),
            *map(Caption, f"{said[was]}{between}{said[to]}".split("\n")),
            Caption(f"p {chance:.2f}"),
        ]
        for row, (was, to, chance) in enumerate(
            zip(first.predicted.tolist(), first.target.tolist(), first.before.tolist(), strict=True)
        )
    ]
    groups = [Group("factual", [Panel("factual", "", pictures(first.images[:count]), below[:count])])]
    for index, one in enumerate(found):
        title = one.about.get("method", f"#{index + 1}") if titles is None else titles[index]
        groups.append(Group(title, _panels(index, one[:count])))
    masked = any(len(group.panels) > 2 for group in groups)
    width = first.images.shape[-1]
    cell = max(1, math.ceil(CELL * DOTS / width)) * width / DOTS  # whole dots per pixel, so that none is drawn wider
    return sheet(groups, "; ".join(LEGEND if masked else LEGEND[:-1]), cell)


def _panels(index: int, one: Explanation) -> list[Panel]:
    """Counterfactual, difference and mask of some rows."""
    chances = [
        [Caption(f"p {chance:.2f}", flipped)]
        for chance, flipped in zip(one.after.tolist(), one.flipped.tolist(), strict=True)
    ]
    moved = (GREY_LEVELS * (one.counterfactuals - one.images).abs().flatten(1).mean(1)).tolist()
    found = [
        Panel(f"counterfactual:{index}", "counterfactual", pictures(one.counterfactuals), chances),
        Panel(
            f"difference:{index}",
            "difference",
            change(one.counterfactuals, one.images),
            [[Caption(f"change {value:.1f}")] for value in moved],
            signed=True,
        ),
    ]
    if not one.mask.all():
        shares = one.mask.double().flatten(1).mean(1).tolist()
        below = [[Caption(f"{100 * share:.0f} %")] for share in shares]
        found.append(Panel(f"mask:{index}", "mask", pictures(one.mask.float()), below))
    return found


def _greatest(one: Explanation) -> int:
    return int(torch.cat([one.predicted, one.target]).max())


def _check(
    found: Sequence[Explanation],
    rows: int,
    titles: Sequence[str] | None,
    classes: Sequence[str] | None,
    names: Sequence[str] | None,
) -> None:
    if not found:
        raise ValueError("explanations: expected at least one, got none; write explanations(MaskDiME().explain(...))")
    first = found[0]
    for place, one in enumerate(found[1:], 1):
        if not torch.equal(one.images, first.images) or not torch.equal(one.target, first.target):
            raise ValueError(
                f"explanations: that at place {place} explains other images or targets than the first; give each "
                "method the same rows"
            )
    if rows < 1:
        raise ValueError(f"explanations: expected rows >= 1, got {rows}")
    for what, given, count in (("titles", titles, len(found)), ("names", names, len(first))):
        if given is not None and len(given) != count:
            raise ValueError(f"explanations: expected {count} {what}, got {len(given)}")
    if classes is not None and len(classes) <= _greatest(first):
        raise ValueError(
            f"explanations: expected names of the classes 0 to {_greatest(first)}, got {len(classes)}; name every "
            "class that the classifier knows"
        )
