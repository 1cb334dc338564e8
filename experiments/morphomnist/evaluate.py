"""Compare the ways of asking Morpho-MNIST counterfactual questions, on the official test rows.

    CAUSALCF_DATA=folder python -m experiments.morphomnist.evaluate --rows 1000

Writes one JSON file per method as soon as it is measured, so that it can be killed and started again, and then the
table of all of them. The interventions, one value per row, are drawn once and stored beside: thickness and intensity
from the training columns, the digit from the nine others.
"""

import json
import math
import platform
from collections.abc import Mapping
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
    Tally,
    evaluate,
)
from causalcf.networks.classifier import Classifier
from causalcf.training.predictors import load_predictor
from causalcf.units import Units
from experiments.morphomnist.methods import METHODS
from experiments.morphomnist.models import folder

REFERENCE = 2000  # training rows behind minimality and the Frechet distance


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
        if isinstance(image, M.Diffusion):
            image.network.register_forward_hook(self._count)

    def _count(self, _: Any, __: Any, output: Tensor) -> None:
        self.forward += len(output)
        if output.requires_grad and torch.is_grad_enabled():
            self.backward += len(output)


def evaluations(scm: cf.SCM, rows: Mapping[str, Tensor], action: cf.Do) -> dict[str, float]:
    """Network evaluations of a row: abduction, and prediction of one counterfactual."""
    counter = Counter(scm)
    world = scm.observe(rows)
    world.noise["image"]
    abduction, backward = counter.forward, counter.backward
    world.do(action)["image"]
    n = len(world)
    return {"abduct": abduction / n, "predict": (counter.forward - abduction) / n, "backward": backward / n}


def measured(
    scm: cf.SCM, data: Any, plan: Mapping[str, cf.Do], metrics: list[Tally], cycles: Any, batch: int
) -> Report:
    """The report of one method; ten cycles on fewer rows."""
    report = evaluate(scm, data, plan, metrics, batch=batch)
    ten = evaluate(scm, cycles, {"-": cf.do(digit=0)}, [Composition(cycles=(10,))], batch=batch)
    return Report((*report.lines, *ten.lines), report.about)


class Rows:
    """Test rows in memory, which know their truth."""

    def __init__(self, data: MorphoMNIST, count: int) -> None:
        self.data, self.content = data, data[:count]

    def __len__(self) -> int:
        return len(self.content["id"])

    def __getitem__(self, index: slice | list[int]) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.content.items()}


def main(
    rows: int = 1000,
    slow_rows: int = 200,
    cycle_rows: int = 100,
    only: str = "",
    models: Path = Path("runs"),
    predictors: Path = Path("runs/morphomnist-predictors"),
    out: Path = Path("experiments/morphomnist/results"),
    batch: int = 100,
    seed: int = 0,
) -> None:
    """Measure every method that has its weights, and write the table.

    Args:
        rows: test rows.
        slow_rows: test rows for methods that optimise at test time.
        cycle_rows: rows that go through ten cycles of composition.
        only: measure only methods whose name contains this.
        models: folder of `morphomnist-<name>`.
        predictors: folder of judges and readers.
        out: where the JSON files, the interventions and the table go.
        batch: rows at a time.
        seed: of the interventions and of what abduction draws; other seeds than 0 read models trained with them.
    """
    data = MorphoMNIST(folder("morphomnist"), "test", mnist=folder("mnist"))
    train = MorphoMNIST(folder("morphomnist"), "train")
    drawn = interventions(data[: max(rows, 1)], train.columns(["thickness", "intensity"]), seed)
    out.mkdir(parents=True, exist_ok=True)
    stored = {name: [round(value, 6) for value in values.tolist()] for name, values in drawn.items()}
    (out / f"interventions-{seed}.json").write_text(json.dumps(stored) + "\n")
    judges = {name: load_predictor(predictors / f"judge-{name}") for name in ("digit", "thickness", "intensity")}
    digit = judges["digit"]
    assert isinstance(digit, Classifier)
    reference, truth = train[:REFERENCE], _Known(data)
    measures = {name: data.oracles()[name] for name in ("thickness", "intensity")}
    for name, method in METHODS.items():
        path = out / f"{name.replace(' ', '_').replace(':', '').replace(',', '')}-{seed}.json"
        weights = models / f"morphomnist-{method.model}{f'-{seed}' if seed else ''}"
        if only not in name or path.exists() or not weights.is_dir():
            continue
        count = rows if method.cheap else slow_rows
        table = Rows(data, count)
        plan = {f"do({variable})": cf.do(**{variable: drawn[variable][:count]}) for variable in drawn}
        metrics: list[Tally] = [
            Composition(cycles=(1,)),
            NoiseMoments(["image"]),
            Effectiveness({**measures, "digit": digit.predict}),
            Effectiveness({name: judges[name].predict for name in measures}, named="CNN"),
            CounterfactualError(truth),
            Identity(),
            Minimality(lambda x: (digit.eval().features(x), torch.zeros(len(x), 128)), reference),
            Frechet(digit.eval().features, reference["image"]),
        ]
        with torch.no_grad():
            scm = method.made(cf.SCM.load(weights), predictors)
            cost = evaluations(scm, table[:20], plan["do(thickness)"].at(slice(0, 20), count))
            report = measured(scm, table, plan, metrics, Rows(data, min(cycle_rows, count)), batch)
        machine = f"{platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}"
        content = {"method": name, "evaluations": cost, "machine": machine, **report.to_dict()}
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(name, cost, flush=True)
    write_table(out, seed)


class _Known:
    """The truth of thickness and intensity; of a digit nobody knows it."""

    def __init__(self, data: MorphoMNIST) -> None:
        self.data, self.known = data, {}

    def knows(self, action: cf.Do) -> bool:
        return self.data.knows(action)

    def true_counterfactual(self, rows: Mapping[str, Tensor], action: cf.Do, seed: int = 0) -> Mapping[str, Tensor]:
        """Morphed once per set of rows and intervention."""
        key = (tuple(rows["id"].tolist()), repr(action))
        if key not in self.known:
            self.known[key] = self.data.true_counterfactual(rows, action, seed)
        return self.known[key]


COLUMNS: dict[str, tuple[str, str, str]] = {
    "composition 1": ("composition, 1 cycle", "", "image"),
    "composition 10": ("composition, 10 cycles", "", "image"),
    "do(t): t error": ("error of oracle", "do(thickness)", "thickness"),
    "do(t): t bias": ("signed bias", "do(thickness)", "thickness"),
    "do(t): t error, CNN": ("error of CNN", "do(thickness)", "thickness"),
    "do(i): i error": ("error of oracle", "do(intensity)", "intensity"),
    "do(i): i bias": ("signed bias", "do(intensity)", "intensity"),
    "do(d): digit": ("accuracy of oracle", "do(digit)", "digit"),
    "do(d): t error": ("error of oracle", "do(digit)", "thickness"),
    "do(t) truth": ("error against the truth", "do(thickness)", "image"),
    "do(i) truth": ("error against the truth", "do(intensity)", "image"),
    "do(t) CLD": ("minimality (CLD), corrected", "do(thickness)", "thickness"),
    "do(d) CLD": ("minimality (CLD), corrected", "do(digit)", "digit"),
    "do(t) identity": ("identity, to the observation", "do(thickness)", "image"),
    "do(d) Frechet": ("Frechet distance", "do(digit)", "image"),
}


def write_table(out: Path, seed: int) -> None:
    """The methods measured so far, one line each."""
    head = ["method", "n", "calls", *COLUMNS, "sd of u"]
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    known = {json.loads(path.read_text())["method"]: path for path in sorted(out.glob(f"*-{seed}.json")) if _is(path)}
    for name in [name for name in METHODS if name in known]:
        content = json.loads(known[name].read_text())
        found = {(line["metric"], line["action"], line["variable"]): line for line in content["lines"]}
        cost = content["evaluations"]
        cells = [name, str(content["about"]["rows"]), f"{cost['abduct']:.0f} + {cost['predict']:.0f}"]
        if cost["backward"]:
            cells[-1] += f" ({cost['backward']:.0f} backward)"
        for key in COLUMNS.values():
            line = found.get(key)
            cells.append("-" if line is None else f"{line['estimate']['mean']:.3f}")
        square = found.get(("noise mean square", "", "image"))
        mean = found.get(("noise mean", "", "image"))
        if square and mean:
            cells.append(f"{math.sqrt(square['estimate']['mean'] - mean['estimate']['mean'] ** 2):.3f}")
        else:
            cells.append("-")
        lines.append("| " + " | ".join(cells) + " |")
    floors = next((json.loads(path.read_text()) for path in known.values()), None)
    if floors is not None:
        held = {
            f"{line['variable']} under {line['action']}, {line['against']}": line["reference"]["mean"]
            for line in floors["lines"]
            if line["reference"]
        }
        lines += ["", "Held against: " + "; ".join(f"{name} {value:.3f}" for name, value in held.items()) + "."]
    (out / f"table-{seed}.md").write_text("\n".join(lines) + "\n")


def _is(path: Path) -> bool:
    return "method" in json.loads(path.read_text())


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
