"""What the JSON files of the repairs say, as tables."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

COLUMNS = (
    "faces",
    "shortcut",
    "strength",
    "generator",
    "seed",
    "rounds",
    "explained",
    "of a batch",
    "flipped",
    "fooled",
    "shortcut changed",
    "of a fair classifier",
    "nothing changed",
    "accuracy before",
    "after",
    "more training",
    "fair classifier",
    "gain",
)


def interval(share: float, rows: int) -> float:
    """Half the width of a 95 % interval of a share."""
    return 1.96 * math.sqrt(share * (1 - share) / rows)


def line(content: Mapping[str, Any]) -> list[str]:
    """The cells of one repair."""
    shortcut, rounds, accuracy = content["shortcut"], content["rounds"], content["accuracy"]
    first, fair, tested = rounds[0], content["fair changes"], content["tested"]

    def share(found: Mapping[str, Any] | None) -> str:
        return "-" if found is None else f"{found['share'][shortcut]:.2f} of {found['rows']}"

    def right(name: str) -> str:
        return f"{accuracy[name]:.3f} ± {interval(accuracy[name], tested):.3f}"

    return [
        content["data"],
        shortcut,
        f"{content['strength']:g}",
        f"{content['generator']}, {content['explainer']['method']}{', distilled' if content.get('distilled') else ''}",
        str(content["seed"]),
        str(len(rounds)),
        str(sum(each["explained"] for each in rounds)),
        f"{content.get('share', 0.5):g}",
        str(sum(each["flipped"] for each in rounds)),
        f"{first['fooled']:.2f}",
        share(first["changes"]),
        share(fair),
        "-" if first["changes"] is None else f"{first['changes']['nothing']:.2f}",
        *(right(name) for name in ("before", "after", "more training", "fair rows")),
        f"{content['gain']:.3f}",
    ]


def attributes(content: Mapping[str, Any]) -> list[str]:
    """How often the explanations of the first round changed each attribute, beside those of a fair classifier."""
    found, fair = content["rounds"][0]["changes"], content["fair changes"]
    if found is None:
        return []
    title = f"{content['data']}, {content['shortcut']} {content['strength']:g}, {content['generator']}"
    head = "| attribute | changed | with the target | changed, of a fair classifier |"
    lines = [f"## {title}, seed {content['seed']}", "", head, "|---|---|---|---|"]
    for name in sorted(found["share"], key=lambda name: -found["share"][name]):
        other = "-" if fair is None else f"{fair['share'][name]:.2f}"
        lines.append(f"| {name} | {found['share'][name]:.2f} | {found['along'][name]:+.2f} | {other} |")
    other = "-" if fair is None else f"{fair['nothing']:.2f}"
    lines.append(f"| none of these | {found['nothing']:.2f} | | {other} |")
    return [*lines, ""]


def write(out: Path) -> None:
    """`table.md` of all that is measured."""
    contents = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    if not contents:
        return
    rows = ["| " + " | ".join(cells) + " |" for cells in (COLUMNS, *(line(content) for content in contents))]
    text = ["# Repairs", "", rows[0], "|" + "---|" * len(COLUMNS), *rows[1:], ""]
    for content in contents:
        text += attributes(content)
    (out / "table.md").write_text("\n".join(text))
