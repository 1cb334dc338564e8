"""Sequences of interventions: how far the answers are from the truth after each step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.readers import as_reader
from causalcf.interventions import Do, do
from causalcf.metrics.report import Report, collect
from causalcf.metrics.tally import Label, Tally, distance, unit_of
from causalcf.rows import Table
from causalcf.scm import SCM
from causalcf.sequences import sequence
from causalcf.world import World

ACM = "disagreement with the targets (in place of ACM)"


def evaluate_sequence(
    scm: SCM,
    test: Any,
    plan: Sequence[Do],
    *,
    oracles: Mapping[str, Any] | None = None,
    metrics: Sequence[Tally] = (),
    node: str = "image",
    reabduct: bool = False,
    batch: int = 64,
    seed: int = 0,
) -> Report:
    """Measure the answers after each of several interventions, one after the other.

    Per step: the error of the image against the truth, beside that of doing nothing, in grey levels and as the
    peak signal-to-noise ratio; what oracles read against what the model meant; and what they read against the true
    factors, the mean over all factors as shares of their ranges, which stands in for the ACM of Zhu et al. (2024),
    whose formula is not public. At the end, the way back: the distance to the observed image once everything is set to
    its factual value.

    Args:
        scm: the model.
        test: rows it has not seen, of a data set that knows their true counterfactuals.
        plan: one intervention, or set of them, per step; per-row values have one entry per row of `test`.
        oracles: variable -> what reads it from an image.
        metrics: further ones, which compare each answer with the observed rows, for example `Frechet`.
        node: the image.
        reabduct: whether noise is abducted again from each answer; the truth then is too.
        batch: rows at a time.
        seed: of what is left to chance.
    """
    table, steps = Table(test, scm.graph, "test"), Steps(dict(oracles or {}), node)
    count = len(table)
    if not all(test.knows(step) for step in plan):
        raise ValueError("evaluate_sequence: the truth of a step is unknown; leave it out of the plan")
    for start in range(0, count, batch):
        index = slice(start, min(start + batch, count))
        rows = table[index]
        part = [step.at(index, count) for step in plan]
        worlds = sequence(scm, rows, part, reabduct=reabduct, seed=seed)
        for metric in metrics:
            metric.update(worlds[0])
        true, done = dict(rows), None
        for place, (step, world) in enumerate(zip(part, worlds[1:], strict=True)):
            done = step if done is None else done.then(step)
            if reabduct:
                true = {**test.true_counterfactual(true, step, seed), "id": worlds[0].units.ids}
            else:
                true = test.true_counterfactual({**rows, "id": worlds[0].units.ids}, done, seed)
            name = f"step {place + 1}"
            steps.update(worlds[0], name=name, counterfactual=world, true=true)
            for metric in metrics:
                metric.update(worlds[0], done, name, world)
        last = scm.observe(worlds[-1].values(), seed) if reabduct else worlds[-1]
        factual = do(**{name: worlds[0][name] for step in part for name in step})
        steps.update(worlds[0], name="there and back", counterfactual=last.do(factual))
    about = {"rows": count, "seed": seed, "noise": "abducted again at each step" if reabduct else "abducted once"}
    return Report(collect([steps, *metrics]), about)


class Steps(Tally):
    """What `evaluate_sequence` adds up."""

    title = "error against the truth"

    def __init__(self, oracles: Mapping[str, Any], node: str) -> None:
        super().__init__()
        self.oracles, self.node = {name: as_reader(name, oracle) for name, oracle in oracles.items()}, node

    def update(
        self,
        world: World,
        action: Do | None = None,
        name: str = "",
        counterfactual: World | None = None,
        true: Mapping[str, Tensor] | None = None,
    ) -> None:
        """Take in the answers of one step, with the truth, or of the way back, without."""
        assert counterfactual is not None
        if true is None:
            self._back(world, name, counterfactual)
        else:
            self._after(name, world, counterfactual, true)

    @torch.no_grad()
    def _after(self, name: str, observed: World, world: World, true: Mapping[str, Tensor]) -> None:
        unit, image = unit_of(world, self.node), world[self.node]
        truth = true[self.node].to(image)
        self.tally(Label(self.title, name, self.node, unit), distance(image, truth, image=True))
        nothing = Label(self.title, name, self.node, unit, "doing nothing")
        self.tally(nothing, distance(observed[self.node], truth, image=True))
        square = (image.double() - truth.double()).square().flatten(1).mean(1).clamp_min(1e-10)
        self.tally(Label("PSNR against the truth", name, self.node, "dB"), -10 * square.log10())
        shares = []
        for variable, oracle in self.oracles.items():
            meant = world[variable]
            error = (oracle(image) - meant).abs().double()
            self.tally(Label("error of oracle", name, variable, unit_of(world, variable)), error)
            floor = (oracle(observed[self.node]) - observed[variable]).abs().double()
            self.tally(Label("error of oracle", name, variable, unit_of(world, variable), "floor"), floor)
            missed = (oracle(image) - true[variable].to(meant)).abs().double()
            shares.append(missed / self._range(world, variable))
        if shares:
            self.tally(Label(ACM, name, "all factors", "share of range"), torch.stack(shares).mean(0))

    @staticmethod
    def _range(world: World, variable: str) -> float:
        declared = world.scm.graph[variable]
        lower, upper = getattr(declared, "lower", None), getattr(declared, "upper", None)
        if lower is None or upper is None:
            raise ValueError(f"{variable}: its range is not declared; give it lower and upper, or leave its oracle out")
        return upper - lower

    @torch.no_grad()
    def _back(self, observed: World, name: str, world: World) -> None:
        label = Label("distance to the observation", name, self.node, unit_of(world, self.node))
        self.tally(label, distance(world[self.node], observed[self.node], image=True))
