"""The command line: `causalcf demo`, `fit`, `counterfactual`, `evaluate` and `graph`."""

from __future__ import annotations

import inspect
import json
import os
import re
import runpy
import sys
import traceback
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import docstring_parser
import numpy as np
import torch
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

import causalcf as cf
from causalcf import plot
from causalcf.data import MorphoDigits
from causalcf.demo import demonstrate, morphodigits, oracles
from causalcf.graph import CausalGraph
from causalcf.interventions import Do, scale, shift
from causalcf.pretrained import pretrained_names
from causalcf.scm import SCM
from causalcf.storage import write_text
from causalcf.variables import Continuous, Image, Variable

BUILT_IN = "morphodigits"
BUILT_IN_ROWS = 24
ACTION = re.compile(r"\s*(?P<name>.+?)\s*(?P<how>[+*]?=)\s*(?P<number>[^=]*?)\s*")


# ---- the commands


def demo(*, out: Path = Path("demo"), train: bool = False, rows: int = 24) -> None:
    """Show counterfactuals of digits beside their truth.

    Measures the model that ships as morphodigits-semantic on unseen digits, and writes graph.png,
    counterfactuals.png (digits as observed, thicker, leaning the other way, fainter, and back again, with
    what changed in red and blue) and report.md. Takes half a minute on two cores. With --train true
    it takes about 35 minutes more, and the model is saved to runs/demo; started again after a kill, it goes on.

    Args:
        out: Folder of the pictures and the report.
        train: Whether to train the model first, from nothing.
        rows: How many test digits to measure on; time grows with them.
    """
    _check_folder(out)
    if train:
        scm = morphodigits(Path("runs/demo-fit"))
        scm.save("runs/demo", overwrite=True, half=True)
    else:
        scm = cf.load_pretrained("morphodigits-semantic")
    command = " ".join(["causalcf demo", *(["--train true"] if train else []), f"--rows {rows}"])
    print(demonstrate(scm, out, rows, command))
    _tell(out / "graph.png", out / "counterfactuals.png", out / "report.md")


def fit(
    *,
    graph: Path,
    data: str,
    out: Path,
    val: str | None = None,
    steps: int | None = None,
    seed: int = 0,
    overwrite: bool = False,
) -> None:
    """Fit a model of a graph to data, and save it.

    Every variable gets the default mechanism of its type, for example a flow for a number and a diffusion
    model for an image. Checkpoints lie beside the model, in OUT-fit; killed and started again with the same
    arguments, it goes on where it was.

    Args:
        graph: Python file that defines `graph`, a CausalGraph; or .json, as graph.to_json() writes it.
        data: Training rows: .npz or .safetensors with one array per variable, rows first. Images are floats
            from 0 to 1 or uint8 from 0 to 255. Or "morphodigits", 60000 rows of the built-in data.
        out: Folder of the model.
        val: Further rows, on which the loss is shown but nothing is learned.
        steps: Training steps of image mechanisms; by default those of their recipe.
        seed: Decides initial weights, order of rows and noise.
        overwrite: Whether a model in OUT may be replaced.
    """
    if not overwrite and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already; choose a new folder, or add --overwrite true")
    scm = SCM(_graph(graph))
    for name in scm.graph.images:
        mechanism = scm.mechanisms[name]
        mechanism.recipe = mechanism.recipe if steps is None else mechanism.recipe.but(steps=steps)
    train = MorphoDigits("train", rows=60_000) if data == BUILT_IN else _file(Path(data), scm.graph)
    held = None if val is None else MorphoDigits("val") if val == BUILT_IN else _file(Path(val), scm.graph)
    scm.fit(train, held, folder=out.with_name(f"{out.name}-fit"), seed=seed)
    scm.save(out, overwrite=overwrite)
    print(scm.check())
    _tell(out)


def counterfactual(
    *,
    model: str,
    data: str,
    do: list[str],
    out: Path = Path("counterfactual"),
    rows: int | None = None,
    seed: int = 0,
) -> None:
    """Ask what rows would have been under interventions.

    Writes counterfactual.safetensors (every variable after the last intervention, and the rows' ids) and
    worlds.png, a picture of what each intervention changed. Several --do are made one after the other, on the
    same units with the same noise.

    Args:
        model: Name of a model that ships, or the folder of a fitted one.
        data: Factual rows: .npz or .safetensors with one array per variable; or "morphodigits".
        do: What to do to a variable: "thickness=4" sets it, "thickness+=1.5" adds, "thickness*=2" multiplies.
            Commas join, "thickness=4, slant+=0.2"; give --do again for what is done afterwards.
        out: Folder of the rows and the picture.
        rows: How many rows, from the first on; by default all of a file, and 24 of morphodigits.
        seed: With a row's id, decides what abduction leaves to chance.
    """
    _check_folder(out)
    scm = _model(model)
    steps = [_action(text, scm.graph) for text in do]
    found = _rows(data, scm.graph, rows)
    worlds = [scm.observe(found[:] if isinstance(found, MorphoDigits) else found, seed)]
    for step in steps:
        worlds.append(worlds[-1].do(step))
    tensors = {name: value.contiguous() for name, value in worlds[-1].values().items()}
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "counterfactual.safetensors", {"actions": repr(worlds[-1].actions)})
    written = [out / "counterfactual.safetensors"]
    for name in scm.graph.images:
        written.append(out / ("worlds.png" if len(scm.graph.images) == 1 else f"worlds-{name}.png"))
        plot.worlds(*worlds, node=name).savefig(written[-1])
    _tell(*written)


def evaluate(
    *,
    model: str,
    data: str,
    do: list[str],
    out: Path = Path("report.md"),
    rows: int | None = None,
    batch: int = 64,
    seed: int = 0,
) -> None:
    """Measure whether counterfactuals are sound.

    Measures composition, reversibility and the moments of the noise; on morphodigits also effectiveness, and
    the error against the true counterfactual. Each --do is one intervention of the report.

    Args:
        model: Name of a model that ships, or the folder of a fitted one.
        data: Rows that the model has not seen: .npz or .safetensors with one array per variable; or
            "morphodigits", rows of its test split.
        do: What to do to a variable: "thickness=4" sets it, "thickness+=1.5" adds, "thickness*=2" multiplies.
            Commas join, "thickness=4, slant+=0.2"; give --do again for another intervention.
        out: The report, .md or .json.
        rows: How many rows, from the first on; by default all of a file, and 24 of morphodigits.
        batch: Rows at a time; the numbers do not depend on it.
        seed: With a row's id, decides what abduction leaves to chance.
    """
    if out.suffix not in (".md", ".json"):
        raise ValueError(f"--out: expected a file that ends in .md or .json, got {out}")
    scm = _model(model)
    plan = [_action(text, scm.graph) for text in do]
    test = _rows(data, scm.graph, rows)
    readers = oracles() if isinstance(test, MorphoDigits) else None
    report = cf.evaluate(scm, test, plan, oracles=readers, batch=batch, seed=seed, progress=True)
    out.parent.mkdir(parents=True, exist_ok=True)
    as_json = out.suffix == ".json"
    write_text(out, json.dumps(report.to_dict(), indent=1) + "\n" if as_json else report.to_markdown())
    print(report)
    _tell(out)


def graph(*, graph: Path | None = None, model: str | None = None, out: Path = Path("graph.png")) -> None:
    """Draw a causal graph, list its variables and edges.

    Args:
        graph: Python file that defines `graph`, a CausalGraph; or .json, as graph.to_json() writes it.
        model: Instead of a file, the name of a model that ships, or the folder of a fitted one.
        out: The picture; its ending decides the format: .png, .pdf or .svg.
    """
    if (graph is None) == (model is None):
        raise ValueError("graph: expected one of --graph FILE and --model NAME; give exactly one")
    drawn = _graph(graph) if graph is not None else _model(str(model)).graph
    out.parent.mkdir(parents=True, exist_ok=True)
    plot.graph(drawn).savefig(out)
    width = max(map(len, drawn))
    for name, variable in drawn.variables.items():
        print(f"{name:<{width}}  {variable}")
    print()
    for cause, effect in drawn.edges:
        print(f"{cause} -> {effect}")
    _tell(out)


COMMANDS: dict[str, Callable[..., None]] = {
    command.__name__: command for command in (demo, fit, counterfactual, evaluate, graph)
}


# ---- what the arguments mean


def _tell(*paths: Path) -> None:
    print(f"\nwrote {', '.join(str(path) for path in paths)}")


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out: {out} is a file; give a folder")


def _graph(path: Path) -> CausalGraph:
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give the .py or .json file of a graph")
    if path.suffix == ".json":
        try:
            return CausalGraph.from_json(path.read_text())
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{path} is no graph as graph.to_json() writes it: {error!s}") from error
    if path.suffix != ".py":
        raise ValueError(f"{path}: expected a graph in a .py or .json file")
    try:
        found = runpy.run_path(str(path)).get("graph")
    except Exception as error:
        raise ValueError(f"{path} does not run: {type(error).__name__}: {error}") from error
    if not isinstance(found, CausalGraph):
        got = "defines none" if found is None else f"it is {type(found).__name__}"
        raise ValueError(f"{path}: expected `graph`, a CausalGraph, but {got}; write graph = CausalGraph(...)")
    return found


def _model(name: str) -> SCM:
    if name in pretrained_names():
        return cf.load_pretrained(name)
    path = Path(name)
    return SCM.load(path) if path.exists() or len(path.parts) > 1 else cf.load_pretrained(name)


def _action(text: str, graph: CausalGraph) -> Do:
    """The interventions that a text writes: `name=number`, `name+=number`, `name*=number`, with commas."""
    actions: dict[str, Any] = {}
    for part in text.split(","):
        match = ACTION.fullmatch(part)
        try:
            name, how, number = match["name"], match["how"], float(match["number"])  # pyright: ignore[reportOptionalSubscript]
        except (TypeError, ValueError):
            raise ValueError(
                f"--do {text!r}: expected name=number, name+=number or name*=number, got {part.strip()!r}; "
                'write --do "thickness+=1.5", for example'
            ) from None
        graph.require(name)
        actions.setdefault(name, []).append({"=": float, "+=": shift, "*=": scale}[how](number))
    return cf.do(**actions)


def _rows(data: str, graph: CausalGraph, count: int | None) -> dict[str, Tensor] | MorphoDigits:
    """The first rows to ask about, of the built-in data or of a file."""
    if count is not None and count < 1:
        raise ValueError(f"--rows: expected at least 1, got {count}")
    if data == BUILT_IN:
        return MorphoDigits("test", rows=BUILT_IN_ROWS if count is None else count)
    return {name: value[:count] for name, value in _file(Path(data), graph).items()}


def _file(path: Path, graph: CausalGraph) -> dict[str, Tensor]:
    """Rows in a file, as the graph's variables want them."""
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}; give rows as .npz or .safetensors, or {BUILT_IN!r}")
    try:
        if path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as file:
                columns = {name: torch.from_numpy(file[name]) for name in file.files}
        elif path.suffix == ".safetensors":
            columns = load_file(path)
        else:
            raise ValueError("its name does not end in .npz or .safetensors")
    except (ValueError, TypeError, OSError, EOFError, BadZipFile, SafetensorError) as error:
        raise ValueError(f"{path} holds no rows that can be read: {error}") from error
    graph.require(*(name for name in columns if name != "id"))
    return graph.check_rows({name: _value(column, graph.variables.get(name)) for name, column in columns.items()})


def _value(column: Tensor, variable: Variable | None) -> Tensor:
    """A column in the dtype and shape of its variable, where that is clear; ids have no variable."""
    if isinstance(variable, Image):
        column = column / 255 if column.dtype == torch.uint8 else column
        column = column[:, None] if column.ndim == 3 and variable.channels == 1 else column
    if isinstance(variable, Continuous | Image):
        return column.float()
    whole = not column.is_floating_point() or bool((column == column.round()).all())
    return column.long() if whole else column


# ---- the parser


class _Help(DefaultHelpFormatter, RawDescriptionHelpFormatter):
    """Help that says what is required, and defaults where there are any, but no types."""

    def _get_help_string(self, action: Action) -> str:
        if not action.option_strings or action.default is SUPPRESS:
            return action.help or ""
        if action.required:
            return f"{action.help} (required)"
        default = str(action.default).lower() if isinstance(action.default, bool) else action.default
        return f"{action.help}" if default is None else f"{action.help} (default: {default})"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        prog="causalcf",
        description="Structural causal models for images: fit, ask counterfactual questions, measure the answers.",
        version=cf.__version__,
        formatter_class=_Help,
    )
    commands = parser.add_subcommands(title="commands")
    for name, command in COMMANDS.items():
        documented = docstring_parser.parse(inspect.getdoc(command) or "")
        description = f"{documented.short_description}\n\n{documented.long_description or ''}".strip()
        child = ArgumentParser(description=description, formatter_class=_Help)
        child.add_function_arguments(command, as_group=False, skip={"do"})
        for parameter in documented.params:
            if parameter.arg_name == "do":  # an option that may come again, which the signature cannot say
                child.add_argument("--do", action="append", type=str, required=True, help=parameter.description)
        commands.add_subcommand(name, child, help=documented.short_description)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; what a user can put right is said in a line, with exit status 2.

    With CAUSALCF_TRACEBACK=1 in the environment errors are raised as they are.

    Args:
        arguments: by default those of the process.
    """
    given = _parser().parse_args(arguments)
    try:
        COMMANDS[given.subcommand](**given[given.subcommand].as_dict())
    except (ValueError, TypeError, OSError, FloatingPointError, RuntimeError) as error:
        if os.environ.get("CAUSALCF_TRACEBACK") or (isinstance(error, RuntimeError) and not _ours(error)):
            raise
        print(f"causalcf: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("causalcf: interrupted; what was trained up to the last checkpoint is kept", file=sys.stderr)
        return 130
    return 0


def _ours(error: Exception) -> bool:
    """Whether our own code raised it, rather than a library in the middle of something."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(Path(__file__).parent)


if __name__ == "__main__":
    sys.exit(main())
