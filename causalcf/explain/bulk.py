"""Explaining many rows: batch by batch into a folder, where work that was killed or shared out goes on."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch import Tensor
from tqdm import tqdm

from causalcf.explain.explainer import Explainer
from causalcf.explain.explanation import Explanation
from causalcf.explain.generator import Generator
from causalcf.explain.inputs import per_row, refuse_images, refuse_other
from causalcf.explain.probe import alike, answers
from causalcf.explain.queries import refuse_held
from causalcf.graph import check_id
from causalcf.parts import Batch, called, covers, length, refuse_stale, rows_of, shared
from causalcf.rows import Dataset
from causalcf.storage import write_text
from causalcf.units import unit_ids

PLAN, PARTS = "plan.json", "parts"
FORMAT = 1


def explain_all(
    explainer: Explainer,
    classifier: Any,
    generator: Generator,
    rows: Tensor | Mapping[str, Tensor] | Dataset,
    target: int | Tensor | None = None,
    *,
    folder: str | Path,
    shard: tuple[int, int] = (0, 1),
    node: str = "image",
    progress: bool = False,
) -> Explanation:
    """Explain all rows of a data set, into a folder; killed and called again, it goes on where it was.

    The rows of a batch are `explainer.batch` neighbours, whatever was done before and whoever does it. So each answer
    comes out of the same computation, and on one kind of machine the same to the last bit, however the work was cut; of
    `n` shards the i-th takes the batches `i, i + n, i + 2n, ...` (with a batch of one, the rows). A call for all rows
    finishes what is missing and joins everything. With another batch than before, what is finished is kept, and only
    batches with a row that is not are explained; answers are then the same up to rounding.

    A folder belongs to one question. What makes the question is the method with its options and seed, but not its
    batch, the target, the rows (their images and ids, compared batch by batch), and what classifier, generator and
    further networks answer to two images of noise.

    Args:
        explainer: the method; its batch is that of the parts.
        classifier: as for `Explainer.explain`; in eval mode.
        generator: what draws; images are brought to its device.
        rows: images; a mapping with images, and ids as "id" if they have any; or a data set, read a batch at a time.
        target: a class, one class per row of the data set, or None for the other one of two.
        folder: of the parts, one explanation for each batch; is made if need be.
        shard: which share of the work to do, `(i, n)`.
        node: the images among the rows.
        progress: whether to show a bar.

    Returns:
        The rows of this shard, in their order.

    Raises:
        ValueError: as from `Explainer.queries`, before anything is drawn; rows that are decided for their target
            already; a shard without work; a folder that belongs to another question, or with a damaged part.

    Example:
        `explain_all(MaskDiME(), classifier, generator, ToyFaces("test", rows=1000), folder="runs/why", shard=(0, 4))`
    """
    refuse_other(generator)
    rows = {node: rows} if isinstance(rows, Tensor) else rows
    images, path = _Images(rows, node, target, generator), Path(folder)
    batches = shared(len(images), explainer.batch, shard)
    shown, aim, _ = images[batches[0]]
    explainer.queries(classifier, generator, shown, aim)
    plan = {
        "format": FORMAT,
        "explainer": {"method": type(explainer).__name__, **_lasting(explainer.options())},
        "target": "one per row" if images.each is not None else None if target is None else int(target),
        "answers": answers(explainer, classifier, generator, shown),
    }
    _refuse_other(path, json.loads(json.dumps(plan)))
    done = covers(batches, path / PARTS)
    missing = [batch for batch in batches if not done[batch]]
    for part in sorted({part for cover in done.values() for part, _ in cover}):
        _refuse_changed(part, _load(part), images)
    _refuse_held(explainer, classifier, generator, images, missing)
    (path / PARTS).mkdir(parents=True, exist_ok=True)
    if not (path / PLAN).exists():
        write_text(path / PLAN, json.dumps(plan, indent=1) + "\n")
    with tqdm(total=sum(map(length, batches)), unit=" rows", disable=not progress) as bar:
        bar.update(sum(map(length, batches)) - sum(map(length, missing)))
        for batch in missing:
            shown, aim, ids = images[batch]
            _keep(explainer.explain(classifier, generator, shown, aim, ids), path / PARTS / called(batch))
            bar.update(length(batch))
    parts = [piece for batch in batches for piece in done[batch] or [(path / PARTS / called(batch), slice(None))]]
    return Explanation.joined([_load(part)[rows] for part, rows in parts])


class _Images:
    """Images, targets and ids of a batch of rows, on the generator's device.

    Args:
        rows: of the user.
        node: the images among them.
        target: of the user.
        generator: whose device it is.
    """

    def __init__(
        self, rows: Mapping[str, Tensor] | Dataset, node: str, target: int | Tensor | None, generator: Generator
    ) -> None:
        self.node, self.device = node, generator.null.device
        if isinstance(rows, Mapping):
            self._refuse_without(rows, node)
            refuse_images(rows[node][:1])
            held = {node: rows[node], "id": unit_ids({"image": rows[node]}) if "id" not in rows else rows["id"]}
            if len(held["id"]) != len(held[node]):
                raise ValueError(f"rows: {len(held[node])} images come with {len(held['id'])} ids; give one per row")
            self.length = len(held[node])
            self.read: Callable[[slice], Mapping[str, Tensor]] = lambda index: {k: v[index] for k, v in held.items()}
        else:
            self.length, self.read = len(rows), rows.__getitem__
        if not self.length:
            raise ValueError("rows: expected at least one row, got none")
        self.target = per_row(target, self.length)
        self.each = self.target if isinstance(self.target, Tensor) and self.target.ndim == 1 else None

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, batch: Batch) -> tuple[Tensor, int | Tensor | None, Tensor]:
        index = slice(*batch)
        rows = self.read(index)
        self._refuse_without(rows, self.node, "id")
        if not isinstance(rows[self.node], Tensor):
            refuse_images(rows[self.node])
        aim = self.target if self.each is None else self.each[index]
        return rows[self.node].to(self.device), aim, check_id(rows["id"]).to(self.device)

    def _refuse_without(self, rows: Mapping[str, Tensor], *names: str) -> None:
        missing = [name for name in names if name not in rows]
        if missing:
            raise ValueError(
                f"rows: expected {' and '.join(missing)}, got {', '.join(sorted(rows))}; write node= for images of "
                "another name, and give every row of a data set an id, which decides its noise"
            )


def _lasting(options: Mapping[str, Any]) -> dict[str, Any]:
    """Options that decide the answers."""
    return {name: value for name, value in options.items() if name != "batch"}


def _refuse_other(folder: Path, plan: dict[str, Any]) -> None:
    """Raise if a folder belongs to another question."""
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"{folder} is a file; give explain_all a folder")
    if not (folder / PLAN).exists():
        return
    try:
        found = json.loads((folder / PLAN).read_text())
        was, now = _lasting(found["explainer"]), plan["explainer"]
        stale = [
            f"{name} was {was.get(name)!r}, is {now.get(name)!r}"
            for name in {**was, **now}
            if was.get(name) != now.get(name)
        ]
        stale += [f"{key} was {found[key]}, is {plan[key]}" for key in ("target", "format") if found[key] != plan[key]]
        stale += [
            f"the {name} gives other answers than it did (another one, or one that is not in eval mode)"
            for name in {**found["answers"], **plan["answers"]}
            if not alike(found["answers"].get(name, []), plan["answers"].get(name, []))
        ]
    except (json.JSONDecodeError, KeyError, AttributeError, TypeError) as error:
        raise ValueError(f"{folder / PLAN} is damaged ({error!r}); delete the folder to start afresh") from None
    refuse_stale(folder, stale)


def _refuse_changed(part: Path, found: Explanation, images: _Images) -> None:
    """Raise if a finished batch explains other rows than the data set has there."""
    batch = rows_of(part)
    shown, aim, ids = images[batch]
    found = found[: len(ids)]  # there may have been more rows
    same = torch.equal(found.ids, ids.cpu()) and torch.equal(found.images, shown.cpu())
    if not same or (aim is not None and bool((found.target != torch.as_tensor(aim).cpu()).any())):
        raise ValueError(
            f"{part} explains other images, ids or targets than rows {batch[0]} to {batch[1] - 1} have now; "
            "choose another folder, or delete it to start afresh"
        )


def _refuse_held(
    explainer: Explainer, classifier: Any, generator: Generator, images: _Images, batches: list[Batch]
) -> None:
    """Raise if rows do not fit, or need no explanation; reads all that are still to be explained."""
    held = torch.zeros(len(images), dtype=torch.bool)
    for batch in batches:
        shown, aim, _ = images[batch]
        for query in explainer.queries(classifier, generator, shown, aim):
            held[slice(*batch)] = (query.predicted == query.target).cpu()
    refuse_held(held)


def _keep(found: Explanation, part: Path) -> None:
    """Write a batch so that it is there whole or not at all."""
    beside = Path(tempfile.mkdtemp(prefix=".", dir=part.parent))
    try:
        found.save(beside, pictures=False)
        beside.chmod(0o755)
        os.replace(beside, part)
    except OSError:
        if not part.is_dir():  # else another process has explained the same batch meanwhile
            raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _load(part: Path) -> Explanation:
    try:
        return Explanation.load(part)
    except (OSError, SafetensorError, json.JSONDecodeError, TypeError, KeyError) as error:
        raise ValueError(f"{part} is damaged ({error}); delete it, and its rows are explained again") from None
