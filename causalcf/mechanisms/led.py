"""Diffusion whose generator is asked without a condition, and led to the parents by the gradient of what reads them."""

from __future__ import annotations

import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, ClassVar, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.gradient import (
    Ancestral,
    Balanced,
    Constant,
    Empirical,
    Pulls,
    Scale,
    refuse_inference_mode,
)
from causalcf.diffusion.guidance import Guidance
from causalcf.diffusion.schedule import Schedule
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.diffusion import Diffusion
from causalcf.networks.projector import LEVELS, Projector
from causalcf.networks.sides import GROUPS, even
from causalcf.numbers import finite, number
from causalcf.rows import spread
from causalcf.units import Units

log = logging.getLogger(__name__)

Form = Literal["balanced", "empirical", "ancestral", "constant"]
SCALES: dict[str, type[Balanced | Empirical | Ancestral | Constant]] = {
    "balanced": Balanced,
    "empirical": Empirical,
    "ancestral": Ancestral,
    "constant": Constant,
}
SIZES = {"balanced": 0.1, "empirical": 0.1, "ancestral": 0.03, "constant": 1.0}  # near what validation rows chose
MANY, LONG = 0.05, 30.0  # share of pulls cut short, and length of one that nothing cuts, at which images are driven out


SETTLING = 512  # training rows behind the projector's spreads
TOLD = ("parents", "both")  # of what leads, that by which the generator is told the parents


class LedDiffusion(Diffusion):
    r"""Abduction inverts the generator without a condition; prediction pulls every step towards the parents.

    The generator is also told the parents in some of the training rows, so that the same weights can be asked by
    classifier-free guidance instead, `by="parents"`, or told and led, `by="both"`.

    Args:
        by: what leads prediction, one of `leaders`.
        scale: the form of `lambda_t`, see `causalcf.diffusion.gradient`.
        size: its multiplier; None is that of the form in `SIZES`.
        limit: the longest pull, in standard deviations of the level's noise.
        projector: channels of the network that reads noisy images, after each halving of the resolution.
        null_probability: how often training tells the generator nothing.
        options: those of `Diffusion`.

    Attributes:
        pulls: how long the pulls of all predictions so far were meant to be, and how many `limit` cut short.
    """

    leaders: ClassVar[tuple[str, ...]]
    forms: ClassVar[tuple[str, ...]] = tuple(SCALES)

    def __init__(
        self,
        by: str,
        scale: Form,
        size: float | None,
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
        sized = SIZES[scale] if size is None else size
        finite(kind, 0, size=sized)
        if not (number(limit) and limit > 0):
            raise ValueError(f"{kind}: expected limit > 0, math.inf for none, got {limit!r}")
        if self.omega != 1 and by not in TOLD:
            raise ValueError(f"{kind}: omega={self.omega} is of by='parents'; the {by} is scaled by size")
        for name, default in {"inversion": "condition", "reference": "null", "edit": None}.items():
            if by not in TOLD and (value := getattr(self, name)) != default:
                raise ValueError(
                    f"{kind}: {name}={value!r} is of a generator that is told the parents, by='parents' or 'both', and "
                    f"by={by!r} tells it nothing; take {name}={default!r}"
                )
        if not (isinstance(projector, Sequence) and projector and all(map(even, projector))):
            raise ValueError(
                f"{kind}: expected projector to be one or more widths that {GROUPS} divides, for example (32, 64, 64), "
                f"got {projector!r}"
            )
        self.by, self.scale, self.size, self.sized, self.limit = by, scale, size, sized, limit
        self.projector_widths = tuple(projector)
        self.pulls = Pulls()

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("by", "scale", "size", "limit")}
        return {**own, "projector": list(self.projector_widths), **super().config()}

    def _build(self) -> None:
        super()._build()
        if not self.parents:
            raise ValueError(
                f"{type(self).__name__}: this image has no parents, so there is nothing to lead it to; use "
                "SpatialDiffusion()"
            )
        channels, height, width = self.variable.shape
        length = Schedule(self.schedule).length
        self.projector = Projector(channels, (height, width), self.features.width, self.projector_widths, length)

    @torch.no_grad()
    def settle(self, value: Tensor, parents: Parents) -> None:
        """Measure by how much the projector is off at each level; as weights of the loss its spreads lag far behind."""
        rows = spread(len(value), SETTLING)
        value, factors = value[rows], self.features({name: z[rows] for name, z in parents.items()}, len(rows))
        generator = torch.Generator(value.device).manual_seed(0)
        for level in range(LEVELS):
            x, timestep = self._noised(value, generator, level)
            error = factors - self.projector(x, timestep)
            self.projector.log_spread[level] = error.square().mean(0).sqrt().clamp_min(1e-6).log()

    def _noised(
        self, value: Tensor, generator: torch.Generator | None, level: int | None = None
    ) -> tuple[Tensor, Tensor]:
        """Images in [-1, 1] at uniform training steps, of one level or all, and these; for what reads noisy images."""
        alpha_bar = Schedule(self.schedule).alpha_bar.to(value.device)
        first, last = (0, LEVELS) if level is None else (level, level + 1)
        first, last = (part * len(alpha_bar) // LEVELS for part in (first, last))
        timestep = torch.randint(first, last, (len(value),), generator=generator, device=value.device)
        e = torch.randn(value.shape, generator=generator, device=value.device, dtype=value.dtype)
        share = alpha_bar[timestep].reshape(-1, 1, 1, 1)
        return share.sqrt().to(value.dtype) * (2 * value - 1) + (1 - share).sqrt().to(value.dtype) * e, timestep

    def condition(self, noise: Noise, parents: Parents) -> Float[Tensor, "batch features"]:  # noqa: D102
        if not self.told:
            return self._nothing(len(noise["u"]))
        if not next(self.network.embed.parameters()).any():
            raise ValueError(
                f"{type(self).__name__}: by={self.by!r} asks the generator, which was trained without parents; lead it "
                f"by={self.leaders[0]!r}"
            )
        return super().condition(noise, parents)

    @property
    def told(self) -> bool:
        """Whether the generator is told the parents."""
        return self.by in TOLD

    @property
    def scalable(self) -> bool:  # noqa: D102
        return self.told and super().scalable

    def _nothing(self, rows: int) -> Tensor:
        return self.network.null.expand(rows, -1)

    def leading(self, generator: Diffusion) -> Self:
        """The same leader before another generator: what reads noisy images can lead any denoiser of them.

        Readers go on steering.

        Args:
            generator: fitted to the same images, on the same schedule, and either to the same parents, with a null
                token, or to none; its network is shared.

        Raises:
            TypeError: it is no diffusion mechanism.
            ValueError: it is of other images, parents, scales or schedule, or has no null token.

        Example:
            `scm.using(image=nscm.mechanism("image").leading(scm.mechanism("image")))`
        """
        self._check(generator)
        network = ("widths", "blocks", "attention", "patch", "refine", "prediction", "null_probability")
        options = {name: getattr(generator, name) for name in network}
        made = type(self)(**{**self.config(), **options}).build(self.variable, self.parents)
        made.to(self.device, self.dtype)
        own = {name: part for name, part in self.state_dict().items() if not name.startswith("network.")}
        shared = {f"network.{name}": part for name, part in generator.network.state_dict().items()}
        if not generator.parents:  # it is told nothing: weights of 0 for what it would be told
            for name in ("network.null", "network.embed.0.weight"):
                shared[name] = torch.zeros_like(made.state_dict()[name])
        made.load_state_dict({**own, **shared}, assign=True)
        made.fitted = True
        return self._steered(made.train(self.training))

    def _check(self, generator: object) -> None:
        """Raise if this cannot lead that generator."""
        kind, other = type(self).__name__, type(generator).__name__
        if not isinstance(generator, Diffusion):
            raise TypeError(
                f"{kind}.leading: expected a diffusion mechanism, for example scm.mechanism('image') where that is a "
                f"SpatialDiffusion, got {other}"
            )
        if not (self.fitted and generator.fitted):
            raise ValueError(f"{kind}.leading: expected two fitted mechanisms; fit the {other} and this {kind} first")
        if generator.parents and list(generator.parents) != list(self.parents):
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
        if generator.code_width or (generator.parents and generator.null_probability == 0):
            raise ValueError(
                f"{kind}.leading: the generator is asked without parents and without a code, which this {other} was "
                "not trained for; give a SpatialDiffusion with null_probability=0.1"
            )
        if not generator.parents and self.told:
            raise ValueError(
                f"{kind}.leading: by={self.by!r} asks the generator, and this {other} has no parents; lead it "
                f"by={self.leaders[0]!r}"
            )
        if generator.parents and not self.features.agrees(generator.features):
            raise ValueError(
                f"{kind}.leading: its factors have other means or spreads than those of this {other}, which was "
                "fitted to other rows; fit both to the same"
            )

    def abduct(self, value: Tensor, parents: Parents, units: Units, key: str) -> Noise:
        """Invert the generator without a condition, and keep the factual parents."""
        factual = self.features(parents, len(value))
        known = {} if self.by == "parents" else {"f": factual}
        condition = factual if self.told else self._nothing(len(value))
        return self._inverted(value, condition, parents, units, key, known)[0]

    def predict(self, noise: Noise, parents: Parents) -> Tensor:  # noqa: D102
        before = replace(self.pulls)
        value = super().predict(noise, parents)
        own = self.pulls.since(before)
        if own.share > MANY or (not own.cut and own.longest > max(LONG, before.longest)):
            log.warning(
                "%s: limit=%g cut %.0f %% of the pulls short, where size=%g asks for up to %.3g standard deviations of "
                "the noise; lower size, or images leave what the generator knows",
                *(type(self).__name__, self.limit, 100 * own.share, self.sized, own.longest),
            )
        return value

    def _guidance(self, noise: Noise, parents: Parents | None = None) -> Guidance:
        base = super()._guidance(noise, parents)
        if self.by == "parents" or parents is None:
            return base
        refuse_inference_mode(f"{type(self).__name__}(by={self.by!r})")
        return base + self._pull(noise, parents, SCALES[self.scale](self.sized))

    @abstractmethod
    def _pull(self, noise: Noise, parents: Parents, scale: Scale) -> Guidance:
        """What leads the steps to these parents, given the factual ones in "f", where there are any."""
