"""The model that ToyFaces is drawn by, with a classifier as an outcome: effects and smallest changes without error."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

import causalcf as cf
from causalcf.data import ToyFaces
from causalcf.mechanisms.base import Mechanism, Noise, Parents
from causalcf.units import Units

Equation = Callable[[Units, Parents], Tensor]
Score = Callable[[Tensor], Float[Tensor, " batch"]]


class Drawn(Mechanism):
    """A known equation `x = equation(unit, pa)` of a data set that is drawn: the noise of a row is its id.

    Args:
        equation: takes units, under the data set's seed, and the parents' values.
        seed: of the data set.
    """

    exact = True  # of rows that the equation has drawn
    has_density = False

    def __init__(self, equation: Equation, seed: int) -> None:
        super().__init__()
        self.equation, self.seed = equation, seed

    def config(self) -> dict[str, Any]:
        """Nothing: an equation is code."""
        return {}

    @property
    def known(self) -> bool:
        """Always."""
        return True

    def _build(self) -> None:
        pass

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """The id."""
        return {"id": units.ids}

    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """The equation."""
        return self.equation(Units(noise["id"], self.seed), parents)

    def noise(self, units: Units, key: str) -> Noise:
        """A new row of the data set."""
        return {"id": units.integers("id", 2**53)}


def smiles(classifier: Callable[[Tensor], Tensor]) -> Score:
    """The probability that a classifier gives to the second of its classes, of images, some at a time."""

    @torch.no_grad()
    def score(images: Tensor) -> Tensor:
        logits = torch.cat([classifier(part) for part in images.split(256)])
        return (logits.softmax(1)[:, 1] if logits.ndim == 2 else logits.sigmoid()).float()

    return score


def true_scm(data: ToyFaces, score: Score) -> cf.SCM:
    """The model that the rows were drawn by, with `score`, what a classifier says of a row's image.

    The score is a function of the picture, and the picture one of the attributes and the sitter. Its parents are the
    attributes, and not the picture itself: all effects go through that, and it would leave none that are direct.

    Args:
        data: the data set.
        score: images -> a number per row.

    Example:
        >>> data = ToyFaces("test", rows=4)
        >>> scm = true_scm(data, lambda images: images.mean((1, 2, 3)))
        >>> effects = cf.decompose(scm.observe(scored(data[:], scm)), cf.do(smiling=1), on="score")
        >>> effects.mediators
        ('mouth_open',)
    """
    names = [name for name in data.graph if name != "image"]
    edges = [*data.graph.edges, *((name, "score") for name in names)]
    graph = cf.CausalGraph(edges, {**data.graph.variables, "score": cf.Continuous()})

    def attribute(name: str) -> Equation:
        return lambda units, pa: data.chances[name](units.uniform(name), pa)

    equations = {name: attribute(name) for name in names}
    equations["image"] = lambda units, pa: data.draw(units.ids, pa)
    equations["score"] = lambda units, pa: score(data.draw(units.ids, pa))
    return cf.SCM(graph, {name: Drawn(equation, data.seed) for name, equation in equations.items()})


def scored(rows: Mapping[str, Tensor], scm: cf.SCM) -> dict[str, Tensor]:
    """Rows with what the classifier says of them, which `observe` asks for."""
    mechanism = scm.mechanism("score")
    parents = {name: rows[name] for name in scm.graph.parents("score")}
    return {**rows, "score": mechanism.predict({"id": rows["id"]}, parents)}


@dataclass(frozen=True)
class Smallest:
    """The smallest redrawing of each row that a classifier decides otherwise.

    Attributes:
        images: the redrawn faces; the factual one where there is none.
        changed: attribute -> whether it changed, of each row.
        found: whether one or two attributes were enough.
    """

    images: Float[Tensor, "batch 3 height width"]
    changed: Mapping[str, Tensor]
    found: Tensor


def smallest(data: ToyFaces, rows: Mapping[str, Tensor], score: Score) -> Smallest:
    """Redraw each row with one or two attributes changed, and keep what flips with the fewest pixels changed.

    An explanation that no generator is needed for: of all faces of the same sitter near the row, the nearest one, in
    mean absolute difference, on the other side of the classifier. One attribute is preferred to two. Nothing follows
    from what is changed: a smile may be drawn without its open mouth.

    Args:
        data: the data set.
        rows: of it, with their ids.
        score: the classifier, as a probability.
    """
    names = [name for name in data.graph if name != "image"]
    factual, decided = rows["image"], score(rows["image"]) > 0.5
    best, images = torch.full((len(decided),), torch.inf), factual.clone()
    changed = {name: torch.zeros_like(decided) for name in names}
    for size in (1, 2):
        left = best.isinf().nonzero()[:, 0]
        if not len(left):
            break
        part = {name: value[left] for name, value in rows.items()}
        for chosen in combinations(names, size):
            drawn = data.draw(part["id"], {**part, **{name: 1 - part[name] for name in chosen}})
            distance = (drawn - part["image"]).abs().mean((1, 2, 3))
            better = ((score(drawn) > 0.5) != decided[left]) & (distance < best[left])
            place = left[better]
            best[place], images[place] = distance[better], drawn[better]
            for name in names:
                changed[name][place] = name in chosen
    return Smallest(images, changed, best.isfinite())
