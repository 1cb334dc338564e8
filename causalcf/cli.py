"""The command line: `causalcf demo`, `fit`, `counterfactual`, `evaluate`, `explain`, `distil` and `graph`."""

from __future__ import annotations

import inspect
import json
import os
import sys
import traceback
from argparse import SUPPRESS, Action, RawDescriptionHelpFormatter
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from tempfile import TemporaryFile

import docstring_parser
import torch
from jsonargparse import ArgumentParser, DefaultHelpFormatter
from safetensors.torch import save_file
from tqdm import tqdm

import causalcf as cf
from causalcf import plot
from causalcf.data import MorphoDigits
from causalcf.demo import demonstrate, morphodigits, oracles
from causalcf.explaining import distil, explain
from causalcf.numbers import whole
from causalcf.reading import (
    BUILT_IN,
    read_action,
    read_device,
    read_file,
    read_graph,
    read_model,
    read_rows,
    read_story,
)
from causalcf.rows import Table
from causalcf.scm import SCM
from causalcf.storage import write_text
from causalcf.units import unit_ids

# ---- the commands


def demo(*, out: Path = Path("demo"), train: bool = False, rows: int = 24) -> None:
    """Show counterfactuals of digits beside their truth.

    Measures the model that ships as morphodigits-semantic on unseen digits, and writes graph.png,
    counterfactuals.png (digits as observed, thicker, leaning the other way, fainter, and back again, with
    what changed in red and blue) and report.md. Takes a minute on two cores. With --train true
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
    device: str = "auto",
) -> None:
    """Fit a model of a graph to data, and save it.

    Every variable gets the default mechanism of its type, for example a flow for a number and a diffusion
    model for an image, unless the Python file of the graph also defines `mechanisms`, by name. Checkpoints lie
    beside the model, in OUT-fit; killed and started again with the same arguments, it goes on where it was.

    Args:
        graph: Python file that defines `graph`, a CausalGraph, and `mechanisms` where they are not the defaults; or
            .json, as graph.to_json() writes it.
        data: Training rows: a .csv table with a column per variable, where that of an image holds paths of PNG or
            JPEG files, from the table's folder on; or .npz or .safetensors with one array per variable, rows first,
            where images are floats from 0 to 1 or uint8 from 0 to 255. Or "morphodigits", 60000 rows of the built-in
            data.
        out: Folder of the model.
        val: Further rows, on which the loss is shown but nothing is learned.
        steps: Training steps of image mechanisms; by default those of their recipe.
        seed: Decides initial weights, order of rows and noise.
        overwrite: Whether a model in OUT may be replaced.
        device: Such as "cpu" or "cuda"; "auto" takes a GPU if there is one.
    """
    if not out.name:
        raise ValueError(f"--out: expected a folder with a name of its own, got {out}")
    if not overwrite and out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise FileExistsError(f"{out} is there already; choose a new folder, or add --overwrite true")
    place = read_device(device)
    scm = SCM(*read_story(graph)).to(place)
    for name in scm.graph.images:
        mechanism = scm.mechanisms[name]
        mechanism.recipe = mechanism.recipe if steps is None else mechanism.recipe.but(steps=steps)
    train = MorphoDigits("train", rows=60_000) if data == BUILT_IN else read_file(Path(data), scm.graph)
    held = None if val is None else MorphoDigits("val") if val == BUILT_IN else read_file(Path(val), scm.graph)
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
    batch: int = 64,
    seed: int = 0,
    device: str = "auto",
) -> None:
    """Ask what rows would have been under interventions.

    Writes counterfactual.safetensors (every variable after the last intervention, and the rows' ids) and
    worlds.png, a picture of what each intervention changed. Several --do are made one after the other, on the
    same units with the same noise.

    Args:
        model: Name of a model that ships, or the folder of a fitted one.
        data: Factual rows: a .csv table with paths of images; .npz or .safetensors with one array per variable; or
            "morphodigits".
        do: What to do to a variable: "thickness=4" sets it, "thickness+=1.5" adds, "thickness*=2" multiplies,
            "marker=circle" sets a class by its name. Commas join,
            "thickness=4, slant+=0.2"; give --do again for what is done afterwards.
        out: Folder of the rows and the picture.
        rows: How many rows, from the first on; by default all of a file, and 24 of morphodigits.
        batch: Rows at a time; the answers do not depend on it.
        seed: With a row's id, decides what abduction leaves to chance.
        device: Such as "cpu" or "cuda"; "auto" takes a GPU if there is one.
    """
    _check_folder(out)
    whole("--batch", 1, batch=batch)
    scm = read_model(model).to(read_device(device))
    plan = [read_action(text, scm.graph) for text in do]
    found = Table(read_rows(data, scm.graph, rows), scm.graph, "data")
    seen, parts, first = Counter(), [], []
    for start in tqdm(range(0, len(found), batch), desc="counterfactual", disable=len(found) <= batch):
        some = found[start : start + batch]
        worlds = cf.sequence(scm, {**some, "id": unit_ids(some, seen)}, plan, seed=seed)
        parts.append({name: value.cpu() for name, value in worlds[-1].values().items()})
        first = first or worlds
    tensors = {name: torch.cat([part[name] for part in parts]).contiguous() for name in parts[0]}
    out.mkdir(parents=True, exist_ok=True)
    save_file(tensors, out / "counterfactual.safetensors", {"actions": repr(first[-1].actions)})
    written = [out / "counterfactual.safetensors"]
    for name in scm.graph.images:
        written.append(out / ("worlds.png" if len(scm.graph.images) == 1 else f"worlds-{name}.png"))
        plot.worlds(*first, node=name).savefig(written[-1])
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
    device: str = "auto",
) -> None:
    """Measure whether counterfactuals are sound.

    Measures composition, reversibility and the moments of the noise; on morphodigits also effectiveness, and
    the error against the true counterfactual. Each --do is one intervention of the report.

    Args:
        model: Name of a model that ships, or the folder of a fitted one.
        data: Rows that the model has not seen: a .csv table with paths of images; .npz or .safetensors with one
            array per variable; or "morphodigits", rows of its test split.
        do: What to do to a variable: "thickness=4" sets it, "thickness+=1.5" adds, "thickness*=2" multiplies,
            "marker=circle" sets a class by its name. Commas join,
            "thickness=4, slant+=0.2"; give --do again for another intervention.
        out: The report, .md or .json.
        rows: How many rows, from the first on; by default all of a file, and 24 of morphodigits.
        batch: Rows at a time; the numbers do not depend on it.
        seed: With a row's id, decides what abduction leaves to chance.
        device: Such as "cpu" or "cuda"; "auto" takes a GPU if there is one.
    """
    _check_file(out, ".md", ".json")
    scm = read_model(model).to(read_device(device))
    plan = [read_action(text, scm.graph) for text in do]
    test = read_rows(data, scm.graph, rows)
    readers = oracles() if isinstance(test, MorphoDigits) else None
    out.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryFile(dir=out.parent):  # whether anything can be written there is known before the work
        pass
    report = cf.evaluate(scm, test, plan, oracles=readers, batch=batch, seed=seed, progress=True)
    as_json = out.suffix.lower() == ".json"
    print(report)
    write_text(out, json.dumps(report.to_dict(), indent=1) + "\n" if as_json else report.to_markdown())
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
    _check_file(out, ".png", ".pdf", ".svg")
    drawn = read_graph(graph) if graph is not None else read_model(str(model)).graph
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
    command.__name__: command for command in (demo, fit, counterfactual, evaluate, explain, distil, graph)
}
REPEATED = ("do", "option", "prompt", "reader")  # options that may come again, which a signature cannot say


# ---- what the arguments mean


def _tell(*paths: Path) -> None:
    print(f"\nwrote {', '.join(str(path) for path in paths)}")


def _check_file(out: Path, *endings: str) -> None:
    if out.suffix.lower() not in endings:
        raise ValueError(f"--out: expected a file that ends in {' or '.join(endings)}, got {out}")
    if out.is_dir():
        raise IsADirectoryError(f"--out: {out} is a folder; give a file")
    if (file := next((one for one in out.parents if one.exists() and not one.is_dir()), None)) is not None:
        raise NotADirectoryError(f"--out: {file} is a file, and no folder for {out.name}; give another")


def _check_folder(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise FileExistsError(f"--out: {out} is a file; give a folder")


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
        given = inspect.signature(command).parameters
        child.add_function_arguments(command, as_group=False, skip=set(REPEATED))
        for parameter in documented.params:
            if (flag := parameter.arg_name) in REPEATED:
                needed = given[flag].default is inspect.Parameter.empty
                child.add_argument(f"--{flag}", action="append", type=str, required=needed, help=parameter.description)
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
        print("causalcf: interrupted; what was finished up to then is kept", file=sys.stderr)
        return 130
    return 0


def _ours(error: Exception) -> bool:
    """Whether our own code raised it, rather than a library in the middle of something."""
    return Path(traceback.extract_tb(error.__traceback__)[-1].filename).is_relative_to(Path(__file__).parent)


if __name__ == "__main__":
    sys.exit(main())
