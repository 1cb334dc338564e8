"""The ways of asking that are compared: other solvers, references, repairs and scales on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.training.predictors import load_predictor

TOLERANCE = {"thickness": 0.1, "intensity": 2.0, "digit": 0.0}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        model: whose weights.
        made: the model as it is asked.
        cheap: whether it is measured on all rows; the others take too long.
    """

    model: str
    made: Callable[[cf.SCM, Path], cf.SCM]
    cheap: bool = True


def options(model: str, **changes: object) -> Method:
    """The model with other options."""
    return Method(model, lambda scm, _: scm.using(image=changes))


def tokens(omega: float, passes: int, rate: float) -> Method:
    """Trajectory alignment."""
    asked = {"omega": omega, "passes_per_level": passes, "rate": rate}

    def made(scm: cf.SCM, _: Path) -> cf.SCM:
        image = scm.mechanism("image").but(M.DynamicDiffusion, solver="ddim", steps=50, replay=False, **asked)
        return scm.using(image=image)

    return Method("semantic", made, cheap=False)


def steered(model: str, by: str, **changes: object) -> Method:
    """Steered by the readers, which judge nothing."""

    def made(scm: cf.SCM, predictors: Path) -> cf.SCM:
        names = ("thickness", "intensity") if by == "reading" else ("thickness", "intensity", "digit")
        readers = {name: load_predictor(predictors / f"reader-{name}").predict for name in names}
        image = scm.mechanism("image").but(**changes)
        assert isinstance(image, M.Diffusion)
        tolerance = {name: TOLERANCE[name] for name in names}
        return scm.using(image=image.steer(readers, by, tolerance))  # pyright: ignore[reportArgumentType]

    return Method(model, made)


def diffusion(model: str) -> dict[str, Method]:
    """What is asked of both diffusion models."""
    plain: dict[str, object] = {"solver": "2m", "steps": 25, "replay": False}
    replayed = {**plain, "replay": True}
    rows = {
        "explicit DDIM, 50": options(model, solver="explicit ddim", steps=50, replay=False),
        "DDIM with fixed point, 50": options(model, solver="ddim", steps=50, replay=False),
        "bidirectional DDIM, 50": options(model, solver="bidirectional ddim", steps=50, replay=False),
        "BELM, 25": options(model, solver="belm", steps=25, replay=False),
        "EDICT, 25": options(model, solver="edict", steps=25, replay=False),
        "2M, 25": options(model, **plain),
        "2M with replay, 25": options(model, **replayed),
        "2M with replay, 50": options(model, **{**replayed, "steps": 50}),
        "2M with replay, 25, steered by readings": steered(model, "reading", **replayed),
        "2M with replay, 16, omega calibrated": steered(model, "omega", **{**replayed, "steps": 16}),
    }
    for omega in (1.5, 2.0, 3.0, 5.0):
        rows[f"2M, 25, omega {omega:g}"] = options(model, **{**plain, "omega": omega})
        rows[f"2M with replay, 25, omega {omega:g}"] = options(model, **{**replayed, "omega": omega})
        rows[f"2M, 25, omega {omega:g}, factual reference"] = options(
            model, **{**plain, "omega": omega, "reference": "factual"}
        )
    return {f"{model}: {name}": method for name, method in rows.items()}


METHODS: dict[str, Method] = {
    "VAE": options("vae"),
    "HVAE": options("hvae"),
    **diffusion("spatial"),
    **diffusion("semantic"),
    **{f"CTA: omega {omega:g}, 10 passes": tokens(omega, 10, 1e-2) for omega in (1.5, 2.0, 3.0)},
    "CTA: omega 2, 1 pass": tokens(2.0, 1, 1e-3),
}
