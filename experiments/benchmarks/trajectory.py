"""What a trajectory costs beside the network: ratios of times, taken in turns on one machine.

    python -m experiments.benchmarks.trajectory [--model morphodigits-semantic] [--rows 32]

- overhead: abduction and prediction against as many bare forward passes of the network.
- guidance: calls of a guided step (one, of twice the rows).
- bfloat16 against float32: time, composition, and difference of the counterfactual.
- batch: rows per second at other batch sizes, against `--rows`.
- compiled: time of abduction and prediction with `compiled=True`, against without.
- autoencoder: time of `morphomnist-spatial`, in 24 steps with replay, against `morphomnist-hvae` on the same images.
- readers: a pass of one, forwards and backwards, against one of the denoiser; and the time of `morphomnist-spatial` as
  it answers best in few evaluations, in 8 fine levels with replay and steered by two readers at two of them, against
  as many bare forward passes of the denoiser as it asks for.

What is evaluated for a row is counted by `evaluations.py`, and what a trajectory holds is measured by `memory.py`.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits
from causalcf.diffusion.readers import Reader
from causalcf.pretrained import load_judge
from experiments.benchmarks.evaluations import PLAIN, Asked, ask

TURNS = 3
PASSES = 25  # of a reader and of the denoiser, since one is too short to be timed
SPARE: dict[str, Any] = {"solver": "2m", "spacing": "fine log-snr", "steps": 8, "replay": True, "omega": 1.15}
BETWEEN = (10.0, 50.0)  # levels that are read


def timed(act: Callable[[], object]) -> float:
    """Seconds of one call."""
    began = time.perf_counter()
    act()
    return time.perf_counter() - began


def ratio(first: Callable[[], object], second: Callable[[], object]) -> float:
    """Median over turns of the time of `first` over that of `second`, taken one after the other."""
    for act in (first, second):
        act()
    return statistics.median(timed(first) / timed(second) for _ in range(TURNS))


def image_of(scm: cf.SCM) -> M.Diffusion:
    """The mechanism of the image, a diffusion model."""
    image = scm.mechanism("image")
    assert isinstance(image, M.Diffusion)
    return image


def forwards(scm: cf.SCM, calls: Sequence[int]) -> Callable[[], None]:
    """Forward passes of a denoiser, with nothing around them, of so many rows each."""
    image = image_of(scm)
    shape, width = image.variable.shape, image.network.null.shape[0]

    @torch.no_grad()
    def act() -> None:
        for count in calls:
            image.network(torch.zeros(count, *shape), torch.full((count,), 500), torch.zeros(count, width))

    return act


def bare(scm: cf.SCM, rows: Mapping[str, Tensor]) -> Callable[[], None]:
    """The forward passes that a model asks its denoiser for."""
    with Asked(image_of(scm)) as asked, torch.no_grad():
        ask(scm, rows)
    return forwards(scm, asked.rows["forward"])


def both_ways(reader: Reader, image: Tensor, passes: int) -> None:
    """Passes of a reader, forwards and backwards to the image."""
    for _ in range(passes):
        leaf = image.clone().requires_grad_()
        reader(leaf).sum().backward()


def sparing(scm: cf.SCM) -> cf.SCM:
    """A model of Morpho-MNIST as it answers best in few evaluations, steered by the readers that ship."""
    readers = {name: load_judge(f"morphomnist-{name}-reader") for name in ("thickness", "intensity")}
    return scm.using(image=image_of(scm).but(**SPARE).steer(readers, relative=["intensity"], between=BETWEEN))


def main(
    model: str = "morphodigits-semantic",
    rows: int = 32,
    batches: Sequence[int] = (1, 8, 32, 128, 256),
    out: Path = Path("experiments/benchmarks/results/trajectory.json"),
) -> None:
    """Measure, and write JSON.

    Args:
        model: a shipped model's name, or a folder.
        rows: batch size.
        batches: other batch sizes.
        out: the file.
    """
    scm = cf.SCM.load(model) if Path(model).is_dir() else cf.load_pretrained(model)
    table = MorphoDigits("test", rows=rows)[:]
    plain = scm.using(image=PLAIN)
    guided = scm.using(image={**PLAIN, "omega": 2.0})
    world = guided.observe(table)
    world.noise["image"]
    with Asked(guided.mechanism("image")) as twice:
        world.do(thickness=3.0)["image"]
    half = scm.using(image={**PLAIN, "precision": "bfloat16"})
    observed = {name: value.observe(table) for name, value in (("float32", plain), ("bfloat16", half))}
    composition = {
        name: 255 * (seen.do(recompute=True)["image"] - table["image"]).abs().mean().item()
        for name, seen in observed.items()
    }
    apart = 255 * (ask(plain, table) - ask(half, table)).abs().mean().item()
    speeds, short = {}, scm.using(image={**PLAIN, "steps": 4})
    for batch in batches:
        many = MorphoDigits("test", rows=batch)[:]
        speeds[str(batch)] = 1 / ratio(lambda many=many: ask(short, many), lambda: ask(short, table)) * batch / rows
    plainer = {name: values for name, values in table.items() if name != "slant"}  # which Morpho-MNIST has none of
    slow, fast = (cf.load_pretrained(f"morphomnist-{name}") for name in ("spatial", "hvae"))
    steered = sparing(slow)
    readers = image_of(steered).steering.readers
    compiled = scm.using(image={**PLAIN, "compiled": True})
    gain = ratio(lambda: ask(compiled, table), lambda: ask(plain, table))
    found = {
        "machine": f"{torch.get_num_threads()} threads, torch {torch.__version__}",
        "rows": rows,
        "time over bare forwards": ratio(lambda: ask(plain, table), bare(plain, table)),
        "rows of the calls of 25 guided steps": sorted(set(twice.rows["forward"])),
        "calls of 25 guided steps": len(twice.rows["forward"]),
        "bfloat16 time over float32": ratio(lambda: ask(half, table), lambda: ask(plain, table)),
        "composition, grey levels": composition,
        "bfloat16 from float32, grey levels": apart,
        f"rows per second over those of batch {rows}": speeds,
        "compiled time over plain": gain,
        "time of a diffusion model over an autoencoder's": ratio(
            lambda: ask(slow, plainer), lambda: ask(fast, plainer)
        ),
        "time of a reader, both ways, over a denoiser": ratio(
            lambda: both_ways(readers["thickness"], plainer["image"], PASSES), forwards(steered, PASSES * [rows])
        ),
        "time of 8 fine levels with two readers over bare forwards": ratio(
            lambda: ask(steered, plainer), bare(steered, plainer)
        ),
    }
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(found, indent=1) + "\n")
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
