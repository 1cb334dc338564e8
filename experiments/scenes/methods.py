"""What leads the counterfactuals of a scene: causal representations under several scales and graphs, or others."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import Tensor

import causalcf as cf
from experiments.scenes.models import classified, restructured
from experiments.scenes.scene import Scene, Structure

Rows = dict[str, Tensor]
SIZES = (0.03, 0.1, 0.3, 1.0, 3.0)
CONSTANTS = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        made: the model as it is asked, given the scene and training rows.
        kind: whose weights.
    """

    made: Callable[[cf.SCM, Scene, Rows], cf.SCM]
    kind: str = "nscm"


def options(**changes: Any) -> Method:
    """The model with other options."""
    return Method(lambda scm, scene, rows: scm.using(image=changes))


def graph(which: Callable[[Scene, Rows], Any], **changes: Any) -> Method:
    """Equations of another graph, or of none."""
    return Method(lambda scm, scene, rows: restructured(scm, which(scene, rows), rows).using(image=changes))


def searched(scene: Scene, rows: Rows) -> Structure:
    """The graph that the labels of the rows propose."""
    return cf.discover(rows, list(scene.ranges)).structure


def classifier(size: float) -> Method:
    """Diff-SCM."""
    return Method(lambda scm, scene, rows: classified(scm, size=size))


METHODS: dict[str, Method] = {
    **{f"balanced, size {size:g}": options(scale="balanced", size=size) for size in SIZES},
    **{f"empirical, size {size:g}": options(scale="empirical", size=size, stop=0.5) for size in (0.1, 0.3, 1.0)},
    **{f"ancestral, size {size:g}": options(scale="ancestral", size=size, stop=0.5) for size in (0.03, 0.1, 0.3)},
    **{f"constant, size {size:g}": options(scale="constant", size=size) for size in CONSTANTS},
    "balanced, size 0.3, replay": options(scale="balanced", size=0.3, replay=True),
    "balanced, size 0.3, no equations": graph(lambda scene, rows: {}, scale="balanced", size=0.3),
    "balanced, size 0.3, wrong graph": graph(lambda scene, rows: scene.wrong, scale="balanced", size=0.3),
    "balanced, size 0.3, searched graph": graph(searched, scale="balanced", size=0.3),
    "balanced, size 0.3, gated graph": graph(lambda scene, rows: None, scale="balanced", size=0.3),
    **{f"Diff-SCM, size {size:g}": classifier(size) for size in (0.01, 0.1, 1.0)},
    **{f"parents, omega {omega:g}, 16 steps": options(by="parents", omega=omega, steps=16) for omega in (1.5, 2.0)},
    "parents, 24 steps": options(by="parents"),
    "CausalVAE": Method(lambda scm, scene, rows: scm, kind="causal-vae"),
}
