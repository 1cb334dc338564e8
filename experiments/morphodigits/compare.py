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
from causalcf.metrics import (
    Composition,
    CounterfactualError,
    Effectiveness,
    Identity,
    NoiseMoments,
    Reversibility,
    Tally,
)
from causalcf.pretrained import ROOT
from causalcf.storage import write_text
from experiments.asked import digest, written
from experiments.morphodigits.evaluate import plan
from experiments.morphomnist.evaluate import evaluations, kept
from experiments.morphomnist.measured import slug

PLAIN: dict[str, Any] = {"solver": "2m", "steps": 24, "replay": False}
INVERSIONS: dict[str, dict[str, Any]] = {
    "2M with replay, 24": {**PLAIN, "replay": True},
    "2M, 24": PLAIN,
    "explicit DDIM, 50": {"solver": "explicit ddim", "steps": 50, "replay": False},
    "DDIM with fixed point, 50": {"solver": "ddim", "steps": 50, "replay": False},
    "bidirectional DDIM, 24": {**PLAIN, "solver": "bidirectional ddim"},
    "BELM, 24": {**PLAIN, "solver": "belm"},
    "EDICT, 24": {**PLAIN, "solver": "edict"},
    "2M with replay, 12 fine levels": {**PLAIN, "steps": 12, "spacing": "fine log-snr", "replay": True},
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
    "do(t): reversibility": ("reversibility, 1 cycle", "do(thickness ~ marginal)", "image"),
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
    rows: int = 100,
    back: int = 10,
    batch: int = 50,
    only: list[str] | None = None,
    out: Path = Path("experiments/morphodigits/results/compared"),
    seed: int = 0,
) -> None:
    """Measure what is not measured yet, and write the table.

    Args:
        rows: test rows.
        back: rows that go through reversibility.
        batch: rows at a time.
        only: ways; all by default.
        out: folder of the JSON files; the table is written beside it.
        seed: of what abduction leaves to chance.
    """
    out.mkdir(parents=True, exist_ok=True)
    data, cycled = MorphoDigits("test", rows=rows), min(back, rows)
    for way in WAYS if only is None else only:
        path, scm = out / f"{slug(way)}.json", asked(way)
        print_of = digest([ROOT / f"morphodigits-{WAYS[way][0]}"], [way, scm.mechanism("image").config(), seed])
        if path.exists() and kept(stored(path), print_of, rows, cycled):
            continue
        metrics: list[Tally] = [Composition(cycles=(1,)), NoiseMoments(["image"]), Effectiveness(oracles())]
        metrics += [CounterfactualError(data), Identity()]
        with torch.no_grad():
            cost = evaluations(scm, data[:4], cf.do(thickness=3.0))
            report = cf.evaluate(scm, data[:rows], plan(), metrics, batch=batch, seed=seed)
            again = cf.evaluate(scm, data[:cycled], plan(), [Reversibility()], batch=batch, seed=seed)
        about = {"way": way, "asked": print_of, "evaluations": cost, "cycled": cycled}
        lines = [*report.to_dict()["lines"], *again.to_dict()["lines"]]
        write_text(path, json.dumps({**about, **report.to_dict(), "lines": lines}, indent=1) + "\n")
        print(way, flush=True)
    out.with_suffix(".md").write_text(table(out))


def stored(path: Path) -> dict[str, Any]:
    """What was measured; the first files call the rows that went through reversibility `back`."""
    content = written(path)
    return {"cycled": content.get("back", 0), **content}


def table(out: Path) -> str:
    """Of what is measured."""
    lines = ["| way | n | evaluations | " + " | ".join([*SHOWN, "sd of u"]) + " |", "|" + "---|" * (len(SHOWN) + 4)]
    held: dict[str, float] = {}
    for way in WAYS:
        path = out / f"{slug(way)}.json"
        if not path.exists():
            continue
        content = written(path)
        found = {(line["metric"], line["action"], line["variable"]): line for line in content["lines"]}
        cost = content["evaluations"]
        back = f" ({cost['backward']:.0f} backward)" if cost["backward"] else ""
        cells = [way, str(content["about"]["rows"]), f"{cost['abduct']:.0f} + {cost['predict']:.0f}{back}"]
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
    lines += ["", f"Reversibility on fewer rows. Held against (observed rows; doing nothing for the truth): {text}."]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
