"""Effects of attributes on a classifier of smiles, beside what its explanations change; what is measured is kept.

    python -m experiments.explain.causes

The effects are those of the model that the faces are drawn by. Explanations are the smallest redrawings that flip the
classifier, which need no generator, and those of an explainer with one: a folder in `runs`, or "gaussian". What was
asked otherwise is measured again; `--cases '[]'` only writes the table of what is measured.
"""

from __future__ import annotations

import json
import platform
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import ToyFaces
from causalcf.explain import changes
from causalcf.explain.repairs import accuracy
from causalcf.metrics.tally import estimate
from causalcf.networks.classifier import Classifier
from causalcf.storage import write_text
from causalcf.training.predictors import has_predictor, load_predictor, save_predictor
from causalcf.training.steps import derived_seed
from experiments.asked import answered, digest
from experiments.explain.data import Held
from experiments.explain.gaussian import gaussian
from experiments.explain.readers import fit_reader
from experiments.explain.repair import asked, chosen, generator_folders, loaded
from experiments.explain.shortcuts import LABEL, kept
from experiments.explain.truth import scored, smallest, smiles, true_scm

CASES: dict[str, tuple[str | None, float]] = {
    "fair": ("marker", 0.0),
    "marker": ("marker", 1.0),
    "hat": ("hat", 1.0),
}
WIDTHS = (8, 16, 32, 64)


def summary(values: Tensor) -> dict[str, float]:
    """Mean of one number per row, and half the width of its 95 % interval."""
    found = estimate(values)
    return {"mean": found.mean, "half_width": found.half_width}


def effects(scm: cf.SCM, rows: dict[str, Tensor]) -> dict[str, Any]:
    """Of each attribute, from absent to present: on the score, in parts, and on the smile itself.

    Args:
        scm: of `true_scm`.
        rows: what it drew, scored.
    """
    world, found = scm.observe(rows), {}
    for name in scm.graph.parents("score"):
        absent = world.do(**{name: 0})
        parts = cf.decompose(absent, cf.do(**{name: 1}), on="score")
        smile = absent.do(**{name: 1})[LABEL] - absent[LABEL]
        found[name] = {
            "total": summary(parts.total),
            "direct": summary(parts.direct),
            "indirect": summary(parts.indirect),
            "through": list(parts.mediators),
            "on the smile": summary(smile),
        }
    return found


def interventions(scm: cf.SCM, rows: dict[str, Tensor]) -> dict[str, float]:
    """How often each attribute is another after `do(smiling = the other)`, and the score's decision."""
    world = scm.observe(rows)
    other = world.do(**{LABEL: 1 - rows[LABEL]})
    shares = {name: (other[name] != rows[name]).double().mean().item() for name in scm.graph.parents("score")}
    flipped = (other["score"] > 0.5) != (rows["score"] > 0.5)
    return {**shares, "decision": flipped.double().mean().item()}


def explained(
    data: ToyFaces,
    rows: dict[str, Tensor],
    classifier: Classifier,
    which: str,
    runs: Path,
    learned: Callable[[], Held],
    distilled: int,
    method: str = "MaskDiME",
) -> dict[str, Any]:
    """What an explainer with a generator changes.

    Args:
        data: whose rows are explained.
        rows: of them.
        classifier: that is explained.
        which: a generator.
        runs: folder of models.
        learned: the rows that the classifier learned from.
        distilled: as for `measured`.
        method: a class of `causalcf.explain`.
    """
    if folders := generator_folders(which, runs):
        generator = loaded(*folders)
    else:
        generator = gaussian(kept(ToyFaces("train", rows=2000, shortcut=data.shortcut))[:]["image"])
    lead = asked(classifier, learned(), distilled, 0) if distilled else classifier
    how = getattr(cf.explain, method)(**chosen(method, distilled))
    explanation = how.explain(lead, generator, rows["image"], ids=rows["id"])
    found = changes(explanation, data.oracles()).to_dict() if explanation.flipped.any() else None
    named = f"{Path(which).name}{', distilled' if distilled else ''}"
    return {"generator": named, "explainer": explanation.about, "changes": found}


def tied(case: str, seed: int) -> dict[str, Any]:
    """How the smile is tied to something else, as options of the data set."""
    shortcut, strength = CASES[case]
    return {"shortcut": shortcut, "target": LABEL, "strength": strength, "seed": seed}


@lru_cache(maxsize=1)
def learned(case: str, train: int, seed: int) -> Held:
    """The rows that a classifier learns from."""
    return kept(ToyFaces("train", rows=train, **tied(case, seed)))


def fitted(case: str, train: int, steps: int, runs: Path, seed: int) -> Path:
    """The folder of a classifier, which is trained if it is not there.

    Args:
        case: its name in `CASES`.
        train: training rows.
        steps: of the training.
        runs: folder of models.
        seed: of data and weights.
    """
    folder = runs / f"causes-{case}-{derived_seed(CASES[case][1], train, steps, seed) % 10**6}"
    if not has_predictor(folder):
        rows = learned(case, train, seed)
        save_predictor(fit_reader(rows, [LABEL], widths=WIDTHS, steps=steps, seed=seed), folder)
    return folder


@dataclass(frozen=True)
class Question:
    """What is asked of one classifier.

    Attributes:
        case: its name in `CASES`.
        rows: test rows.
        steps: of the classifier.
        generator: for the explainer; None leaves it out.
        explain: rows explained by it.
        runs: folder of models.
        seed: of data and weights.
        train: training rows.
        distilled: steps in which a student of the classifier is distilled, whose gradients lead; 0 without one.
        explainer: a class of `causalcf.explain`.
    """

    case: str
    rows: int
    steps: int
    generator: str | None
    explain: int
    runs: Path
    seed: int
    train: int
    distilled: int = 0
    explainer: str = "MaskDiME"

    def folder(self) -> Path:
        """Of the classifier, which is trained where there is none."""
        return fitted(self.case, self.train, self.steps, self.runs, self.seed)

    def digest(self) -> str:
        """Of all that decides the answer."""
        folders, explaining = [], None
        if self.generator is not None:
            options = getattr(cf.explain, self.explainer)(**chosen(self.explainer, self.distilled)).options()
            explaining = [Path(self.generator).name, self.explain, self.distilled, self.explainer, options]
            folders = generator_folders(self.generator, self.runs)
        about = [self.case, tied(self.case, self.seed), self.rows, self.train, self.steps, explaining]
        return digest([self.folder(), *folders], about, files="*")


def measured(asked: Question) -> dict[str, Any]:
    """What one classifier answers: plain data."""
    case, rows, seed = asked.case, asked.rows, asked.seed
    shortcut, strength = CASES[case]
    classifier = load_predictor(asked.folder())
    assert isinstance(classifier, Classifier)
    data, score = ToyFaces("test", rows=rows, **tied(case, seed)), smiles(classifier)
    scm = true_scm(data, score)
    seen = scored(data[:], scm)
    found = smallest(data, seen, score)
    shares = {name: changed[found.found].double().mean().item() for name, changed in found.changed.items()}
    fair = ToyFaces("test", rows=rows, shortcut=shortcut, target=LABEL, seed=seed)
    few = {name: value[: asked.explain] for name, value in seen.items()}
    return {
        "case": case,
        "shortcut": shortcut,
        "strength": strength,
        "rows": rows,
        "accuracy": accuracy(classifier, data, LABEL),
        "accuracy without the shortcut": accuracy(classifier, fair, LABEL),
        "effects": effects(scm, seen),
        "interventions": interventions(scm, seen),
        "smallest": {"found": int(found.found.sum()), "share": shares},
        "explained": None
        if asked.generator is None
        else explained(
            data,
            few,
            classifier,
            asked.generator,
            asked.runs,
            lambda: learned(case, asked.train, seed),
            asked.distilled,
            asked.explainer,
        ),
    }


def table(content: dict[str, Any]) -> list[str]:
    """What one classifier answers to, attribute by attribute."""
    effect, small, other = content["effects"], content["smallest"], content["interventions"]
    answer = content["explained"]
    redrawn = None if answer is None else answer["changes"]
    said = "-" if answer is None else f"{answer['explainer']['method']}, {answer['generator']}"
    tied = "nothing" if not content["strength"] else f"{content['shortcut']}, {content['strength']:g}"
    lines = [
        f"## {content['case']}",
        "",
        f"Smiles are tied to {tied}. {content['rows']} test rows, seed {content['seed']}; accuracy "
        f"{content['accuracy']:.3f}, without the shortcut {content['accuracy without the shortcut']:.3f}. Smallest "
        f"redrawings were found for {small['found']} rows. After `do(smiling)` the classifier decides otherwise in "
        f"{other['decision']:.2f} of the rows.",
        "",
        "| attribute | effect on the smile | on the score: total | direct | indirect | through "
        f"| changed by do(smiling) | by the smallest redrawing | by {said} |",
        "|" + "---|" * 9,
    ]
    for name in sorted(effect, key=lambda name: -abs(effect[name]["total"]["mean"])):
        parts = effect[name]
        cells = [
            f"{parts[part]['mean']:+.3f} ± {parts[part]['half_width']:.3f}" for part in ("total", "direct", "indirect")
        ]
        through = ", ".join(parts["through"]) or "-"
        third = "-" if redrawn is None else f"{redrawn['share'][name]:.2f}"
        shares = [f"{other[name]:.2f}", f"{small['share'][name]:.2f}", third]
        smile = f"{parts['on the smile']['mean']:+.0f}"
        lines.append("| " + " | ".join([name, smile, *cells, through, *shares]) + " |")
    if redrawn is not None:
        lines.append(f"| none of these |  |  |  |  |  |  |  | {redrawn['nothing']:.2f} of {redrawn['rows']} |")
    return [*lines, ""]


def main(
    cases: list[str] = list(CASES),  # noqa: B006
    rows: int = 100,
    train: int = 4000,
    steps: int = 200,
    generator: str | None = None,
    explain: int = 48,
    distilled: int = 0,
    explainer: str = "MaskDiME",
    runs: Path = Path("runs"),
    out: Path = Path("experiments/explain/results/causes"),
    seed: int = 0,
) -> None:
    """Write one JSON file per classifier that was not asked in this way before, and `table.md` of all files.

    Args:
        cases: names of classifiers: fair, marker, hat.
        rows: test rows.
        train: training rows of the classifiers.
        steps: of their training.
        generator: of the explainer, a folder or "gaussian"; without it only smallest redrawings are made.
        explain: rows explained by it.
        distilled: steps in which a student of each classifier is distilled, whose gradients lead; 0 without one.
        explainer: a class of `causalcf.explain`.
        runs: folder of models.
        out: where the files go.
        seed: of data and weights.
    """
    out.mkdir(parents=True, exist_ok=True)
    for case in cases:
        asking = [explainer] * (explainer != "MaskDiME") + ["distilled"] * bool(distilled)
        which = "drawn" if generator is None else "-".join([Path(generator).name, *asking])
        path = out / f"{case}-{which}-{seed}.json"
        question = Question(case, rows, steps, generator, explain, runs, seed, train, distilled, explainer)
        if answered(path, print_of := question.digest()):
            continue
        content = {"asked": print_of, **measured(question)}
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        write_text(path, json.dumps({**content, "seed": seed, "machine": machine}, indent=1) + "\n")
        print(path.stem, flush=True)
    contents = [json.loads(path.read_text()) for path in sorted(out.glob("*.json"))]
    text = ["# Causes and explanations", "", *(line for content in contents for line in table(content))]
    (out / "table.md").write_text("\n".join(text))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
