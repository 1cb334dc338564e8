"""Diffusion guided by causal representations: factors are read at every level, and pulled through their equations."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from causalcf.diffusion.gradient import Scale, Towards
from causalcf.diffusion.guidance import Guidance
from causalcf.diffusion.schedule import Schedule
from causalcf.mechanisms import structure as structures
from causalcf.mechanisms.base import Noise, Parents
from causalcf.mechanisms.led import Form, LedDiffusion
from causalcf.networks.projector import Equations
from causalcf.numbers import finite, truth, whole
from causalcf.variables import Categorical

log = logging.getLogger(__name__)

ENDLESS = ("empirical", "ancestral")  # forms of the scale whose pull is as long near the target as far from it


class NSCMDiffusion(LedDiffusion):
    r"""A diffusion model led to its counterfactual by a projector and structural equations of the factors.

    Three networks are trained together: a generator, a projector `h(x_t, t)` that reads the factors from noisy images,
    and non-parametric structural equations `z_k = s_k(pa_k) + u_k` over them. Abduction inverts the generator without
    any condition. Prediction pulls every step towards the counterfactual factors: those that were intervened on, and
    those without causes, are read by the projector itself; the others through their equations, with their own noise,
    so that they are moved by moving their causes. How strongly is the self-adjusting `lambda_t`. Source: Zhu et al.,
    "DiffusionCounterfactuals" (2024), https://arxiv.org/abs/2407.20553; reconstructed, since no code is public.

    The generator is also told the factors in some of the training rows, so that the same weights can be asked by
    classifier-free guidance instead, `by="parents"`.

    Args:
        structure: factor -> the factors it listens to, one that is not named listens to none. None takes the edges of
            the SCM's graph, other edges than those are logged. "learned" learns soft gates under an acyclicity penalty;
            those that end more than half open are edges, see `graph`. They mostly end less than half open, with noise
            in the equations or without, and then no factor has causes: let `cf.discover` propose a graph instead.
        by: what leads prediction, the "nscm", or the "parents" as in `SpatialDiffusion`, or "both": the generator is
            told the factors, and what it draws is led to them as well.
        scale: the form of `lambda_t`: "balanced" a priori by the norm of the Jacobian, "empirical" by that of the
            gradient, "ancestral" by the step's variance, or "constant".
        size: its multiplier; None is what did well on drawn scenes: 0.1, of "ancestral" 0.03, and of a constant 1,
            which is what the projector's spreads say. Choose it on rows that you do not report on.
        limit: the longest pull, in standard deviations of the level's noise.
        stop: misses below it, in spreads of the projector's error, do not pull. None is 0.5 for "empirical" and
            "ancestral", whose pulls do not die out near the target, and 0 for the others, whose pulls do.
        probes: random vectors that estimate the Jacobian's norm, others in each row and at each level, which the noise
            of the row decides; 0 computes the norm.
        projector: channels of the projector after each halving of the resolution.
        hidden: width of the networks of the equations.
        sparsity: price of an edge where the structure is learned.
        direct: whether factors with causes are read as well, and pulled to what the SCM predicts for them, instead of
            being led through their equations, by their causes alone. This is ours; it moves more and errs less.
        options: those of `Diffusion`.
    """

    leaders = ("nscm", "parents", "both")
    trained = LedDiffusion.trained | {"structure"}

    def __init__(
        self,
        structure: Mapping[str, Sequence[str]] | Literal["learned"] | None = None,
        by: Literal["nscm", "parents", "both"] = "nscm",
        scale: Form = "balanced",
        size: float | None = None,
        limit: float = 3.0,
        stop: float | None = None,
        probes: int = 0,
        projector: Sequence[int] = (32, 64, 64),
        hidden: int = 32,
        sparsity: float = 0.01,
        direct: bool = False,
        null_probability: float = 0.5,
        **options: Any,
    ) -> None:
        super().__init__(by, scale, size, limit, projector, null_probability, **options)
        self.stop, self.tolerated = stop, stop if stop is not None else 0.5 if scale in ENDLESS else 0.0
        finite("NSCMDiffusion", 0, stop=self.tolerated, sparsity=sparsity)
        whole("NSCMDiffusion", 0, probes=probes)
        whole("NSCMDiffusion", 1, hidden=hidden)
        self.structure: structures.Structure = structures.given("NSCMDiffusion", structure)
        truth("NSCMDiffusion", direct=direct)
        self.probes, self.hidden, self.sparsity = probes, hidden, sparsity
        self.direct = direct

    def config(self) -> dict[str, Any]:  # noqa: D102
        own = {name: getattr(self, name) for name in ("structure", "stop", "probes", "hidden", "sparsity")}
        return {**own, **({"direct": True} if self.direct else {}), **super().config()}

    def _build(self) -> None:
        classes = [name for name, variable in self.parents.items() if isinstance(variable, Categorical)]
        if classes:
            raise TypeError(
                f"NSCMDiffusion: {classes[0]} is categorical, and factors are numbers; declare it otherwise"
            )
        super()._build()
        mask = structures.mask("NSCMDiffusion", self.structure, list(self.parents))
        self.equations = Equations(len(self.parents), mask, self.hidden)

    def _relate(self, causes: Mapping[str, Sequence[str]]) -> None:
        self.structure = structures.settled("NSCMDiffusion", self.structure, causes)

    def loss(self, value: Tensor, parents: Parents, generator: torch.Generator | None = None) -> Tensor:
        """The errors of the three parts; the projector reads images at noise levels of its own."""
        z = self.features(parents, len(value))
        x, timestep = self._noised(value, generator)
        read = self.projector.loss(x, timestep, z)
        return self._error(value, z, generator) + read + self.equations.loss(z) + self.equations.penalty(self.sparsity)

    @torch.no_grad()
    def settle(self, value: Tensor, parents: Parents) -> None:  # noqa: D102
        super().settle(value, parents)
        if self.equations.learned and not any(self.graph().values()):
            log.warning(
                "NSCMDiffusion: no learned gate ended more than half open (the widest at %.2f), so every factor is "
                "read and none led through an equation; give structure=cf.discover(rows).structure",
                self.equations.adjacency().max(),
            )

    @torch.no_grad()
    def graph(self) -> dict[str, list[str]]:
        """Factor -> the factors it listens to: as given, or the learned gates that ended more than half open.

        Example:
            `cf.training.discovery.hamming(scm.mechanism("image").graph(), true)`
        """
        names, edges = list(self.parents), self.equations.edges() > 0
        return {
            name: [names[cause] for cause in heard.nonzero()[:, 0]] for name, heard in zip(names, edges, strict=True)
        }

    @torch.no_grad()
    def read(self, images: Float[Tensor, "batch channel height width"]) -> dict[str, Float[Tensor, " batch"]]:
        """The factors that the projector alone reads from images in [0, 1], in their own units.

        Noisy images are read by `projector(x, timestep)` itself, standardised.

        Example:
            `scm.mechanism("image").read(rows["image"])["angle"]`
        """
        self.variable.check("image", images)
        share = Schedule(self.schedule).alpha_bar[0].sqrt().item()
        start = torch.zeros(len(images), dtype=torch.long, device=self.device)
        return self.features.decode(self.projector(share * (2 * images.to(self.device, self.dtype) - 1), start))

    @torch.no_grad()
    def follow(self, factors: Parents, **changed: float | Tensor) -> dict[str, Float[Tensor, " batch"]]:
        """What the equations alone make of an intervention on factors: the others follow, with their own noise.

        `z_k* = s_k(pa_k*) + z_k - s_k(pa_k)`. In an SCM the mechanisms of the factors say this, with densities of any
        shape; these equations are what pulls are led through.

        Args:
            factors: the factual ones, shape `(B,)` each.
            changed: factor -> its new value, a number or one per row.

        Raises:
            ValueError: what is changed is no factor of this image.

        Example:
            `scm.mechanism("image").follow(rows, angle=0.3)["length"]`
        """
        unknown = [name for name in changed if name not in self.parents]
        if unknown:
            raise ValueError(f"follow: expected factors of {', '.join(self.parents)}, got {unknown[0]!r}")
        rows = len(next(iter(factors.values())))
        new = {name: torch.as_tensor(value).to(factors[name]).expand(rows) for name, value in changed.items()}
        z, edges = self.features(factors, rows), self.equations.edges()
        u, target = z - self.equations(z, edges), self.features({**factors, **new}, rows)
        led = (edges > 0).any(1) & torch.tensor([name not in new for name in self.parents], device=z.device)
        after = target
        for _ in self.parents:  # causes first, whatever their order: no path is longer
            after = torch.where(led, self.equations(after, edges) + u, target)
        return self.features.decode(after)

    def act(self, noise: Noise, intervened: Collection[str]) -> Noise:
        """The noise, and in "do" which factors were intervened on, for `predict` and `caused`.

        Where it is left out they guess: a factor that is not where its equation and the factual noise put it was.
        """
        return structures.marked(noise, self.parents, intervened)

    def caused(self, noise: Noise, parents: Parents) -> Bool[Tensor, "batch factor"]:
        """Which factors prediction leads through their equations: those with causes that were not intervened on.

        None of them if it leads `direct`.
        """
        target = self.features(parents, len(noise["u"]))
        return self._caused({"f": target, **noise}, target)

    @torch.no_grad()
    def _caused(self, noise: Noise, target: Tensor) -> Tensor:
        edges = self.equations.edges()
        listens = (edges > 0).any(1) & (not self.direct)
        return listens & ~(noise["do"] if "do" in noise else self.equations.intervened(noise["f"], target, edges))

    def _pull(self, noise: Noise, parents: Parents, scale: Scale) -> Guidance:
        target = self.features(parents, len(noise["u"]))
        noise = {"f": target, **noise}
        with torch.no_grad():
            edges = self.equations.edges()
            own = noise["f"] - self.equations(noise["f"], edges)
        through = self._caused(noise, target)

        def reads(x: Tensor, timestep: Tensor) -> Tensor:
            z = self.projector(x, timestep)
            return torch.where(through, self.equations(z, edges) + own, z)

        drawn = noise["e" if "e" in noise else "u"].flatten(1)[:, 0].double()
        seed = (2**24 * drawn).round().long()  # what rounds otherwise in another batch is the same row
        options = (scale, self.limit, self.tolerated, self.probes, seed, self.pulls, tuple(self.parents))
        return Towards(reads, target, self.projector.spread, *options)
