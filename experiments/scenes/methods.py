"""What leads the counterfactuals of a scene: causal representations under several scales and graphs, or others."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

import causalcf as cf
from experiments.scenes.models import classified, misled, restructured
from experiments.scenes.scene import Scene, Structure

Rows = dict[str, Tensor]
OURS, FREE, CLASSIFIER, CONSTANT = "balanced", "parents", "Diff-SCM", "constant"
BOTH, DIRECT = "told and led", "balanced, direct"
TOLD_DIRECT, TOLD_CONSTANT = "told and led, direct", "told and led, direct, constant"
KEPT, KEPT_LED = "told, the rest as observed", "told and led, direct, constant, the rest as observed"
TOLD = (BOTH, TOLD_DIRECT, TOLD_CONSTANT, KEPT_LED)
SIZES = (0.0, 0.01, 0.03, 0.1, 0.3, 1.0)  # of the sweep of balanced scales; 0 does not lead at all
CONSTANTS = (0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # 1 is what the spreads of the projector say
CLASSIFIERS = (*CONSTANTS, 30.0)
OMEGAS = (1.0, 1.5, 2.0)
TOGETHER = (0.003, 0.01, 0.03, 0.1)
EDITS = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8)
DEFAULTS = {
    **{OURS: 0.1, BOTH: 0.01, CONSTANT: 1.0, CLASSIFIER: 1.0, FREE: 1.5},
    **{"empirical": 0.1, "ancestral": 0.03, DIRECT: 0.1, TOLD_DIRECT: 0.03, TOLD_CONSTANT: 1.0},
    **{KEPT: 0.3, KEPT_LED: 0.3},
}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        made: the model as it is asked, given the scene and training rows.
        kind: whose weights.
        main: whether it also goes through sequences of interventions.
    """

    made: Callable[[cf.SCM, Scene, Rows], cf.SCM]
    kind: str = "nscm"
    main: bool = True

    def alone(self) -> Method:
        """After one intervention only."""
        return replace(self, main=False)


def options(**changes: Any) -> Method:
    """The model with other options."""
    return Method(lambda scm, scene, rows: scm.using(image=changes))


def graph(which: Callable[[Scene, Rows], Structure | Literal["learned"]], **changes: Any) -> Method:
    """Equations of another graph, or of none."""
    return Method(lambda scm, scene, rows: restructured(scm, which(scene, rows), rows).using(image=changes))


def searched(scene: Scene, rows: Rows) -> Structure:
    """The graph that the labels of the rows propose."""
    return cf.discover({name: rows[name] for name in scene.ranges}).structure


def parents(omega: float) -> Method:
    """Classifier-free guidance at the generator calls of 24 steps: each guided step asks twice."""
    return options(by="parents", omega=omega, steps=24 if omega == 1 else 16)


def swept(name: str, size: float) -> Method:
    """A method of a sweep, by its name and size."""
    if name == FREE:
        return parents(size)
    if name == CLASSIFIER:
        return Method(lambda scm, scene, rows: classified(scm, size=size))
    if name in (KEPT, KEPT_LED):  # 22 steps: where the rest is kept, prediction takes three calls more
        own = {"by": "parents"} if name == KEPT else {"by": "both", "scale": CONSTANT, "size": 1.0, "direct": True}
        return options(**own, edit=size, steps=22)
    if name in TOLD:
        return options(by="both", scale=CONSTANT if name == TOLD_CONSTANT else OURS, size=size, direct=name != BOTH)
    if name == DIRECT:
        return options(scale=OURS, size=size, direct=True)
    return options(scale=name, size=size, **({"stop": 0.5} if name in ("empirical", "ancestral") else {}))


def titled(name: str, size: float) -> str:
    """How tables call a method of a sweep."""
    what = "omega" if name == FREE else "edit" if name in (KEPT, KEPT_LED) else "size"
    return f"{name}, {what} {size:g}"


SWEPT = {OURS: SIZES, BOTH: TOGETHER, CONSTANT: CONSTANTS, CLASSIFIER: CLASSIFIERS, FREE: OMEGAS}
ALSO = {  # chosen among, but not shown as sweeps
    "empirical": (0.03, 0.1, 0.3),
    "ancestral": (0.01, 0.03, 0.1),
    DIRECT: (0.01, 0.03, 0.1, 0.3),
    TOLD_DIRECT: TOGETHER,
    TOLD_CONSTANT: (0.3, 1.0, 3.0),
    KEPT: EDITS,
    KEPT_LED: EDITS,
}


def chosen(scene: Scene, out: Path) -> dict[str, float]:
    """The size of each method that was best on validation rows, as `experiments.scenes.choose` wrote it.

    Args:
        scene: whose own choice is taken where there is none beside the results.
        out: where the results are.
    """
    paths = [path for path in (out / "chosen.json", scene.results / "chosen.json") if path.exists()]
    return {**DEFAULTS, **(json.loads(paths[0].read_text())["chosen"] if paths else {})}


def methods(best: dict[str, float]) -> dict[str, Method]:
    """All methods, the most important first.

    Args:
        best: the sizes that were chosen on validation rows.
    """
    own = {"scale": OURS, "size": best[OURS]}
    found = {titled(name, best[name]): swept(name, best[name]) for name in (OURS, BOTH, FREE, CONSTANT, CLASSIFIER)}
    found["CausalVAE"] = Method(lambda scm, scene, rows: scm, kind="causal-vae")
    found |= {
        titled(name, best[name]): swept(name, best[name])
        for name in (DIRECT, TOLD_DIRECT, TOLD_CONSTANT, KEPT, KEPT_LED)
    }
    found["balanced, wrong graph"] = graph(lambda scene, rows: scene.wrong, **own).alone()
    found["balanced, wrong model"] = Method(
        lambda scm, scene, rows: misled(scm, scene, rows).using(image={"scale": OURS, "size": best[OURS]})
    ).alone()
    for name in (OURS, CONSTANT):
        found |= {titled(name, size): swept(name, size).alone() for size in SWEPT[name] if size != best[name]}
    found["balanced, searched graph"] = graph(searched, **own).alone()
    found["balanced, from the lowest level"] = options(**own, lowest=0).alone()
    found["balanced, one probe"] = options(**own, probes=1).alone()
    found["balanced, replay"] = options(**own, replay=True).alone()
    found |= {titled(name, best[name]): swept(name, best[name]).alone() for name in ("empirical", "ancestral")}
    found["balanced, size 30, no limit"] = options(scale=OURS, size=30.0, limit=1e9).alone()
    return found
