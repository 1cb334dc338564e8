"""Explainers by their names, with options as texts, as commands have them."""

from __future__ import annotations

import ast
import difflib
import inspect
from collections.abc import Sequence
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin

from causalcf.explain.ace import ACE
from causalcf.explain.agreed import Agreed
from causalcf.explain.dime import DiME
from causalcf.explain.explainer import Explainer
from causalcf.explain.fastdime import FastDiME
from causalcf.explain.ldce import LDCE
from causalcf.explain.maskdime import MaskDiME
from causalcf.explain.sce import SCE
from causalcf.explain.sce_lite import SCELiteHQ, Told

KINDS: tuple[type[Explainer], ...] = (
    DiME,
    FastDiME,
    MaskDiME,
    ACE,
    LDCE,
    SCE,
    SCELiteHQ,
    Agreed,
    Told,
)
METHODS = {kind.__name__.lower(): kind for kind in KINDS}
ELSEWHERE = ("batch", "seed", "surrogate", "perceptual", "options")  # options of their own, or no text could say them


def read_method(name: str, options: Sequence[str], batch: int | None, seed: int, *networks: str) -> Explainer:
    """A method by its name, with options as texts, `name=value`, if it takes these further networks."""
    kind = METHODS.get(name.lower().replace("-", "").replace("_", ""))
    if kind is None:
        raise ValueError(f"--method: there is no {name!r}; {_choice(name, list(METHODS))}")
    for network in networks:
        if network not in parameters(kind):
            others = [other for other, entry in METHODS.items() if network in parameters(entry)]
            raise ValueError(f"--{network}: {kind.__name__} has no use for it; write --method {' or '.join(others)}")
    known = {key: entry for key, entry in parameters(kind).items() if key not in ELSEWHERE}
    given: dict[str, Any] = {"seed": seed} if batch is None else {"seed": seed, "batch": batch}
    for text in options:
        key, equals, value = (part.strip() for part in text.partition("="))
        if not equals:
            raise ValueError(f"--option {text!r}: expected name=value, such as depth=30")
        if key not in known:
            raise ValueError(f"--option: {kind.__name__} has no {key!r}; {_choice(key, list(known))}")
        given[key] = _value(key, value, known[key])
    return kind(**given)


def parameters(kind: type[Explainer]) -> dict[str, inspect.Parameter]:
    """What a method is made of, with what its bases know."""
    found: dict[str, inspect.Parameter] = {}
    for base in kind.__mro__:
        if base in (Explainer, object) or "__init__" not in vars(base):
            continue
        own = inspect.signature(base, eval_str=True).parameters
        found = {**own, **found}
        if "options" not in own:
            break
    return found


def _value(name: str, text: str, parameter: inspect.Parameter) -> Any:
    """The value that a text writes, of the kind that is expected."""
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        value = text
    default, kind = parameter.default, parameter.annotation
    if isinstance(default, tuple):
        value = tuple(value) if isinstance(value, tuple | list) else (value,)
        if all(_fits(part, float) for part in value):
            return value
        expected, written = "numbers, with commas between them", ",".join(map(str, default))
    else:
        for found in (text, value):
            if _fits(found, kind):
                return found
        expected, written = _said(kind), default
    raise ValueError(f"--option {name}: expected {expected}, got {text!r}; the default is {name}={written}")


def _fits(value: Any, kind: Any) -> bool:
    """Whether a value is of a kind: a number, a literal, None, or one of several."""
    if get_origin(kind) in (Union, UnionType):
        return any(_fits(value, part) for part in get_args(kind))
    if get_origin(kind) is Literal:
        return value in get_args(kind)
    return isinstance(value, int | float if kind is float else kind) and isinstance(value, bool) is (kind is bool)


def _said(kind: Any) -> str:
    """A kind in words."""
    if get_origin(kind) in (Union, UnionType):
        return " or ".join(map(_said, get_args(kind)))
    if get_origin(kind) is Literal:
        return " or ".join(map(str, get_args(kind)))
    return {int: "a whole number", float: "a number", bool: "True or False"}.get(kind, "None")


def _choice(name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(name, known, n=1)
    return f"write one of {', '.join(known)}{f'; did you mean {close[0]!r}?' if close else ''}"
