r"""MammoPhantom: drawn mammograms, so that what is asked of real ones can be asked where the truth is known.

What causes what stands in `graphs/mammophantom.py`, with its sources; how likely everything is was chosen here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from causalcf.data.indexing import Index, check_count, drawn_columns, own_places, positions, row_ids
from causalcf.data.phantom_gauges import READERS
from causalcf.data.phantoms import Woman, draw
from causalcf.data.pictures import OFFSET, Split, determined
from causalcf.data.truth import Rows, as_do, drawn, true_counterfactual
from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.units import Units
from causalcf.variables import Binary, Continuous, Image

YOUNGEST, YEARS = 40.0, 40.0
SPARSE, RANGE = 5.0, 75.0  # per cent of gland: the least, and what may come to it
SMALLEST = 64  # pixels, of which the gauges see markers

Equations = Mapping[str, Callable[[Tensor, Rows], Tensor]]


def _age(noise: Tensor, _: Rows) -> Tensor:
    return (YOUNGEST + YEARS * noise).float()


def _density(noise: Tensor, parents: Rows) -> Tensor:
    spread = 1.2 * torch.special.ndtri(noise.clamp(1e-6, 1 - 1e-6))
    return (SPARSE + RANGE * torch.sigmoid(0.06 * (55 - parents["age"].to(noise)) + spread)).float()


def _mass(noise: Tensor, parents: Rows) -> Tensor:
    return (noise < 0.1 + 0.005 * (parents["age"].to(noise) - YOUNGEST)).long()


def _triangle(noise: Tensor, parents: Rows) -> Tensor:
    return (noise < 0.05 + 0.65 * parents["mass"].to(noise)).long()


def _circle(noise: Tensor, _: Rows) -> Tensor:
    return (noise < 0.25).long()


EQUATIONS: Equations = {"age": _age, "density": _density, "mass": _mass, "triangle": _triangle, "circle": _circle}


@final
class MammoPhantom:
    r"""Drawn mammograms: a breast, glands in fat, perhaps a mass, and markers that somebody put on the skin.

    Women are 40 to 80 years old. The share of gland falls with age, `density = 5 + 75 sigmoid(0.06 (55 - age) + 1.2 u)`
    per cent with u normal; a `mass` becomes more frequent, from 0.1 to 0.3. A mass that is felt is marked with a
    `triangle`, in 0.7 of the cases and in 0.05 without one; a mole with a `circle`, in 0.25. So a classifier of masses
    may read the triangle instead, and do(triangle=0) shows whether it does.

    The image's noise is the woman: the form of her breast and of its glands, where a mass and markers would be, and the
    grain of the film. A denser breast has the same glands, grown. All noise belongs to the row's id, so that a
    counterfactual is the same woman under what the same numbers give. Nothing is downloaded, and nothing here is fit
    for diagnosis.

    Args:
        split: "train", "val" or "test".
        size: pixels per side, 64 or more.
        rows: how many rows.
        seed: of attributes and women.

    Example:
        >>> data = MammoPhantom("test", rows=8)
        >>> data[:2]["image"].shape
        torch.Size([2, 1, 64, 64])
    """

    graph = CausalGraph(
        "age -> density, mass; mass -> triangle; density, mass, circle, triangle -> image",
        age=Continuous(lower=YOUNGEST, upper=YOUNGEST + YEARS, unit="years"),
        density=Continuous(lower=0.0, upper=100.0, unit="%"),
        mass=Binary(),
        circle=Binary(),
        triangle=Binary(),
        image=Image(1, 64, 64),
    )

    def __init__(self, split: Split = "train", size: int = 64, rows: int = 10_000, seed: int = 0) -> None:
        if split not in OFFSET:
            raise ValueError(f"MammoPhantom: expected split 'train', 'val' or 'test', got {split!r}")
        if isinstance(size, bool) or not isinstance(size, int) or size < SMALLEST:
            raise ValueError(f"MammoPhantom: expected size of {SMALLEST} pixels or more, got {size!r}")
        check_count("MammoPhantom", rows)
        self.split, self.size, self.rows, self.seed = split, size, rows, seed
        variables = {name: self.graph[name] for name in self.graph}
        self.graph = CausalGraph(self.graph.edges, {**variables, "image": Image(1, size, size)})

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """Rows by a slice, a list of positions or a tensor of them; an integer gives a batch of one."""
        attributes = self._attributes(positions(index, len(self), "MammoPhantom", self.split))
        return {**attributes, "image": self.draw(attributes["id"], attributes)}

    def _attributes(self, position: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        units = Units(OFFSET[self.split] + position, self.seed)
        rows: dict[str, Tensor] = {}
        for name, equation in EQUATIONS.items():
            rows[name] = equation(units.uniform(name), rows)
        return {**rows, "id": units.ids}

    def draw(self, ids: Int[Tensor, " batch"], attributes: Rows) -> Float[Tensor, "batch 1 size size"]:
        """The images of the rows with these ids under some attributes: the image's own equation."""
        return draw(Woman.of(Units(ids, self.seed), self.size), attributes, self.size)

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows; nothing is drawn unless the image is among them."""
        return drawn_columns(self, names, self._attributes)

    def knows(self, action: Do) -> bool:
        """Whether the true counterfactual is known: of the image itself it is not."""
        return "image" not in action

    def true_counterfactual(self, rows: Rows, action: Do | Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
        """What the rows would have been under `action`: the same numbers, the same woman, drawn again.

        Args:
            rows: rows of this data set, with their `"id"`.
            action: interventions on attributes.
            seed: for interventions that draw.

        Raises:
            ValueError: rows without id, or `do(image=...)`.
        """
        ids, action = row_ids("MammoPhantom", rows), as_do(action)
        own_places("MammoPhantom", ids, OFFSET[self.split], self.rows, self.split)
        if not self.knows(action):
            raise ValueError(
                f"MammoPhantom: the true counterfactual of {action} is unknown; it exists for {', '.join(EQUATIONS)}"
            )
        units = Units(ids, self.seed)
        equations = {name: drawn(units, name, equation) for name, equation in EQUATIONS.items()}
        equations["image"] = determined(lambda attributes: self.draw(ids, attributes))
        return true_counterfactual(self.graph, equations, rows, action, seed)

    @staticmethod
    def oracles() -> dict[str, Callable[[Tensor], Tensor]]:
        """Measurements of density (per cent), mass, circle and triangle on images, without any network."""
        return dict(READERS)
