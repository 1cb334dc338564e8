"""What all diffusion mechanisms of images share: network, training, and the trajectory between image and noise."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Literal, Self

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion import edits
from causalcf.diffusion.by_name import solver_named
from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser, Images
from causalcf.diffusion.guidance import Anchored, ClassifierFree, Guidance, Memory, NoGuidance, guided
from causalcf.diffusion.readers import BETWEEN
from causalcf.diffusion.replay import Replay, residuals
from causalcf.diffusion.schedule import Kind, Schedule, Spacing
from causalcf.diffusion.solvers import noised
from causalcf.diffusion.trajectory import Watch, generate, invert
from causalcf.hardware import Precision, autocast, known
from causalcf.mechanisms.base import Mechanism, Noise, Parents, Recipe, as_recipe, recipe_config
from causalcf.mechanisms.image import ImageMechanism
from causalcf.mechanisms.steering import By, Steering
from causalcf.networks.unet import ConditionalUNet
from causalcf.numbers import finite, number, truth, whole
from causalcf.units import Units

RECIPE = Recipe(
    steps=6000,
    batch=64,
    learning_rate=2e-3,
    weight_decay=0.01,
    ema=0.999,
    precision="auto",
    checkpoint=250,
)


class Diffusion(ImageMechanism):
    r"""A conditional diffusion model of an image whose noise is found by following its own trajectory backwards.

    Prediction is guided by `e = e(null) + omega (e(c) - e(null))`; abduction follows the condition alone, or is guided
    by the same.

    The lowest level of a trajectory is not free of noise: its images are `alpha_0 x + sigma_0 e`. An observed image is
    put there by noise of its unit, which is part of what is abducted and is taken off again after prediction. Without
    it, whatever has no spread in the data (a black background) is abducted as no noise at all, where prediction
    was never trained.

    Noise sites: "u", the image-shaped noise of the highest level; "e", that of the lowest; "w", the second image of a
    reversible solver; "r", the residuals of replay, one image per level; "c", the factual condition, where guidance
    refers to it; "h.<parent>", by how much a reader of the factual image is off, or its class, where readers steer;
    "o", the observed image, "n" and "m", noisy ones on its trajectory and the clean ones they mean, where `edit` keeps
    the rest.

    Args:
        widths: channels of the UNet at each resolution.
        blocks: residual blocks at each resolution.
        attention: whether the coarsest resolution attends to itself.
        patch: side of the squares of pixels that the UNet takes as one; 2 saves the finest resolution.
        refine: channels of a shallow network behind it that sees pixels, which takes away the noise that does not pass
            through large patches; 0 for none.
        schedule: "linear" or "cosine".
        prediction: what the network outputs, "epsilon", "v", "x0", or "scaled", which is v for data of spread 1/4 and
            suits large patches.
        steps: noise levels visited by abduction, and by prediction.
        spacing: of these levels, "uniform", "quadratic", "log-snr" or "fine log-snr", for few steps.
        lowest: the training step where trajectories begin and end. At levels whose noise the network cannot tell from
            the image, abduction loses it; begin above them, at a step where it can.
        solver: how both directions are taken: "ddim" with fixed-point inversion; "explicit ddim", whose inversion takes
            the first-order guess; "2m", of second order, for few steps; "bidirectional ddim", "belm" or "edict", which
            are reversible.
        mixing: the gamma of "bidirectional ddim", in (0, 1], or the p of "edict", in (0.5, 1]; None is the scheme's own
            default, 1 and 0.93.
        replay: whether abduction also records what each step down misses, so that the factual image is retraced
            exactly by any solver and guidance; costs memory for one image per level, one call more ("ddim" and "edict":
            one or two per level, as they asked elsewhere on their way up; other reversible schemes: none) and, with
            guidance, one branch per level.
        passes: the most network calls of one fixed-point step of "ddim".
        tolerance: the change of a pixel, in parts of the level's noise, at which a fixed-point step stops.
        omega: guidance scale of prediction; 1 is none.
        reference: what guidance pushes away from: the learned "null" token, or the "factual" condition, which makes
            composition hold at any omega but overshoots by `omega - 1` of the effect.
        inversion: what abduction follows: the "condition" alone, or the "guided" noise, with which guidance retraces
            the factual image where the inversion converges, and the noise pays for it: it loses its unit spread.
        edit: keeps the observed pixels but those that the network means otherwise under the new parents, by at least
            this much of 1, or beside such a pixel; 0.3 is a good value where parents change parts of an image. It is
            judged by three calls in prediction, and by up to three in abduction, at levels of the image's trajectory.
            None lets all change.
        null_probability: how often training replaces the parents by the null token, which guidance needs.
        precision: of the network in abduction and prediction, as in `Recipe`.
        compiled: whether torch.compile makes code for the network at its first call; worth it for many rows.
        recipe: of the training.
    """

    exact = False
    remainder = "e"
    stochastic_abduction = True
    trained = frozenset({"null_probability", "prediction", "schedule"})
    steering: Steering = Steering()

    def __init__(
        self,
        widths: Sequence[int] = (32, 64, 64),
        blocks: int = 1,
        attention: bool = False,
        patch: int = 1,
        refine: int = 0,
        schedule: Kind = "linear",
        prediction: Literal["epsilon", "v", "scaled", "x0"] = "epsilon",
        steps: int = 50,
        spacing: Spacing = "log-snr",
        lowest: int = 0,
        solver: Literal["ddim", "explicit ddim", "2m", "bidirectional ddim", "belm", "edict"] = "ddim",
        mixing: float | None = None,
        replay: bool = False,
        passes: int = 8,
        tolerance: float = 1e-4,
        omega: float = 1.0,
        reference: Literal["null", "factual"] = "null",
        inversion: Literal["condition", "guided"] = "condition",
        edit: float | None = None,
        null_probability: float = 0.1,
        precision: Precision = "float32",
        compiled: bool = False,
        recipe: Recipe | Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        kind = type(self).__name__
        if prediction not in PREDICTIONS:
            raise ValueError(f"{kind}: expected prediction in {list(PREDICTIONS)}, got {prediction!r}")
        if reference not in ("null", "factual"):
            raise ValueError(f"{kind}: expected reference 'null' or 'factual', got {reference!r}")
        if inversion not in ("condition", "guided"):
            raise ValueError(f"{kind}: expected inversion 'condition' or 'guided', got {inversion!r}")
        if inversion == "guided" and reference == "factual":
            raise ValueError(
                f"{kind}: inversion='guided' has no effect with reference='factual', whose guidance cancels on the "
                "factual image; leave one of the two out"
            )
        finite(kind, -math.inf, omega=omega)
        finite(kind, 0, tolerance=tolerance, null_probability=null_probability)
        whole(kind, 0, refine=refine)
        truth(kind, attention=attention, replay=replay, compiled=compiled)
        if edit is not None and not (number(edit) and 0 < edit < 1):
            raise ValueError(f"{kind}: expected 0 < edit < 1, or None to let all pixels change, got {edit!r}")
        known(kind, precision)
        if null_probability >= 1:
            raise ValueError(f"{kind}: expected 0 <= null_probability < 1, got {null_probability}")
        if omega != 1 and null_probability == 0 and reference == "null":
            raise ValueError(
                f"{kind}: omega={omega} needs a trained null token, but null_probability=0 never trains it; "
                "set null_probability=0.1 and train again, or omega=1"
            )
        Schedule(schedule).levels(steps, spacing, bottom=lowest)
        self.scheme = solver_named(kind, solver, steps, passes, tolerance, mixing)
        self.widths, self.blocks, self.attention, self.patch = tuple(widths), blocks, attention, patch
        self.refine, self.lowest = refine, lowest
        self.schedule: Kind = schedule
        self.spacing: Spacing = spacing
        self.prediction, self.steps = prediction, steps
        self.solver, self.mixing = solver, mixing
        self.replay, self.passes, self.tolerance = replay, passes, tolerance
        self.reference, self.inversion, self.edit, self.compiled = reference, inversion, edit, compiled
        self.precision: Precision = precision
        self.omega, self.null_probability = omega, null_probability
        self.recipe = as_recipe(recipe, RECIPE)

    def config(self) -> dict[str, Any]:  # noqa: D102
        return {
            "widths": list(self.widths),
            **{name: getattr(self, name) for name in ("blocks", "attention", "patch", "schedule", "prediction")},
            **{name: getattr(self, name) for name in ("steps", "spacing", "solver", "replay", "passes")},
            **{name: getattr(self, name) for name in ("tolerance", "omega", "reference", "inversion")},
            **{name: getattr(self, name) for name in ("null_probability", "precision", "compiled")},
            # a model without these is told as it was before they were known
            **{name: value for name in ("refine", "lowest", "mixing", "edit") if (value := getattr(self, name))},
            "recipe": recipe_config(self.recipe),
        }

    def _build(self) -> None:
        super()._build()
        channels, height, width = self.variable.shape
        self.network = ConditionalUNet(
            channels,
            (height, width),
            self.code_width + self.features.width,
            self.widths,
            self.blocks,
            self.attention,
            self.patch,
            self.refine,
        )
        if self.compiled:
            self.network.compile()

    @property
    def code_width(self) -> int:
        """The width of what the network is told before the parents' features."""
        return 0

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """Mean over pixels of the squared error of the network's output at a uniform training step."""
        return self._error(value, self.features(parents, len(value)), generator)

    def _error(self, value: Tensor, condition: Tensor, generator: torch.Generator | None) -> Tensor:
        count, device = len(value), value.device
        alpha_bar = Schedule(self.schedule).alpha_bar.to(device)
        timestep = torch.randint(len(alpha_bar), (count,), generator=generator, device=device)
        e = torch.randn(value.shape, generator=generator, device=device, dtype=value.dtype)
        drop = torch.rand(count, generator=generator, device=device) < self.null_probability
        share = alpha_bar[timestep].reshape(-1, 1, 1, 1)
        alpha, sigma = share.sqrt().to(value.dtype), (1 - share).sqrt().to(value.dtype)
        x0 = 2 * value - 1
        condition = self.network.dropped(condition, drop, self.kept)
        output = self.network(alpha * x0 + sigma * e, timestep, condition)
        target = PREDICTIONS[self.prediction].target(x0, e, alpha, sigma)
        return (output.to(value.dtype) - target).square().flatten(1).mean(1)

    @property
    def kept(self) -> int:
        """How many entries of the condition the null token leaves as they are."""
        return 0

    def steer(
        self,
        readers: Mapping[str, Any],
        by: By = "reading",
        tolerance: Mapping[str, float] | None = None,
        relative: bool | Collection[str] = True,
        between: tuple[float, float] = BETWEEN,
    ) -> Self:
        """The same mechanism with prediction steered by predictors of the parents, which are not saved with it.

        This one goes on as it was; weights are shared.

        Args:
            readers: parent -> what reads it from images in [0, 1], a function or a predictor. Do not judge the
                result by the same predictors.
            by: "reading" changes the clean image as little as it takes for the continuous parents to read as intended;
                "omega" takes, row by row, the smallest guidance scale, from the mechanism's own on, at which all
                parents read as intended; "both" does the one for continuous parents, and the other for classes, in the
                rows whose class is to change.
            tolerance: for "omega": parent -> how far a reading may be off.
            relative: for readings: whether one must change by as much as the parent does, which forgives readers
                their error on this image, or must be the parent's value, which forgives no label its error. Or the
                names of those that must change.
            between: for readings: the least and the largest signal to noise, `alpha / sigma`, at which images are
                read. Readers that look at fewer levels cost less; at least one level must lie between.
        """
        if by != "reading" and not self.scalable:
            raise ValueError(
                f"{type(self).__name__}: steer(by={by!r}) chooses the scale of guidance away from the null token, "
                "which is not what guides here; take by='reading', or reference='null' of another diffusion mechanism"
            )
        if by != "reading" and self.null_probability == 0:
            raise ValueError(
                f"steer: by={by!r} needs a trained null token, but null_probability=0 never trains it; "
                "train with null_probability=0.1, or take by='reading'"
            )
        levels = self._denoiser().levels
        ratios = (levels.alpha[1:] / levels.sigma[1:]).tolist()
        if by != "omega" and not any(between[0] <= ratio <= between[1] for ratio in ratios):
            raise ValueError(
                f"steer: expected between to hold the signal to noise of a level at least, got {between}; the levels "
                f"of these {self.steps} steps have {', '.join(f'{ratio:.3g}' for ratio in ratios)}"
            )
        blank = torch.zeros(2, *self.variable.shape, device=self.device, dtype=self.dtype)
        made: Any = super().but()
        made.steering = Steering.checked(readers, self.parents, by, tolerance, relative, blank, between)
        return made

    @property
    def scalable(self) -> bool:
        """Whether prediction may be guided away from the null token."""
        return self.reference == "null"

    def but(self, kind: type[Mechanism] | None = None, **options: Any) -> Mechanism:
        """As every mechanism's; readers go on steering."""
        made = super().but(kind, **options)
        return self._steered(made) if isinstance(made, Diffusion) else made

    def _steered(self, made: Any) -> Any:
        own = self.steering
        return made.steer(own.readers, own.by, own.tolerance, own.relative, own.between) if own.readers else made

    def _guidance(self, noise: Noise, parents: Parents | None = None) -> Guidance:
        plain = self._unsteered(noise)
        if parents is None:
            return plain
        free = ClassifierFree(self.omega, self.network.null, self.kept)
        return self.steering.guidance(plain, free, noise, parents)

    def _unsteered(self, noise: Noise) -> Guidance:
        if self.omega == 1:
            return NoGuidance()
        if self.reference == "factual" and "c" in noise:
            return Anchored(self.omega, noise["c"])
        if self.null_probability == 0:
            raise ValueError(
                f"{type(self).__name__}: drawn noise has no factual condition for omega={self.omega} to push away "
                "from, and null_probability=0 trained no null token; draw with .but(omega=1)"
            )
        return ClassifierFree(self.omega, self.network.null, self.kept)

    def _autocast(self) -> AbstractContextManager[Any]:
        return autocast(self.precision, self.device)

    def _denoiser(self) -> Denoiser:
        levels = Schedule(self.schedule).levels(self.steps, self.spacing, bottom=self.lowest)
        return Denoiser(self.network, PREDICTIONS[self.prediction], levels)

    def condition(self, noise: Noise, parents: Parents) -> Float[Tensor, "batch features"]:
        """What the network is told of a row, given its noise other than `u`."""
        return self.features(parents, len(noise["u"]))

    @torch.no_grad()
    def _inverted(
        self, value: Tensor, condition: Tensor, parents: Parents, units: Units, key: str, known: Noise | None = None
    ) -> tuple[Noise, list[Images]]:
        """The noise sites of a trajectory, accumulated in float64, beside known ones, and the images it passed."""
        denoiser = self._denoiser()
        levels, solver = denoiser.levels, self.scheme
        followed = NoGuidance() if self.inversion == "condition" else self._unsteered({"c": condition})
        memory: Memory = {}
        model = guided(denoiser, condition, followed, memory if self.keeps_path else None)
        e = units.normal(f"{key}.e", self.variable.shape).to(value.device)
        path = [noised(2 * value.double() - 1, e, 0, levels)]
        keep: Watch = (lambda k, x: path.append(x)) if self.keeps_path else (lambda k, x: None)
        with self._autocast():
            u, *second = invert(model, path[0], levels, solver, watch=keep)
            noise = {**(known or {}), "u": u, "e": e}
            if second:
                noise["w"] = second[0]
            if self.edit is not None:
                seen = [path[k] for k in edits.looks(levels)]
                own = edits.meant(guided(denoiser, condition, NoGuidance(), memory), seen, levels)
                noise |= {"o": value, "n": torch.stack(seen, 1), "m": own}
            noise |= self.steering.offsets(value.to(self.dtype), parents)
            if self.omega != 1 and self.reference == "factual":
                noise["c"] = condition
            if self.replay:
                again = guided(denoiser, condition, self._guidance(noise, parents), memory)
                noise["r"] = torch.stack(residuals(again, path, (u, *second), levels, solver), 1)
        return noise, path

    @property
    def keeps_path(self) -> bool:
        """Whether abduction needs the images it passes through."""
        return self.replay or self.edit is not None

    @torch.no_grad()
    def predict(self, noise: Noise, parents: Parents) -> Tensor:
        """Follow the guided trajectory down from the noise, and keep the image within [0, 1]."""
        denoiser = self._denoiser()
        levels, solver = denoiser.levels, self.scheme
        condition = self.condition(noise, parents)
        model = guided(denoiser, condition, self._guidance(noise, parents))
        start = tuple(noise[site].double() for site in ("u", "w") if site in noise)
        if "r" in noise:
            solver = Replay(solver, noise["r"].unbind(1))
        with self._autocast():
            x = generate(model, start, levels, solver)
            e = noise["e"] if "e" in noise else model(x, 0, None)  # drawn noise ends at the image the network means
        x = (x - levels.sigma[0].item() * e) / levels.alpha[0].item()
        value = ((x + 1) / 2).clamp(0, 1).to(self.features.mean.dtype)
        if self.edit is None or "o" not in noise:
            return value
        with self._autocast():
            own = edits.meant(guided(denoiser, condition, NoGuidance()), noise["n"].unbind(1), levels)
        return torch.where(edits.edited(noise["m"], own, self.edit), value, noise["o"].to(value.dtype))

    def noise_shapes(self) -> dict[str, tuple[int, ...]]:  # noqa: D102
        return {"u": self.variable.shape, "e": self.variable.shape}
