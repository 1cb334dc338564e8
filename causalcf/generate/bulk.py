"""Counterfactuals of many rows, batch by batch into a folder, where work that was killed or shared out goes on."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, get_args

import torch
from safetensors.torch import save_file
from torch import Tensor
from tqdm import tqdm

from causalcf.generate.generated import Generated, key, loaded
from causalcf.interventions import Do
from causalcf.numbers import whole
from causalcf.parts import Batch, called, covers, length, refuse_stale, rows_of, shared
from causalcf.rows import Dataset, Table
from causalcf.scm import SCM
from causalcf.storage import write_text
from causalcf.units import unit_ids

PLAN, PARTS, ENDING = "plan.json", "parts", ".safetensors"
FORMAT, PROBED = 1, 2  # rows that are asked again to know a question by its answers
CLOSE = 1e-4  # of answers, against their size: rounding, but no other model

Stored = Literal["bytes", "floats"]


@torch.no_grad()
def counterfactuals(
    scm: SCM,
    rows: Mapping[str, Tensor] | Dataset,
    plan: Mapping[str, Do],
    *,
    folder: str | Path,
    batch: int = 64,
    shard: tuple[int, int] = (0, 1),
    images: Stored = "bytes",
    seed: int = 0,
    progress: bool = False,
) -> Generated:
    """What all rows of a data set would have been under interventions; killed and called again, it goes on.

    Rows are taken in batches, each of which is abducted once and written whole or not at all. Of `n` shards the i-th
    takes the batches `i, i + n, i + 2n, ...`, in another process, on another machine, or as a task of Ray; a call for
    all rows then finishes what is missing. A row's noise is decided by its id and the seed, not by who asks.

    A folder belongs to one question: to a model and what it answers to the first rows, a plan and a seed. Rows are
    compared part by part.

    Args:
        scm: the model.
        rows: factual rows: a mapping of tensors, or a data set that is read a batch at a time, whose rows have an "id".
        plan: name -> an intervention, which may set a value per row.
        folder: of the parts; is made if need be.
        batch: rows at a time, and of a part.
        shard: which share of the work to do, `(i, n)`.
        images: how they are kept: as "bytes", which rounds them to grey levels, or as "floats", four times as large.
        seed: of what abduction leaves to chance.
        progress: whether to show a bar.

    Returns:
        Of each intervention a data set, of the rows of this shard; it can be fitted to, measured on, or shown.

    Raises:
        TypeError: a plan that does not name interventions.
        ValueError: rows that do not fit the graph or have no id, an intervention on an unknown variable, a shard
            without work; a folder that belongs to another question, or with a damaged part.

    Example:
        `found = cf.generate.counterfactuals(scm, train, {"dense": do(density="d")}, folder="runs/dense")`, and
        `found["dense"][:8]["image"]`
    """
    whole("counterfactuals", 1, batch=batch)
    if images not in get_args(Stored):
        raise ValueError(f"counterfactuals: expected images to be one of {', '.join(get_args(Stored))}, got {images!r}")
    actions, path = _named(scm, plan), Path(folder)
    table = _Identified(rows, scm)
    batches = shared(len(table), batch, shard)
    asked = {
        "format": FORMAT,
        "seed": seed,
        "images": images,
        "plan": {name: _written(action) for name, action in actions.items()},
        "model": _digest(scm),
        "answers": _probed(scm, table, actions, seed),
    }
    _refuse_other(path, json.loads(json.dumps(asked)))
    done = covers(batches, path / PARTS)
    missing = [one for one in batches if not done[one]]
    for part in sorted({part for pieces in done.values() for part, _ in pieces}):
        _refuse_changed(part, table)
    (path / PARTS).mkdir(parents=True, exist_ok=True)
    if not (path / PLAN).exists():
        write_text(path / PLAN, json.dumps(asked, indent=1) + "\n")
    with tqdm(total=sum(map(length, batches)), unit=" rows", disable=not progress) as bar:
        bar.update(sum(map(length, batches)) - sum(map(length, missing)))
        for one in missing:
            part = path / PARTS / (called(one) + ENDING)
            _keep(part, _answered(scm, table[one], actions, one, len(table), seed, images))
            done[one] = [(part, slice(0, length(one)))]
            bar.update(length(one))
    return Generated(path, list(actions), scm.graph, [piece for one in batches for piece in done[one]])


class _Identified:
    """Factual rows, batch by batch, each with an id."""

    def __init__(self, rows: Mapping[str, Tensor] | Dataset, scm: SCM) -> None:
        table = Table(rows, scm.graph)
        if isinstance(rows, Mapping):
            checked = table[:]
            table = Table({**checked, "id": unit_ids(checked)}, scm.graph)
        self.table = table

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, batch: Batch) -> dict[str, Tensor]:
        rows = self.table[slice(*batch)]
        if "id" not in rows:
            raise ValueError(
                "rows: a data set is to give every row an 'id', int64, which decides its noise whoever asks for it"
            )
        return rows


def _named(scm: SCM, plan: Any) -> dict[str, Do]:
    """The interventions, where they can be done."""
    if not isinstance(plan, Mapping) or isinstance(plan, Do) or not all(isinstance(one, Do) for one in plan.values()):
        raise TypeError(
            'counterfactuals: expected a plan that names interventions, {"thick": do(thickness=4.0)}, got '
            f"{type(plan).__name__}"
        )
    if not plan:
        raise ValueError('counterfactuals: the plan is empty; name an intervention, {"thick": do(thickness=4.0)}')
    for name, action in plan.items():
        if ":" in name or name == "id":
            raise ValueError(f"counterfactuals: {name!r} cannot name an intervention; take a word without a colon")
        scm.graph.require(*action)
        scm.check_actions(action)
    return dict(plan)


def _written(action: Do) -> str:
    """An intervention in words, and by a digest of what it sets row by row."""
    each = [value for steps in action.values() for step in steps for value in vars(step).values()]
    rows = {str(place): value for place, value in enumerate(each) if isinstance(value, Tensor) and value.ndim}
    return f"{action!r} of rows {_fingerprint(rows).hex()}" if rows else repr(action)


def _answered(
    scm: SCM, rows: Mapping[str, Tensor], actions: Mapping[str, Do], batch: Batch, count: int, seed: int, images: Stored
) -> dict[str, Tensor]:
    """All values of a batch in all worlds, with the ids, and what the factual rows were."""
    world = scm.observe(rows, seed)
    found = {"id": rows["id"], "rows": torch.tensor(list(_fingerprint(rows)), dtype=torch.uint8)}
    for name, action in actions.items():
        for variable, value in world.do(action.at(slice(*batch), count)).values().items():
            if variable != "id":
                small = images == "bytes" and variable in scm.graph.images
                found[key(name, variable)] = (255 * value).round().to(torch.uint8) if small else value
    return found


def _fingerprint(rows: Mapping[str, Tensor]) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for name in sorted(rows):
        digest.update(name.encode() + rows[name].detach().cpu().contiguous().numpy().tobytes())
    return digest.digest()


def _digest(scm: SCM) -> str:
    """Of all weights."""
    digest = hashlib.blake2b(digest_size=16)
    for name, mechanism in sorted(scm.mechanisms.items()):
        for own, tensor in sorted(mechanism.state_dict().items()):
            digest.update(f"{name}:{own}".encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def _probed(scm: SCM, table: _Identified, actions: Mapping[str, Do], seed: int) -> dict[str, list[float]]:
    """What the first rows would have been, in a few numbers: options, policies and readers have no digest."""
    first = (0, min(PROBED, len(table)))
    world = scm.observe(table[first], seed)
    found = {}
    for name, action in actions.items():
        after = world.do(action.at(slice(*first), len(table)))
        for variable in scm.graph:
            flat = (
                after[variable].double().flatten(1) if after[variable].ndim > 1 else after[variable].double()[:, None]
            )
            found[key(name, variable)] = [*flat.mean(1).tolist(), *flat.square().mean(1).sqrt().tolist()]
    return found


def _refuse_other(folder: Path, asked: dict[str, Any]) -> None:
    """Raise if a folder belongs to another question."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give counterfactuals a folder")
    if not (folder / PLAN).exists():
        return
    try:
        found = json.loads((folder / PLAN).read_text())
        stale = [
            f"{name} was {found[name]}, is {asked[name]}"
            for name in ("format", "seed", "images", "plan")
            if found[name] != asked[name]
        ]
        same = found["answers"].keys() == asked["answers"].keys() and all(
            _alike(found["answers"][name], asked["answers"][name]) for name in asked["answers"]
        )
        if not stale and (found["model"] != asked["model"] or not same):
            other = "weights" if found["model"] != asked["model"] else "options, or other first rows"
            stale.append(f"the model answers otherwise than it did; it has other {other}")
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder / PLAN} is damaged ({error!r}); delete the folder to start afresh") from None
    refuse_stale(folder, stale)


def _alike(one: list[float], other: list[float]) -> bool:
    return len(one) == len(other) and all(abs(a - b) <= CLOSE * (1 + abs(b)) for a, b in zip(one, other, strict=True))


def _refuse_changed(part: Path, table: _Identified) -> None:
    """Raise if a finished part is of other rows than the data set has there."""
    start, stop = rows_of(part)
    now = _fingerprint(table[start, min(stop, len(table))])
    if bytes(loaded(part, {"rows": "rows"})["rows"].tolist()) != now:
        raise ValueError(
            f"{part} answers for other rows than {start} to {stop - 1} are now; choose another folder, or delete it to "
            "start afresh"
        )


def _keep(part: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write a part so that it is there whole or not at all."""
    handle, beside = tempfile.mkstemp(prefix=".", suffix=ENDING, dir=part.parent)
    os.close(handle)
    try:
        save_file({name: tensor.cpu().contiguous() for name, tensor in tensors.items()}, beside)
        os.chmod(beside, 0o644)
        os.replace(beside, part)
    finally:
        Path(beside).unlink(missing_ok=True)
