"""Choose the size of each method of a scene on validation rows; test rows are not looked at.

python -m experiments.scenes.choose pendulum
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Literal

import torch

import causalcf as cf
from causalcf.metrics import CounterfactualError, evaluate
from experiments.scenes.evaluate import digest
from experiments.scenes.methods import ALSO, SWEPT, swept
from experiments.scenes.scene import SCENES, Scene
from experiments.scenes.truth import Known, Truth


@torch.no_grad()
def choose(scene: Scene, models: Path, out: Path, rows: int) -> None:
    """Write `chosen.json`: the error of each size after one intervention over that of doing nothing, and the best size.

    Sizes in it that were tried with the same weights on as many rows are not tried again.

    Args:
        scene: the scene.
        models: folder of the models' folders.
        out: where the file goes.
        rows: validation rows, of factors that nothing confounds.
    """
    data, weights = Known(scene.rows("val", rows=rows, seed=300), rows), models / f"{scene.name}-nscm"
    truth, scm = Truth(scene, data, steps=1, seed=300), cf.SCM.load(weights)
    about = digest([weights], [rows, scm.mechanism("image").config()])
    path = out / "chosen.json"
    before = json.loads(path.read_text()) if path.exists() else {}
    found: dict[str, dict[str, float]] = before["error / doing nothing"] if before.get("weights") == about else {}
    for name, sizes in {**SWEPT, **ALSO}.items():
        for size in sizes:
            if f"{size:g}" in found.get(name, {}):
                continue
            asked = swept(name, size).made(scm, scene, {})
            try:
                report = evaluate(asked, data, truth.single, [CounterfactualError(data)], batch=rows, seed=300)
            except FloatingPointError:
                continue
            lines = [report["error against the truth", action, "image"] for action in truth.single]
            error = sum(line.estimate.mean for line in lines)
            nothing = sum(line.reference.mean for line in lines if line.reference)
            found.setdefault(name, {})[f"{size:g}"] = round(error / nothing, 4)
            print(name, size, found[name][f"{size:g}"], flush=True)
    best = {name: float(min(shares, key=shares.__getitem__)) for name, shares in found.items()}
    out.mkdir(parents=True, exist_ok=True)
    content = {"rows": rows, "weights": about, "error / doing nothing": found, "chosen": best}
    path.write_text(json.dumps(content, indent=1) + "\n")


def main(
    scene: Literal["pendulum", "pendulum-stray", "flow", "flow-stray"],
    models: Path = Path("runs"),
    out: Path | None = None,
    rows: int = 12,
) -> None:
    """Write `chosen.json`.

    Args:
        scene: which.
        models: folder of `<scene>-nscm`.
        out: where the file goes; by default where the scene's results are.
        rows: validation rows.
    """
    choose(SCENES[scene], models, SCENES[scene].results if out is None else out, rows)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
