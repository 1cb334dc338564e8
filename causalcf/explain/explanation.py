"""What an explainer answers, and how it is kept."""

from __future__ import annotations

import json
import math
from collections import Counter
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import matplotlib.image
import torch
from jaxtyping import Bool, Float, Int
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

Pictures = Float[Tensor, "batch channel height width"]
NUMBERS, ABOUT = "explanation.safetensors", "explanation.json"


@dataclass(frozen=True)
class Explanation:
    """Counterfactual images, and what the classifier says of them.

    Attributes:
        images: the factual images, in [0, 1].
        counterfactuals: what they became.
        predicted: the class of each factual image.
        target: the class its counterfactual was to have.
        before: probability of the target for the factual image.
        after: the same for the counterfactual.
        flipped: whether the classifier decides for the target.
        mask: where the image was allowed to change, `(B, 1, H, W)`.
        scale: the guidance scale of the last attempt.
        forward: evaluations of the generator's network.
        backward: gradients taken through the network, one by one.
        ids: which rows these are; with the seed they decide all noise.
        seconds: of the whole batch, per row.
        memory: of a GPU, the most that was held while the batch was explained, bytes; NaN elsewhere.
        about: the method, its options and the seed, and what its gradients were taken of, if not of the classifier.
    """

    images: Pictures
    counterfactuals: Pictures
    predicted: Int[Tensor, " batch"]
    target: Int[Tensor, " batch"]
    before: Float[Tensor, " batch"]
    after: Float[Tensor, " batch"]
    flipped: Bool[Tensor, " batch"]
    mask: Bool[Tensor, "batch 1 height width"]
    scale: Float[Tensor, " batch"]
    forward: Float[Tensor, " batch"]
    backward: Float[Tensor, " batch"]
    ids: Int[Tensor, " batch"]
    seconds: Float[Tensor, " batch"]
    memory: Float[Tensor, " batch"]
    about: dict[str, Any] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.images)

    def __repr__(self) -> str:
        return (
            f"Explanation({self.about.get('method', '?')}: {len(self)} rows, {int(self.flipped.sum())} flipped, "
            f"{self.forward.mean().item():.0f} network evaluations a row)"
        )

    def _tensors(self) -> dict[str, Tensor]:
        return {entry.name: getattr(self, entry.name) for entry in fields(self) if entry.name != "about"}

    def __getitem__(self, index: int | slice | list[int] | Tensor) -> Explanation:
        """Some of the rows, or one."""
        index = [index] if isinstance(index, int) else index
        some = {
            name: tensor[index.to(tensor.device) if isinstance(index, Tensor) else index]  # numbers are on the CPU
            for name, tensor in self._tensors().items()
        }
        return Explanation(**some, about=self.about)

    @classmethod
    def joined(cls, parts: list[Explanation]) -> Explanation:
        """Batches one after the other."""
        names = parts[0]._tensors()
        return cls(**{name: torch.cat([getattr(part, name) for part in parts]) for name in names}, about=parts[0].about)

    def save(self, folder: str | Path, pictures: bool = True) -> None:
        """Write numbers, and pictures as PNG files: factual, counterfactual and mask side by side, one per row.

        Their names are the ids; those of further rows with the same id, of one image and several targets for example,
        have a number behind it.

        Args:
            folder: is made, or written over; pictures of the explanation that it held go.
            pictures: whether to write the PNG files.
        """
        path = Path(folder)
        path.mkdir(parents=True, exist_ok=True)
        for name in _held(path):
            (path / name).unlink(missing_ok=True)
        save_file({name: tensor.cpu().contiguous() for name, tensor in self._tensors().items()}, path / NUMBERS)
        (path / ABOUT).write_text(json.dumps(self.about, indent=1) + "\n")
        if pictures:
            for row, name in enumerate(_names(self.ids.tolist())):
                where = self.mask[row].float().expand_as(self.images[row])
                wide = torch.cat([self.images[row], self.counterfactuals[row], where], 2).cpu()
                shown = wide.expand(3, -1, -1) if len(wide) == 1 else wide
                picture = shown.permute(1, 2, 0).clamp(0, 1).numpy()
                matplotlib.image.imsave(path / name, picture)

    @classmethod
    def load(cls, folder: str | Path) -> Explanation:
        """What `save` wrote."""
        path = Path(folder)
        if not (path / NUMBERS).exists():
            raise FileNotFoundError(f"{path} holds no explanation; expected {NUMBERS}, as Explanation.save writes it")
        tensors = load_file(path / NUMBERS)
        tensors.setdefault("memory", torch.full_like(tensors["seconds"], math.nan))  # was not written at first
        return cls(**tensors, about=json.loads((path / ABOUT).read_text()))


def _names(ids: list[int]) -> list[str]:
    """The file of each row's picture: its id, and a number from the second row of an id on."""
    seen: Counter[int] = Counter()
    names = []
    for row in ids:
        seen[row] += 1
        names.append(f"{row}.png" if seen[row] == 1 else f"{row}-{seen[row]}.png")
    return names


def _held(folder: Path) -> list[str]:
    """The pictures of the explanation in a folder, if there is one."""
    try:
        return _names(load_file(folder / NUMBERS)["ids"].tolist())
    except (OSError, SafetensorError, KeyError):  # none, or a damaged one
        return []
