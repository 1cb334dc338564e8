"""Minimality: is the counterfactual nearer to its factual than other images of the target class are?"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Literal, get_args

import torch
from torch import Tensor

from causalcf.interventions import Do
from causalcf.metrics.tally import AT_ONCE, Label, Tally, flat, read
from causalcf.numbers import whole
from causalcf.world import World

Code = tuple[Tensor, Tensor]  # mean and log-variance, (B, D) each
Form = Literal["corrected", "published"]


class Minimality(Tally):
    r"""Counterfactual latent divergence (Sanchez and Tsaftaris, 2022), weighted as by Melistas et al. (2024).

    With `D` the divergence to the factual in a latent space, `div = D(x*)`, `S_CF` the D of real images with the
    target's label and `S_F` that of real images with the factual's:
    `CLD = log(w e^{P(S_CF <= div)} + (1 - w) e^{P(S_F >= div)})`; lower is better, from 0 to 1. Beside it stands the
    score of doing nothing, `log(w + (1 - w) e)` = 0.295, which published values straddle: read it next to
    effectiveness alone. The unweighted original is that of `weight=0.5` plus log 2.

    A label that hardly any reference image has leaves the shares without a meaning; with none at all they would be 0,
    and targets that nobody has seen would score best. Rows with such a target, or such a factual label, are left out,
    which n shows.

    The corrected form takes the Kullback-Leibler divergence of the Gaussians of mean and log-variance, per dimension;
    the published one took the mean for the logarithm of the standard deviation too.

    Args:
        encode: images -> mean and log-variance of a code, `(B, D)` each.
        reference: real images and their attributes.
        node: the image, by default the only one of the reference.
        form: "corrected" or "published".
        weight: w.
        bins: how many bins of a continuous attribute are its labels.
        fewest: the least number of reference rows of a label.

    Raises:
        ValueError: fewer than 100 reference rows, `bins` or `fewest` below 1, or a weight that is no share.
    """

    higher_is_better = False
    title = "minimality (CLD)"

    def __init__(
        self,
        encode: Callable[[Tensor], Code],
        reference: Mapping[str, Tensor],
        node: str | None = None,
        form: Form = "corrected",
        weight: float = 0.8,
        bins: int = 9,
        fewest: int = 10,
    ) -> None:
        super().__init__()
        if form not in get_args(Form):
            raise ValueError(f"Minimality: expected form in {get_args(Form)}, got {form!r}")
        images = [name for name, values in reference.items() if values.ndim == 4]
        if node is None and len(images) != 1:
            raise ValueError(f"Minimality: the reference has {len(images)} images; say which is meant, node=...")
        node = images[0] if node is None else node
        if len(reference[node]) < 100:
            raise ValueError(f"Minimality: expected at least 100 reference rows, got {len(reference[node])}")
        whole("Minimality", 1, bins=bins, fewest=fewest)
        if not 0 <= weight <= 1:
            raise ValueError(f"Minimality: expected weight between 0 and 1, got {weight}")
        self.image = node
        self.encode, self.form, self.weight, self.bins = encode, form, weight, bins
        self.fewest = fewest
        self.reference = dict(reference)
        with torch.no_grad():
            mean, log = zip(*(encode(part) for part in reference[node].split(AT_ONCE)), strict=True)
        self.codes = flat("Minimality: the encoder", torch.cat(mean)), torch.cat(log)

    @torch.no_grad()
    def trial(self, world: World) -> None:  # noqa: D102
        read("Minimality: the encoder", self.encode, world[self.image])

    @torch.no_grad()
    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        here = self.encode(world[self.image])
        real = self._divergence(self.codes, here)
        moved = self._divergence_of_rows(self.encode(counterfactual[self.image]), here)
        for variable in action:
            if variable not in self.reference or variable == self.image:
                continue
            labels = self._labels(variable, self.reference[variable])
            target = self._labels(variable, counterfactual[variable])[:, None] == labels
            source = self._labels(variable, world[variable])[:, None] == labels
            known = (target.sum(1) >= self.fewest) & (source.sum(1) >= self.fewest)
            label = Label(f"{self.title}, {self.form}", name, variable, "log share")
            self.tally(label, self._score(real, target, source, moved), known)
            nothing = torch.zeros_like(moved)
            self.tally(label._replace(reference="doing nothing"), self._score(real, target, source, nothing), known)

    def _score(self, real: Tensor, target: Tensor, source: Tensor, moved: Tensor) -> Tensor:
        nearer = _share(real <= moved[:, None], target)
        further = _share(real >= moved[:, None], source)
        return (self.weight * nearer.exp() + (1 - self.weight) * further.exp()).log()

    def _labels(self, variable: str, values: Tensor) -> Tensor:
        if not values.is_floating_point():
            return values
        known = self.reference[variable]
        edges = torch.linspace(float(known.min()), float(known.max()), self.bins + 1)[1:-1].to(values)
        return torch.bucketize(values, edges)

    def _divergence(self, real: Code, here: Code) -> Tensor:
        rows = [self._divergence_of_rows(real, (mean[None], log[None])) for mean, log in zip(*here, strict=True)]
        return torch.stack(rows)

    def _divergence_of_rows(self, a: Code, b: Code) -> Tensor:
        (mean_a, log_a), (mean_b, log_b) = ([part.double() for part in code] for code in (a, b))
        if self.form == "published":
            log_a, log_b = 2 * mean_a, 2 * mean_b
        ratio = (log_a - log_b).exp() + (mean_a - mean_b).square() / log_b.exp()
        return (0.5 * (ratio - 1 - log_a + log_b)).mean(1)


def _share(holds: Tensor, among: Tensor) -> Tensor:
    """The share, per row, of what holds among the chosen; where none is chosen it is not a number."""
    return (holds & among).sum(1).double() / among.sum(1)


NOTHING = math.log(0.8 + 0.2 * math.e)
"""The score of doing nothing at the published weights."""
