"""Parents as the input of a network: one vector per row."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from jaxtyping import Float
from torch import Tensor, nn

from causalcf.variables import Categorical, Continuous, Image, Variable


def deviation(value: Tensor, constant: float) -> Tensor | float:
    """The standard deviation, in any unit; of a constant, whose scale must not be 0, what is given."""
    return value.std() if value.min() < value.max() else constant


class Features(nn.Module):
    """Encode parents: continuous ones standardised, binary ones 0 or 1, categorical ones one-hot, in declared order.

    Args:
        parents: name -> variable.
        standardise: whether to centre and scale continuous parents by the training rows.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, parents: Mapping[str, Variable], standardise: bool = True) -> None:
        super().__init__()
        for name, variable in parents.items():
            if isinstance(variable, Image):
                raise TypeError(
                    f"{name}: an image cannot be the parent of this mechanism; turn the edge round, give a "
                    "child that is a number a Functional mechanism, or write one of your own for an image"
                )
        self.variables = dict(parents)
        self.standardise = standardise
        self.register_buffer("mean", torch.zeros(len(parents)))
        self.register_buffer("std", torch.ones(len(parents)))

    @property
    def width(self) -> int:
        """The number of features."""
        return sum(v.classes if isinstance(v, Categorical) else 1 for v in self.variables.values())

    def agrees(self, other: Features) -> bool:
        """Whether the scales are the same up to what other rows of the same data would change."""
        means = ((self.mean - other.mean) / self.std).abs() < 0.1
        return bool((means & ((self.std / other.std).log().abs() < 0.1)).all())

    def calibrate(self, parents: Mapping[str, Tensor]) -> None:
        """Take the scales from the training rows."""
        if not self.standardise:
            return
        for index, (name, variable) in enumerate(self.variables.items()):
            if isinstance(variable, Continuous):
                self.mean[index] = parents[name].mean()
                self.std[index] = deviation(parents[name], constant=1.0)

    def forward(self, parents: Mapping[str, Tensor], rows: int) -> Float[Tensor, "batch features"]:
        """Encode one batch of `rows` rows."""
        columns = [self.mean.new_zeros(rows, 0)]
        for index, (name, variable) in enumerate(self.variables.items()):
            value = parents[name]
            if isinstance(variable, Categorical):
                columns.append(nn.functional.one_hot(value, variable.classes).to(self.mean.dtype))
            else:
                columns.append(((value.to(self.mean.dtype) - self.mean[index]) / self.std[index])[:, None])
        return torch.cat(columns, dim=1)

    def decode(self, z: Float[Tensor, "batch features"]) -> dict[str, Tensor]:
        """The numbers behind features, in the parents' own units; of parents that are no classes."""
        return {name: self.mean[k] + self.std[k] * z[:, k] for k, name in enumerate(self.variables)}
