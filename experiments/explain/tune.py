"""Choose the options of every family of methods on validation rows, all by the same rule.

    python -m experiments.explain.tune --data toyfaces

Of a family's grid, the options are taken with which most rows flip both the explained classifier and the independent
one; of those that are worse by one row at most, the ones that change the images least (L1). What the truth would say
is not asked. Writes `options.json`, which `evaluate` reads; a family that is in it is kept.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

from causalcf.metrics.explanation import flips
from experiments.explain.data import Faces
from experiments.explain.evaluate import Bench, prepared
from experiments.explain.methods import FAMILIES, METHODS

FILE = "options.json"


def main(
    data: str = "toyfaces",
    rows: int = 24,
    few: int = 8,
    only: list[str] | None = None,
    models: Path = Path("runs"),
    out: Path | None = None,
) -> None:
    """Choose, and write.

    Args:
        data: toyfaces or celeba.
        rows: validation rows.
        few: validation rows for slow families.
        only: families; all by default.
        models: folder of what `train` wrote.
        out: where `options.json` goes; by default `experiments/explain/results/<data>`.
    """
    faces = Faces(data)
    place = Path("experiments/explain/results") / data if out is None else out
    place.mkdir(parents=True, exist_ok=True)
    bench, digest = prepared(faces, models, faces.split("val", rows))
    path = place / FILE
    found: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {}
    for name, family in FAMILIES.items():
        if (only is not None and name not in only) or found.get(name, {}).get("weights") == digest:
            continue
        if METHODS[family.leader].latent not in bench.drawing:
            continue
        count = min(few, rows) if family.slow else rows
        tried = [tried_out(name, options, bench, count) for options in family.candidates()]
        best = chosen(tried)
        found[name] = {"weights": digest, "rows": count, "options": best["options"], "tried": tried}
        path.write_text(json.dumps(found, indent=1) + "\n")
        print(f"{name}: {best}", flush=True)


@torch.no_grad()
def tried_out(name: str, options: dict[str, Any], bench: Bench, count: int) -> dict[str, Any]:
    """What some options of a family do to the first rows."""
    method = METHODS[FAMILIES[name].leader]
    explainer = method.explainer(bench.kit, {name: options})
    images, ids = bench.rows["image"][:count], bench.rows["id"][:count]
    found = explainer.explain(method.asked(bench.kit), bench.drawing[method.latent], images, ids=ids)
    confirmed = flips(bench.judge(found.counterfactuals), found.target)
    return {
        "options": options,
        "flipped": int(found.flipped.sum()),
        "both": int((found.flipped & confirmed).sum()),
        "L1": (found.counterfactuals - found.images).abs().mean().item(),
        "evaluations": found.forward.mean().item(),
        "seconds": found.seconds.mean().item(),
    }


def chosen(tried: list[dict[str, Any]]) -> dict[str, Any]:
    """The options by the rule."""
    most = max(entry["both"] for entry in tried)
    return min((entry for entry in tried if entry["both"] >= most - 1), key=lambda entry: entry["L1"])


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
