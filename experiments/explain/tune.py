"""Choose the options of every family of methods on validation rows, all by the same rule.

    python -m experiments.explain.tune --data toyfaces

Every family has as many candidates, tried on the same rows. Taken are those with which most rows flip both the
explained classifier and the independent one, or fewer by a twelfth of the rows at most; of these, those that flip
most rows of the explained one, by the same measure; and of these, the one that changes the images least (L1). What the
truth would say is not asked. Writes `options.json`, which `evaluate` reads; a family that is in it, chosen with the
same weights and rows and of the same grid, is kept.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch

from causalcf.metrics.explanation import flips
from causalcf.storage import write_text
from experiments.explain.bench import Asked, current, digests, prepared
from experiments.explain.data import Faces
from experiments.explain.families import FAMILIES
from experiments.explain.methods import METHODS, explainer

FILE = "options.json"
TOLERANCE = 1 / 12  # of the rows


def main(
    data: str = "toyfaces",
    rows: int = 12,
    only: list[str] | None = None,
    models: Path = Path("runs"),
    out: Path | None = None,
    threads: int = 1,
) -> None:
    """Choose, and write.

    Args:
        data: toyfaces or celeba.
        rows: validation rows.
        only: families; all by default.
        models: folder of what `train` wrote.
        out: where `options.json` goes; by default `experiments/explain/results/<data>`.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    faces = Faces(data)
    place = Path("experiments/explain/results") / data if out is None else out
    place.mkdir(parents=True, exist_ok=True)
    if unknown := set(only or ()) - FAMILIES.keys():
        raise SystemExit(f"--only: expected names of FAMILIES, got {', '.join(sorted(unknown))}")
    weights, path = digests(data, models), place / FILE
    bench = prepared(faces, models, "val", rows)
    for name, family in FAMILIES.items():
        if METHODS[name].latent not in weights:
            print(f"{name}: not chosen, without --only '[latent]' of experiments.explain.train", flush=True)
            continue
        if only is not None and name not in only:
            continue
        content = chosen_before(path)
        if current(content, name, weights) and content[name]["rows"] == rows:
            continue
        tried = [tried_out(name, options, bench) for options in family.candidates()]
        best = chosen(tried, rows)
        about = {"weights": weights[METHODS[name].latent], "grid": family.digest(), "rows": rows}
        content = {**chosen_before(path), name: {**about, "options": best["options"], "tried": tried}}
        write_text(path, json.dumps(content, indent=1) + "\n")
        print(f"{name}: {best}", flush=True)


def chosen_before(path: Path) -> dict[str, Any]:
    """What is in the file; asked again before it is written, as others may choose other families meanwhile."""
    return json.loads(path.read_text()) if path.exists() else {}


@torch.no_grad()
def tried_out(name: str, options: dict[str, Any], bench: Asked) -> dict[str, Any]:
    """What some options of a family do to the rows; nothing but why, if steps were not finite."""
    method = METHODS[name]
    how = explainer(name, bench.kit, {name: options}, len(bench.rows["id"]))
    began = time.process_time()
    try:
        generator = bench.drawing[method.latent]
        images, ids = bench.rows["image"], bench.rows["id"]
        found = how.explain(method.asked(bench.kit), generator, images, bench.target, ids)
    except FloatingPointError as error:
        return {"options": options, "failed": str(error)}
    confirmed = flips(bench.judge(found.counterfactuals), found.target)
    return {
        "options": options,
        "flipped": int(found.flipped.sum()),
        "both": int((found.flipped & confirmed).sum()),
        "L1": (found.counterfactuals - found.images).abs().mean().item(),
        "evaluations": found.forward.mean().item(),
        "processor": (time.process_time() - began) / len(found),
    }


def chosen(tried: list[dict[str, Any]], rows: int) -> dict[str, Any]:
    """The options by the rule."""
    left = [entry for entry in tried if "failed" not in entry]
    if not left:
        raise SystemExit(f"tune: none of the candidates came to an end: {tried[0]['failed']}")
    for count in ("both", "flipped"):
        most = max(entry[count] for entry in left)
        left = [entry for entry in left if entry[count] >= most - TOLERANCE * rows]
    return min(left, key=lambda entry: entry["L1"])


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
