"""Randomness that belongs to the unit: a row's noise depends on the seed and the row's id, on nothing else."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

GOLDEN = -7046029254386353131  # 0x9E3779B97F4A7C15 as a signed 64-bit integer
MIX_1 = -4658895280553007687  # 0xBF58476D1CE4E5B9
MIX_2 = -7723592293110705685  # 0x94D049BB133111EB


def _shift_right(z: Tensor, bits: int) -> Tensor:
    """Logical right shift; torch's own is arithmetic on signed integers."""
    return (z >> bits) & ((1 << (64 - bits)) - 1)


def _mix(z: Tensor) -> Tensor:
    """The finaliser of SplitMix64 (Steele, Lea and Flood, 2014): a bijection of 64-bit words that avalanches."""
    z = (z ^ _shift_right(z, 30)) * MIX_1
    z = (z ^ _shift_right(z, 27)) * MIX_2
    return z ^ _shift_right(z, 31)


def _word(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little", signed=True)


@dataclass(frozen=True)
class Units:
    """The units of a batch, and the seed under which their noise is drawn.

    Every draw is a pure function of (seed, unit id, name, position): the j-th word of unit i is
    `mix(mix(id_i + mix(seed) ^ word(name)) + j * golden)`, a SplitMix64 stream of its own for each unit. So a row
    gets the same noise in any batch, order, shard or worker, and on any device.

    Args:
        ids: one integer per row, shape `(B,)`.
        seed: the seed shared by all rows.
        turn: how often these units were observed before; what abduction leaves to chance is drawn anew at each.

    Example:
        >>> units = Units(torch.tensor([7, 8, 9]), seed=0)
        >>> whole = units.normal("u", (2,))
        >>> torch.equal(whole[1:2], Units(torch.tensor([8]), seed=0).normal("u", (2,)))
        True
    """

    ids: Int[Tensor, " batch"]
    seed: int = 0
    turn: int = 0

    def __len__(self) -> int:
        return len(self.ids)

    def _words(self, name: str, count: int) -> Int[Tensor, "batch count"]:
        key = _mix(_mix(torch.tensor(self.seed, dtype=torch.int64)) ^ _word(name)).to(self.ids.device)
        state = _mix(_mix(self.ids) + key)
        counter = torch.arange(1, count + 1, device=self.ids.device)
        return _mix(state[:, None] + counter * GOLDEN)

    def uniform(self, name: str, shape: Iterable[int] = ()) -> Float[Tensor, "batch ..."]:
        """Uniform draws in the open interval (0, 1), float64, shape `(B, *shape)`."""
        size = torch.Size(shape)
        words = _shift_right(self._words(name, size.numel()), 11)
        return ((words.double() + 0.5) * 2.0**-53).reshape(len(self), *size)

    def normal(self, name: str, shape: Iterable[int] = ()) -> Float[Tensor, "batch ..."]:
        """Standard normal draws, float64, shape `(B, *shape)`."""
        return torch.special.ndtri(self.uniform(name, shape))

    def gumbel(self, name: str, shape: Iterable[int] = ()) -> Float[Tensor, "batch ..."]:
        """Standard Gumbel draws `-log(-log U)`, float64, shape `(B, *shape)`."""
        return -torch.log(-torch.log(self.uniform(name, shape)))

    def integers(self, name: str, high: int) -> Int[Tensor, " batch"]:
        """Uniform integers in `[0, high)`, shape `(B,)`."""
        return (self.uniform(name) * high).long().clamp_(max=high - 1)

    def to(self, device: torch.device | str) -> Units:
        """The same units on another device."""
        return replace(self, ids=self.ids.to(device))


def unit_ids(rows: Mapping[str, Tensor], seen: Counter[bytes] | None = None) -> Int[Tensor, " batch"]:
    """The ids of rows: their own `"id"` entry, else a digest of what they contain.

    Rows without an id are told apart by their values, so a row keeps its noise in another batch or order; equal rows
    of one batch are numbered, so that they do not share theirs.

    Args:
        rows: name -> tensor, batch first.
        seen: how often each content came in the batches before, which is added to; so equal rows of several batches are
            numbered as if they came in one.

    Returns:
        int64 ids, shape `(B,)`.
    """
    if "id" in rows:
        return rows["id"]
    names = sorted(rows)
    columns = [rows[name].detach().cpu().contiguous().numpy() for name in names]
    device = rows[names[0]].device
    seen = Counter() if seen is None else seen
    ids = []
    for row in zip(*columns, strict=True):
        digest = hashlib.blake2b(b"".join(value.tobytes() for value in row), digest_size=8)
        content = digest.digest()
        digest.update(seen[content].to_bytes(4, "little"))
        ids.append(int.from_bytes(digest.digest() if seen[content] else content, "little", signed=True))
        seen[content] += 1
    return torch.tensor(ids, dtype=torch.int64, device=device)
