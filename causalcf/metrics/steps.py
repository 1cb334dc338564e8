"""Sequences of interventions: how far the answers are from the truth after each step."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.readers import as_reader
from causalcf.interventions import Do, do
from causalcf.metrics.effectiveness import Effectiveness
from causalcf.metrics.evaluation import all_ids, begin, collect, numbered
from causalcf.metrics.report import Report
from causalcf.metrics.tally import Label, Tally, distance, node_of, unit_of
from causalcf.numbers import whole
from causalcf.rows import Table
from causalcf.scm import SCM
from causalcf.sequences import sequence
from causalcf.variables import Continuous
from causalcf.world import World

ACM = "disagreement with the targets (in place of ACM)"


def evaluate_sequence(
    scm: SCM,
    test: Any,
    plan: Sequence[Do],
    *,
    oracles: Mapping[str, Any] | None = None,
    metrics: Sequence[Tally] = (),
    node: str | None = None,
    reabduct: bool = False,
    batch: int = 64,
    seed: int = 0,
) -> Report:
    """Measure the answers after each of several interventions, one after the other.

    Per step: the error of the image against the truth, beside that of doing nothing, in grey levels and as the
    peak signal-to-noise ratio; what oracles read against what the model meant, for classes the share that differs; and
    what they read against the true factors, the mean over all factors as shares of their ranges, which stands in for
    the ACM of Zhu et al. (2024), whose formula is not public; classes agree or do not, and numbers without two bounds
    are left out of this mean. At the end, the way back: the distance to the observed image once everything is set to
    its factual value.

    Args:
        scm: the model.
        test: rows it has not seen, of a data set that knows their true counterfactuals.
        plan: one intervention, or set of them, per step; per-row values have one entry per row of `test`.
        oracles: variable -> what reads it from an image.
        metrics: further ones, each from the start, which compare each answer with the observed rows, `Frechet` say.
        node: the image, by default the only one.
        reabduct: whether noise is abducted again from each answer; the truth then is too.
        batch: rows at a time.
        seed: of what is left to chance.

    Raises:
        TypeError: rows whose truth nobody knows, or a plan that is no list of interventions.
        ValueError: a step whose truth is unknown, or an oracle or an encoder that does not take its images; before
            anything is sampled.
    """
    if not (hasattr(test, "knows") and hasattr(test, "true_counterfactual")):
        raise TypeError(
            "evaluate_sequence: expected a data set that knows its true counterfactuals, for example Pendulum('test'), "
            f"got {type(test).__name__}; without a truth, measure single steps with cf.evaluate(scm, rows, actions)"
        )
    if isinstance(plan, Do) or not (isinstance(plan, Sequence) and all(isinstance(step, Do) for step in plan)):
        raise TypeError(
            f"evaluate_sequence: expected a list of interventions, for example [do(a=1.0), do(b=2.0)], got {plan!r}"
        )
    whole("evaluate_sequence", 1, batch=batch)
    table, steps = Table(test, scm.graph, "test"), Steps(dict(oracles or {}), node_of(scm.graph, node))
    count = len(table)
    if not all(test.knows(step) for step in plan):
        raise ValueError("evaluate_sequence: the truth of a step is unknown; leave it out of the plan")
    begin([steps, *metrics], scm.observe(table[:2], seed))
    seen: Counter[bytes] = Counter()
    ids: list[Tensor] = []
    for start in range(0, count, batch):
        index = slice(start, min(start + batch, count))
        rows = numbered(table[index], seen)
        ids.append(rows["id"].cpu())
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
        last = worlds[-1].reabduct() if reabduct else worlds[-1]
        factual = do(**{name: worlds[0][name] for step in part for name in step})
        steps.update(worlds[0], name="there and back", counterfactual=last.do(factual))
    about = {"rows": count, "seed": seed, "noise": "abducted again at each step" if reabduct else "abducted once"}
    done = {f"step {place + 1}": repr(step) for place, step in enumerate(plan)}
    return Report(collect([steps, *metrics]), about, all_ids(ids), done)


class Steps(Tally):
    """What `evaluate_sequence` adds up."""

    title = "error against the truth"

    def __init__(self, oracles: Mapping[str, Any], node: str) -> None:
        super().__init__()
        self.oracles = {name: as_reader(name, oracle) for name, oracle in oracles.items()}
        self.image = node

    def trial(self, world: World) -> None:  # noqa: D102
        if self.oracles:
            Effectiveness(self.oracles, self.image).trial(world)

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
        unit, image = unit_of(world, self.image), world[self.image]
        truth = true[self.image].to(image)
        self.tally(Label(self.title, name, self.image, unit), distance(image, truth, image=True))
        nothing = Label(self.title, name, self.image, unit, "doing nothing")
        self.tally(nothing, distance(observed[self.image], truth, image=True))
        square = (image.double() - truth.double()).square().flatten(1).mean(1).clamp_min(1e-10)
        self.tally(Label("PSNR against the truth", name, self.image, "dB"), -10 * square.log10())
        shares = []
        for variable, oracle in self.oracles.items():
            meant, read = world[variable], oracle(image)
            unit = unit_of(world, variable)
            self.tally(Label("error of oracle", name, variable, unit), _missed(read, meant))
            floor = _missed(oracle(observed[self.image]), observed[variable])
            self.tally(Label("error of oracle", name, variable, unit, "floor"), floor)
            if width := _width(world, variable):
                shares.append(_missed(read, true[variable].to(meant)) / width)
        if shares:
            self.tally(Label(ACM, name, "all factors", "share of range"), torch.stack(shares).mean(0))

    @torch.no_grad()
    def _back(self, observed: World, name: str, world: World) -> None:
        label = Label("distance to the observation", name, self.image, unit_of(world, self.image))
        self.tally(label, distance(world[self.image], observed[self.image], image=True))


def _missed(read: Tensor, wanted: Tensor) -> Tensor:
    """Per row, by how much a number is missed, or whether a class is."""
    return ((read - wanted).abs() if wanted.is_floating_point() else read != wanted).double()


def _width(world: World, variable: str) -> float | None:
    """Of the range of a number, None where it has none; what is missed of a class is a share already."""
    declared = world.scm.graph[variable]
    if not isinstance(declared, Continuous):
        return 1.0
    return None if declared.lower is None or declared.upper is None else declared.upper - declared.lower
