"""Realism: do counterfactuals look like real images, taken together?"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from causalcf.interventions import Do
from causalcf.metrics.tally import AT_ONCE, Estimate, Label, Tally, flat, read
from causalcf.world import World


class Frechet(Tally):
    r"""Frechet distance of Gaussians fitted to features of real images and of counterfactuals (Heusel et al., 2017).

    `|m - m'|^2 + tr(C + C' - 2 (C C')^{1/2})`. The features are those of any encoder, so numbers of different encoders
    do not compare; neither do those of different n, as the distance falls with n. Beside each stands the distance of
    the observed rows themselves, which have the same n.

    Args:
        encode: images -> features `(B, D)`.
        reference: real images, more than D of them.
        node: the image, by default the only one.
    """

    higher_is_better = False
    title = "Frechet distance"

    def __init__(self, encode: Callable[[Tensor], Tensor], reference: Tensor, node: str | None = None) -> None:
        super().__init__()
        self.encode, self.node = encode, node
        with torch.no_grad():
            found = torch.cat([encode(part) for part in reference.split(AT_ONCE)])
        self.real = flat("Frechet: the encoder", found).double()
        if len(self.real) <= self.real.shape[1]:
            raise ValueError(
                f"Frechet: expected more reference images than the {self.real.shape[1]} features, got {len(self.real)}"
            )
        self.moments: dict[Label, str] = {}

    @torch.no_grad()
    def trial(self, world: World) -> None:  # noqa: D102
        read("Frechet: the encoder", self.encode, world[self.on(world)])

    @torch.no_grad()
    def seen(self, world: World) -> None:  # noqa: D102
        self._add(Label(self.title, "", self.on(world), "-", "observed rows"), world[self.on(world)])

    @torch.no_grad()
    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        self._add(Label(self.title, name, self.on(world), "-"), counterfactual[self.on(world)])

    def _add(self, label: Label, images: Tensor) -> None:
        features = self.encode(images).double().cpu()
        if label not in self.moments:
            state, width = f"moments_{len(self.moments)}", features.shape[1]
            self.moments[label] = state
            self.add_state(state, torch.zeros(width + 1, width + 1, dtype=torch.float64), dist_reduce_fx="sum")
        with_one = torch.cat([features, features.new_ones(len(features), 1)], 1)
        state = self.moments[label]
        setattr(self, state, getattr(self, state) + (with_one.T @ with_one).to(self.device))

    def compute(self) -> dict[Label, Estimate]:
        """The distances by label; they have no standard deviation."""
        width = self.real.shape[1]
        mean, covariance = self.real.mean(0).cpu(), torch.cov(self.real.T).reshape(width, width).cpu()
        result = {}
        for label, state in self.moments.items():
            sums = getattr(self, state).cpu()
            n = int(sums[-1, -1].round())
            if n < 2:
                continue
            own = sums[:-1, -1] / n
            spread = (sums[:-1, :-1] - n * torch.outer(own, own)) / (n - 1)
            result[label] = Estimate(n, frechet(mean, covariance, own, spread), math.nan)
        return result


def frechet(mean: Tensor, covariance: Tensor, other_mean: Tensor, other_covariance: Tensor) -> float:
    """The Frechet distance of two Gaussians, 0 or more.

    Example:
        >>> eye = torch.eye(2, dtype=torch.float64)
        >>> frechet(torch.zeros(2).double(), eye, torch.ones(2).double(), 4 * eye)
        4.0
    """
    shared = torch.linalg.svdvals(_root(covariance) @ _root(other_covariance)).sum()  # the trace of (C C')^{1/2}
    apart = (mean - other_mean).square().sum()
    distance = apart + (covariance + other_covariance).diagonal().sum() - 2 * shared
    return round(float(distance.clamp_min(0)), 9)  # below 0 by rounding


def _root(covariance: Tensor) -> Tensor:
    """The symmetric root of a covariance, which may lack rank."""
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp_min(0).sqrt() @ vectors.mT
