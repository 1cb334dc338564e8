"""How much memory tensors take at most where digits are explained, with the generator and the classifier that ship.

    python -m experiments.explain.peaks

Prints a line per method of `digits.py`, with the options that were chosen there. Students are trained for a single
step: what they hold does not depend on what they learned.
"""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from experiments.explain.digits import fit_readers, prepared
from experiments.explain.memory import ROWS, peak
from experiments.explain.tune import FILE, chosen_before


def main(
    only: list[str] | None = None,
    place: Path = Path("experiments/explain/results/digits"),
    threads: int = 1,
) -> None:
    """Measure, and print a table.

    Args:
        only: names of methods; by default all whose options were chosen.
        place: folder of the options.
        threads: of the processor.
    """
    torch.set_num_threads(threads)
    chosen = {name: content["options"] for name, content in chosen_before(place / FILE).items()}
    if unknown := set(only or ()) - chosen.keys():
        raise SystemExit(f"--only: expected some of {', '.join(chosen)}, got {', '.join(sorted(unknown))}")
    with TemporaryDirectory() as readers:
        fit_readers(Path(readers), rows=64, steps=1)
        bench = prepared("test", ROWS, Path(readers))
    print(f"{ROWS} rows at once, {threads} thread{'s' * (threads > 1)}, torch {torch.__version__}\n")
    print("| method | peak memory of tensors, MB |\n|---|---|", flush=True)
    for name in chosen if only is None else only:
        print(f"| {name} | {peak(name, bench, chosen):.1f} |", flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
