"""Compare the ways of asking Morpho-MNIST counterfactual questions, on the official test rows.

    CAUSALCF_DATA=folder python -m experiments.morphomnist.evaluate --rows 1000

Writes one JSON file per method as soon as it is measured, so that it can be killed and started again, and then the
table, the claims, the curves and the pictures of all that is measured. The interventions, one value per row, are drawn
once and stored beside: thickness and intensity from the training columns, the digit from the nine others.

Options are chosen on validation rows, `--split val`, whose results lie apart and are in no table.
"""

import json
import math
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoMNIST
from causalcf.metrics import (
    Composition,
    CounterfactualError,
    Effectiveness,
    Frechet,
    Identity,
    Minimality,
    NoiseMoments,
    Report,
    Reversibility,
    Tally,
    evaluate,
)
from causalcf.networks.classifier import Classifier
from causalcf.storage import write_text
from causalcf.training.predictors import load_predictor
from causalcf.units import Units
from experiments.asked import digest, written
from experiments.benchmarks.evaluations import Asked
from experiments.morphomnist.claims import stated
from experiments.morphomnist.measured import COLUMNS, slug
from experiments.morphomnist.methods import METHODS
from experiments.morphomnist.models import folder
from experiments.morphomnist.results import write_all

Split = Literal["val", "test"]
REFERENCE = 2000  # training rows behind minimality and the Frechet distance
COUNTED = 20  # rows that network evaluations are counted on
FEW_CYCLES, SLOW_CYCLES = 25, 10  # rows that go through ten cycles where a method is not a main one, or is slow
CLAIMED = {COLUMNS[column] for claim in stated() for column, _ in claim.columns}  # what claims compare row by row


def interventions(rows: Mapping[str, Tensor], train: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """One target per row and attribute; a row's targets do not depend on the others."""
    units = Units(rows["id"], seed)
    drawn = {name: train[name][units.integers(f"plan.{name}", len(train[name]))] for name in ("thickness", "intensity")}
    drawn["digit"] = (rows["digit"] + 1 + units.integers("plan.digit", 9)) % 10
    return drawn


def planned(path: Path, rows: Mapping[str, Tensor], train: Mapping[str, Tensor], seed: int) -> Mapping[str, Tensor]:
    """The interventions of some rows, from the file that stores them; drawn, and stored, where it does not."""
    ids = rows["id"].tolist()
    if path.exists():
        kept = written(path)
        if kept["id"][:1] != ids[:1]:
            raise ValueError(
                f"{path.parent} holds results of other rows, from id {kept['id'][0]} on, expected {ids[0]}; "
                "give another folder, --out"
            )
        if kept.get("seed") == seed and kept["id"][: len(ids)] == ids:
            return {name: torch.tensor(kept[name][: len(ids)]) for name in (*train, "digit")}
    drawn = {
        name: [round(value, 6) for value in found.tolist()] for name, found in interventions(rows, train, seed).items()
    }
    write_text(path, json.dumps({"seed": seed, "id": ids, **drawn}) + "\n")
    return {name: torch.tensor(values) for name, values in drawn.items()}


def evaluations(scm: cf.SCM, rows: Mapping[str, Tensor], action: cf.Do) -> dict[str, float]:
    """Network evaluations of a row in abduction, and in prediction of one counterfactual.

    Rows shown to the denoiser, or to encoder and decoder; what goes backwards through the denoiser; and rows shown to
    the readers that steer, with what goes backwards through them.
    """
    with Asked(scm.mechanism("image")) as asked:
        world, counts = scm.observe(rows), []
        for step in (lambda: world.noise["image"], lambda: world.do(action)["image"]):
            step()
            own = [rows for way, rows in asked.rows.items() if way.endswith("forward") and "reader" not in way]
            counts.append(sum(map(sum, own)))
    read = [sum(asked.rows.get(f"reader {way}", [])) for way in ("forward", "backward")]
    found = {"abduct": counts[0], "predict": counts[1] - counts[0], "backward": sum(asked.rows["backward"])}
    found |= {"read": read[0], "read backward": read[1]}
    return {name: count / len(rows["id"]) for name, count in found.items()}


def unconditional(path: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Mean and log-variance of the code of an autoencoder that knows no parents."""
    judge = cf.SCM.load(path).mechanism("image")
    assert isinstance(judge, M.VAE)
    return lambda images: judge.encoder(2 * images - 1, judge.features({}, len(images)))


def options(mechanism: cf.Mechanism) -> dict[str, Any]:
    """What decides how a mechanism answers, beside its weights and what its readers weigh."""
    found = {name: value for name, value in mechanism.config().items() if name != "recipe"}
    if isinstance(mechanism, M.Diffusion) and mechanism.steering.readers:
        steering = mechanism.steering
        own = {"readers": sorted(steering.readers), "relative": sorted(steering.relative)}
        found |= {**own, "by": steering.by, "tolerance": dict(steering.tolerance), "between": steering.between}
    return found


def kept(measured: Mapping[str, Any], asked: str, rows: int, cycled: int) -> bool:
    """Whether what was measured was asked in this way, on at least as many rows, and through cycles."""
    enough = measured["about"]["rows"] >= rows and measured.get("cycled", 0) >= cycled
    return measured["asked"] == asked and enough


class Known:
    """The truth of thickness and intensity, morphed once for all methods; of a digit nobody knows it."""

    def __init__(self, data: MorphoMNIST) -> None:
        self.data, self.known = data, {}

    def knows(self, action: cf.Do) -> bool:
        """As the data set does."""
        return self.data.knows(action)

    def true_counterfactual(self, rows: Mapping[str, Tensor], action: cf.Do, seed: int = 0) -> Mapping[str, Tensor]:
        """As the data set's, kept."""
        key = (tuple(rows["id"].tolist()), tuple(sorted(action)))
        if key not in self.known:
            self.known[key] = self.data.true_counterfactual(rows, action, seed)
        return self.known[key]


def main(
    rows: int = 1000,
    few: int = 200,
    cycles: int = 50,
    only: list[str] | None = None,
    models: Path = Path("runs"),
    predictors: Path = Path("runs/morphomnist-predictors"),
    out: Path = Path("experiments/morphomnist/results"),
    pictures: Path = Path("runs/morphomnist-pictures"),
    batch: int = 100,
    seed: int = 0,
    split: Split = "test",
) -> None:
    """Measure every method that has its weights, and write what the results say.

    Args:
        rows: how many, the first of the split.
        few: rows for the methods that optimise at test time.
        cycles: rows that go through ten cycles of composition, and through reversibility, where a method is a main one.
        only: names of methods; all by default.
        models: folder of `morphomnist-<name>`.
        predictors: folder of judges and readers.
        out: where the JSON files, the interventions, the table, the claims and the curves go; of validation rows, whose
            folder is `val` in it, the JSON files and the interventions alone.
        pictures: where grids of pictures go; they show images of the data set.
        batch: rows at a time.
        seed: of the interventions and of what abduction draws; other seeds than 0 read models trained with them.
        split: "test", or "val" for rows that options are chosen on.
    """
    data = MorphoMNIST(folder("morphomnist"), split, mnist=folder("mnist"))
    train = MorphoMNIST(folder("morphomnist"), "train")
    place = (out if split == "test" else out / split) / str(seed)
    place.mkdir(parents=True, exist_ok=True)
    drawn = planned(place / "interventions.json", data[:rows], train.columns(["thickness", "intensity"]), seed)
    judges = {name: load_predictor(predictors / f"judge-{name}") for name in ("digit", "thickness", "intensity")}
    digit = judges["digit"]
    assert isinstance(digit, Classifier)
    reference, truth = train[:REFERENCE], Known(data)
    code = unconditional(predictors / "judge-code")
    measures = {name: data.oracles()[name] for name in ("thickness", "intensity")}
    for name in METHODS if only is None else only:
        method, path = METHODS[name], place / f"{slug(name)}.json"
        weights = models / f"morphomnist-{method.model}{f'-{seed}' if seed else ''}"
        if not weights.is_dir():
            continue
        scm, count = method.made(cf.SCM.load(weights), predictors), min(rows, few) if method.slow else rows
        asked = digest([weights, predictors], [name, options(scm.mechanism("image")), seed])
        first = min(cycles if method.main else SLOW_CYCLES if method.slow else FEW_CYCLES, count)
        if path.exists() and kept(written(path), asked, count, first):
            continue
        plan = {f"do({variable})": cf.do(**{variable: drawn[variable][:count]}) for variable in drawn}
        metrics: list[Tally] = [
            Composition(cycles=(1,)),
            NoiseMoments(["image"]),
            Effectiveness({**measures, "digit": digit}),
            Effectiveness({name: judges[name] for name in measures}, named="CNN"),
            CounterfactualError(truth),
            Identity(),
            Minimality(code, reference),
            Minimality(code, reference, form="published"),
            Frechet(digit.features, reference["image"]),
        ]
        with torch.no_grad():
            some = slice(0, min(count, COUNTED))
            cost = evaluations(scm, data[some], plan["do(thickness)"].at(some, count))
            report = evaluate(scm, data[:count], plan, metrics, batch=batch, seed=seed)
            part = {name: action.at(slice(0, first), count) for name, action in plan.items()}
            again = [Composition(cycles=(10,)), Reversibility()]
            ten = evaluate(scm, data[:first], part, again, batch=batch, seed=seed)
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        content = Report((*report.lines, *ten.lines), report.about).to_dict()
        for line, found in zip(content["lines"], (*report.lines, *ten.lines), strict=True):
            if found.values is not None and (line["metric"], line["action"], line["variable"]) in CLAIMED:
                values = found.values.tolist()  # for differences of methods, row by row
                line["values"] = [None if math.isnan(value) else float(f"{value:.4g}") for value in values]
        about = {"method": name, "asked": asked, "evaluations": cost, "cycled": first, "machine": machine}
        write_text(path, json.dumps({**about, **content}) + "\n")
        print(name, cost, flush=True)
    if split == "test":
        write_all(out, models, predictors, pictures)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
