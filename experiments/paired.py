"""What differences of the same rows say: the interval of their mean, and whether it is other than 0."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from causalcf.metrics.tally import Estimate, estimate


def half_of(found: Mapping[str, Any]) -> float:
    """Half of the 95 % interval of a mean in a file, as it is told now: the first files hold normal intervals.

    Args:
        found: an estimate, as plain data; what has no spread over rows, as a Frechet distance, has no interval (NaN).
    """
    sd = found.get("sd")
    return math.nan if sd is None else Estimate(found["n"], found["mean"], sd).half_width


def sure(each: Sequence[float], fewest: int = 2) -> bool:
    """Whether the mean of differences of the same rows is other than 0 by more than chance.

    Where each is -1, 0 or 1, as of rows that are right or wrong, by the exact sign test, as an interval of few
    discordant rows is too narrow; elsewhere by the interval of the mean.

    Args:
        each: one per row; NaN of a row that does not count.
        fewest: rows, below which an interval decides nothing.
    """
    counted = [value for value in each if not math.isnan(value)]
    if set(counted) <= {-1.0, 0.0, 1.0}:
        return sign_test(counted.count(1.0), counted.count(-1.0)) < 0.05
    found = estimate(torch.tensor(counted, dtype=torch.float64))
    return found.n >= fewest and abs(found.mean) > found.half_width


def sign_test(wins: int, losses: int) -> float:
    """The probability of so uneven a division or more, if wins and losses were equally likely.

    Example:
        >>> sign_test(6, 0), sign_test(5, 0)
        (0.03125, 0.0625)
    """
    count = wins + losses
    tail = sum(math.comb(count, k) for k in range(min(wins, losses) + 1)) / 2**count
    return min(1.0, 2 * tail)
