"""The memory of an explanation: how much of it tensors take at most, as PyTorch's profiler sees them come and go."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from experiments.explain.bench import Asked
from experiments.explain.families import Options
from experiments.explain.methods import METHODS, explainer

ROWS = 4  # that are explained at once
os.environ.setdefault("KINETO_LOG_LEVEL", "6")  # or it tells of every beginning and end


class Watch:
    """How many bytes tensors take beyond what is there already, `now` and at `most`, while the watch is on.

    What libraries take for themselves is not seen, nor what an allocator keeps for later, so that the same work gives
    the same number. The profiler keeps a kilobyte or more of every event, and an explanation has millions: `cut` reads
    those so far, and forgets them.
    """

    def __enter__(self) -> Self:
        self.now = self.most = 0
        self._begin()
        return self

    def cut(self) -> None:
        """End a piece, and begin another."""
        self._end()
        self._begin()

    def __exit__(self, *_: object) -> None:
        self._end()

    def _begin(self) -> None:
        self.profiler = profile(activities=[ProfilerActivity.CPU], profile_memory=True)
        self.profiler.start()

    def _end(self) -> None:
        self.profiler.stop()
        # what is public sums them up for each operation, or writes them to a file
        results: Any = self.profiler.profiler
        for event in results.kineto_results.events():
            if event.name() == "[memory]":
                self.now += event.nbytes()
                self.most = max(self.most, self.now)


@dataclass(frozen=True)
class _Watched:
    """A network whose every call begins a piece.

    Args:
        network: of a generator.
        watch: that is on.
    """

    network: Any
    watch: Watch

    def __call__(self, x: Tensor, timestep: Tensor, condition: Tensor) -> Tensor:
        self.watch.cut()
        return self.network(x, timestep, condition)


def peak(name: str, bench: Asked, chosen: Mapping[str, Options]) -> float:
    """MB that tensors take at most in explaining the first rows at once, at the first scale.

    Args:
        name: of the method.
        bench: what all methods share.
        chosen: family -> options.
    """
    method, how = METHODS[name], explainer(name, bench.kit, chosen, ROWS)
    how.scales = how.scales[:1]
    generator, classifier = bench.drawing[method.latent], method.asked(bench.kit)
    target = None if bench.target is None else bench.target[:ROWS]
    with Watch() as watch:
        watched = replace(generator, network=_Watched(generator.network, watch))
        how.explain(classifier, watched, bench.rows["image"][:ROWS], target, bench.rows["id"][:ROWS])
    return watch.most / 2**20
