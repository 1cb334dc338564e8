"""The drawn scenes: their data, the graphs their models are given, and what is asked of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from causalcf.data import Flow, Pendulum
from causalcf.data.pictures import Split

Structure = dict[str, list[str]]
STEPS = 5  # interventions of a sequence


@dataclass(frozen=True)
class Scene:
    """A data set whose factors cause each other.

    Attributes:
        name: of folders.
        results: where they are written.
        data: the data set.
        structure: factor -> its causes.
        wrong: another graph, with every edge turned round.
        ranges: factor -> between which values interventions are drawn, uniformly.
        turns: the factors without causes, which sequences of interventions move in turn.
        last: the caused factor that they end with. No cause moves after it: a factor that its causes decide has no
            noise, so nothing would say what it keeps of such an intervention.
        options: of the data set.
    """

    name: str
    results: Path
    data: type[Pendulum] | type[Flow]
    structure: Structure
    wrong: Structure
    ranges: dict[str, tuple[float, float]]
    turns: tuple[str, str]
    last: str
    options: Mapping[str, float] = field(default_factory=dict)

    def rows(self, split: Split, rows: int, **options: Any) -> Pendulum | Flow:
        """The data set.

        Args:
            split: "train", "val" or "test".
            rows: how many.
            **options: further ones.
        """
        return self.data(split, rows=rows, **self.options, **options)

    def folder(self, steps: int) -> Path:
        """Where results are that end with sequences of so many interventions."""
        return self.results if steps == STEPS else self.results / f"steps-{steps}"

    def sequence(self, steps: int) -> list[str]:
        """The factors of a sequence, one per step."""
        return [self.turns[step % 2] for step in range(steps - 1)] + [self.last]


PENDULUM = Scene(
    "pendulum",
    Path("experiments/pendulum/results"),
    Pendulum,
    structure={"length": ["angle", "sun"], "position": ["angle", "sun"]},
    wrong={"angle": ["length", "position"], "sun": ["length", "position"]},
    ranges={"angle": (-0.6, 0.65), "sun": (1.0, 2.2), "length": (3.0, 8.0), "position": (6.0, 14.0)},
    turns=("angle", "sun"),
    last="length",
)
STRAYED = replace(
    PENDULUM, name="pendulum-stray", results=Path("experiments/pendulum/results/stray"), options={"stray": 2.0}
)
FLOW = Scene(
    "flow",
    Path("experiments/flow/results"),
    Flow,
    structure={"water": ["ball"], "jet": ["water", "hole"]},
    wrong={"ball": ["water"], "water": ["jet"], "hole": ["jet"]},
    ranges={"ball": (6.0, 34.0), "hole": (6.5, 14.5), "water": (1.5, 5.0), "jet": (2.0, 6.5)},
    turns=("ball", "hole"),
    last="water",
)
BLOWN = replace(FLOW, name="flow-stray", results=Path("experiments/flow/results/stray"), options={"stray": 0.5})
SCENES = {scene.name: scene for scene in (PENDULUM, STRAYED, FLOW, BLOWN)}
