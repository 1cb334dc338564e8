"""Effectiveness: is the counterfactual what the intervention asked for, and nothing else?"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from causalcf.diffusion.readers import as_reader
from causalcf.interventions import Do
from causalcf.metrics.tally import Label, Tally, read, unit_of
from causalcf.world import World

ROUNDING = 1e-6  # of the size of the values: what moved by less did not move

Oracle = Callable[[Tensor], Tensor]


class Effectiveness(Tally):
    r"""What oracles read in the counterfactual image against what the model meant, each variable and intervention.

    For each variable k with an oracle and each intervention: `|o_k(x*) - a*_k|` in k's own unit (accuracy, for
    classes), and the signed bias `(o_k(x*) - a*_k) sign(a*_k - a_k)` of the rows whose value moved: positive is
    overshoot, negative undershoot. The diagonal says whether the target is hit, the rest whether children moved as they
    should and everything else stayed. Beside each stands the floor: the same oracle's error on the observed images.

    Args:
        oracles: variable -> a function of images `(B, C, H, W)` in [0, 1] that gives its value, shape `(B,)`,
            or a predictor.
            Oracles must not have been used in training or guidance.
        node: the image they look at, by default the only one.
        named: what tables call the oracles, to tell several kinds of them apart.
    """

    title = "effectiveness"

    def __init__(self, oracles: Mapping[str, Oracle], node: str | None = None, named: str = "oracle") -> None:
        super().__init__()
        if not oracles:
            raise ValueError("Effectiveness: expected at least one oracle, for example {'digit': classifier}")
        self.oracles = {name: as_reader(name, oracle) for name, oracle in oracles.items()}
        self.node, self.named = node, named

    @torch.no_grad()
    def trial(self, world: World) -> None:  # noqa: D102
        for name, oracle in self.oracles.items():
            _error(name, _read(name, oracle, world[self.on(world)]), world[name])

    @torch.no_grad()
    def seen(self, world: World) -> None:  # noqa: D102
        for name, oracle in self.oracles.items():
            found = _read(name, oracle, world[self.on(world)])
            self.tally(self._label(world, "", name, "floor"), _error(name, found, world[name]))

    @torch.no_grad()
    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        image = counterfactual[self.on(world)]
        for variable, oracle in self.oracles.items():
            read, meant, was = _read(variable, oracle, image), counterfactual[variable], world[variable]
            self.tally(self._label(world, name, variable), _error(variable, read, meant))
            if meant.is_floating_point():
                change = meant - was
                label = Label(self._bias, name, variable, unit_of(world, variable))
                moved = change.abs() > ROUNDING * (meant.abs() + was.abs()).mean()
                self.tally(label, (read - meant) * change.sign(), moved)

    @property
    def _bias(self) -> str:
        return "signed bias" if self.named == "oracle" else f"signed bias of {self.named}"

    def _label(self, world: World, action: str, variable: str, reference: str = "") -> Label:
        if world[variable].is_floating_point():
            return Label(f"error of {self.named}", action, variable, unit_of(world, variable), reference)
        return Label(f"accuracy of {self.named}", action, variable, "share", reference)


def _read(name: str, oracle: Oracle, images: Tensor) -> Tensor:
    found = read(f"Effectiveness: the oracle of {name!r}", oracle, images)
    if not isinstance(found, Tensor):
        raise TypeError(
            f"Effectiveness: the oracle of {name!r} gave {type(found).__name__}, expected a tensor with one value per "
            "row; write torch.as_tensor(...)"
        )
    return found


def _error(name: str, read: Tensor, meant: Tensor) -> Tensor:
    if read.shape != meant.shape:
        raise ValueError(
            f"Effectiveness: the oracle of {name!r} gave shape {tuple(read.shape)}, expected {tuple(meant.shape)}; "
            "a classifier must give classes, logits.argmax(1)"
        )
    if meant.is_floating_point():
        return (read - meant).abs()
    if read.is_floating_point() and not torch.equal(read, read.round()):
        raise ValueError(
            f"Effectiveness: the oracle of {name!r} gave numbers between the classes; give a classifier, "
            f"fit_classifier(rows, {name!r}, classes), or round what it reads"
        )
    return (read == meant).double()
