"""The ways of asking that are compared: other solvers, references, repairs and scales on the same weights."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.readers import BETWEEN
from causalcf.mechanisms.steering import By
from causalcf.training.predictors import load_predictor

TOLERANCE = {"thickness": 0.1, "intensity": 2.0, "digit": 0.0}
OMEGAS = (1.5, 2.0, 3.0, 5.0)
DROPPED = (("spatial", 1.5), ("semantic", 1.5), ("semantic", 3.0))  # models with a twin of more dropout, and its omega
MIXINGS = (0.96, 0.9, 0.8)  # of bidirectional DDIM, less than the 1 of its paper
CHOSEN = "2M with replay, 24, omega 1.15, steered"  # on validation rows
FAST = "2M with replay, 12, omega 1.15, steered"
FINE = "2M with replay, 12 fine levels, omega 1.15, steered"
PLAIN = "2M with replay, 12 fine levels, omega 1.15"
QUICK = "2M with replay, 8 fine levels, omega 1.15, steered"
SPARE = "2M with replay, 8 fine levels, omega 1.15, steered at two levels"
BEST, TWELVE, UNAIDED, LEAST, FIFTY = (f"spatial-long: {name}" for name in (CHOSEN, FINE, PLAIN, QUICK, SPARE))


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        model: whose weights.
        made: the model as it is asked, given the folder of the predictors.
        main: whether more rows go through ten cycles, and through reversibility.
        slow: whether it optimises at test time, or stands beside what does, and is measured on the first rows alone.
    """

    model: str
    made: Callable[[cf.SCM, Path], cf.SCM]
    main: bool = False
    slow: bool = False

    def everywhere(self) -> Method:
        """The same, as a main one."""
        return replace(self, main=True)

    def beside(self) -> Method:
        """The same, on the first rows alone."""
        return replace(self, slow=True)


def options(model: str, **changes: Any) -> Method:
    """The model with other options."""
    return Method(model, lambda scm, _: scm.using(image=changes))


def tokens(omega: float, passes: int, rate: float) -> Method:
    """Trajectory alignment."""
    asked: dict[str, Any] = {"omega": omega, "passes_per_level": passes, "rate": rate}

    def made(scm: cf.SCM, _: Path) -> cf.SCM:
        image = scm.mechanism("image").but(M.DynamicDiffusion, solver="ddim", steps=24, replay=False, **asked)
        return scm.using(image=image)

    return Method("semantic", made, slow=True)


def steered(
    model: str, names: tuple[str, ...], by: By = "reading", between: tuple[float, float] = BETWEEN, **changes: Any
) -> Method:
    """Steered by the readers, which judge nothing; thickness to its value, intensity by as much as it changes."""

    def made(scm: cf.SCM, predictors: Path) -> cf.SCM:
        readers = {name: load_predictor(predictors / f"reader-{name}") for name in names}
        image = scm.mechanism("image").but(**changes)
        assert isinstance(image, M.Diffusion)
        tolerance = {name: TOLERANCE[name] for name in names}
        relative = [name for name in names if name == "intensity"]
        return scm.using(image=image.steer(readers, by, tolerance, relative, between))

    return Method(model, made)


def scales(model: str) -> dict[str, Method]:
    """2M in 24 steps along omega, without and with replay."""
    rows = {}
    for omega in (1.0, *OMEGAS):
        name, asked = "" if omega == 1 else f", omega {omega:g}", {"solver": "2m", "steps": 24, "omega": omega}
        rows[f"2M, 24{name}"] = options(model, **asked, replay=False)
        rows[f"2M with replay, 24{name}"] = options(model, **asked, replay=True)
    return rows


def repairs(model: str) -> dict[str, Method]:
    """What else makes composition hold along omega, without optimisation."""
    rows = {}
    for omega in OMEGAS:
        asked: dict[str, Any] = {"solver": "2m", "steps": 24, "replay": False, "omega": omega}
        rows[f"2M, 24, omega {omega:g}, factual reference"] = options(model, **asked, reference="factual")
        rows[f"2M, 24, omega {omega:g}, guided inversion"] = options(model, **asked, inversion="guided")
    return rows


def inversions(model: str) -> dict[str, Method]:
    """Solvers, spacings and numbers of steps, at omega 1."""
    plain: dict[str, Any] = {"solver": "2m", "steps": 24, "replay": False}
    return {
        "2M, 24": options(model, **plain),
        "2M with replay, 24": options(model, **{**plain, "replay": True}),
        "explicit DDIM, 50": options(model, solver="explicit ddim", steps=50, replay=False),
        "DDIM with fixed point, 50": options(model, solver="ddim", steps=50, replay=False),
        "bidirectional DDIM, 24": options(model, solver="bidirectional ddim", steps=24, replay=False),
        **{
            f"bidirectional DDIM, 24, mixing {mixing:g}": options(
                model, solver="bidirectional ddim", mixing=mixing, steps=24, replay=False
            )
            for mixing in MIXINGS
        },
        "BELM, 24": options(model, solver="belm", steps=24, replay=False),
        "EDICT, 24": options(model, solver="edict", steps=24, replay=False),
        "2M, 24, uniform levels": options(model, **plain, spacing="uniform"),
        "2M, 24, fine levels": options(model, **plain, spacing="fine log-snr"),
        "2M, 24, quadratic levels": options(model, **plain, spacing="quadratic"),
        "2M with replay, 50": options(model, **{**plain, "steps": 50, "replay": True}),
    }


def steerings(model: str) -> dict[str, Method]:
    """Readers that correct prediction."""
    replayed: dict[str, Any] = {"solver": "2m", "steps": 24, "replay": True}
    scaled, both = {**replayed, "omega": 1.15}, ("thickness", "intensity")
    fine = {**scaled, "steps": 12, "spacing": "fine log-snr"}
    return {
        CHOSEN: steered(model, both, **scaled),
        FAST: steered(model, both, **{**scaled, "steps": 12}),
        FINE: steered(model, both, **fine),
        PLAIN: options(model, **fine),
        QUICK: steered(model, both, **{**fine, "steps": 8}),
        SPARE: steered(model, both, between=(10.0, 50.0), **{**fine, "steps": 8}),
        "2M with replay, 24, omega 1.15": options(model, **scaled),
        "2M with replay, 24, omega 1.15, thickness steered": steered(model, both[:1], **scaled),
        "2M with replay, 24, omega calibrated": steered(model, (*both, "digit"), "omega", **replayed),
    }


def named(model: str, rows: dict[str, Method], main: tuple[str, ...] = ()) -> dict[str, Method]:
    """Under the model's name."""
    return {f"{model}: {name}": method.everywhere() if name in main else method for name, method in rows.items()}


METHODS: dict[str, Method] = {
    **named("spatial-long", steerings("spatial-long"), (CHOSEN, FAST, FINE, PLAIN, QUICK, SPARE)),
    **named("spatial-long", inversions("spatial-long")),
    "VAE": options("vae").everywhere(),
    "HVAE": options("hvae").everywhere(),
    "HVAE, fine-tuned": options("hvae-tuned").everywhere(),
    **named("spatial", scales("spatial")),
    **named("semantic", {**scales("semantic"), **repairs("semantic"), CHOSEN: steerings("semantic")[CHOSEN]}),
    **named("semantic", {"explicit DDIM, 50": inversions("semantic")["explicit DDIM, 50"]}),
    "semantic: 2M with replay, 12, omega 1.5": options("semantic", solver="2m", steps=12, replay=True, omega=1.5),
    **{
        f"{model}-dropout: 2M, 24, omega {omega:g}": options(
            f"{model}-dropout", solver="2m", steps=24, replay=False, omega=omega
        )
        for model, omega in DROPPED
    },
    **{
        f"semantic: DDIM with fixed point, 24, omega {omega:g}": options(
            "semantic", solver="ddim", steps=24, replay=False, omega=omega
        ).beside()
        for omega in OMEGAS
    },
    **{f"CTA, 24, omega {omega:g}, 10 passes": tokens(omega, 10, 1e-2) for omega in OMEGAS},
    "CTA, 24, omega 2, 1 pass": tokens(2.0, 1, 1e-3),
}
