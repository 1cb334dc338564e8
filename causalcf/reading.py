"""What a user names on the command line, as objects: graphs, models, interventions, rows."""

from __future__ import annotations

import difflib
import re
import runpy
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor

import causalcf as cf
from causalcf.data import Folder, MorphoDigits
from causalcf.explain.files import importable
from causalcf.graph import CausalGraph
from causalcf.interventions import Do, scale, shift
from causalcf.mechanisms import Mechanism
from causalcf.pretrained import pretrained_names
from causalcf.scm import SCM
from causalcf.variables import Continuous, Discrete, Image, Variable

BUILT_IN = "morphodigits"
BUILT_IN_ROWS = 24
ACTION = re.compile(r"\s*(?P<name>.+?)\s*(?P<how>[+*]?=)\s*(?P<number>[^=]*?)\s*")


def read_device(name: str) -> torch.device:
    """A device by its name, if this machine has it."""
    place = ("cuda" if torch.cuda.is_available() else "cpu") if name == "auto" else name
    try:
        return torch.zeros(1, device=place).device
    except (RuntimeError, AssertionError) as error:
        said = str(error).strip().partition("\n")[0]
        raise ValueError(f"--device: {name!r} cannot be used here ({said}); write cpu, or leave it out") from error


def read_graph(path: Path) -> CausalGraph:
    """The graph in a .json file, or the `graph` of a .py file, which is run."""
    return read_story(path)[0]


def read_story(path: Path) -> tuple[CausalGraph, dict[str, Mechanism]]:
    """A graph, and the `mechanisms` that a .py file gives its variables, none if it does not."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the .py or .json file of a graph")
    if path.suffix == ".json":
        try:
            return CausalGraph.from_json(path.read_text(encoding="utf-8")), {}
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no graph as graph.to_json() writes it: {error!s}") from error
    if path.suffix != ".py":
        raise ValueError(f"{path}: expected a graph in a .py or .json file")
    try:
        with importable(path.parent):
            names = runpy.run_path(str(path))
            found, given = names.get("graph"), names.get("mechanisms", {})
    except Exception as error:
        raise ValueError(f"{path} does not run: {type(error).__name__}: {error}") from error
    if not isinstance(found, CausalGraph):
        got = "defines none" if found is None else f"it is {type(found).__name__}"
        raise ValueError(f"{path}: expected `graph`, a CausalGraph, but {got}; write graph = CausalGraph(...)")
    if not isinstance(given, Mapping) or not all(isinstance(value, Mechanism) for value in given.values()):
        raise ValueError(
            f"{path}: expected `mechanisms` by the names of variables, for example "
            'mechanisms = {"image": cf.mechanisms.SemanticDiffusion()}; or leave it out for the defaults'
        )
    return found, dict(given)


def read_model(name: str) -> SCM:
    """A model that ships, or one in a folder."""
    if name in pretrained_names():
        return cf.load_pretrained(name)
    path = Path(name)
    return SCM.load(path) if path.exists() or len(path.parts) > 1 else cf.load_pretrained(name)


def read_action(text: str, graph: CausalGraph) -> Do:
    """The interventions that a text writes: `name=number`, `name+=number`, `name*=number`, with commas."""
    actions: dict[str, Any] = {}
    for part in text.split(","):
        match = ACTION.fullmatch(part)
        kind = graph.variables.get(match["name"]) if match and match["how"] == "=" else None
        if match and isinstance(kind, Discrete) and kind.names:
            label = match["number"]
            if label in kind.names or not label.isdecimal():
                kind.encode(match["name"], [label])
                actions.setdefault(match["name"], []).append(label)
                continue
        try:
            name, how, number = match["name"], match["how"], float(match["number"])  # pyright: ignore[reportOptionalSubscript]
        except (TypeError, ValueError):
            raise ValueError(
                f"--do {text!r}: expected name=number, name+=number or name*=number, got {part.strip()!r}; "
                'write --do "thickness+=1.5", for example'
            ) from None
        if how == "=" and match["number"].startswith("+"):  # pyright: ignore[reportOptionalSubscript]
            raise ValueError(f"--do {text!r}: {name}=+... could mean two things; to add, write {name}+={number:g}")
        if name.endswith("-") and name not in graph and name[:-1].strip() in graph:
            own = name[:-1].strip()
            raise ValueError(f"--do {text!r}: to subtract, write {own}+={-number:g}")
        graph.require(name)
        actions.setdefault(name, []).append({"=": float, "+=": shift, "*=": scale}[how](number))
    return cf.do(**actions)


def read_rows(data: str, graph: CausalGraph, count: int | None) -> Mapping[str, Tensor] | MorphoDigits:
    """The first rows to ask about, of the built-in data or of a file."""
    if count is not None and count < 1:
        raise ValueError(f"--rows: expected at least 1, got {count}")
    if data == BUILT_IN:
        return MorphoDigits("test", rows=BUILT_IN_ROWS if count is None else count)
    found = read_file(Path(data), graph)
    return found[:count] if isinstance(found, Folder) else {name: value[:count] for name, value in found.items()}


def read_file(path: Path, graph: CausalGraph) -> dict[str, Tensor] | Folder:
    """Rows in a file, as the graph's variables want them; of a table with paths of pictures, a data set."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give rows as .csv, .npz or .safetensors, or {BUILT_IN!r}")
    if path.suffix in (".csv", ".tsv"):
        return Folder(path, graph)
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                columns = {name: _column(name, file[name]) for name in file.files}
        elif path.suffix == ".safetensors":
            columns = load_file(path)
        else:
            raise ValueError("its name does not end in .csv, .tsv, .npz or .safetensors")
    except (ValueError, TypeError, OSError, EOFError, BadZipFile, SafetensorError) as error:
        raise ValueError(f"{path} holds no rows that can be read: {error}") from error
    if more := [name for name in columns if name not in graph and name != "id"]:
        close = difflib.get_close_matches(more[0], graph.nodes, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else ""
        raise ValueError(
            f"{path}: unknown variable {more[0]!r}; the graph has {', '.join(graph)}{hint}; leave it out, or give a "
            ".csv table, whose further columns are left alone"
        )
    return graph.check_rows({name: _value(column, graph.variables.get(name)) for name, column in columns.items()})


def _column(name: str, array: np.ndarray) -> Tensor:
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name}: expected numbers, got {array.dtype}; leave it out, or write its classes as numbers")
    return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), copy=False))


def _value(column: Tensor, variable: Variable | None) -> Tensor:
    """A column in the dtype and shape of its variable, where that is clear; ids have no variable."""
    if isinstance(variable, Image):
        column = column / 255 if column.dtype == torch.uint8 else column
        column = column[:, None] if column.ndim == 3 and variable.channels == 1 else column
    if isinstance(variable, Continuous | Image):
        return column.float()
    whole = not column.is_floating_point() or bool((column == column.round()).all())
    return column.long() if whole else column
