"""Explain a classifier of ten digits by the digits they are easily taken for: 3 and 8, 4 and 9, 1 and 7.

    python -m experiments.explain.digits

The explained classifier and the generator are those that ship; students and the judge are trained first, and kept in
`runs/digits-readers`. The handwriting of MorphoDigits is drawn with a known thickness, intensity and slant, which are
measured on the images: none of them is what makes a 3 an 8, so an explanation should leave them alone. What the
generator is told of a row beside the digit is measured on its factual image too. Options are chosen on validation rows
as in `tune.py`. Writes `results/digits`; killed and started again, it goes on. Tables and pictures are of all methods
that were measured with the weights and options of now, whichever of them `--only` names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import MorphoDigits
from causalcf.explain.explanation import Explanation
from causalcf.explain.generators import from_scm
from causalcf.metrics.explanation_report import ALL, FLIPPED, Sheet, explanation_scores
from causalcf.metrics.report import Report
from causalcf.networks.classifier import Predictor
from causalcf.pretrained import ROOT, load_judge
from causalcf.storage import write_text
from causalcf.training.predictors import fit_classifier, has_predictor, load_predictor, save_predictor
from experiments.explain.bench import Asked
from experiments.explain.claims import CONTEST, contest
from experiments.explain.data import Split
from experiments.explain.evaluate import costs, covers, explained, identity, lined, machine
from experiments.explain.families import FAMILIES, Family
from experiments.explain.measured import MOVED, Measured, load
from experiments.explain.methods import Kit, explainer, slug
from experiments.explain.models import Halved
from experiments.explain.readers import student
from experiments.explain.results import grid
from experiments.explain.tune import FILE, chosen, chosen_before, tried_out
from experiments.morphodigits.train_digit import independent

OTHER = {3: 8, 8: 3, 4: 9, 9: 4, 1: 7, 7: 1}
MAIN = ("Agreed", "Agreed, one look, five steps", "MaskDiME", "FastDiME", "LDCE", "SCE-LITE-HQ, distilled")
VARIANTS = ("Told", "MaskDiME, distilled", "SCE-LITE-HQ, vanilla")
SLOWEST = ("DiME", "ACE", "SCE")
READERS = ("surrogate", "independent", "judge")
SQUARES: dict[str, dict[str, int]] = {  # half as wide as on faces, which have 64 pixels
    "Agreed": {"dilation": 3, "block": 2},
    "MaskDiME": {"dilation": 3},
    "FastDiME": {"dilation": 3},
    "SCE": {"blur": 3},
    "SCE-LITE-HQ": {"blur": 3},
    "Told": {"blur": 3},
    "ACE": {"dilation": 7},
}
OWN = {"weights": ((1.0, 1.0, 0.0), (1.0, 2.0, 0.0)), "share": (0.03, 0.06), "threshold": (0.05, 0.1)}
COMPARED = (*(column for column in CONTEST if column != "processor"), *MOVED, "processor")
SEED = 300  # of the judge
STEPS = 1000  # of each reader
SHOWN = ("flip rate", "NA", "NAFR", "S3", "L1")


@dataclass(frozen=True)
class Digits(Asked):
    """What all methods share, and a classifier of another seed.

    Attributes:
        independent: whose features similarity is in.
    """

    independent: Predictor


def fit_readers(out: Path, rows: int = 20_000, steps: int = STEPS) -> None:
    """A student of the classifier that ships, another classifier, and a student of that."""
    if all(has_predictor(out / name) for name in READERS):
        return
    seen: Any = independent(rows, SEED)
    other = fit_classifier(seen, "digit", 10, steps=steps, seed=SEED)
    save_predictor(other, out / "independent")
    for name, teacher, seed in (("surrogate", load_judge("morphodigits-digit"), 0), ("judge", other, SEED)):
        save_predictor(student(teacher, seen, steps, seed), out / name)


def prepared(split: Split, rows: int, readers: Path) -> Digits:
    """The first rows of a split that the classifier reads as they are, and what each is to become."""
    classifier = load_judge("morphodigits-digit")
    drawn = MorphoDigits(split, rows=2 * rows, digits=tuple(sorted(OTHER)))[:]
    with torch.no_grad():
        right = (classifier(drawn["image"]).argmax(1) == drawn["digit"]).nonzero()[:rows, 0]
    seen = {name: values[right] for name, values in drawn.items()}
    target = torch.tensor([OTHER[digit] for digit in seen["digit"].tolist()])
    held = {name: load_predictor(readers / name) for name in READERS}
    for reader in (classifier, *held.values()):
        reader.requires_grad_(False).eval()
    scm = cf.load_pretrained("morphodigits-spatial")
    scm.requires_grad_(False)
    generator = from_scm(scm, label="digit", readers=MorphoDigits.oracles())
    drawing = {False: replace(generator, network=Halved(generator.network))}
    kit = Kit(classifier, held["surrogate"])
    return Digits(seen, kit, drawing, held["judge"], held["independent"], target=target)


def digest(readers: Path) -> str:
    """Of all weights that decide what is explained, and how it is judged."""
    folders = [*(readers / name for name in READERS), ROOT / "morphodigits-spatial", ROOT / "morphodigits-digit"]
    found = hashlib.sha256()
    for path in sorted(path for folder in folders for path in folder.rglob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:12]


@torch.no_grad()
def scores(bench: Digits, found: Explanation, name: str) -> Report:
    """The measures of explanations, and how far each moves what it should leave alone."""
    classifier = bench.kit.classifier
    report = explanation_scores(
        found.images,
        found.counterfactuals,
        classifier(found.images),
        classifier(found.counterfactuals),
        found.target,
        label=bench.rows["digit"][: len(found)],
        classifier=classifier,
        independent=bench.judge,
        encoder=bench.independent.features,
        method=name,
    )
    sheet = Sheet(name, {ALL: torch.ones(len(found), dtype=torch.bool), FLIPPED: found.flipped})
    for attribute, read in MorphoDigits.oracles().items():
        moved = (read(found.counterfactuals) - read(found.images)).abs()
        sheet.mean(f"{attribute} moved", moved, FLIPPED, unit=getattr(MorphoDigits.graph[attribute], "unit", "-"))
    return Report((*report.lines, *sheet.lines), report.about)


def measured(bench: Digits, found: Explanation, spent: Tensor, name: str) -> dict[str, Any]:
    """What is reported of a method, as plain data."""
    return {
        "options": found.about,
        "lines": lined(scores(bench, found, name)),
        "varied": [],
        "together": {},
        "cost": costs(found, spent),
    }


def table(found: Measured) -> list[str]:
    """One line per method."""
    moved = [f"{name}, {getattr(MorphoDigits.graph[name.split()[0]], 'unit', '-')}" for name in MOVED]
    head = ["method", "n", *SHOWN, *moved, "evaluations", "of them differentiated", "processor seconds"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for name, result in found.items():
        cells = [name, str(result.rows), *(str(result.value(column)) for column in (*SHOWN, *MOVED))]
        cells += [f"{result.value(column).mean:.0f}" for column in ("forward", "backward")]
        lines.append("| " + " | ".join([*cells, f"{result.value('processor').mean:.2f}"]) + " |")
    return lines


def main(
    rows: int = 150,
    slowest: int = 40,
    tried: int = 24,
    only: list[str] | None = None,
    readers: Path = Path("runs/digits-readers"),
    kept: Path = Path("runs/digits-explanations"),
    out: Path = Path("experiments/explain/results/digits"),
    steps: int = STEPS,
) -> None:
    """Train what is missing, choose options, measure, and write.

    Args:
        rows: test rows.
        slowest: the first of them, that DiME, ACE and SCE explain.
        tried: validation rows that options are chosen on.
        only: names of methods; by default all that are compared here.
        readers: folder of students and judge.
        kept: folder of the explanations.
        out: where JSON files, table and grid go.
        steps: of each reader.
    """
    torch.set_num_threads(1)
    out.mkdir(parents=True, exist_ok=True)
    fit_readers(readers, steps=steps)
    weights, names = digest(readers), (*MAIN, *VARIANTS, *SLOWEST)
    if unknown := set(only or ()) - set(names):
        raise SystemExit(f"--only: expected some of {', '.join(names)}, got {', '.join(sorted(unknown))}")
    val, bench, current = prepared("val", tried, readers), prepared("test", rows, readers), {}
    for name in names:
        about, asked = {"weights": weights, "grid": family(name).digest(), "rows": tried}, only is None or name in only
        if (options := _held(name, out / FILE, about)) is None:
            if not asked:
                continue
            options = _tuned(name, val, out / FILE, about)
        how, path = explainer(name, bench.kit, {name: options}), out / f"{slug(name)}.json"
        current[name] = identity(name, how, weights, "test")
        if not asked:
            continue
        count = slowest if name in SLOWEST else rows
        wanted = {"rows": min(count, len(bench.rows["id"])), "again": 0, "prefixes": []}
        if path.exists() and covers(json.loads(path.read_text()), current[name], wanted):
            continue
        folder = f"{slug(name)}-{hashlib.sha256(json.dumps(current[name]).encode()).hexdigest()[:12]}"
        found, spent = explained(name, bench, how, wanted["rows"], kept / folder)
        content = {"about": current[name], "asked": wanted, "folder": folder, "machine": machine()}
        write_text(path, json.dumps(content | measured(bench, found, spent, name)) + "\n")
        print(f"{name}: {found}", flush=True)
    write(out, kept, current)


def write(out: Path, kept: Path, current: Mapping[str, Mapping[str, Any]]) -> None:
    """`table.md` and `grid.png` of what is measured.

    Args:
        out: where they go, and where the JSON files are.
        kept: folder of the explanations.
        current: method -> what decides its explanations now; files that tell of others are left out.
    """
    done = load(out, current)
    text = ["# Digits taken for each other", "", *table(done), "", "# Our own, against every published row", ""]
    text += [line for line in contest(done, COMPARED) if not line.endswith(": not measured")]
    if stale := [name for name in load(out) if name not in done]:
        text += ["", f"Measured with other weights or options, and left out: {', '.join(stale)}."]
    write_text(out / "table.md", "\n".join(text) + "\n")
    if (figure := grid(done, kept)) is not None:
        figure.savefig(out / "grid.png", dpi=120)


def family(name: str) -> Family:
    """What a method's options are chosen from: squares are smaller here, and our own grid begins lower."""
    kind, found = name.partition(",")[0], FAMILIES[name]
    return Family({**found.given, **SQUARES.get(kind, {})}, OWN if kind == "Agreed" else found.grid)


def _held(name: str, path: Path, about: dict[str, Any]) -> dict[str, Any] | None:
    """The options of a family, if they were chosen with the same weights, grid and rows."""
    content = chosen_before(path).get(name, {})
    return content["options"] if about.items() <= content.items() else None


def _tuned(name: str, val: Digits, path: Path, about: dict[str, Any]) -> dict[str, Any]:
    """The options of a family, chosen by the rule of `tune.py`, and written."""
    given, candidates = family(name).given, family(name).candidates()
    tried = [tried_out(name, {**given, **options}, val) for options in candidates]
    best = chosen(tried, len(val.rows["id"]))
    content = {**chosen_before(path), name: {**about, "options": best["options"], "tried": tried}}
    write_text(path, json.dumps(content, indent=1) + "\n")
    print(f"{name}: {best}", flush=True)
    return best["options"]


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
