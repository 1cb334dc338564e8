"""The ways of explaining that are compared. Options are those that validation rows chose, see `tune.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from typing import Any

from causalcf.explain import ACE, LDCE, SCE, DiME, FastDiME, IntegratedGradients, MaskDiME, SCELiteHQ, SmoothGrad
from causalcf.explain.explainer import Explainer
from experiments.explain.own import Agreed
from experiments.explain.sources import Led

Options = Mapping[str, Any]


@dataclass(frozen=True)
class Kit:
    """What methods may take beside the generator.

    Attributes:
        classifier: the explained one.
        surrogate: its smoothed student.
    """

    classifier: Any
    surrogate: Any


@dataclass(frozen=True)
class Family:
    """Methods that share their options.

    Attributes:
        leader: the method that the options are chosen with.
        given: options that are not chosen.
        grid: option -> the values it is chosen from; the first ones are taken where nothing was chosen.
        slow: whether a row takes seconds.
    """

    leader: str
    given: Options
    grid: Mapping[str, Sequence[Any]]
    slow: bool = False

    def candidates(self) -> list[dict[str, Any]]:
        """All of the grid."""
        return [dict(zip(self.grid, values, strict=True)) for values in product(*self.grid.values())]


# The published chains were uniform in a linear schedule. In the cosine one, the same 60 steps begin at the same noise,
# 0.78, if the whole chain has 105 steps; five steps begin at ACE's 0.27 if it has 29.
BACK: dict[str, Any] = {"depth": 60}
SCALES = ((8.0, 10.0, 15.0), (4.0, 8.0, 16.0), (1.0, 2.0, 4.0))
LITE = {"rate": (1.0, 0.3, 3.0, 10.0), "strength": (0.6, 0.4), "threshold": (0.03, 0.06)}
FAMILIES: dict[str, Family] = {
    "Agreed": Family(
        "Agreed",
        {"steps": 8, "strength": 0.9},
        {
            "weights": ((1.0, 2.0, 0.0), (1.0, 3.0, 0.0), (2.0, 3.0, 0.0)),
            "share": (0.03, 0.05),
            "threshold": (0.05, 0.1),
        },
    ),
    "MaskDiME": Family("MaskDiME", BACK, {"scales": SCALES, "share": (0.05, 0.1), "steps": (105, 200)}),
    "FastDiME": Family("FastDiME", BACK, {"scales": SCALES, "threshold": (0.15, 0.3), "steps": (105, 200)}),
    "SCE-LITE-HQ": Family(
        "SCE-LITE-HQ, distilled",
        {"steps": 25, "scales": (1.0, 2.0, 4.0)},
        LITE,
    ),
    "SCE-LITE-HQ, latent": Family(
        "SCE-LITE-HQ, distilled, latent",
        {"steps": 25, "scales": (1.0, 2.0, 4.0), "l1": 0.02},
        LITE,
    ),
    "FastDiME, latent": Family(
        "FastDiME, no mask, latent", {**BACK, "masking": "none"}, {"scales": SCALES, "steps": (105, 200)}
    ),
    "Agreed, latent": Family(
        "Agreed, latent",
        {"steps": 8, "strength": 0.9, "block": 1, "dilation": 3},
        {"weights": ((1.0, 3.0, 0.0), (2.0, 3.0, 0.0)), "share": (0.05, 0.1), "threshold": (0.05, 0.1)},
    ),
    "LDCE": Family(
        "LDCE",
        {"steps": 100, "strength": 0.53, "scales": (1.0, 3.0)},
        {"class_weight": (4.0, 8.0), "distance_weight": (1.2, 3.3, 0.3)},
        slow=True,
    ),
    "ACE": Family("ACE", {"steps": 29, "depth": 5}, {"distance": (1e-3, 1e-2, 1e-4), "rate": (1.0, 2.0)}, slow=True),
    "SCE": Family("SCE", {"steps": 26, "strength": 0.58}, {"rate": (0.05, 0.1), "threshold": (0.03, 0.06)}, slow=True),
    "DiME": Family("DiME", BACK, {"scales": SCALES, "steps": (105, 200)}, slow=True),
}


@dataclass(frozen=True)
class Method:
    """One row of the table.

    Attributes:
        family: whose options it has.
        made: the explainer, given the kit and the options.
        own: options of its own.
        apart: whether the second explanation of a row keeps out of the places that the first changed.
        ours: whether it is a combination of our own.
        published: whether it stands for a published method, in its corrected or its published form.
        latent: whether it works in the codes of an autoencoder.
        asked: the classifier it is given.
        main: whether it is measured on all rows, and not on the first of them alone.
    """

    family: str
    made: Callable[..., Explainer]
    own: Options = field(default_factory=dict)
    apart: bool = False
    ours: bool = False
    published: bool = False
    latent: bool = False
    asked: Callable[[Kit], Any] = lambda kit: kit.classifier
    main: bool = False

    def everywhere(self) -> Method:
        """The same, measured on all rows."""
        return replace(self, main=True)

    def explainer(self, kit: Kit, chosen: Mapping[str, Options]) -> Explainer:
        """The explainer.

        Args:
            kit: what it may take.
            chosen: family -> options.
        """
        family = FAMILIES[self.family]
        first = {name: values[0] for name, values in family.grid.items()}
        options = {**family.given, **first, **chosen.get(self.family, {}), **self.own}
        return self.made(kit, **{name: tuple(v) if isinstance(v, list) else v for name, v in options.items()})


def unaided(kind: type[Explainer]) -> Callable[..., Explainer]:
    """An explainer that takes nothing of the kit."""
    return lambda kit, **options: kind(**options)  # pyright: ignore[reportCallIssue]


def under(kind: Callable[..., Explainer], source: Callable[[Kit], Any]) -> Callable[..., Explainer]:
    """An explainer under the gradients of a source."""
    return lambda kit, **options: kind(surrogate=source(kit), **options)


def led(kit: Kit) -> Led:
    """The classifier, with the gradients of its surrogate."""
    return Led(kit.classifier, kit.surrogate)


def ours(source: Callable[[Kit], Any] = lambda kit: kit.surrogate, **own: Any) -> Method:
    """A combination of our own."""
    return Method("Agreed", under(Agreed, source), own, ours=True)


def dime(family: str, kind: type[Explainer], **own: Any) -> Method:
    """DiME or one of its descendants."""
    return Method(family, unaided(kind), own, published=True)


OLD: dict[str, Any] = {"parity": "published"}
OWN, DISTILLED, VANILLA = "Agreed", "SCE-LITE-HQ, distilled", "SCE-LITE-HQ, vanilla"
SOURCES: dict[str, Callable[[Kit], Any]] = {
    "vanilla": lambda kit: None,
    "SmoothGrad": lambda kit: SmoothGrad(kit.classifier, sigma=0.1, samples=8),
    "IntegratedGradients": lambda kit: IntegratedGradients(kit.classifier, baseline=0.5, steps=8),
    "distilled": lambda kit: kit.surrogate,
}
METHODS: dict[str, Method] = {
    OWN: ours().everywhere(),
    "Agreed, gradient alone": ours(weights=(2.0, 0.0, 0.0)),
    "Agreed, generator alone": ours(weights=(0.0, 2.0, 0.0)),
    "Agreed, vanilla": ours(SOURCES["vanilla"]),
    "Agreed, without consensus": ours(angle=180.0),
    "Agreed, drawn noise": ours(abducted=False),
    "Agreed, nothing put back": ours(threshold=0.0),
    "Agreed, one look, five steps": ours(steps=6, looks=1),
    "MaskDiME": dime("MaskDiME", MaskDiME).everywhere(),
    "MaskDiME, published": dime("MaskDiME", MaskDiME, **OLD),
    "MaskDiME, distilled": Method("MaskDiME", unaided(MaskDiME), asked=led),
    "FastDiME": dime("FastDiME", FastDiME).everywhere(),
    "FastDiME, published": dime("FastDiME", FastDiME, **OLD),
    "FastDiME, no mask": dime("FastDiME", FastDiME, masking="none"),
    "FastDiME-2": dime("FastDiME", FastDiME, masking="2"),
    "FastDiME-2+": dime("FastDiME", FastDiME, masking="2+"),
    **{
        f"SCE-LITE-HQ, {name}": Method(
            "SCE-LITE-HQ",
            under(SCELiteHQ, source),
            **dict.fromkeys(("apart", "published", "main"), name == "distilled"),
        )
        for name, source in SOURCES.items()
    },
    f"{DISTILLED}, no exclusion": Method("SCE-LITE-HQ", under(SCELiteHQ, SOURCES["distilled"])),
    f"{DISTILLED}, latent": Method("SCE-LITE-HQ, latent", under(SCELiteHQ, SOURCES["distilled"]), latent=True),
    "FastDiME, no mask, latent": Method("FastDiME, latent", unaided(FastDiME), latent=True),
    "Agreed, latent": Method("Agreed, latent", under(Agreed, SOURCES["distilled"]), latent=True),
    "LDCE": Method("LDCE", unaided(LDCE), published=True),
    "LDCE, no consensus": Method("LDCE", unaided(LDCE), {"angle": 180.0}),
    "LDCE, published": Method("LDCE", unaided(LDCE), OLD, published=True),
    "ACE": Method("ACE", unaided(ACE), published=True),
    "SCE": Method("SCE", under(SCE, SOURCES["distilled"]), apart=True, published=True),
    "DiME": dime("DiME", DiME),
    "DiME, published": dime("DiME", DiME, **OLD),
}


def slug(name: str) -> str:
    """A file name."""
    return "".join(letter if letter.isalnum() or letter in ".+" else "-" for letter in name.replace(", ", "-"))
