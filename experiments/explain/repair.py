"""Find the shortcut of a classifier by explaining it, and repair it; what is measured already is kept.

    python -m experiments.explain.repair --part generator
    python -m experiments.explain.repair
    CAUSALCF_DATA=folder python -m experiments.explain.repair --part celeba

`generator` trains the model of faces with and without a marker, `runs/toyfaces-marker-spatial`; killed and started
again, it goes on. The others write one JSON file per shortcut and strength, and `table.md`; what was asked otherwise is
measured again, and `--shortcuts '[]'` only writes the table of what is measured. `--generator gaussian` does without a
trained network, by a Gaussian model of the biased images themselves; `--distilled 300` lets the gradients of a smooth
student of the classifier lead, distilled anew in each round.
"""

from __future__ import annotations

import json
import platform
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, Literal

import torch

import causalcf as cf
from causalcf.data import ToyFaces
from causalcf.explain import Generator, Led, changes, gain, repair
from causalcf.explain.explainer import Explainer
from causalcf.explain.generators import from_scm
from causalcf.explain.repairs import accuracy
from causalcf.storage import write_text
from causalcf.training.repair import repaired
from experiments.asked import answered, digest
from experiments.explain.data import Held
from experiments.explain.gaussian import gaussian
from experiments.explain.known import Known
from experiments.explain.models import Halved, model
from experiments.explain.readers import fit_reader, student
from experiments.explain.repaired import write
from experiments.explain.shortcuts import LABEL, Biased, drawn, judges, kept, photographs

GENERATORS = {"toyfaces": "toyfaces-marker-spatial", "celeba": "celeba-spatial"}
TRAINED = {  # which command trains a generator
    "toyfaces-marker-spatial": "repair --part generator",
    "toyfaces-spatial": "train --data toyfaces",
    "celeba-spatial": "train --data celeba",
}
SHORTCUTS = {"toyfaces": ("marker", "hat"), "celeba": ("male",)}
WIDTHS = (8, 16, 32, 64)  # of the classifier
OPTIONS: dict[str, dict[str, Any]] = {"MaskDiME": {"steps": 50, "depth": 30}}
LED: dict[str, dict[str, Any]] = {
    "MaskDiME": {"steps": 50, "depth": 40, "share": 0.2, "scales": (15.0, 30.0)},
    "SCE": {"steps": 12, "strength": 0.8, "threshold": 0.2},
}
ROWS, STEPS = 4000, {"toyfaces": 200, "celeba": 800}  # that it learns, and how long
TRUTH = "truth"  # instead of an explainer
GAUSSIAN = "gaussian"  # instead of a trained generator
SEEN = 0.5  # how closely the marker follows the smile where the generator learns it


def train(out: Path, rows: int, steps: int | None, seed: int) -> None:
    """Fit and save the model of faces with and without a marker."""
    target = out / GENERATORS["toyfaces"]
    if target.is_dir():
        return
    tied = {"shortcut": "marker", "target": LABEL, "strength": SEEN, "seed": seed}
    seen = kept(ToyFaces("train", rows=rows, **tied))
    scm = model(seen.graph, steps)
    scm.fit(seen, ToyFaces("val", rows=200, **tied)[:], folder=target.with_name(target.name + "-fit"), seed=seed)
    scm.save(target, overwrite=True, half=True)


def generator_folders(which: str, runs: Path) -> list[Path]:
    """The folder of a generator, as a list; an empty one of the Gaussian model, which has none.

    Args:
        which: a folder, its name in `runs`, or "gaussian".
        runs: folder of models.

    Raises:
        SystemExit: it is not there.
    """
    if which == GAUSSIAN:
        return []
    folder = Path(which) if Path(which).is_dir() else runs / which
    if not folder.is_dir():
        known = f"run python -m experiments.explain.{TRAINED[which]} first" if which in TRAINED else "give a folder"
        raise SystemExit(f"--generator: there is no {folder}; {known}, or take --generator {GAUSSIAN}")
    return [folder]


def loaded(folder: str | Path) -> Generator:
    """The generator of a saved model, in bfloat16."""
    scm = cf.SCM.load(folder)
    scm.requires_grad_(False)
    found = from_scm(scm)
    return replace(found, network=Halved(found.network))


def asked(network: torch.nn.Module, rows: Held, distilled: int, seed: int) -> Any:
    """What is explained: a classifier, or that with the gradients of its student.

    Args:
        network: the classifier.
        rows: training rows.
        distilled: steps in which a student is distilled; 0 without one.
        seed: of it.
    """
    return Led(network, student(network, rows, distilled, seed)) if distilled else network


def chosen(explainer: str, distilled: int) -> dict[str, Any]:
    """The options of an explainer."""
    return (LED if distilled else OPTIONS).get(explainer, {})


def known(biased: Biased) -> Explainer:
    """An explainer that answers with the other value of the shortcut."""
    if (images := biased.exchanged) is None:
        raise SystemExit(f"--explainer {TRUTH}: nobody knows how photographs would look with another shortcut")
    return Known(lambda ids, _: images(ids))


def measure(
    biased: Biased,
    generator: Generator,
    explainer: cf.explain.Explainer,
    *,
    rounds: int,
    count: int,
    steps: int,
    tuning: int,
    share: float,
    distilled: int,
    seed: int,
) -> dict[str, Any]:
    """Train a classifier on biased rows, repair it, and hold both against others.

    Args:
        biased: the rows.
        generator: what draws counterfactuals.
        explainer: how.
        rounds: of the repair.
        count: rows explained in each.
        steps: of the training.
        tuning: of the fine-tuning in each round.
        share: of its batches that is counterfactuals.
        distilled: steps in which what leads is distilled from the classifier of each round; 0 is the classifier itself.
        seed: of weights, order and choice.

    Returns:
        Plain data. `accuracy` is of unbiased rows: `before` and `after` the repair, of `more training` on the same
        rows, images and number of steps without counterfactuals, and of a classifier of `fair rows`; that one is
        explained as well, for the shares of attributes that change where there is no shortcut.
    """
    classifier, fair = (
        fit_reader(rows, [LABEL], widths=WIDTHS, steps=steps, seed=seed) for rows in (biased.train, biased.fair)
    )
    done = repair(
        classifier,
        explainer,
        generator,
        biased.train,
        biased.teacher,
        label=LABEL,
        rounds=rounds,
        count=count,
        readers=biased.readers,
        unbiased=biased.unbiased,
        asked=lambda network: asked(network, biased.train, distilled, seed),
        seed=seed,
        steps=tuning,
        share=share,
    )
    images = torch.cat([each.explanation.images for each in done.rounds])
    more = classifier
    for number in range(rounds):
        labels = biased.teacher(images)
        more = repaired(more, biased.train, LABEL, images, labels, steps=tuning, share=share, seed=seed + number)
    first = done.rounds[0].explanation
    explained = explainer.explain(asked(fair, biased.fair, distilled, seed), generator, first.images, None, first.ids)
    found = {"before": classifier, "after": done.classifier, "more training": more, "fair rows": fair}
    accuracies = {name: accuracy(network, biased.unbiased, LABEL) for name, network in found.items()}
    return {
        "rows": len(biased.train),
        "tested": len(biased.unbiased),
        "steps": steps,
        "tuning": tuning,
        "share": share,
        "distilled": distilled,
        "accuracy": accuracies,
        "accuracy on biased rows": accuracy(classifier, biased.train, LABEL),
        "gain": done.gain,
        "gain of more training": gain(accuracies["before"], accuracies["more training"]),
        "rounds": [each.to_dict() for each in done.rounds],
        "fair changes": changes(explained, biased.readers).to_dict() if explained.flipped.any() else None,
        "explainer": first.about,
        "evaluations": first.forward.mean().item(),
        "seconds": first.seconds.mean().item(),
    }


def main(
    part: Literal["toyfaces", "celeba", "generator"] = "toyfaces",
    shortcuts: list[str] | None = None,
    strengths: list[float] = [1.0, 0.99],  # noqa: B006
    generator: str | None = None,
    explainer: str = "MaskDiME",
    options: dict[str, Any] | None = None,
    rows: int | None = None,
    tested: int = 1000,
    rounds: int = 3,
    count: int = 96,
    steps: int | None = None,
    tuning: int | None = None,
    share: float = 0.5,
    distilled: int = 0,
    runs: Path = Path("runs"),
    out: Path = Path("experiments/explain/results/repair"),
    seed: int = 0,
) -> None:
    """Train the generator, or measure repairs.

    Args:
        part: what to do, or which faces.
        shortcuts: what tells the smile; marker and hat of drawn faces, male of photographs.
        strengths: how closely.
        generator: a folder, or "gaussian".
        explainer: a class of `causalcf.explain`, or "truth": of drawn faces, with the other value of the shortcut.
        options: of the explainer.
        rows: training rows, of classifier or generator.
        tested: test rows without the shortcut.
        rounds: of a repair.
        count: rows explained in each.
        steps: of the classifier, 200 or 800 by default, or of the generator.
        tuning: steps of the fine-tuning in each round, as many as of the classifier by default.
        share: of its batches that is counterfactuals; the rest are training rows.
        distilled: steps in which a smooth student of the classifier is distilled in each round, whose gradients lead;
            0 follows the classifier's own.
        runs: folder of models and readers.
        out: where the files go.
        seed: of all.
    """
    if part == "generator":
        train(runs, 10_000 if rows is None else rows, steps, seed)
        return
    out.mkdir(parents=True, exist_ok=True)
    which, many, long = generator or GENERATORS[part], ROWS if rows is None else rows, steps or STEPS[part]
    how = None
    if explainer != TRUTH:
        how = getattr(cf.explain, explainer)(
            seed=seed, **(chosen(explainer, distilled) if options is None else options)
        )
    given = {"rounds": rounds, "count": count, "steps": long, "tuning": tuning or long, "share": share}
    given |= {"distilled": distilled, "seed": seed}
    for shortcut, strength in product(SHORTCUTS[part] if shortcuts is None else shortcuts, strengths):
        path = out / f"{part}-{shortcut}-{strength:g}-{Path(which).name}-{explainer}"
        ending = f"{rounds}-{seed}{'' if share == 0.5 else f'-{share:g}'}.json"
        path = path.with_name(f"{path.name}{'-distilled' if distilled else ''}-{ending}")
        named = {"data": part, "shortcut": shortcut, "strength": strength, "generator": Path(which).name}
        own = [explainer, None if how is None else how.options()]
        folders = generator_folders(which, runs)
        weights = [*folders, *(judges(runs) if part == "celeba" else ())]
        print_of = digest(weights, [named, given, own, many, tested], files="*")
        if answered(path, print_of):
            continue
        if part == "toyfaces":
            biased = drawn(shortcut, strength, many, tested, seed)
        else:
            biased = photographs(shortcut, strength, many, tested, seed, runs)
        draws = loaded(*folders) if folders else gaussian(biased.train[:2000]["image"])
        content = measure(biased, draws, known(biased) if how is None else how, **given)
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        about = {**named, "asked": print_of, "seed": seed, "machine": machine}
        write_text(path, json.dumps({**about, **content}, indent=1) + "\n")
        print(path.stem, f"gain {content['gain']:.3f}", flush=True)
        write(out)
    write(out)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
