"""Graphs of the factors, proposed from their labels alone and compared with the truth.

    python -m experiments.scenes.graphs

An exact search scored by conditional densities (`cf.discover`), and soft gates of the equations under an acyclicity
penalty, as `NSCMDiffusion(structure="learned")` learns them; on rows that nothing confounds, and on confounded ones.
Writes `results/graphs.json` and `results/graphs.md`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalcf.mechanisms.features import Features
from causalcf.networks.projector import Equations
from causalcf.training.discovery import Structure, discover, hamming
from experiments.scenes.scene import FLOW, PENDULUM, Scene

ROWS, STEPS, SPARSITY = 4000, 2500, 0.01


def gated(rows: dict[str, Tensor], scene: Scene, seed: int, steps: int = STEPS) -> Structure:
    """The edges whose gates are more open than shut after training under the penalty."""
    variables = {name: scene.data.graph.variables[name] for name in scene.ranges}
    features = Features(variables)
    features.calibrate(rows)
    z = features(rows, len(rows[next(iter(rows))]))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        equations = Equations(len(variables))
        optimiser = torch.optim.Adam(equations.parameters(), 1e-2)
        for _ in range(steps):
            batch = z[torch.randint(len(z), (256,))]
            loss = equations.loss(batch).mean() + equations.penalty(SPARSITY)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    heard, names = equations.adjacency() > 0.5, list(variables)
    return {name: [names[j] for j in heard[k].nonzero()[:, 0].tolist()] for k, name in enumerate(names)}


def edges(structure: Structure) -> str:
    """In words."""
    return ", ".join(f"{cause} -> {name}" for name, causes in structure.items() for cause in causes) or "none"


def main(
    rows: int = ROWS,
    steps: int = STEPS,
    seeds: int = 3,
    confounding: list[float] = [0.0, 0.7],  # noqa: B006
    out: Path = Path("experiments/scenes/results"),
) -> None:
    """Search, compare, write.

    Args:
        rows: training rows.
        steps: optimiser steps of each.
        seeds: how many, of rows and training.
        confounding: correlations of the two roots in the rows.
        out: folder of the results.
    """
    found: list[dict[str, Any]] = []
    for scene in (PENDULUM, FLOW):
        for share in confounding:
            for seed in range(seeds):
                data = scene.data("train", rows=rows, seed=seed, confounding=share)
                columns = {name: column.float() for name, column in data.columns(list(scene.ranges)).items()}
                best = discover(columns, seed=seed, steps=steps)
                proposed = {"search": best.structure, "gates": gated(columns, scene, seed, steps)}
                for method, structure in proposed.items():
                    line = {"scene": scene.name, "confounding": share, "seed": seed, "method": method}
                    off = hamming(structure, scene.structure)
                    margin = round(best.runner_up, 4) if method == "search" else None
                    found.append({**line, "distance": off, "edges": edges(structure), "runner-up worse by": margin})
                    print(found[-1], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "graphs.json").write_text(json.dumps({"rows": rows, "steps": steps, "found": found}, indent=1) + "\n")
    lines = [f"Structural Hamming distance to the truth, {rows} rows, {steps} steps, seeds 0 to {seeds - 1}.", ""]
    lines += ["| scene | confounding | method | distance | edges of seed 0 |", "|---|---|---|---|---|"]
    for scene in (PENDULUM, FLOW):
        for share in confounding:
            for method in ("search", "gates"):
                same = [
                    line
                    for line in found
                    if (line["scene"], line["confounding"], line["method"]) == (scene.name, share, method)
                ]
                distances = ", ".join(str(line["distance"]) for line in same)
                cells = [scene.name, f"{share:g}", method, distances, same[0]["edges"]]
                lines.append("| " + " | ".join(cells) + " |")
    (out / "graphs.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
