"""The ways of asking that are compared: other solvers, references, repairs and scales on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.training.predictors import load_predictor

TOLERANCE = {"thickness": 0.1, "intensity": 2.0, "digit": 0.0}
OMEGAS = (1.5, 2.0, 3.0, 5.0)
BEST = "spatial: 2M with replay, 25"


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        model: whose weights.
        made: the model as it is asked, given the folder of the predictors.
        slow: whether it optimises at test time, so that fewer rows are measured.
    """

    model: str
    made: Callable[[cf.SCM, Path], cf.SCM]
    slow: bool = False


def options(model: str, **changes: Any) -> Method:
    """The model with other options."""
    return Method(model, lambda scm, _: scm.using(image=changes))


def tokens(omega: float, passes: int, rate: float) -> Method:
    """Trajectory alignment."""
    asked: dict[str, Any] = {"omega": omega, "passes_per_level": passes, "rate": rate}

    def made(scm: cf.SCM, _: Path) -> cf.SCM:
        image = scm.mechanism("image").but(M.DynamicDiffusion, solver="ddim", steps=25, replay=False, **asked)
        return scm.using(image=image)

    return Method("semantic", made, slow=True)


def steered(model: str, names: tuple[str, ...], by: str, **changes: Any) -> Method:
    """Steered by the readers, which judge nothing."""

    def made(scm: cf.SCM, predictors: Path) -> cf.SCM:
        readers = {name: load_predictor(predictors / f"reader-{name}") for name in names}
        image = scm.mechanism("image").but(**changes)
        assert isinstance(image, M.Diffusion)
        tolerance = {name: TOLERANCE[name] for name in names}
        return scm.using(image=image.steer(readers, by, tolerance))  # pyright: ignore[reportArgumentType]

    return Method(model, made)


def diffusion(model: str) -> dict[str, Method]:
    """What is asked of both diffusion models."""
    plain: dict[str, Any] = {"solver": "2m", "steps": 25, "replay": False}
    replayed = {**plain, "replay": True}
    both, all_three = ("thickness", "intensity"), ("thickness", "intensity", "digit")
    rows = {
        "2M with replay, 25": options(model, **replayed),
        "2M with replay, 25, steered by readings": steered(model, both, "reading", **replayed),
        "2M with replay, 12, steered by readings": steered(model, both, "reading", **{**replayed, "steps": 12}),
        "2M with replay, 16, omega calibrated": steered(model, all_three, "omega", **{**replayed, "steps": 16}),
        "2M with replay, 50": options(model, **{**replayed, "steps": 50}),
        "2M, 25": options(model, **plain),
        "explicit DDIM, 50": options(model, solver="explicit ddim", steps=50, replay=False),
        "DDIM with fixed point, 50": options(model, solver="ddim", steps=50, replay=False),
        "bidirectional DDIM, 50": options(model, solver="bidirectional ddim", steps=50, replay=False),
        "BELM, 25": options(model, solver="belm", steps=25, replay=False),
        "EDICT, 25": options(model, solver="edict", steps=25, replay=False),
    }
    for omega in OMEGAS:
        asked = {**plain, "omega": omega}
        rows[f"2M, 25, omega {omega:g}"] = options(model, **asked)
        rows[f"2M with replay, 25, omega {omega:g}"] = options(model, **{**asked, "replay": True})
        rows[f"2M, 25, omega {omega:g}, factual reference"] = options(model, **{**asked, "reference": "factual"})
        rows[f"2M, 25, omega {omega:g}, guided inversion"] = options(model, **{**asked, "inversion": "guided"})
    return {f"{model}: {name}": method for name, method in rows.items()}


METHODS: dict[str, Method] = {
    **diffusion("spatial"),
    **diffusion("semantic"),
    "VAE": options("vae"),
    "HVAE": options("hvae"),
    "HVAE, fine-tuned": options("hvae-tuned"),
    **{f"CTA, 25, omega {omega:g}, 10 passes": tokens(omega, 10, 1e-2) for omega in (1.5, 2.0, 3.0)},
    "CTA, 25, omega 2, 1 pass": tokens(2.0, 1, 1e-3),
}
