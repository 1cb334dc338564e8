"""Models that come with the package, each in a folder of its own with a card, README.md."""

from __future__ import annotations

import difflib
from pathlib import Path

from causalcf.networks.classifier import Predictor
from causalcf.scm import SCM
from causalcf.storage import FILES
from causalcf.training.predictors import load_predictor

__all__ = ["load_judge", "load_pretrained", "predictor_names", "pretrained_names"]

ROOT = Path(__file__).parent


def pretrained_names() -> tuple[str, ...]:
    """The names of the models that ship, in alphabetical order."""
    folders = (path for path in ROOT.iterdir() if path.is_dir())
    return tuple(sorted(path.name for path in folders if all((path / file).is_file() for file in FILES)))


def predictor_names() -> tuple[str, ...]:
    """The names of the predictors that ship, in alphabetical order."""
    folders = (path for path in ROOT.iterdir() if path.is_dir() and path.name not in pretrained_names())
    return tuple(sorted(path.name for path in folders if (path / "config.json").is_file()))


def load_pretrained(name: str) -> SCM:
    """A model that comes with the package; nothing is downloaded.

    What it was trained on, by which command, and what its numbers are stands in its card, the README.md in
    `causalcf/pretrained/<name>/`.

    Args:
        name: one of `pretrained_names()`.

    Raises:
        ValueError: no model of this name ships.

    Example:
        `load_pretrained("morphodigits-semantic").observe(MorphoDigits("test", rows=8)[:])`
    """
    if name in predictor_names():
        raise ValueError(f"{name!r} is a predictor; write causalcf.pretrained.load_judge({name!r})")
    _require(name, pretrained_names(), "model", "a model of your own is read by SCM.load(folder)")
    return SCM.load(ROOT / name)


def load_judge(name: str) -> Predictor:
    """A predictor that comes with the package; no model was trained with it.

    Args:
        name: one of `predictor_names()`, for example `"morphodigits-digit"`, the digit of a MorphoDigits image. Those
            that end in "-reader" are for `steer`, and must not judge what they steered.

    Raises:
        ValueError: no predictor of this name ships.
    """
    if name in pretrained_names():
        raise ValueError(f"{name!r} is a model; write causalcf.load_pretrained({name!r})")
    _require(name, predictor_names(), "predictor", "one of your own is read by load_predictor(folder)")
    return load_predictor(ROOT / name)


def _require(name: str, names: tuple[str, ...], what: str, own: str) -> None:
    if name not in names:
        close = difflib.get_close_matches(str(name), names, n=1, cutoff=0.4)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        ships = f"only {', '.join(names)}{hint}" if names else "and no other does here"
        raise ValueError(f"no {what} {name!r} ships with causalcf, {ships}; {own}")
