"""Ask the shipped models of MorphoDigits in other ways, and hold the answers against the truth.

    python -m experiments.morphodigits.compare --rows 100

Interventions are those of `evaluate`. Writes one JSON file per way of asking, killed and started again it goes on, and
`results/compared.md`.
"""

import json
from pathlib import Path
from typing import Any

import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits
from causalcf.demo import oracles
from causalcf.metrics import Composition, CounterfactualError, Effectiveness, Identity, NoiseMoments
from experiments.morphodigits.evaluate import FirstRows, plan

PLAIN: dict[str, Any] = {"solver": "2m", "steps": 24, "replay": False}
INVERSIONS: dict[str, dict[str, Any]] = {
    "2M with replay, 24": {**PLAIN, "replay": True},
    "2M, 24": PLAIN,
    "explicit DDIM, 50": {"solver": "explicit ddim", "steps": 50, "replay": False},
    "DDIM with fixed point, 50": {"solver": "ddim", "steps": 50, "replay": False},
    "bidirectional DDIM, 24": {**PLAIN, "solver": "bidirectional ddim"},
    "BELM, 24": {**PLAIN, "solver": "belm"},
    "EDICT, 24": {**PLAIN, "solver": "edict"},
}
REPAIRS: dict[str, dict[str, Any]] = {
    "2M, 24, omega 2": {**PLAIN, "omega": 2.0},
    "2M with replay, 24, omega 2": {**PLAIN, "omega": 2.0, "replay": True},
    "2M, 24, omega 2, factual reference": {**PLAIN, "omega": 2.0, "reference": "factual"},
    "2M, 24, omega 2, guided inversion": {**PLAIN, "omega": 2.0, "inversion": "guided"},
}
ALIGNED = "CTA, 24, omega 2, 10 passes"
WAYS: dict[str, tuple[str, dict[str, Any]]] = {
    **{f"{model}: {name}": (model, asked) for model in ("spatial", "semantic") for name, asked in INVERSIONS.items()},
    **{f"{model}: {name}": (model, asked) for model in ("spatial", "semantic") for name, asked in REPAIRS.items()},
    f"semantic: {ALIGNED}": ("semantic", {**PLAIN, "solver": "ddim", "omega": 2.0, "passes_per_level": 10}),
}
SHOWN = {
    "composition": ("composition, 1 cycle", "", "image"),
    "do(t): to the truth": ("error against the truth", "do(thickness ~ marginal)", "image"),
    "do(i): to the truth": ("error against the truth", "do(intensity ~ marginal)", "image"),
    "do(s): to the truth": ("error against the truth", "do(slant ~ marginal)", "image"),
    "do(t): t error": ("error of oracle", "do(thickness ~ marginal)", "thickness"),
    "do(t): t bias": ("signed bias", "do(thickness ~ marginal)", "thickness"),
    "do(i): i error": ("error of oracle", "do(intensity ~ marginal)", "intensity"),
    "do(i): i bias": ("signed bias", "do(intensity ~ marginal)", "intensity"),
    "do(s): s error": ("error of oracle", "do(slant ~ marginal)", "slant"),
    "do(d): digit": ("accuracy of oracle", "do(digit = 7)", "digit"),
    "do(t): identity": ("identity, to the observation", "do(thickness ~ marginal)", "image"),
}


def asked(way: str) -> cf.SCM:
    """The shipped model, asked in this way."""
    model, options = WAYS[way]
    scm = cf.load_pretrained(f"morphodigits-{model}")
    if ALIGNED not in way:
        return scm.using(image=options)
    return scm.using(image=scm.mechanism("image").but(M.DynamicDiffusion, **options))


def main(
    rows: int = 100, batch: int = 50, out: Path = Path("experiments/morphodigits/results/compared"), seed: int = 0
) -> None:
    """Measure what is not measured yet, and write the table.

    Args:
        rows: test rows.
        batch: rows at a time.
        out: folder of the JSON files; the table is written beside it.
        seed: of what abduction leaves to chance.
    """
    out.mkdir(parents=True, exist_ok=True)
    data = MorphoDigits("test", rows=rows)
    lines = ["| way | n | " + " | ".join([*SHOWN, "sd of u"]) + " |", "|" + "---|" * (len(SHOWN) + 3)]
    held: dict[str, float] = {}
    for way in WAYS:
        path = out / f"{''.join(letter if letter.isalnum() or letter == '.' else '-' for letter in way)}.json"
        if not path.exists():
            metrics = [
                Composition(cycles=(1,)),
                NoiseMoments(["image"]),
                Effectiveness(oracles()),
                CounterfactualError(data),
                Identity(),
            ]
            with torch.no_grad():
                report = cf.evaluate(asked(way), FirstRows(data, rows), plan(), metrics, batch=batch, seed=seed)
            path.write_text(json.dumps({"way": way, **report.to_dict()}, indent=1) + "\n")
            print(way, flush=True)
        found = {
            (line["metric"], line["action"], line["variable"]): line for line in json.loads(path.read_text())["lines"]
        }
        cells = [way, str(rows)]
        for column, place in SHOWN.items():
            line = found.get(place)
            cells.append("-" if line is None else f"{line['estimate']['mean']:.3f}")
            if line and line["reference"]:
                held[column] = line["reference"]["mean"]
        mean, square = (
            found[(f"noise {moment}", "", "image")]["estimate"]["mean"] for moment in ("mean", "mean square")
        )
        lines.append(f"| {' | '.join([*cells, f'{(square - mean**2) ** 0.5:.3f}'])} |")
    text = "; ".join(f"{column} {value:.3f}" for column, value in held.items())
    lines += ["", f"Held against (observed rows; doing nothing for the truth): {text}."]
    out.with_suffix(".md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
