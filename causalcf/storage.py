"""Models on disk: plain JSON and safetensors, written whole or not at all."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from causalcf import mechanisms as known
from causalcf.graph import CausalGraph
from causalcf.mechanisms import Functional, Mechanism

if TYPE_CHECKING:
    from causalcf.scm import SCM

FORMAT = 1
FILES = ("graph.json", "config.json", "weights.safetensors")


def describe(scm: SCM) -> dict[str, Any]:
    """What a model is made of, without its weights."""
    return {
        "format": FORMAT,
        "graph": scm.graph.to_config(),
        "mechanisms": {
            name: {"type": type(mechanism).__name__, "options": mechanism.config()}
            for name, mechanism in scm.mechanisms.items()
        },
    }


def write_text(path: Path, text: str) -> None:
    """Write a file, in UTF-8, so that it is there whole or not at all."""
    beside = path.with_name(path.name + ".part")
    beside.write_text(text, encoding="utf-8")
    os.replace(beside, path)


def fit_folder(folder: str | Path | None, content: Mapping[str, Any]) -> Path:
    """The folder of a fit, made if need be; an error if it holds the fit of something else."""
    text = json.dumps(content, indent=1, sort_keys=True)
    path = Path("runs") / hashlib.blake2b(text.encode(), digest_size=6).hexdigest() if folder is None else Path(folder)
    note = path / "fit.json"
    if note.exists() and note.read_text(encoding="utf-8") != text:
        raise ValueError(
            f"{path} holds the fit of another model, other data or another seed; "
            "choose another folder, or delete it to start afresh"
        )
    if path.exists() and not path.is_dir():
        raise ValueError(f"{path} is a file; give fit(folder=...) a folder")
    if not note.exists():
        path.mkdir(parents=True, exist_ok=True)
        write_text(note, text)
    return path


def save(scm: SCM, folder: Path, *, overwrite: bool, half: bool) -> None:
    """Write a model; see `SCM.save`."""
    if scm.actions:
        raise ValueError(f"save: this is the model after {scm.actions}; save the model you called .do() on")
    unfitted = [name for name, mechanism in scm.mechanisms.items() if not mechanism.fitted]
    if unfitted:
        raise ValueError(f"save: {', '.join(unfitted)} not fitted yet; call scm.fit(train) first")
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        ours = folder.is_dir() and all((folder / file).exists() for file in FILES)
        if not (overwrite and ours):
            remedy = "pass overwrite=True to replace it" if ours else "choose an empty or new folder"
            raise FileExistsError(f"save: {folder} is there already; {remedy}")
    tensors = {}
    for name, mechanism in scm.mechanisms.items():
        scales = {key for key, _ in mechanism.named_buffers()}  # in units of the data, too large for halves
        for key, tensor in mechanism.state_dict().items():
            shrink = half and key not in scales and tensor.is_floating_point() and tensor.numel() > 16
            tensors[f"{name}:{key}"] = (tensor.half() if shrink else tensor).cpu().contiguous()
    described = describe(scm)
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        (beside / "graph.json").write_text(json.dumps(described.pop("graph"), indent=1) + "\n")
        (beside / "config.json").write_text(json.dumps(described, indent=1) + "\n")
        save_file(tensors, beside / "weights.safetensors", {"format": str(FORMAT)})
        beside.chmod(0o755)
        (beside / "weights.safetensors").chmod(0o644)
        if folder.exists():
            for file in FILES:
                os.replace(beside / file, folder / file)
        else:
            os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


@dataclass(frozen=True)
class Described:
    """A model's description as read from disk."""

    graph: CausalGraph
    mechanisms: Mapping[str, Mapping[str, Any]]


def read(folder: Path, wanted: CausalGraph | None) -> Described:
    """Read and check graph.json and config.json."""
    if not folder.is_dir():
        raise FileNotFoundError(f"load: there is no folder {folder}; give the one scm.save() wrote")
    missing = [file for file in FILES if not (folder / file).is_file()]
    if missing:
        raise FileNotFoundError(f"load: {folder} lacks {', '.join(missing)}; it is no causalcf model, or part of one")
    try:
        config = json.loads((folder / "config.json").read_text())
        graph = CausalGraph.from_config(json.loads((folder / "graph.json").read_text()))
        found, described = config["format"], config["mechanisms"]
    except (
        json.JSONDecodeError,
        UnicodeDecodeError,
        KeyError,
        TypeError,
        ValueError,
        AttributeError,
    ) as error:
        raise ValueError(
            f"load: the JSON files in {folder} are damaged or not causalcf's ({error}); save or copy the model again"
        ) from None
    if found != FORMAT:
        raise ValueError(f"load: {folder} has format {found}, this version reads format {FORMAT}; update causalcf")
    if set(described) != set(graph):
        raise ValueError(
            f"load: {folder} describes mechanisms of {sorted(described)} but its graph has {sorted(graph)}; "
            "its files come from different models: save or copy the model again"
        )
    if wanted is not None and wanted != graph:
        raise ValueError(
            f"load: {folder} holds a model of another graph:\n  found    {graph!r}\n  expected {wanted!r}\n"
            "load it without graph=, or fit this graph"
        )
    return Described(graph, described)


def mechanisms(described: Described, folder: Path, given: Mapping[str, Mechanism]) -> dict[str, Mechanism]:
    """Make the mechanisms a description names, unbuilt; those that are code must be given."""
    described.graph.require(*given)
    made = {}
    for name, entry in described.mechanisms.items():
        kind = getattr(known, str(entry.get("type")), None)
        ours = isinstance(kind, type) and issubclass(kind, Mechanism) and kind is not Mechanism
        if not ours and name not in given:
            raise ValueError(
                f"load: {name} has a mechanism {entry.get('type')!r} that causalcf does not have; "
                f"give it, SCM.load(folder, mechanisms={{{name!r}: ...}})"
            )
        if name in given:
            made[name] = given[name]
        elif kind is Functional:
            raise ValueError(
                f"load: {name} is Functional, and code is not read from files; "
                f"give it again, SCM.load(folder, mechanisms={{{name!r}: Functional(...)}})"
            )
        else:
            try:
                made[name] = cast("type[Any]", kind)(**entry["options"])
            except (TypeError, ValueError, KeyError) as error:
                raise ValueError(
                    f"load: the options of {name} in {folder / 'config.json'} are damaged: {error}"
                ) from None
    return made


def load_weights(scm: SCM, folder: Path) -> None:
    """Fill a model with the weights in its folder."""
    path = folder / "weights.safetensors"
    tensors: dict[str, dict[str, Tensor]] = {name: {} for name in scm.graph}
    try:
        with safe_open(path, framework="pt") as file:
            for key in file.keys():  # noqa: SIM118
                name, _, parameter = key.rpartition(":")  # names of variables may have a colon
                tensors.setdefault(name or key, {})[parameter] = file.get_tensor(key)
    except (SafetensorError, OSError, ValueError) as error:
        raise ValueError(
            f"load: {path} is truncated or not a safetensors file ({error}); copy or save it again"
        ) from None
    strangers = sorted(set(tensors) - set(scm.graph))
    if strangers:
        raise ValueError(f"load: {path} has weights of {', '.join(strangers)}, which the graph does not have")
    for name, mechanism in scm.mechanisms.items():
        fill(mechanism, name, tensors[name], path)


def fill(mechanism: Mechanism, name: str, found: Mapping[str, Tensor], path: Path) -> None:
    """Load one mechanism's tensors, or say which do not fit."""
    expected = mechanism.state_dict()
    wrong = [
        f"{key} expected {tuple(expected[key].shape) if key in expected else 'nothing'}, "
        f"found {tuple(found[key].shape) if key in found else 'nothing'}"
        for key in sorted(set(expected) | set(found))
        if key not in expected or key not in found or expected[key].shape != found[key].shape
    ]
    if wrong:
        more = f" and {len(wrong) - 3} more" if len(wrong) > 3 else ""
        code = "encoder.mean.bias"
        if code in expected and code in found and expected[code].shape != found[code].shape:
            more += f"; its code has {len(found[code])} numbers: give latent={len(found[code])} to load it"
        raise ValueError(
            f"load: {name} in {path} does not fit its {type(mechanism).__name__}: {'; '.join(wrong[:3])}{more}; "
            "the weights belong to another model"
        )
    for key, tensor in found.items():
        if tensor.is_floating_point() and not torch.isfinite(tensor).all():
            raise ValueError(f"load: {name} in {path} has weights that are not finite ({key}); copy or save it again")
    mechanism.load_state_dict({key: tensor.to(expected[key].dtype) for key, tensor in found.items()})
    mechanism.fitted = True
    mechanism.eval()
