"""Compare what leads Pendulum's counterfactuals: causal representations under several scales, or the parents.

    python -m experiments.pendulum.evaluate --rows 200

Each method is measured after one intervention on each factor, and along sequences of five, with the noise of the first
picture and with that of each answer. Interventions are drawn once per row, uniformly over the training range.
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.data import Pendulum
from causalcf.metrics import Composition, CounterfactualError, Effectiveness, NoiseMoments, evaluate, evaluate_sequence
from causalcf.units import Units

RANGES = {"angle": (-0.6, 0.65), "sun": (1.0, 2.2), "length": (3.0, 8.0), "position": (6.0, 14.0)}
ORDER = ("angle", "sun", "length", "angle", "sun")
METHODS: dict[str, dict[str, Any]] = {
    **{f"balanced, size {size:g}": {"scale": "balanced", "size": size} for size in (0.1, 0.3, 1.0)},
    **{f"empirical, size {size:g}": {"scale": "empirical", "size": size, "stop": 0.5} for size in (0.3, 1.0)},
    **{f"ancestral, size {size:g}": {"scale": "ancestral", "size": size, "stop": 0.5} for size in (0.03, 0.1)},
    **{f"constant, size {size:g}": {"scale": "constant", "size": size} for size in (0.01, 0.03, 0.1, 0.3, 1.0)},
    **{f"parents, omega {omega:g}": {"by": "parents", "omega": omega} for omega in (1.0, 1.5, 2.0)},
}


def drawn(ids: Tensor, name: str, seed: int, place: int = 0) -> Tensor:
    """One target per row."""
    low, high = RANGES[name]
    return (low + (high - low) * Units(ids, seed).uniform(f"plan.{place}.{name}")).float()


class Rows:
    """The first rows of a data set, drawn once, which know their truth."""

    def __init__(self, data: Pendulum, count: int) -> None:
        self.data, self.content = data, data[:count]
        self.knows, self.true_counterfactual = data.knows, data.true_counterfactual

    def __len__(self) -> int:
        return len(self.content["id"])

    def __getitem__(self, index: Any) -> dict[str, Tensor]:
        return {name: value[index] for name, value in self.content.items()}


def main(
    model: Path = Path("runs/pendulum-nscm"),
    out: Path = Path("experiments/pendulum/results"),
    rows: int = 200,
    only: list[str] | None = None,
    batch: int = 50,
    seed: int = 0,
) -> None:
    """Write one JSON file per method.

    Args:
        model: folder of the model.
        out: where the files go.
        rows: test rows.
        only: names of methods; all by default.
        batch: rows at a time.
        seed: of the interventions.
    """
    data = Rows(Pendulum("test", rows=rows), rows)
    ids, scm, place = data.content["id"], cf.SCM.load(model), out / str(seed)
    place.mkdir(parents=True, exist_ok=True)
    single = {f"do({name})": cf.do(**{name: drawn(ids, name, seed)}) for name in RANGES}
    plan = [cf.do(**{name: drawn(ids, name, seed, step + 1)}) for step, name in enumerate(ORDER)]
    for name in METHODS if only is None else only:
        path = place / f"{''.join(c if c.isalnum() or c == '.' else '-' for c in name)}.json"
        if path.exists():
            continue
        asked, oracles = scm.using(image=METHODS[name]), Pendulum.oracles()
        metrics = [Composition(cycles=(1,)), NoiseMoments(["image"]), Effectiveness(oracles), CounterfactualError(data)]
        content: dict[str, Any] = {"method": name, "options": METHODS[name]}
        with torch.no_grad():
            content["single"] = evaluate(asked, data, single, metrics, batch=batch).to_dict()
            for key, again in (("shared", False), ("abducted again", True)):
                report = evaluate_sequence(asked, data, plan, oracles=oracles, reabduct=again, batch=batch)
                content[key] = report.to_dict()
        path.write_text(json.dumps(content, indent=1) + "\n")
        print(name, flush=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
