"""Compare the ways of asking Morpho-MNIST counterfactual questions, on the official test rows.

    CAUSALCF_DATA=folder python -m experiments.morphomnist.evaluate --rows 1000

Writes one JSON file per method as soon as it is measured, so that it can be killed and started again, and then the
table, the claims, the curves and the pictures of all that is measured. The interventions, one value per row, are drawn
once and stored beside: thickness and intensity from the training columns, the digit from the nine others.
"""

import hashlib
import json
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

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
from causalcf.training.predictors import load_predictor
from causalcf.units import Units
from experiments.morphomnist.measured import slug
from experiments.morphomnist.methods import METHODS
from experiments.morphomnist.models import folder
from experiments.morphomnist.results import write_all

REFERENCE = 2000  # training rows behind minimality and the Frechet distance
FEW_CYCLES = 10  # rows that go through ten cycles where a method is not a main one


def interventions(rows: Mapping[str, Tensor], train: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """One target per row and attribute; a row's targets do not depend on the others."""
    units = Units(rows["id"], seed)
    drawn = {name: train[name][units.integers(f"plan.{name}", len(train[name]))] for name in ("thickness", "intensity")}
    drawn["digit"] = (rows["digit"] + 1 + units.integers("plan.digit", 9)) % 10
    return drawn


class Counter:
    """How many rows the image's network was shown, forwards and backwards."""

    def __init__(self, scm: cf.SCM) -> None:
        self.forward = self.backward = 0
        image = scm.mechanism("image")
        self.hook = image.network.register_forward_hook(self._count) if isinstance(image, M.Diffusion) else None

    def _count(self, _: Any, __: Any, output: Tensor) -> None:
        self.forward += len(output)
        if output.requires_grad and torch.is_grad_enabled():
            self.backward += len(output)


def evaluations(scm: cf.SCM, rows: Mapping[str, Tensor], action: cf.Do) -> dict[str, float]:
    """Network evaluations of a row: abduction, and prediction of one counterfactual; those of a VAE are 1 and 1."""
    counter, n = Counter(scm), len(rows["id"])
    if counter.hook is None:
        return {"abduct": 1, "predict": 1, "backward": 0}
    world = scm.observe(rows)
    world.noise["image"]
    abduction, backward = counter.forward, counter.backward
    world.do(action)["image"]
    counter.hook.remove()
    return {"abduct": abduction / n, "predict": (counter.forward - abduction) / n, "backward": backward / n}


def unconditional(path: Path) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Mean and log-variance of the code of an autoencoder that knows no parents."""
    judge = cf.SCM.load(path).mechanism("image")
    assert isinstance(judge, M.VAE)
    return lambda images: judge.encoder(2 * images - 1, judge.features({}, len(images)))


def digest(folder: Path) -> str:
    """Of the weights in a model's folder."""
    found = hashlib.sha256()
    for path in sorted(folder.rglob("*.safetensors")):
        found.update(path.read_bytes())
    return found.hexdigest()[:16]


def kept(measured: Mapping[str, Any], weights: str, rows: int) -> bool:
    """Whether what was measured is of these weights, on at least as many rows."""
    return measured["weights"] == weights and measured["about"]["rows"] >= rows


class Rows:
    """Test rows in memory."""

    def __init__(self, data: MorphoMNIST, count: int) -> None:
        self.content = data[:count]

    def __len__(self) -> int:
        return len(self.content["id"])

    def __getitem__(self, index: slice | list[int]) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.content.items()}


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
) -> None:
    """Measure every method that has its weights, and write what the results say.

    Args:
        rows: test rows.
        few: test rows for the methods that are not the main ones, and those that optimise at test time.
        cycles: rows that go through ten cycles of composition, and through reversibility, where a method is a main one.
        only: names of methods; all by default.
        models: folder of `morphomnist-<name>`.
        predictors: folder of judges and readers.
        out: where the JSON files, the interventions, the table, the claims and the curves go.
        pictures: where grids of pictures go; they show images of the data set.
        batch: rows at a time.
        seed: of the interventions and of what abduction draws; other seeds than 0 read models trained with them.
    """
    data = MorphoMNIST(folder("morphomnist"), "test", mnist=folder("mnist"))
    train = MorphoMNIST(folder("morphomnist"), "train")
    drawn = interventions(data[: max(rows, 1)], train.columns(["thickness", "intensity"]), seed)
    place = out / str(seed)
    place.mkdir(parents=True, exist_ok=True)
    stored = {name: [round(value, 6) for value in values.tolist()] for name, values in drawn.items()}
    (place / "interventions.json").write_text(json.dumps(stored) + "\n")
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
        print_of, count = digest(weights), rows if method.main else min(rows, few)
        if path.exists() and kept(json.loads(path.read_text()), print_of, count):
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
            scm = method.made(cf.SCM.load(weights), predictors)
            cost = evaluations(scm, data[:20], plan["do(thickness)"].at(slice(0, 20), count))
            report = evaluate(scm, Rows(data, count), plan, metrics, batch=batch, seed=seed)
            first = min(cycles if method.main else FEW_CYCLES, count)
            part = {name: action.at(slice(0, first), count) for name, action in plan.items()}
            again = [Composition(cycles=(10,)), Reversibility()]
            ten = evaluate(scm, Rows(data, first), part, again, batch=batch, seed=seed)
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        content = Report((*report.lines, *ten.lines), report.about).to_dict()
        for line, found in zip(content["lines"], (*report.lines, *ten.lines), strict=True):
            if found.values is not None:  # for differences of methods, row by row
                line["values"] = [float(f"{value:.4g}") for value in found.values[:few].tolist()]
        about = {"method": name, "weights": print_of, "evaluations": cost, "cycled": first, "machine": machine}
        path.write_text(json.dumps({**about, **content}) + "\n")
        print(name, cost, flush=True)
    write_all(out, models, predictors, pictures)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
