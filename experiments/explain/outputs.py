"""What a narrow network on large patches should be trained to output: how well each tells the clean image early on.

    python -m experiments.explain.outputs

Trains the generator's network for a few steps with each output, on the same rows in the same order, and writes the root
mean square errors of the clean image (values from -1 to 1) by noise level to `results/outputs.json`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import ToyFaces
from causalcf.diffusion.denoiser import PREDICTIONS
from causalcf.diffusion.schedule import Schedule
from experiments.explain.models import IMAGE

OUTPUTS: tuple[Any, ...] = ("epsilon", "v", "x0", "scaled")
STEPS = (20, 100, 250, 500, 750)  # of the schedule's 1000
TOLD = ("smiling", "mouth_open")


@torch.no_grad()
def errors(mechanism: M.Diffusion, images: torch.Tensor) -> list[float]:
    """The errors of the clean image at each noise level, without a condition."""
    x0, alpha_bar = 2 * images - 1, Schedule(mechanism.schedule).alpha_bar
    e = torch.randn(x0.shape, generator=torch.Generator().manual_seed(0))
    nothing, found = mechanism.network.null.expand(len(x0), -1), []
    for step in STEPS:
        alpha, sigma = alpha_bar[step].sqrt().float(), (1 - alpha_bar[step]).sqrt().float()
        x = alpha * x0 + sigma * e
        output = mechanism.network(x, torch.full((len(x0),), step), nothing)
        clean = (x - sigma * PREDICTIONS[mechanism.prediction].epsilon(output, x, alpha, sigma)) / alpha
        found.append(round((clean - x0).square().mean().sqrt().item(), 4))
    return found


def main(
    steps: int = 250,
    rows: int = 4000,
    outputs: list[str] = list(OUTPUTS),  # noqa: B006
    out: Path = Path("experiments/explain/results"),
    work: Path = Path("runs/outputs"),
    seed: int = 0,
) -> None:
    """Train each, measure, write.

    Args:
        steps: optimiser steps.
        rows: training rows.
        outputs: which.
        out: folder of the result.
        work: folder of the checkpoints.
        seed: of weights, order and noise.
    """
    drawn, test = ToyFaces("train", rows=rows)[:], ToyFaces("test", rows=24)[:]["image"]
    image = cf.Image(3, 64, 64)
    graph = cf.CausalGraph([(name, "image") for name in TOLD], image=image, **{name: cf.Binary() for name in TOLD})
    table = {name: drawn[name] for name in (*TOLD, "image", "id")}
    found = {}
    for output in outputs:
        mechanism: Any = M.SpatialDiffusion(
            widths=(64, 128),
            patch=4,
            attention=True,
            schedule="cosine",
            prediction=output,
            null_probability=0.3,
            recipe=IMAGE.but(steps=steps, ema=0.99),
        )
        scm = cf.SCM(graph, {"image": mechanism})
        scm.fit(table, folder=work / output, seed=seed, progress=False)
        fitted = scm.mechanism("image")
        assert isinstance(fitted, M.Diffusion)
        found[output] = errors(fitted, test)
        print(output, found[output], flush=True)
    content = {"steps": steps, "rows": rows, "seed": seed, "training steps of the schedule": STEPS, "errors": found}
    out.mkdir(parents=True, exist_ok=True)
    (out / "outputs.json").write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
