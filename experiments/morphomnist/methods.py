"""The ways of asking that are compared: other solvers, references, repairs and scales on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.mechanisms.steering import By
from causalcf.training.predictors import load_predictor

TOLERANCE = {"thickness": 0.1, "intensity": 2.0, "digit": 0.0}
OMEGAS = (1.5, 2.0, 3.0, 5.0)
CHOSEN = "2M with replay, 24, omega 1.15, thickness steered"  # on validation rows
BEST = f"spatial: {CHOSEN}"


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        model: whose weights.
        made: the model as it is asked, given the folder of the predictors.
        main: whether it is measured on all rows, and not on the first of them alone.
    """

    model: str
    made: Callable[[cf.SCM, Path], cf.SCM]
    main: bool = False

    def everywhere(self) -> Method:
        """The same, measured on all rows."""
        return replace(self, main=True)


def options(model: str, **changes: Any) -> Method:
    """The model with other options."""
    return Method(model, lambda scm, _: scm.using(image=changes))


def tokens(omega: float, passes: int, rate: float) -> Method:
    """Trajectory alignment."""
    asked: dict[str, Any] = {"omega": omega, "passes_per_level": passes, "rate": rate}

    def made(scm: cf.SCM, _: Path) -> cf.SCM:
        image = scm.mechanism("image").but(M.DynamicDiffusion, solver="ddim", steps=24, replay=False, **asked)
        return scm.using(image=image)

    return Method("semantic", made)


def steered(model: str, names: tuple[str, ...], by: By, relative: bool = True, **changes: Any) -> Method:
    """Steered by the readers, which judge nothing."""

    def made(scm: cf.SCM, predictors: Path) -> cf.SCM:
        readers = {name: load_predictor(predictors / f"reader-{name}") for name in names}
        image = scm.mechanism("image").but(**changes)
        assert isinstance(image, M.Diffusion)
        tolerance = {name: TOLERANCE[name] for name in names}
        return scm.using(image=image.steer(readers, by, tolerance, relative))

    return Method(model, made)


def diffusion(model: str) -> dict[str, Method]:
    """What is asked of both diffusion models."""
    plain: dict[str, Any] = {"solver": "2m", "steps": 24, "replay": False}
    replayed = {**plain, "replay": True}
    both, all_three = ("thickness", "intensity"), ("thickness", "intensity", "digit")
    rows = {
        "2M with replay, 24": options(model, **replayed).everywhere(),
        CHOSEN: steered(model, ("thickness",), "reading", False, **replayed, omega=1.15).everywhere(),
        "2M with replay, 24, steered": steered(model, both, "reading", **replayed),
        "2M with replay, 24, omega 1.1, thickness steered, digit calibrated": steered(
            model, ("thickness", "digit"), "both", False, **replayed, omega=1.1
        ).everywhere(),
        "2M with replay, 24, omega 1.25": options(model, **replayed, omega=1.25),
        "2M with replay, 12, steered": steered(model, both, "reading", **{**replayed, "steps": 12}),
        "2M with replay, 24, omega calibrated": steered(model, all_three, "omega", **replayed),
        "2M with replay, 50": options(model, **{**replayed, "steps": 50}),
        "2M, 24": options(model, **plain),
        "2M, 24, uniform levels": options(model, **plain, spacing="uniform"),
        "2M, 24, quadratic levels": options(model, **plain, spacing="quadratic"),
        "explicit DDIM, 50": options(model, solver="explicit ddim", steps=50, replay=False),
        "DDIM with fixed point, 50": options(model, solver="ddim", steps=50, replay=False),
        "bidirectional DDIM, 24": options(model, solver="bidirectional ddim", steps=24, replay=False),
        "BELM, 24": options(model, solver="belm", steps=24, replay=False),
        "EDICT, 24": options(model, solver="edict", steps=24, replay=False),
    }
    for omega in OMEGAS:
        asked = {**plain, "omega": omega}
        rows[f"2M, 24, omega {omega:g}"] = options(model, **asked)
        rows[f"2M with replay, 24, omega {omega:g}"] = options(model, **{**asked, "replay": True})
        rows[f"2M, 24, omega {omega:g}, factual reference"] = options(model, **{**asked, "reference": "factual"})
        rows[f"2M, 24, omega {omega:g}, guided inversion"] = options(model, **{**asked, "inversion": "guided"})
    return {f"{model}: {name}": method for name, method in rows.items()}


METHODS: dict[str, Method] = {
    **diffusion("spatial"),
    **diffusion("semantic"),
    **{
        f"spatial-long: {name.split(': ')[1]}": replace(method, model="spatial-long")
        for name, method in diffusion("spatial").items()
        if method.main
    },
    "spatial-dropout: 2M, 24, omega 1.5": options("spatial-dropout", solver="2m", steps=24, replay=False, omega=1.5),
    "VAE": options("vae").everywhere(),
    "HVAE": options("hvae").everywhere(),
    "HVAE, fine-tuned": options("hvae-tuned").everywhere(),
    **{f"CTA, 24, omega {omega:g}, 10 passes": tokens(omega, 10, 1e-2) for omega in (1.5, 2.0, 3.0)},
    "CTA, 24, omega 2, 1 pass": tokens(2.0, 1, 1e-3),
}
