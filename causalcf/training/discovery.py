"""Which numbers listen to which: an exact search over graphs, scored by learned conditional densities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from causalcf.hardware import seeded

Structure = dict[str, list[str]]
MOST = 10  # numbers; the search grows as 2^K
COMPONENTS = 8
ROWS = 4000  # that scores are means over, at most
HALF_LOG_TAU = 0.9189385332046727


class Conditionals(nn.Module):
    """`log p(x_k | x_S)` of every number given any set S of others, as mixtures of normals, one network for each k.

    A conditional of any shape, also that given nothing: so a cause that is uniform is told from an effect that
    is not. The set is drawn anew for each row of training, so that one network answers for all sets.

    Args:
        count: how many numbers.
        hidden: width of the networks.
    """

    def __init__(self, count: int, hidden: int = 64) -> None:
        super().__init__()
        self.networks = nn.ModuleList(
            nn.Sequential(
                nn.Linear(2 * count, hidden),
                nn.SiLU(),
                nn.Linear(hidden, hidden),
                nn.SiLU(),
                nn.Linear(hidden, 3 * COMPONENTS),
            )
            for _ in range(count)
        )

    def forward(
        self, x: Float[Tensor, "batch number"], k: int, given: Bool[Tensor, "batch number"]
    ) -> Float[Tensor, " batch"]:
        """`log p(x_k | x_S)`, with S where `given` is true."""
        seen = torch.cat([x * given, given.to(x)], 1)
        weight, mean, log_spread = self.networks[k](seen).unflatten(1, (3, COMPONENTS)).unbind(1)
        log_spread = log_spread.clamp(-5, 3)
        error = (x[:, k, None] - mean) * (-log_spread).exp()
        return (weight.log_softmax(1) - 0.5 * error.square() - log_spread - HALF_LOG_TAU).logsumexp(1)


@dataclass(frozen=True)
class Discovery:
    """The graph that explains the rows best.

    Attributes:
        structure: number -> its causes; those without causes are there with none.
        score: mean log-density of a row under it, less the price of its edges.
        runner_up: by how much the best graph with one of these edges left out or turned round is worse; where that is
            little, the rows do not decide. Infinite where there are no edges.
    """

    structure: Structure
    score: float
    runner_up: float


def discover(
    rows: Mapping[str, Tensor],
    names: Sequence[str] | None = None,
    *,
    noise: float = 0.1,
    price: float = 0.05,
    steps: int = 2000,
    seed: int = 0,
) -> Discovery:
    r"""Propose which numbers listen to which, from rows that nothing was done to.

    Of all graphs without a cycle the one with the greatest `E log p(x) - price * edges` is found exactly, by dynamic
    programming over subsets (Silander and Myllymaki, "A simple approach for finding the globally optimal Bayesian
    network structure", 2006). Graphs that say the same about dependence differ here by what they say about densities:
    causes are taken to be independent of each other. The rows are blurred a little, so that equations without noise
    have a density too.

    It is a proposal: a hidden common cause, or too few rows, lead it astray, and between linear Gaussian numbers no
    data decide. Look at `runner_up`.

    Args:
        rows: name -> column of numbers, in random order: the first fifth of the rows is held out for the scores.
        names: which; by default all columns but `"id"`.
        noise: of the blur, in standard deviations.
        price: of an edge, in nats a row.
        steps: of training.
        seed: of weights, batches and blur.

    Example:
        `M.NSCMDiffusion(structure=cf.discover(train.columns(["angle", "sun", "length", "position"])).structure)`
    """
    names = [name for name in rows if name != "id"] if names is None else list(names)
    x = _standardised(rows, names)
    if not 0 <= noise < 1 or not price >= 0 or steps < 1:
        raise ValueError(f"discover: expected 0 <= noise < 1, price >= 0 and steps >= 1, got {noise}, {price}, {steps}")
    generator = torch.Generator().manual_seed(seed)
    held = max(1, len(x) // 5)
    with seeded(seed):
        conditionals = Conditionals(len(names))
    _fit(conditionals, x[held:], noise, steps, generator)
    x = x[:held][:ROWS]
    x = x + noise * torch.randn(x.shape, generator=generator)
    scores = _scores(conditionals, x, price)
    causes, score = best_graph(scores, len(names))
    others = list(_doubted(causes, scores))
    structure = {names[k]: [names[parent] for parent in sorted(causes[k])] for k in range(len(names))}
    return Discovery(structure, score, score - max(others) if others else float("inf"))


Scores = Mapping[tuple[int, frozenset[int]], float]


def _standardised(rows: Mapping[str, Tensor], names: Sequence[str]) -> Float[Tensor, "row number"]:
    unknown = [name for name in names if name not in rows]
    if unknown:
        raise ValueError(f"discover: no column {unknown[0]!r}; the rows have {', '.join(rows)}")
    if not 2 <= len(names) <= MOST:
        raise ValueError(f"discover: expected 2 to {MOST} numbers, got {len(names)}; name fewer of them in names=")
    if twice := [name for name in names if list(names).count(name) > 1]:
        raise ValueError(f"discover: {twice[0]!r} is named twice; name it once")
    for name in names:
        column = rows[name]
        if not isinstance(column, Tensor):
            raise TypeError(f"discover: {name}: expected a tensor, got {type(column).__name__}; write torch.as_tensor")
        if column.ndim != 1 or not column.is_floating_point() or not column.isfinite().all() or len(column) < 50:
            raise ValueError(
                f"discover: {name}: expected at least 50 finite floats of shape (B,), got {column.dtype} of shape "
                f"{tuple(column.shape)}; leave classes and images out"
            )
        if len(column) != len(rows[names[0]]):
            raise ValueError(
                f"discover: {name} has {len(column)} rows, {names[0]} has {len(rows[names[0]])}; give the same rows"
            )
        if column.min() == column.max():
            raise ValueError(f"discover: {name} is {column[0].item():g} in every row; leave it out")
    # before the cast: float32 holds no differences of a second between the seconds since 1970
    x = torch.stack([_standard(rows[name].cpu()) for name in names], 1)
    return (x - x.mean(0)) / x.std(0)


def _standard(column: Tensor) -> Float[Tensor, " row"]:
    if column.dtype != torch.float64:
        return column.float()
    return ((column - column.mean()) / column.std()).float()


def _fit(conditionals: Conditionals, x: Tensor, noise: float, steps: int, generator: torch.Generator) -> None:
    optimiser = torch.optim.Adam(conditionals.parameters(), 3e-3)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps + 1)
    with torch.enable_grad():
        for _ in range(steps):
            batch = x[torch.randint(len(x), (512,), generator=generator)]
            batch = batch + noise * torch.randn(batch.shape, generator=generator)
            given = torch.rand(batch.shape, generator=generator) < 0.5
            own = torch.eye(x.shape[1], dtype=torch.bool)
            loss = -torch.stack([conditionals(batch, k, given & ~own[k]).mean() for k in range(x.shape[1])]).sum()
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            cycle.step()


@torch.no_grad()
def _scores(conditionals: Conditionals, x: Tensor, price: float) -> Scores:
    """Of every number with every set of causes."""
    count, found = x.shape[1], {}
    for k in range(count):
        for causes in _subsets([other for other in range(count) if other != k]):
            given = torch.zeros(x.shape, dtype=torch.bool)
            given[:, list(causes)] = True
            found[k, causes] = conditionals(x, k, given).double().mean().item() - price * len(causes)
    return found


def _subsets(members: Sequence[int]) -> Iterator[frozenset[int]]:
    for size in range(len(members) + 1):
        yield from map(frozenset, combinations(members, size))


def best_graph(scores: Scores, count: int) -> tuple[tuple[frozenset[int], ...], float]:
    """The causes of each of `count` numbers, and the sum of their scores, greatest among graphs without a cycle.

    Args:
        scores: of every number k with every set of causes, `(k, causes) -> score`.
        count: K.
    """
    best: dict[frozenset[int], tuple[float, tuple[tuple[int, frozenset[int]], ...]]] = {frozenset(): (0.0, ())}
    chosen: dict[tuple[int, frozenset[int]], frozenset[int]] = {}  # among these candidates, the best causes
    for those in _subsets(range(count)):
        for k in range(count):
            if k in those:
                continue
            options = [those, *(chosen[k, those - {one}] for one in those)]
            chosen[k, those] = max(options, key=lambda causes: scores[k, causes])
        if those:
            last = ((best[those - {k}], k, chosen[k, those - {k}]) for k in sorted(those))
            total = [(before[0] + scores[k, causes], (*before[1], (k, causes))) for before, k, causes in last]
            best[those] = max(total, key=lambda pair: pair[0])
    score, pairs = best[frozenset(range(count))]
    return tuple(dict(pairs)[k] for k in range(count)), score


def _doubted(causes: tuple[frozenset[int], ...], scores: Scores) -> Iterator[float]:
    """Scores of the graphs without a cycle in which one edge is left out or turned round."""
    for effect, own in enumerate(causes):
        for cause in own:
            without = [rest - {cause} if k == effect else rest for k, rest in enumerate(causes)]
            turned = [rest | {effect} if k == cause else rest for k, rest in enumerate(without)]
            for graph in (without, turned):
                if _ordered(graph):
                    yield sum(scores[k, rest] for k, rest in enumerate(graph))


def _ordered(graph: Sequence[frozenset[int]]) -> bool:
    """Whether there is no cycle."""
    left = set(range(len(graph)))
    while left:
        free = {k for k in left if not graph[k] & left}
        if not free:
            return False
        left -= free
    return True


def hamming(found: Mapping[str, Sequence[str]], true: Mapping[str, Sequence[str]]) -> int:
    """The structural Hamming distance: pairs whose edge is missing, too much, or the wrong way round.

    Args:
        found: name -> its causes; names without causes may be left out.
        true: the same, of the truth.

    Example:
        >>> hamming({"b": ["a"], "c": ["b"]}, {"b": ["a"], "b2": [], "a": ["c"]})
        2
    """
    one, other = ({(cause, name) for name, causes in each.items() for cause in causes} for each in (found, true))
    return len({frozenset(edge) for edge in one ^ other})
