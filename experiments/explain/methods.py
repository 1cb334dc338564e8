"""The ways of explaining that are compared, the most important first. Their options are those that `tune.py` chose."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from causalcf.explain import (
    ACE,
    LDCE,
    SCE,
    Agreed,
    DiME,
    FastDiME,
    IntegratedGradients,
    Led,
    MaskDiME,
    SCELiteHQ,
    SmoothGrad,
    Told,
)
from causalcf.explain.explainer import Explainer
from experiments.explain.families import FAMILIES, Options

BATCH = 20  # rows at a time, of all methods
Many = Literal["all", "few", "slowest"]


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
class Method:
    """One row of the table.

    Attributes:
        made: the explainer, given the kit and the options.
        own: options of its own, whatever was chosen.
        rows: on which rows it is measured: all, the first few, or the first of them alone.
        apart: whether the second explanation of a row keeps out of the places that the first changed.
        ours: whether it is a combination of our own.
        published: whether it stands for a published method, in its corrected or its published form.
        latent: whether it works in the codes of an autoencoder.
        asked: the classifier it is given.
    """

    made: Callable[..., Explainer]
    own: Options = field(default_factory=dict)
    rows: Many = "few"
    apart: bool = False
    ours: bool = False
    published: bool = False
    latent: bool = False
    asked: Callable[[Kit], Any] = lambda kit: kit.classifier


def explainer(name: str, kit: Kit, chosen: Mapping[str, Options], batch: int = BATCH) -> Explainer:
    """The explainer of a method.

    Args:
        name: of the method.
        kit: what it may take.
        chosen: family -> options.
        batch: rows at a time.
    """
    method, family = METHODS[name], family_of(name)
    options = {**FAMILIES[family].given, **chosen[family], **method.own, "batch": batch}
    return method.made(kit, **{option: tuple(v) if isinstance(v, list) else v for option, v in options.items()})


def unaided(kind: type[Explainer]) -> Callable[..., Explainer]:
    """An explainer that takes nothing of the kit."""
    return lambda kit, **options: kind(**options)  # pyright: ignore[reportCallIssue]


def under(kind: Callable[..., Explainer], source: Callable[[Kit], Any]) -> Callable[..., Explainer]:
    """An explainer under the gradients of a source."""
    return lambda kit, **options: kind(surrogate=source(kit), **options)


def led(kit: Kit) -> Led:
    """The classifier, with the gradients of its surrogate."""
    return Led(kit.classifier, kit.surrogate)


SOURCES: dict[str, Callable[[Kit], Any]] = {
    "vanilla": lambda kit: None,
    "SmoothGrad": lambda kit: SmoothGrad(kit.classifier, sigma=0.1, samples=8),
    "IntegratedGradients": lambda kit: IntegratedGradients(kit.classifier, baseline=0.5, steps=8),
    "distilled": lambda kit: kit.surrogate,
}
OWN, DISTILLED, VANILLA = "Agreed", "SCE-LITE-HQ, distilled", "SCE-LITE-HQ, vanilla"
AGREED, LITE = under(Agreed, SOURCES["distilled"]), under(SCELiteHQ, SOURCES["distilled"])
MASK, FAST = unaided(MaskDiME), unaided(FastDiME)
OLD: dict[str, Any] = {"parity": "published"}
METHODS: dict[str, Method] = {
    OWN: Method(AGREED, rows="all", ours=True),
    "MaskDiME": Method(MASK, rows="all", published=True),
    DISTILLED: Method(LITE, rows="all", apart=True, published=True),
    "FastDiME": Method(FAST, rows="all", published=True),
    "LDCE": Method(unaided(LDCE), rows="all", published=True),
    "Agreed, one look, five steps": Method(AGREED, rows="all", ours=True),
    "DiME": Method(unaided(DiME), rows="slowest", published=True),
    "Agreed, without consensus": Method(AGREED, ours=True),
    "LDCE, no consensus": Method(unaided(LDCE)),
    **{f"SCE-LITE-HQ, {name}": Method(under(SCELiteHQ, SOURCES[name])) for name in SOURCES if name != "distilled"},
    f"{DISTILLED}, no exclusion": Method(LITE),
    "MaskDiME, distilled": Method(MASK, asked=led),
    "Told": Method(under(Told, SOURCES["distilled"]), apart=True, ours=True),
    "FastDiME, no mask": Method(FAST, published=True),
    "FastDiME, no mask, latent": Method(FAST, latent=True),
    "Agreed, latent": Method(AGREED, latent=True),
    f"{DISTILLED}, latent": Method(LITE, latent=True),
    "ACE": Method(unaided(ACE), rows="slowest", published=True),
    "SCE": Method(under(SCE, SOURCES["distilled"]), rows="slowest", apart=True, published=True),
    "FastDiME-2": Method(FAST, {"masking": "2"}, published=True),
    "FastDiME-2+": Method(FAST, {"masking": "2+"}, published=True),
    "MaskDiME, published": Method(MASK, published=True),
    "FastDiME, published": Method(FAST, published=True),
    "LDCE, published": Method(unaided(LDCE), OLD, published=True),
    "Agreed, vanilla": Method(under(Agreed, SOURCES["vanilla"]), ours=True),
    "Agreed, gradient alone": Method(AGREED, ours=True),
    "Agreed, generator alone": Method(AGREED, ours=True),
    "Agreed, drawn noise": Method(AGREED, ours=True),
    "Agreed, nothing put back": Method(AGREED, ours=True),
    "DiME, published": Method(unaided(DiME), OLD, "slowest", published=True),
}
# Without exclusion the first explanation of a row is the same; FastDiME-2 and -2+ run FastDiME again, under its mask;
# the published forms of LDCE and DiME begin one level higher, or take the distance of another image, and cost most.
SHARED = {
    f"{DISTILLED}, no exclusion": DISTILLED,
    "FastDiME-2": "FastDiME",
    "FastDiME-2+": "FastDiME",
    "LDCE, published": "LDCE",
    "DiME, published": "DiME",
}


def family_of(name: str) -> str:
    """Whose options a method has."""
    return SHARED.get(name, name)


def slug(name: str) -> str:
    """A file name."""
    return "".join(letter if letter.isalnum() or letter in ".+" else "-" for letter in name.replace(", ", "-"))
