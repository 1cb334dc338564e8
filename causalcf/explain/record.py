"""A line of numbers for each explained row, as CSV."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Sequence

from causalcf.explain.explanation import Explanation
from causalcf.metrics.explanation import l1_change

COLUMNS = (
    "id",
    "predicted",
    "target",
    "before",
    "after",
    "flipped",
    "l1",
    "mask",
    "scale",
    "forward",
    "backward",
    "seconds",
    "memory",
)


def record(explanation: Explanation, names: Sequence[str] | None = None) -> str:
    """A table with a line per row, as CSV.

    Columns are those of `Explanation`, with probabilities of the target `before` and `after`; `l1`, the mean absolute
    change of a pixel, 0 to 1; and `mask`, the share of pixels that might change. `memory` is empty where there was no
    GPU.

    Args:
        explanation: of the rows.
        names: of the rows, for a column "name".

    Example:
        `Path("record.csv").write_text(cf.explain.record(explanation))`
    """
    if names is not None and len(names) != len(explanation):
        raise ValueError(f"record: expected a name for each of {len(explanation)} rows, got {len(names)}")
    plain = [name for name in COLUMNS if name not in ("id", "l1", "mask")]
    columns = {name: getattr(explanation, name).tolist() for name in plain}
    columns["id"] = explanation.ids.tolist()
    columns["flipped"] = [int(flipped) for flipped in columns["flipped"]]
    columns["l1"] = l1_change(explanation.images, explanation.counterfactuals).tolist()
    columns["mask"] = explanation.mask.double().flatten(1).mean(1).tolist()
    columns["memory"] = ["" if math.isnan(held) else int(held) for held in columns["memory"]]
    lines = zip(*(columns[name] for name in COLUMNS), strict=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*(["name"] if names else []), *COLUMNS])
    for number, line in enumerate(lines):
        writer.writerow([*([names[number]] if names else []), *(_short(value) for value in line)])
    return text.getvalue()


def _short(value: object) -> object:
    return f"{value:.6g}" if isinstance(value, float) else value
