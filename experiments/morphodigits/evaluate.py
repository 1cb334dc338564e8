"""Measure a model of MorphoDigits on the test split, against the truth.

    python -m experiments.morphodigits.evaluate --model morphodigits-semantic

Interventions draw thickness, intensity and slant from their marginals (the training columns), one at a time; the draw
belongs to the row, so every run and every batch size sees the same.
"""

import json
import platform
from pathlib import Path
from typing import Any

import torch

import causalcf as cf
from causalcf.data import MorphoDigits
from causalcf.demo import oracles
from causalcf.metrics import Composition, CounterfactualError, Effectiveness, NoiseMoments, Reversibility


def plan(rows: int = 20_000) -> dict[str, cf.Do]:
    """Each attribute drawn from its marginal; slant also turned over."""
    columns = MorphoDigits("train", rows=rows).columns(["thickness", "intensity", "slant"])
    drawn = {f"do({name} ~ marginal)": cf.do(**{name: cf.resample(values)}) for name, values in columns.items()}
    return {**drawn, "do(digit = 7)": cf.do(digit=7)}


def main(
    model: str = "morphodigits-semantic",
    options: dict[str, Any] | None = None,
    name: str = "",
    out: Path = Path("experiments/morphodigits/results"),
    rows: int = 500,
    cycle_rows: int = 32,
    batch: int = 100,
    seed: int = 0,
) -> None:
    """Write `<name>.md` and `<name>.json`.

    Args:
        model: a shipped model's name, or a folder.
        options: of the image's mechanism, if it is to be asked otherwise than it was saved.
        name: of the files, by default the model's.
        out: where the two files go.
        rows: test rows.
        cycle_rows: of these, how many go through ten cycles of composition.
        batch: rows at a time.
        seed: of what abduction leaves to chance.
    """
    scm = cf.SCM.load(model) if Path(model).is_dir() else cf.load_pretrained(model)
    if options:
        scm = scm.using(image=options)
    name = name or Path(model).name
    data = MorphoDigits("test", rows=rows)
    metrics = [
        Composition(cycles=(1,)),
        NoiseMoments(),
        Effectiveness(oracles()),
        CounterfactualError(data),
        Reversibility(),
    ]
    report = cf.evaluate(scm, data[:rows], plan(), metrics, batch=batch, seed=seed, progress=True)
    cycles = cf.evaluate(scm, data[:cycle_rows], {"-": cf.do(digit=0)}, [Composition(cycles=(1, 10))], batch=cycle_rows)
    machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
    asked = f", asked with {options}" if options else ""
    about = f"{model}{asked}, test rows {rows}, seed {seed}, float32 network, {machine}"
    out.mkdir(parents=True, exist_ok=True)
    text = f"# {name}\n\n{about}\n\n{report.to_markdown()}\nTen cycles:\n\n{cycles.to_markdown()}"
    (out / f"{name}.md").write_text(text)
    content = {"about": about, "report": report.to_dict(), "cycles": cycles.to_dict()}
    (out / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n")
    print(report, cycles, sep="\n\n")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
