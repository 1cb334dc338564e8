"""What a trajectory costs beside the network: ratios of times on one machine, and counts of network evaluations.

    python -m experiments.benchmarks.trajectory [--model morphodigits-semantic] [--rows 32]

- overhead: abduction and prediction against as many bare forward passes of the network, taken in turns.
- guidance: calls of a guided step (one, of twice the rows).
- evaluations of a row, forwards and backwards, of every way of asking.
- bfloat16 against float32: time, composition, and difference of the counterfactual.
- batch: rows per second at other batch sizes, against 32.
- memory: highest resident memory of a process at 10 and at 100 steps.
- compiled: time of abduction and prediction with `compiled=True`, against without.
"""

from __future__ import annotations

import json
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits

TURNS = 3


def timed(act: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def ratio(first: Callable[[], object], second: Callable[[], object]) -> float:
    """Median over turns of the time of `first` over that of `second`, taken one after the other."""
    first(), second()
    return statistics.median(timed(first) / timed(second) for _ in range(TURNS))


class Asked:
    """The network calls of some work: the rows of each, and how many were differentiated."""

    def __init__(self, image: M.Diffusion) -> None:
        self.rows: list[int] = []
        self.backward = 0
        self.hook = image.network.register_forward_hook(self._seen)

    def _seen(self, _: Any, args: tuple[Tensor, ...], output: Tensor) -> None:
        self.rows.append(len(output))
        self.backward += len(output) * int(output.requires_grad)

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        self.hook.remove()


def ask(scm: cf.SCM, rows: dict[str, Tensor]) -> Tensor:
    """Abduction, and one counterfactual."""
    return scm.observe(rows).do(thickness=3.0)["image"]


def variants(scm: cf.SCM) -> dict[str, cf.SCM]:
    """The ways of asking whose evaluations are counted."""
    plain = {"solver": "2m", "steps": 25, "replay": False}
    made = {
        "DDIM with fixed point, 50": scm.using(image={"solver": "ddim", "steps": 50, "replay": False}),
        "explicit DDIM, 50": scm.using(image={"solver": "explicit ddim", "steps": 50, "replay": False}),
        "2M, 25": scm.using(image=plain),
        "2M with replay, 25": scm.using(image={**plain, "replay": True}),
        "bidirectional DDIM, 25": scm.using(image={**plain, "solver": "bidirectional ddim"}),
        "BELM, 25": scm.using(image={**plain, "solver": "belm"}),
        "EDICT, 25": scm.using(image={**plain, "solver": "edict"}),
        "2M, 25, omega 2": scm.using(image={**plain, "omega": 2.0}),
        "2M with replay, 25, omega 2": scm.using(image={**plain, "omega": 2.0, "replay": True}),
        "2M, 25, omega 2, factual reference": scm.using(image={**plain, "omega": 2.0, "reference": "factual"}),
    }
    image = scm.mechanism("image")
    if isinstance(image, M.SemanticDiffusion):
        tokens = image.but(
            M.DynamicDiffusion, solver="explicit ddim", steps=25, replay=False, omega=2.0, passes_per_level=10, stop=0.0
        )
        made["CTA, 25, 10 passes"] = scm.using(image=tokens)
    return made


def main(model: str = "morphodigits-semantic", rows: int = 32, memory_steps: int = 0) -> None:
    """Measure, and print JSON.

    Args:
        model: a shipped model's name, or a folder.
        rows: batch size.
        memory_steps: only abduct and predict with so many steps, and print the highest resident memory in MB.
    """
    scm = cf.SCM.load(model) if Path(model).is_dir() else cf.load_pretrained(model)
    table = MorphoDigits("test", rows=rows)[:]
    if memory_steps:
        ask(scm.using(image={"steps": memory_steps, "solver": "2m", "replay": False}), table)
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
        return
    plain = scm.using(image={"solver": "2m", "steps": 25, "replay": False})
    image = plain.mechanism("image")
    assert isinstance(image, M.Diffusion)
    with Asked(image) as asked:
        ask(plain, table)
    calls = list(asked.rows)
    size = (image.variable.shape, image.network.null.shape[0])

    @torch.no_grad()
    def bare() -> None:
        for count in calls:
            timestep = torch.full((count,), 500)
            image.network(torch.zeros(count, *size[0]), timestep, torch.zeros(count, size[1]))

    guided = scm.using(image={"solver": "2m", "steps": 25, "replay": False, "omega": 2.0})
    world = guided.observe(table)
    world.noise["image"]
    own = guided.mechanism("image")
    assert isinstance(own, M.Diffusion)
    with Asked(own) as twice:
        world.do(thickness=3.0)["image"]
    half = scm.using(image={"solver": "2m", "steps": 25, "replay": False, "precision": "bfloat16"})
    observed = {name: value.observe(table) for name, value in (("float32", plain), ("bfloat16", half))}
    composition = {
        name: 255 * (seen.do(recompute=True)["image"] - table["image"]).abs().mean().item()
        for name, seen in observed.items()
    }
    apart = 255 * (ask(plain, table) - ask(half, table)).abs().mean().item()
    counts = {}
    for name, other in variants(scm).items():
        network = other.mechanism("image")
        assert isinstance(network, M.Diffusion)
        with Asked(network) as seen:
            ask(other, table)
        counts[name] = {"forward": sum(seen.rows) / rows, "backward": seen.backward / rows}
    batches, short = {}, scm.using(image={"solver": "2m", "steps": 4, "replay": False})
    for batch in (1, 8, 32, 128, 256):
        many = MorphoDigits("test", rows=batch)[:]
        batches[str(batch)] = 1 / ratio(lambda many=many: ask(short, many), lambda: ask(short, table)) * batch / rows
    memory = {}
    for steps in (10, 100):
        command = [sys.executable, "-m", "experiments.benchmarks.trajectory", "--model", model]
        command += ["--rows", str(rows), "--memory_steps", str(steps)]
        memory[str(steps)] = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    compiled = scm.using(image={"solver": "2m", "steps": 25, "replay": False, "compiled": True})
    gain = ratio(lambda: ask(compiled, table), lambda: ask(plain, table))
    found = {
        "machine": f"{torch.get_num_threads()} threads, torch {torch.__version__}",
        "rows": rows,
        "time over bare forwards": ratio(lambda: ask(plain, table), bare),
        "rows of the calls of 25 guided steps": sorted(set(twice.rows)),
        "calls of 25 guided steps": len(twice.rows),
        "evaluations of a row": counts,
        "bfloat16 time over float32": ratio(lambda: ask(half, table), lambda: ask(plain, table)),
        "composition, grey levels": composition,
        "bfloat16 from float32, grey levels": apart,
        f"rows per second over those of batch {rows}": batches,
        "highest memory by steps, MB": memory,
        "compiled time over plain": gain,
    }
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
