"""Diffusion whose generator is asked without a condition, and led to the parents by the gradient of what reads them."""

from __future__ import annotations

import math
from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.gradient import Ancestral, Balanced, Constant, Empirical, Scale
from causalcf.diffusion.guidance import Guidance
from causalcf.diffusion.schedule import Schedule
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.diffusion import Diffusion
from causalcf.networks.projector import Projector
from causalcf.units import Units

Form = Literal["balanced", "empirical", "ancestral", "constant"]
SCALES: dict[str, type[Balanced | Empirical | Ancestral | Constant]] = {
    "balanced": Balanced,
    "empirical": Empirical,
    "ancestral": Ancestral,
    "constant": Constant,
}


def number(value: object) -> bool:
    """Whether it is a real number."""
    return isinstance(value, int | float) and not isinstance(value, bool)


class LedDiffusion(Diffusion):
    r"""Abduction inverts the generator without a condition; prediction pulls every step towards the parents.

    The generator is also told the parents in some of the training rows, so that the same weights can be asked by
    classifier-free guidance instead, `by="parents"`.

    Args:
        by: what leads prediction, one of `leaders`.
        scale: the form of `lambda_t`, see `causalcf.diffusion.gradient`.
        size: its multiplier.
        limit: the longest pull, in standard deviations of the level's noise.
        projector: channels of the network that reads noisy images, after each halving of the resolution.
        null_probability: how often training tells the generator nothing.
        options: those of `Diffusion`.
    """

    leaders: ClassVar[tuple[str, ...]]
    forms: ClassVar[tuple[str, ...]] = tuple(SCALES)

    def __init__(
        self,
        by: str,
        scale: Form,
        size: float,
        limit: float,
        projector: Sequence[int],
        null_probability: float,
        **options: Any,
    ) -> None:
        super().__init__(null_probability=null_probability, **options)
        kind = type(self).__name__
        if by not in self.leaders:
            raise ValueError(f"{kind}: expected by={' or '.join(map(repr, self.leaders))}, got {by!r}")
        if scale not in self.forms:
            raise ValueError(f"{kind}: expected scale in {list(self.forms)}, got {scale!r}")
        if not (number(size) and number(limit) and 0 <= size < math.inf and limit > 0):
            raise ValueError(f"{kind}: expected a finite size >= 0 and limit > 0, got {size!r} and {limit!r}")
        if by != "parents" and self.omega != 1:
            raise ValueError(f"{kind}: omega={self.omega} is of by='parents'; the {by} is scaled by size")
        self.by, self.scale, self.size, self.limit = by, scale, size, limit
        self.projector_widths = tuple(projector)

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("by", "scale", "size", "limit")}
        return {**own, "projector": list(self.projector_widths), **super().config()}

    def _build(self) -> None:
        super()._build()
        channels, height, width = self.variable.shape
        length = Schedule(self.schedule).length
        self.projector = Projector(channels, (height, width), self.features.width, self.projector_widths, length)

    def _noised(self, value: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] at uniform training steps, and these; for what reads noisy images."""
        alpha_bar = Schedule(self.schedule).alpha_bar.to(value.device)
        timestep = torch.randint(len(alpha_bar), (len(value),), generator=generator, device=value.device)
        e = torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
        share = alpha_bar[timestep].reshape(-1, 1, 1, 1)
        return share.sqrt().to(value.dtype) * (2 * value - 1) + (1 - share).sqrt().to(value.dtype) * e, timestep

    def condition(self, noise: Noise, parents: Parents) -> Float[Tensor, "batch features"]:  # noqa: D102
        if self.by == "parents":
            return super().condition(noise, parents)
        return self._nothing(len(noise["u"]))

    def _nothing(self, rows: int) -> Tensor:
        return self.network.null.expand(rows, -1)

    def leading(self, generator: Diffusion) -> Self:
        """The same leader before another generator: what reads noisy images can lead any denoiser of them.

        Args:
            generator: fitted to the same variables, on the same schedule, with a null token; its network is shared.

        Raises:
            ValueError: the generator is of other images, parents, scales or schedule, or has no null token.

        Example:
            `scm.using(image=nscm.mechanism("image").leading(scm.mechanism("image")))`
        """
        kind, other = type(self).__name__, type(generator).__name__
        if not (self.fitted and generator.fitted):
            raise ValueError(f"{kind}.leading: expected two fitted mechanisms; fit the {other} and this {kind} first")
        if list(generator.parents) != list(self.parents):
            raise ValueError(
                f"{kind}.leading: its projector reads {', '.join(self.parents)}, and this {other} listens to "
                f"{', '.join(generator.parents)}; fit a {kind} on the factors of that graph"
            )
        if generator.variable.shape != self.variable.shape:
            raise ValueError(
                f"{kind}.leading: its projector reads images of shape {self.variable.shape}, and this {other} draws "
                f"{generator.variable.shape}"
            )
        if generator.schedule != self.schedule:
            raise ValueError(
                f"{kind}.leading: its projector knows the noise of schedule={self.schedule!r}, and this {other} was "
                f"trained with {generator.schedule!r}"
            )
        if generator.null_probability == 0 or generator.code_width:
            raise ValueError(
                f"{kind}.leading: the generator is asked without parents and without a code, which this {other} was "
                "not trained for; give a SpatialDiffusion with null_probability=0.1"
            )
        if not self.features.agrees(generator.features):
            raise ValueError(
                f"{kind}.leading: its factors have other means or spreads than those of this {other}, which was "
                "fitted to other rows; fit both to the same"
            )
        network = ("widths", "blocks", "attention", "patch", "prediction", "null_probability")
        options = {name: value for name, value in generator.config().items() if name in network}
        made = type(self)(**{**self.config(), **options}).build(self.variable, self.parents)
        own = {name: part for name, part in self.state_dict().items() if not name.startswith("network.")}
        shared = {f"network.{name}": part for name, part in generator.network.state_dict().items()}
        made.to(self.device, self.dtype).load_state_dict({**own, **shared}, assign=True)
        made.fitted = True
        return made.train(self.training)

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Invert the generator without a condition, and keep the factual parents."""
        factual = self.features(parents, len(value))
        if self.by == "parents":
            return self._inverted(value, factual, parents, units, key)[0]
        return self._inverted(value, self._nothing(len(value)), parents, units, key, {"f": factual})[0]

    def _guidance(self, noise: Noise, parents: Parents | None = None) -> Guidance:
        base = super()._guidance(noise, parents)
        if self.by == "parents" or parents is None:
            return base
        return base + self._pull(noise, parents, SCALES[self.scale](self.size))

    @abstractmethod
    def _pull(self, noise: Noise, parents: Parents, scale: Scale) -> Guidance:
        """What leads the steps to these parents, given the factual ones in "f", where there are any."""
