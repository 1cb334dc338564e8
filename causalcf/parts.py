"""Long work that is cut into parts of neighbouring rows, so that it can be killed, gone on with, and shared out."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from pathlib import Path

Batch = tuple[int, int]  # first row, and the one after the last


def length(batch: Batch) -> int:
    """How many rows."""
    return batch[1] - batch[0]


def called(batch: Batch) -> str:
    """What a finished part is called, before any ending.

    Example:
        >>> called((0, 64))
        '00000000-00000064'
    """
    return f"{batch[0]:08d}-{batch[1]:08d}"


def rows_of(part: Path) -> Batch:
    """Which rows a finished part holds, by its name."""
    start, stop = part.stem.split("-")
    return int(start), int(stop)


def shared(rows: int, size: int, shard: tuple[int, int]) -> list[Batch]:
    """The batches of a shard `(i, n)`: the i-th, and every n-th after it.

    Raises:
        ValueError: it is no shard, or none is left for it.

    Example:
        >>> shared(5, 2, (0, 2))
        [(0, 2), (4, 5)]
    """
    number, count = shard
    if not 0 <= number < count:
        raise ValueError(f"shard: expected (i, n) with 0 <= i < n, got {shard}; the first of four is (0, 4)")
    batches = [(start, min(start + size, rows)) for start in range(0, rows, size)]
    if number >= len(batches):
        raise ValueError(
            f"shard: {rows} rows are {len(batches)} batches of {size}, and none is left for shard {number} of {count}; "
            "take fewer shards, or a smaller batch"
        )
    return batches[number::count]


def refuse_stale(folder: Path, stale: Sequence[str]) -> None:
    """Raise if a folder of parts belongs to another question.

    Args:
        folder: of the parts, and of the question.
        stale: what is otherwise now, in words.
    """
    if stale:
        raise ValueError(
            f"{folder} holds the answers to another question: {'; '.join(stale)}; "
            "choose another folder, or delete it to start afresh"
        )


def covers(batches: Sequence[Batch], parts: Path) -> dict[Batch, list[tuple[Path, slice]]]:
    """Finished parts that hold each batch between them, and which of their rows; none if a row is missing.

    Args:
        batches: the rows.
        parts: the folder of the parts, of batches of whatever size; it is read once.
    """
    paths = {rows_of(part): part for part in parts.glob("[0-9]*-[0-9]*")}
    held = sorted(paths)
    longest, found = max(map(length, held), default=0), {}
    for batch in batches:
        first, last = (bisect_left(held, (row,)) for row in (batch[0] - longest, batch[1]))  # no others overlap it
        pieces, at = [], batch[0]
        for start, stop in [batch] if batch in held[first:last] else held[first:last]:
            end = min(stop, batch[1])
            if start <= at < end:
                pieces.append((paths[start, stop], slice(at - start, end - start)))
                at = end
        found[batch] = pieces if at == batch[1] else []
    return found
