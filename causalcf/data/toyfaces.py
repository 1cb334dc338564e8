r"""ToyFaces: drawn faces with binary attributes, known causes, known pixels, and a shortcut to be found out.

The edges between attributes follow those of CelebA's labels in Kocaoglu et al., "CausalGAN", 2018,
https://arxiv.org/abs/1709.02023 (its released code, `big_causal_graph`), thinned out; `graphs/toyfaces.py` says which
and why. How likely an attribute is was chosen here.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from causalcf.data.face_gauges import READERS
from causalcf.data.faces import ATTRIBUTES, MARKER, draw
from causalcf.data.indexing import Index, check_count, drawn_columns, own_places, positions, row_ids
from causalcf.data.pictures import OFFSET, Split, determined
from causalcf.data.sitters import Sitter
from causalcf.data.truth import Rows, as_do, drawn, true_counterfactual
from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.units import Units
from causalcf.variables import Binary, Image


@dataclass(frozen=True)
class Chance:
    """The mechanism of an attribute, `x = 1[u < P(pa)]` with `P(pa) = base + sum_k added_k pa_k`, u uniform in (0, 1).

    Args:
        base: how likely it is if no parent is there.
        added: parent -> what that one adds if it is there.
    """

    base: float
    added: Mapping[str, float] = field(default_factory=dict)

    def __call__(self, noise: Float[Tensor, " batch"], parents: Rows) -> Int[Tensor, " batch"]:
        """The value for some noise and parents."""
        chance = torch.full_like(noise, self.base)
        for name, more in self.added.items():
            chance = chance + more * parents[name].to(noise)
        return (noise < chance).long()

    def tied(self, target: str, strength: float) -> Chance:
        """The mechanism `strength target + (1 - strength) P(pa)`."""
        added = {name: (1 - strength) * more for name, more in self.added.items()}
        return Chance((1 - strength) * self.base, {**added, target: strength + added.get(target, 0.0)})


CHANCES: Mapping[str, Chance] = {
    "male": Chance(0.5),
    "old": Chance(0.4),
    "smiling": Chance(0.5),
    "blond": Chance(0.4),
    "bangs": Chance(0.4),
    "hat": Chance(0.3),
    "mouth_open": Chance(0.1, {"smiling": 0.7}),
    "beard": Chance(0.02, {"male": 0.48}),
    "lipstick": Chance(0.6, {"male": -0.55}),
    "earrings": Chance(0.5, {"male": -0.4}),
    "eyeglasses": Chance(0.2, {"old": 0.4}),
}


def _marginal(name: str) -> float:
    chance = CHANCES[name]
    return chance.base + sum(more * _marginal(parent) for parent, more in chance.added.items())


def _graph(chances: Mapping[str, Chance], size: int) -> CausalGraph:
    edges = [(cause, effect) for effect, chance in chances.items() for cause in chance.added]
    edges += [(name, "image") for name in chances]
    return CausalGraph(edges, {**dict.fromkeys(chances, Binary()), "image": Image(3, size, size)})


@final
class ToyFaces:
    r"""Faces drawn from eleven binary attributes.

    `male`, `old`, `smiling`, `blond`, `bangs` and `hat` are roots. A smile often opens the mouth, `P(mouth_open |
    smiling) = 0.8` against 0.1; `male` raises `beard` and lowers `lipstick` and `earrings`; `old` raises `eyeglasses`.
    The exogenous noise of an attribute is one uniform number, `x = 1[u < P(pa)]`. That of the image is the sitter:
    where the head is and how wide and high, how far apart the eyes are, the shades of skin, hair, eyes, lipstick, hat,
    shirt and wall, and how long the hair is. All of it belongs to the row's id, so a counterfactual is the same sitter
    under the attributes that the same numbers give. An attribute whose cause is reached follows its mechanism, whatever
    its factual value was.

    A shortcut makes one attribute tell of another that it has nothing to do with:

        P(shortcut | pa, target) = strength * target + (1 - strength) * P(shortcut | pa)

    so that strength 0 changes nothing and at strength 1 both are always equal. "marker" is a magenta square in the
    lower left corner, else as frequent as the target: strength is then also their correlation. The edge from the target
    to the shortcut is in `graph`, whatever the strength.

    Rows are drawn when they are read, and are the same whatever else is read. Nothing is downloaded.

    Args:
        split: "train", "val" or "test".
        size: pixels per side; of fewer than 48 the oracles miss small attributes.
        rows: how many rows.
        seed: of attributes and sitters.
        shortcut: "marker" or an attribute.
        target: the attribute that the shortcut follows.
        strength: how closely, 0 to 1.
        grain: standard deviation of Gaussian noise in every pixel, which belongs to the row like the sitter; from 0.1
            on the oracles take it for attributes, lipstick first.

    Example:
        >>> data = ToyFaces("test", rows=8, shortcut="marker", target="smiling", strength=0.9)
        >>> data[:2]["image"].shape
        torch.Size([2, 3, 64, 64])
        >>> data.graph.parents("marker")
        ('smiling',)
    """

    graph = _graph(CHANCES, 64)

    def __init__(
        self,
        split: Split = "train",
        size: int = 64,
        rows: int = 10_000,
        seed: int = 0,
        shortcut: str | None = None,
        target: str = "smiling",
        strength: float = 0.0,
        grain: float = 0.0,
    ) -> None:
        if split not in OFFSET:
            raise ValueError(f"ToyFaces: expected split 'train', 'val' or 'test', got {split!r}")
        if isinstance(size, bool) or not isinstance(size, int) or size < 32:
            raise ValueError(f"ToyFaces: expected size of 32 pixels or more, got {size!r}; write size=64")
        check_count("ToyFaces", rows)
        if not 0 <= grain <= 0.2:
            raise ValueError(f"ToyFaces: expected grain between 0 and 0.2, got {grain}; write grain=0.02")
        self.split, self.size, self.rows, self.seed, self.grain = split, size, rows, seed, grain
        self.shortcut, self.target, self.strength = shortcut, target, strength
        self.chances = _tied(shortcut, target, strength)
        self.graph = _graph(self.chances, size)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """Rows by a slice, a list of positions or a tensor of them; an integer gives a batch of one."""
        position = positions(index, len(self), "ToyFaces", self.split)
        attributes = self._attributes(position)
        return {**attributes, "image": self.draw(attributes["id"], attributes)}

    def _attributes(self, position: Int[Tensor, " batch"]) -> dict[str, Tensor]:
        units = Units(OFFSET[self.split] + position, self.seed)
        rows: dict[str, Tensor] = {}
        for name in self._names:
            rows[name] = self.chances[name](units.uniform(name), rows)
        return {**rows, "id": units.ids}

    @property
    def _names(self) -> list[str]:
        """The attributes, causes before effects."""
        return [name for name in self.graph if name != "image"]

    def draw(self, ids: Int[Tensor, " batch"], attributes: Rows) -> Float[Tensor, "batch 3 size size"]:
        """The images of the rows with these ids under some attributes: the image's own equation."""
        units = Units(ids, self.seed)
        image = draw(Sitter.of(units), attributes, self.size)
        if self.grain:
            image = (image + self.grain * units.normal("grain", image.shape[1:]).to(image)).clamp(0, 1)
        return image

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows; nothing is drawn unless the image is among them."""
        return drawn_columns(self, names, self._attributes)

    def knows(self, action: Do) -> bool:
        """Whether the true counterfactual is known: of the image itself it is not."""
        return "image" not in action

    def true_counterfactual(self, rows: Rows, action: Do | Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
        """What the rows would have been under `action`: the same numbers, the same sitter, drawn again.

        Args:
            rows: rows of this data set, with their `"id"`.
            action: interventions on attributes.
            seed: for interventions that draw.

        Raises:
            ValueError: rows without id, or `do(image=...)`.
        """
        ids, action = self._ids(rows), as_do(action)
        if not self.knows(action):
            raise ValueError(
                f"ToyFaces: the true counterfactual of {action} is unknown; it exists for {', '.join(self._names)}"
            )
        units = Units(ids, self.seed)
        equations = {name: drawn(units, name, self.chances[name]) for name in self._names}
        equations["image"] = determined(lambda attributes: self.draw(ids, attributes))
        return true_counterfactual(self.graph, equations, rows, action, seed)

    def owns(self, rows: Rows, attribute: str) -> Bool[Tensor, "batch size size"]:
        """The pixels that an attribute owns in each row: those it changes while all other attributes stay.

        Args:
            rows: rows of this data set, with their `"id"`.
            attribute: which one; the row's own value of it does not matter.

        Raises:
            ValueError: rows without id, or an attribute that is not in the graph.
        """
        ids = self._ids(rows)
        if missing := [name for name in self._names if name not in rows]:
            raise ValueError(f"ToyFaces: the rows lack {', '.join(missing)}; pass rows as the data set gave them")
        if attribute not in self.chances:
            raise ValueError(f"ToyFaces: {_unknown('attribute', attribute, self._names)}")
        absent, present = (
            self.draw(ids, {**rows, attribute: torch.full_like(rows[attribute], value)}) for value in (0, 1)
        )
        return (absent != present).any(1)

    def _ids(self, rows: Rows) -> Int[Tensor, " batch"]:
        ids = row_ids("ToyFaces", rows)
        own_places("ToyFaces", ids, OFFSET[self.split], self.rows, self.split)
        return ids

    def oracles(self) -> dict[str, Callable[[Tensor], Tensor]]:
        """What reads each attribute, as a class, from images of 48 pixels or more, without any network."""
        return {name: READERS[name] for name in self._names}


def _tied(shortcut: str | None, target: str, strength: float) -> Mapping[str, Chance]:
    """All mechanisms, with that of the shortcut tied to the target."""
    if not 0 <= strength <= 1:
        raise ValueError(f"ToyFaces: expected strength between 0 and 1, got {strength}; write strength=0.9")
    if target not in ATTRIBUTES:
        raise ValueError(f"ToyFaces: {_unknown('target', target, ATTRIBUTES)}")
    if shortcut is None:
        if strength:
            raise ValueError(f'ToyFaces: strength={strength} needs a shortcut to {target}; write shortcut="{MARKER}"')
        return CHANCES
    if shortcut not in (*ATTRIBUTES, MARKER):
        raise ValueError(f"ToyFaces: {_unknown('shortcut', shortcut, (MARKER, *ATTRIBUTES))}")
    if shortcut == target:
        raise ValueError(f'ToyFaces: {target} cannot be a shortcut to itself; write shortcut="{MARKER}"')
    if shortcut != MARKER and target in ToyFaces.graph.descendants(shortcut):
        raise ValueError(
            f"ToyFaces: {shortcut} is a cause of {target}, so it cannot follow it; "
            f'write shortcut="{target}", target="{shortcut}"'
        )
    natural = Chance(_marginal(target)) if shortcut == MARKER else CHANCES[shortcut]
    return {**CHANCES, shortcut: natural.tied(target, strength)}


def _unknown(what: str, name: str, known: Sequence[str]) -> str:
    close = difflib.get_close_matches(str(name), known, n=1)
    hint = f"; did you mean {close[0]!r}?" if close else ""
    return f"unknown {what} {name!r}; write one of {', '.join(known)}{hint}"
