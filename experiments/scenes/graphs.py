"""Graphs of the factors, proposed from their labels alone and compared with the truth.

    python -m experiments.scenes.graphs

An exact search scored by conditional densities (`cf.discover`); soft gates of the equations under an acyclicity
penalty, as `NSCMDiffusion(structure="learned")` learns them; and gates drawn open or shut, under an augmented
Lagrangian whose multiplier grows until there is no cycle. On rows that nothing confounds, and on confounded ones.
Writes `results/graphs.json` and `results/graphs.md`.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from causalcf.mechanisms.features import Features
from causalcf.networks.projector import Equations
from causalcf.training.discovery import Structure, discover, hamming
from experiments.scenes.scene import FLOW, PENDULUM, Scene

ROWS, STEPS, SPARSITY = 4000, 2500, 0.01
TEMPERATURE = 0.5  # of drawn gates
GROW = 100  # steps between two rises of the multiplier


@dataclass(frozen=True)
class Gates:
    """What became of the gates.

    Attributes:
        structure: the edges whose gates are more open than shut.
        least: the gate that is open least.
        most: the gate that is open most.
        cycles: `tr exp(A o A) - K` of the gates.
    """

    structure: Structure
    least: float
    most: float
    cycles: float


class Drawn(Equations):
    """Gates that are drawn open or shut in training, so that larger weights cannot make up for half-open ones."""

    def adjacency(self) -> Tensor:  # noqa: D102
        soft = super().adjacency()
        if not self.training:
            return soft
        u = torch.rand_like(soft).clamp(1e-6, 1 - 1e-6)
        near = self.mask * ((self.gates + u.logit()) / TEMPERATURE).sigmoid()
        return (near > 0.5).to(near) + near - near.detach()


class Multiplier:
    """An augmented Lagrangian of the cycles: `alpha h + rho h^2 / 2`, where both grow until h is 0."""

    def __init__(self) -> None:
        self.alpha, self.rho, self.last = 0.0, 1.0, math.inf

    def price(self, h: Tensor) -> Tensor:
        """Of this much of cycles."""
        return self.alpha * h + 0.5 * self.rho * h.square()

    def grow(self, h: float) -> None:
        """After some steps that left this much of cycles."""
        self.alpha += self.rho * h
        if h > 0.25 * self.last:
            self.rho = min(3 * self.rho, 1e8)
        self.last = h


def gated(rows: dict[str, Tensor], scene: Scene, seed: int, steps: int = STEPS, augmented: bool = False) -> Gates:
    """Gates after training under the penalty, or, drawn open or shut, under a multiplier that grows."""
    variables = {name: scene.data.graph.variables[name] for name in scene.ranges}
    features = Features(variables)
    features.calibrate(rows)
    z = features(rows, len(rows[next(iter(rows))]))
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        equations, multiplier = (Drawn if augmented else Equations)(len(variables)), Multiplier()
        optimiser = torch.optim.Adam(equations.parameters(), 1e-2)
        for step in range(1, steps + 1):
            loss = equations.train().loss(z[torch.randint(len(z), (256,))]).mean()
            equations.eval()
            if augmented:
                loss = loss + multiplier.price(equations.cycles()) + SPARSITY * equations.adjacency().sum()
            else:
                loss = loss + equations.penalty(SPARSITY)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            if augmented and step % GROW == 0:
                multiplier.grow(float(equations.cycles().detach()))
    adjacency, names = equations.adjacency().detach(), list(variables)
    heard = adjacency > 0.5
    structure = {name: [names[j] for j in heard[k].nonzero()[:, 0].tolist()] for k, name in enumerate(names)}
    widest = adjacency[~torch.eye(len(names), dtype=torch.bool)]
    return Gates(structure, float(widest.min()), float(widest.max()), float(equations.cycles().detach()))


def open_of(gates: Gates) -> dict[str, float]:
    """How far the gates are open, and how much of cycles is left."""
    return {"least gate": gates.least, "most gate": gates.most, "cycles": gates.cycles}


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
                data = scene.rows("train", rows=rows, seed=seed, confounding=share)
                columns = {name: column.float() for name, column in data.columns(list(scene.ranges)).items()}
                best = discover(columns, seed=seed, steps=steps)
                gates = {
                    "gates": gated(columns, scene, seed, steps),
                    "drawn gates, augmented": gated(columns, scene, seed, steps, augmented=True),
                }
                proposed = {"search": best.structure, **{name: found.structure for name, found in gates.items()}}
                for method, structure in proposed.items():
                    line: dict[str, Any] = {"scene": scene.name, "confounding": share, "seed": seed, "method": method}
                    off = hamming(structure, scene.structure)
                    if method == "search":
                        line["runner-up worse by"] = round(best.runner_up, 4)
                    else:
                        line |= {name: round(value, 6) for name, value in open_of(gates[method]).items()}
                    found.append({**line, "distance": off, "edges": edges(structure)})
                    print(found[-1], flush=True)
    out.mkdir(parents=True, exist_ok=True)
    (out / "graphs.json").write_text(json.dumps({"rows": rows, "steps": steps, "found": found}, indent=1) + "\n")
    lines = [f"Structural Hamming distance to the truth, {rows} rows, {steps} steps, seeds 0 to {seeds - 1}.", ""]
    lines += ["| scene | confounding | method | distance | gates, cycles left | edges of seed 0 |", "|" + "---|" * 6]
    for scene in (PENDULUM, FLOW):
        for share in confounding:
            for method in ("search", "gates", "drawn gates, augmented"):
                same = [
                    line
                    for line in found
                    if (line["scene"], line["confounding"], line["method"]) == (scene.name, share, method)
                ]
                distances = ", ".join(str(line["distance"]) for line in same)
                opened = "-"
                if "cycles" in same[0]:
                    least, most = min(one["least gate"] for one in same), max(one["most gate"] for one in same)
                    opened = f"{least:.2f} to {most:.2f}, {max(one['cycles'] for one in same):.2g}"
                cells = [scene.name, f"{share:g}", method, distances, opened, same[0]["edges"]]
                lines.append("| " + " | ".join(cells) + " |")
    (out / "graphs.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
