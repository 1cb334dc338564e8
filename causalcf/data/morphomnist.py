r"""Causal Morpho-MNIST: the published files, their structural equations and their true counterfactuals.

`t = 0.5 + Gamma(10, rate 5)` px, `i = 64 + 191 sigmoid(2t - 5 + 0.5 u_i)` grey levels with `u_i ~ N(0, 1)`,
and the image is handwriting of MNIST morphed to that thickness and scaled to that intensity (Pawlowski et
al., 2020, https://arxiv.org/abs/2006.06485). So the image's noise is the handwriting, and morphing it again
answers any `do` on thickness, intensity and slant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from causalcf.data import morphometry
from causalcf.data import morphomnist_generator as generator
from causalcf.data.idx import read_idx, read_table
from causalcf.data.indexing import Index, own_places, positions, row_ids
from causalcf.data.truth import ROOT, Equation, Rows, as_do, true_counterfactual
from causalcf.graph import CausalGraph
from causalcf.interventions import Do
from causalcf.variables import Categorical, Continuous, Image

EDGES = [("thickness", "intensity"), ("thickness", "image"), ("intensity", "image"), ("digit", "image")]
VARIABLES = {
    "thickness": Continuous(lower=0.0, unit="px"),
    "intensity": Continuous(lower=0.0, upper=255.0, unit="grey level"),
    "digit": Categorical(10),
    "image": Image(1, 28, 28),
}
GRAPH = CausalGraph(EDGES, VARIABLES)
SLANTED = CausalGraph([*EDGES, ("slant", "image")], VARIABLES, slant=Continuous(unit="rad"))
TEST_OFFSET = 1_000_000  # of the ids of test rows
CHECKED, ALIKE = 4, 0.5  # rows that plain MNIST is checked on, and grey levels that they may be off
SAME = 1e-4  # rad: a slant that was measured again
SOURCE = "it comes with https://github.com/biomedia-mira/causal-gen, datasets/morphomnist"


def intensity_noise(thickness: Float[Tensor, " batch"], intensity: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The noise of an intensity: `u_i = (logit((i - 64) / 191) - 2t + 5) / 0.5`, normal on the data.

    Intensities outside of `64 + 191 [1e-6, 1 - 1e-6]`, which the data never have, are taken as the ends.

    Args:
        thickness: px.
        intensity: grey levels.

    Example:
        >>> t, i = torch.tensor([2.5]), torch.tensor([159.5])
        >>> intensity_noise(t, i)
        tensor([0.])
    """
    share = ((intensity.double() - 64) / 191).clamp(1e-6, 1 - 1e-6)
    return ((torch.logit(share) - 2 * thickness.double() + 5) / 0.5).to(intensity.dtype)


def intensity_from(thickness: Float[Tensor, " batch"], noise: Float[Tensor, " batch"]) -> Float[Tensor, " batch"]:
    """The structural equation of the intensity: `i = 64 + 191 sigmoid(2t - 5 + 0.5 u_i)`, grey levels.

    Args:
        thickness: px.
        noise: standard normal.

    Example:
        >>> intensity_from(torch.tensor([2.5]), torch.tensor([0.0]))
        tensor([159.5000])
    """
    logit = 2 * thickness.double() - 5 + 0.5 * noise.double()
    return (64 + 191 * torch.sigmoid(logit)).to(thickness.dtype)


class MorphoMNIST:
    """Rows of causal Morpho-MNIST in their official layout: IDX files, gzipped or not, and tables.

    Rows are `thickness` (px) and `intensity` (grey levels), float32 `(B,)`, as sampled by the generator;
    `digit`, int64 `(B,)`; `image`, float32 `(B, 1, 28, 28)` in [0, 1]; and `id`, int64 `(B,)`, the row's
    number in its file, plus a million in the test files.

    Args:
        root: folder of `{train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]` and `{train,t10k}-morpho.csv`.
        split: "train", "val" (the last rows of the training files) or "test".
        val: how many training rows are kept for validation.
        mnist: folder of plain MNIST in the same layout; needed for `true_counterfactual` only.

    Raises:
        FileNotFoundError: a file is missing.
        ValueError: a file is damaged, or the files do not belong together.
    """

    graph = GRAPH

    def __init__(
        self,
        root: str | PathLike[str],
        split: Literal["train", "val", "test"] = "train",
        val: int = 5000,
        mnist: str | PathLike[str] | None = None,
    ) -> None:
        if split not in ("train", "val", "test"):
            raise ValueError(f"MorphoMNIST: expected split 'train', 'val' or 'test', got {split!r}")
        root, self.split = Path(root), split
        prefix = "t10k" if split == "test" else "train"
        images = read_idx(root, f"{prefix}-images-idx3-ubyte", 3, SOURCE)
        labels = read_idx(root, f"{prefix}-labels-idx1-ubyte", 1, SOURCE)
        table = read_table(root, f"{prefix}-morpho.csv", ("thickness", "intensity"), SOURCE)
        counts = {"images": len(images), "labels": len(labels), "rows of the table": len(table["thickness"])}
        if images.shape[1:] != GRAPH["image"].shape[1:]:
            raise ValueError(f"{root}: expected images of 28x28 pixels, got {images.shape[1]}x{images.shape[2]}")
        if labels.size and labels.max() > 9:
            raise ValueError(f"{root}: expected labels from 0 to 9, got {labels.max()}; take another labels file")
        if len(set(counts.values())) > 1:
            found = ", ".join(f"{count} {what}" for what, count in counts.items())
            raise ValueError(f"{root}: the {prefix} files differ in length: {found}; take all three from one release")
        first, last = 0, len(images)
        if split != "test":
            if (
                not isinstance(val, int)
                or not 0 <= val <= last
                or (val == 0 and split == "val")
                or (val == last and split == "train")
            ):
                raise ValueError(
                    f"MorphoMNIST: val={val} of {last} training rows leaves nothing for the {split} split; "
                    f"choose val between 1 and {last - 1}"
                )
            first, last = (0, last - val) if split == "train" else (last - val, last)
        self._offset = first + (TEST_OFFSET if split == "test" else 0)
        self._images = torch.from_numpy(images[first:last])
        self._columns = {
            "thickness": torch.from_numpy(table["thickness"][first:last]),
            "intensity": torch.from_numpy(table["intensity"][first:last]),
            "digit": torch.from_numpy(labels[first:last].astype(np.int64)),
        }
        for name, column in self._columns.items():
            GRAPH[name].check(f"{root / prefix}-morpho.csv: {name}", column)
        self._sources = None if mnist is None else self._read_sources(Path(mnist), prefix, first, last)

    def _read_sources(self, folder: Path, prefix: str, first: int, last: int) -> np.ndarray:
        remedy = "it is plain MNIST, and comes with torchvision.datasets.MNIST, in MNIST/raw"
        labels = read_idx(folder, f"{prefix}-labels-idx1-ubyte", 1, remedy)
        images = read_idx(folder, f"{prefix}-images-idx3-ubyte", 3, remedy)
        if len(images) < last or not np.array_equal(labels[first:last], self._columns["digit"].numpy()):
            raise ValueError(
                f"{folder}: expected the handwriting of {prefix} rows {first} to {last - 1}, got "
                f"{len(images)} images, or labels that differ; give plain MNIST in its original order"
            )
        few = np.linspace(0, last - first - 1, min(CHECKED, last - first)).round().astype(int)
        thickness, intensity = (self._columns[name][few] for name in ("thickness", "intensity"))
        again = generator.regenerate(images[first:last][few], thickness, intensity)
        if (apart := float(np.abs(again.astype(float) - self._images.numpy()[few]).mean())) > ALIKE:
            raise ValueError(
                f"{folder}: expected plain MNIST, whose handwriting becomes these images when it is morphed; it is "
                f"off by {apart:.1f} grey levels; give plain MNIST, not images made from it"
            )
        return images[first:last]

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: Index) -> dict[str, Tensor]:
        """Rows by a slice, a list of positions or a tensor of them; an integer gives a batch of one."""
        position = positions(index, len(self), "MorphoMNIST", self.split)
        rows = {name: column[position] for name, column in self._columns.items()}
        image = self._images[position][:, None].float() / 255
        return {**rows, "image": image, "id": position + self._offset}

    def columns(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Some columns of all rows, without the images unless they are among them."""
        if "image" in names:
            rows = self[:]
            return {name: rows[name] for name in names}
        own = {**self._columns, "id": torch.arange(len(self)) + self._offset}
        return {name: own[name].clone() for name in names}

    def redraw(
        self,
        ids: Int[Tensor, " batch"],
        thickness: Float[Tensor, " batch"],
        intensity: Float[Tensor, " batch"],
        slant: Float[Tensor, " batch"] | None = None,
    ) -> Float[Tensor, "batch 1 28 28"]:
        """The image's own equation: the handwriting of these rows under other attributes.

        Args:
            ids: of rows of this data set.
            thickness: px.
            intensity: grey levels.
            slant: rad; None leaves the writing as it leans, and so does, row by row, the slant that is measured on the
                published image: shearing draws every pixel anew.

        Raises:
            ValueError: the data set was made without `mnist`, or an id is not of this split.
        """
        if self._sources is None:
            raise ValueError(
                "MorphoMNIST: a true counterfactual is morphed from plain MNIST; "
                "write MorphoMNIST(root, split, mnist=folder_of_plain_mnist)"
            )
        position = own_places("MorphoMNIST", ids, self._offset, len(self), self.split).numpy()
        images = generator.set_thickness(self._sources[position], thickness)
        if slant is not None:
            leans = (slant.cpu() - self._slant(position)).abs().numpy() > SAME
            images[leans] = generator.set_slant(images[leans], slant.cpu().numpy()[leans])
        images = generator.set_intensity(images, intensity)
        return torch.from_numpy(images)[:, None].to(ids.device).float() / 255

    def _slant(self, position: np.ndarray) -> Float[Tensor, " batch"]:
        """How the writing of some rows leans, as it is measured on their published images."""
        return morphometry.slant(self._images[torch.from_numpy(position)][:, None].float() / 255)

    def knows(self, action: Do) -> bool:
        """Whether the true counterfactual is known: it needs plain MNIST, and no other digit."""
        return self._sources is not None and not {"digit", "image"} & set(action)

    def true_counterfactual(self, rows: Rows, action: Do | Mapping[str, Any], seed: int = 0) -> dict[str, Tensor]:
        """What the rows would have been under `action`: same handwriting, same noise, morphed again.

        Args:
            rows: rows of this data set, with their `"id"`.
            action: `do(...)`, or a mapping name -> what one would write there, on thickness, intensity or
                slant. The factual slant is that of `rows`, where they have one, else the measured one.
            seed: for interventions that draw.

        Returns:
            Thickness, intensity, digit, image and id, and slant if it is in `action` or in `rows`. What the action does
            not reach is the same tensor as in `rows`; where nothing changes, the image equals the published one.

        Raises:
            ValueError: rows without id, no `mnist`, or `do(digit=...)`: nobody knows how this writer would
                have written another digit.
        """
        ids, action = row_ids("MorphoMNIST", rows), as_do(action)
        if {"digit", "image"} & set(action):
            raise ValueError(
                f"MorphoMNIST: the true counterfactual of {action} is unknown; "
                "it exists for thickness, intensity and slant"
            )
        graph = SLANTED if "slant" in action or "slant" in rows else GRAPH
        if "slant" in action and "slant" not in rows:
            rows = {**rows, "slant": morphometry.slant(rows["image"])}

        def morph(_: Tensor, parents: Rows) -> Tensor:
            return self.redraw(ids, parents["thickness"], parents["intensity"], parents.get("slant"))

        equations = {
            "thickness": ROOT,
            "digit": ROOT,
            "slant": ROOT,
            "intensity": Equation(
                lambda value, parents: intensity_noise(parents["thickness"], value.double()),
                lambda noise, parents: intensity_from(parents["thickness"], noise),
            ),
            "image": Equation(lambda value, _: value, morph),
        }
        return true_counterfactual(graph, equations, rows, action, seed)

    @staticmethod
    def oracles() -> dict[str, Callable[[Tensor], Tensor]]:
        """Measurements of thickness (px), intensity (grey levels) and slant (rad) on images, no networks."""
        return dict(morphometry.ORACLES)
