"""The memory of an explanation: by how much the peak of a process grows over what it held before."""

from __future__ import annotations

from collections.abc import Mapping
from multiprocessing import get_context
from pathlib import Path

import torch

from experiments.benchmarks.memory import PROCESS, held
from experiments.explain.bench import prepared
from experiments.explain.data import Faces
from experiments.explain.families import Options
from experiments.explain.methods import METHODS, explainer

ROWS = 4  # that are explained at once


def growth(name: str, data: str, models: Path, chosen: Mapping[str, Options], threads: int) -> float:
    """MB by which explaining a few rows at once exceeds what this process held, after it has explained another."""
    torch.set_num_threads(threads)
    faces = Faces(data)
    bench = prepared(faces, models, "val", ROWS + 1, chosen)
    method, how = METHODS[name], explainer(name, bench.kit, chosen, ROWS)
    how.scales = how.scales[:1]
    asked = method.asked(bench.kit), bench.drawing[method.latent]
    images = bench.rows["image"]
    how.explain(*asked, images[:1])
    (PROCESS / "clear_refs").write_text("5")  # the peak is now what is resident
    before = held("VmRSS")
    how.explain(*asked, images[1:])
    return held("VmHWM") - before


def peak(name: str, data: str, models: Path, chosen: Mapping[str, Options], threads: int) -> float | None:
    """The growth in a process of its own, whatever this one holds; None where no kernel records it."""
    if not (PROCESS / "clear_refs").exists():
        return None
    with get_context("spawn").Pool(1) as pool:
        return pool.apply(growth, (name, data, models, chosen, threads))
