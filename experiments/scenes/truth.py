"""What the models of a scene are held against: rows with their true counterfactuals, and the floors of measuring."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

import causalcf as cf
from causalcf.metrics import Tally
from causalcf.metrics.realism import frechet
from causalcf.metrics.tally import Label, distance, estimate
from causalcf.units import Units
from causalcf.world import World
from experiments.scenes.judge import Judge
from experiments.scenes.scene import Scene

Rows = dict[str, Tensor]
REFERENCE = 1000  # real rows behind the Frechet distance, which nothing confounds


class Known:
    """The first rows of a data set, drawn once, which know their truth."""

    def __init__(self, data: Any, count: int) -> None:
        self.content: Rows = data[:count]
        self.knows, self.true_counterfactual = data.knows, data.true_counterfactual

    def __len__(self) -> int:
        return len(self.content["id"])

    def __getitem__(self, index: Any) -> Rows:
        return {name: value[index] for name, value in self.content.items()}


def drawn(scene: Scene, ids: Tensor, name: str, seed: int, place: int = 0) -> Tensor:
    """One target per row."""
    low, high = scene.ranges[name]
    return (low + (high - low) * Units(ids, seed).uniform(f"plan.{place}.{name}")).float()


class Truth:
    """What is asked of some rows, and the pictures that would be right.

    Attributes:
        single: one intervention on each factor, by name.
        plan: a sequence of interventions.
        after: name of an intervention, or of a step -> the true rows; what was done before a step is a fact by then.
        joint: name of a step -> the true rows, had all been done at once to the first picture.
    """

    def __init__(self, scene: Scene, data: Known, steps: int, seed: int) -> None:
        rows, ids = data.content, data.content["id"]
        self.scene, self.data, self.seed = scene, data, seed
        self.single = {f"do({name})": cf.do(**{name: drawn(scene, ids, name, seed)}) for name in scene.ranges}
        order = enumerate(scene.sequence(steps), 1)
        self.plan = [cf.do(**{name: drawn(scene, ids, name, seed, step)}) for step, name in order]
        self.after = {
            name: {**data.true_counterfactual(rows, act, seed), "id": ids} for name, act in self.single.items()
        }
        self.joint: dict[str, Rows] = {}
        true, done = rows, None
        for step, action in enumerate(self.plan, 1):
            true = {**data.true_counterfactual(true, action, seed), "id": ids}
            done = action if done is None else done.then(action)
            self.after[f"step {step}"] = true
            self.joint[f"step {step}"] = dict(data.true_counterfactual(rows, done, seed))

    def floors(self) -> dict[str, dict[str, float]]:
        """Intervention -> factor -> the oracle's mean error on the true pictures, as bytes store them; in its unit."""
        oracles = self.scene.data.oracles()
        return {
            action: {
                name: float((oracle(stored(self.after[action]["image"])) - self.after[action][name]).abs().mean())
                for name, oracle in oracles.items()
            }
            for action in self.single
        }

    def realism(self, judge: Judge, real: Tensor) -> dict[str, float]:
        """The Frechet distances of the true pictures of each intervention and step, with as many rows."""
        with torch.no_grad():
            wanted = moments(judge.embedding(real))
            found = {name: moments(judge.embedding(true["image"])) for name, true in self.after.items()}
        return {name: frechet(*wanted, *own) for name, own in found.items()}

    def together(self, shared: Mapping[str, Tensor], again: Mapping[str, Tensor]) -> list[dict[str, Any]]:
        """Joint against sequential: both held against one truth, and against each other, where the truths agree.

        Args:
            shared: step -> pictures with the noise of the first one, which is all interventions at once.
            again: step -> pictures with noise abducted again at each step.
        """
        lines = []
        for step, joint in self.joint.items():
            true = self.after[step]["image"]
            same = (joint["image"] - true).abs().flatten(1).amax(1) < 1 / 255
            if not same.any():
                continue
            pairs = {
                "joint: error against the truth": (shared[step], true),
                "sequence: error against the truth": (again[step], true),
                "joint to sequence": (shared[step], again[step]),
            }
            lines += [line(name, step, distance(*pair, image=True)[same]) for name, pair in pairs.items()]
        return lines


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and covariance."""
    return features.double().mean(0), torch.cov(features.double().T)


def stored(image: Tensor) -> Tensor:
    """Pictures as bytes store them."""
    return (255 * image).round() / 255


def line(metric: str, action: str, values: Tensor) -> dict[str, Any]:
    """As those of a report."""
    found = estimate(values)
    own = {"metric": metric, "action": action, "variable": "image", "unit": "grey 0-255", "against": ""}
    plain = found._asdict() | {"half_width": found.half_width}
    plain = {name: None if math.isnan(value) else value for name, value in plain.items()}
    return {**own, "estimate": plain, "reference": None, "values": values.tolist()}


class Seen(Tally):
    """Keeps the answers of every step."""

    title = "pictures"

    def __init__(self) -> None:
        super().__init__()
        self.parts: dict[str, list[Tensor]] = {}

    def done(self, world: World, action: cf.Do, name: str, counterfactual: World) -> None:  # noqa: D102
        self.parts.setdefault(name, []).append(counterfactual["image"].cpu())

    @property
    def pictures(self) -> dict[str, Tensor]:
        """By step."""
        return {name: torch.cat(parts) for name, parts in self.parts.items()}


class Caused(Tally):
    """The share of rows in which a factor is led through its equation instead of being read."""

    title = "led through its equation"

    def __init__(self, names: Sequence[str]) -> None:
        super().__init__()
        self.names = names

    def done(self, world: World, action: cf.Do, name: str, counterfactual: World) -> None:  # noqa: D102
        image = world.scm.mechanism("image")
        if not isinstance(image, cf.mechanisms.NSCMDiffusion) or image.by != "nscm":
            return
        parents = {parent: counterfactual[parent] for parent in image.parents}
        caused = image.caused(image.act(counterfactual.noise["image"], counterfactual.actions), parents)
        for place, parent in enumerate(image.parents):
            if parent in self.names:
                self.tally(Label(self.title, name, parent, "share"), caused[:, place].double())
