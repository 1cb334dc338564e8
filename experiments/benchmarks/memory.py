"""The memory of a trajectory: by how much the peak of a process grows over what it held before.

    python -m experiments.benchmarks.memory [--rows 128]

Abduction and one counterfactual, in a process of its own for each number of steps. The model is loaded and one row is
asked about first, so that what libraries take once is there; then the record of the peak is set back to what is
resident. Without replay a trajectory holds the images of one level, and the growth is that of one call of the network,
whatever the number of steps. With replay it keeps, by design, one image of each level and row, in float64, and for the
time of abduction the path besides. Needs Linux, whose kernel keeps that record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import MorphoDigits
from experiments.benchmarks.evaluations import PLAIN, ask

PROCESS = Path("/proc/self")


def held(what: str) -> float:
    """Memory of this process in MB: "VmRSS" is resident now, "VmHWM" the most that was since the record was set."""
    (line,) = (line for line in (PROCESS / "status").read_text().splitlines() if line.startswith(what))
    return int(line.split()[1]) / 1024


def growth(model: str, rows: Mapping[str, Tensor], threads: int, steps: int, replay: bool) -> float:
    """MB by which the peak of abduction and one counterfactual exceeds what was resident before, in this process."""
    torch.set_num_threads(threads)
    scm = cf.SCM.load(model) if Path(model).is_dir() else cf.load_pretrained(model)
    asked = scm.using(image={**PLAIN, "steps": steps, "replay": replay})
    ask(asked, {name: values[:1] for name, values in rows.items()})
    (PROCESS / "clear_refs").write_text("5")  # the peak is now what is resident
    before = held("VmRSS")
    ask(asked, rows)
    return held("VmHWM") - before


def growths(model: str, rows: Mapping[str, Tensor], asked: Sequence[tuple[int, bool]]) -> list[float]:
    """The growth for every number of steps, without or with replay, one fresh process after the other."""
    if not (PROCESS / "clear_refs").exists():
        raise OSError("memory: expected Linux, where /proc/self/clear_refs sets the peak of a process back")
    with get_context("spawn").Pool(1, maxtasksperchild=1) as pool:
        return pool.starmap(partial(growth, model, rows, torch.get_num_threads()), asked, chunksize=1)


def main(model: str = "morphodigits-semantic", rows: int = 128, steps: Sequence[int] = (10, 100)) -> None:
    """Measure, and print JSON.

    Args:
        model: a shipped model's name, or a folder.
        rows: batch size; with few, what a trajectory holds is lost beside what a process holds anyway.
        steps: numbers of levels.
    """
    table = MorphoDigits("test", rows=rows)[:]
    found: dict[str, dict[str, float]] = {}
    for name, replay in (("without replay", False), ("with replay", True)):
        grown = growths(model, table, [(count, replay) for count in steps])
        found[name] = {str(count): round(value, 1) for count, value in zip(steps, grown, strict=True)}
    about = {
        "machine": f"{torch.get_num_threads()} threads, torch {torch.__version__}",
        "model": model,
        "rows": rows,
        "images of one level, MB": round(table["image"].numel() * torch.float64.itemsize / 2**20, 2),
    }
    print(json.dumps({**about, "growth of the peak by steps, MB": found}, indent=1))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
