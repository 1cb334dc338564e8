"""LDCE: a classifier's gradient, where a conditional generator agrees with it."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from causalcf.diffusion.consensus import OVERWRITES, Consensus, Overwrite
from causalcf.diffusion.guidance import guided
from causalcf.diffusion.solvers import DDIM, Explicit, noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, Parity, steps_back

log = logging.getLogger(__name__)


def _told(k: int, share: Tensor) -> None:
    log.info("level %d: of the blocks agree %s", k, ", ".join(f"{value:.3f}" for value in share.tolist()))


class LDCE(Explainer):
    r"""Partial noising, and DDIM steps back under consensus guidance (Farid et al., 2023).

    Needs a generator that can be told the target: a class-conditional or text-conditional one. The classifier is asked
    about the image that the clean estimate decodes to, and its gradient goes through decoder and network; it counts
    where it points where the generator's `e(c) - e(null)` points. Source: https://arxiv.org/abs/2310.06668.

    Published code noises one level higher than it steps back from, and keeps blocks whose angle is not a number, those
    without length for example. How many blocks were kept is logged at every step.

    Args:
        steps: of the whole chain.
        strength: which share of them is taken back.
        class_weight: of the classifier's gradient.
        distance_weight: of the L1 distance's.
        angle: between gradient and generator up to which a block is kept, in degrees; 180 keeps everything.
        block: side of a block, in places of what is diffused.
        overwrite: what blocks that are not kept become: "zero", as published; "unconditional", the paper's other way;
            or "cone", ours, the nearest direction within the angle. See `causalcf.diffusion.consensus.Consensus`.
        scales: of both gradients; rows that do not flip at one are tried again at the next.
        parity: "published" or None.
        batch: rows at a time.
        seed: of all noise.
    """

    tells = True

    def __init__(
        self,
        steps: int = 500,
        strength: float = 0.382,
        class_weight: float = 4.0,
        distance_weight: float = 3.3,
        angle: float = 55.0,
        block: int = 1,
        overwrite: Overwrite = "zero",
        scales: Sequence[float] = (3.0,),
        parity: Parity = None,
        batch: int = 4,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, parity, batch, seed)
        if not 0 < strength <= 1:
            raise ValueError(f"LDCE: expected a strength in (0, 1], got {strength}")
        if not 0 < angle <= 180 or block < 1 or overwrite not in OVERWRITES:
            raise ValueError(
                f"LDCE: expected an angle in (0, 180], block >= 1, overwrite in {list(OVERWRITES)}, got {angle}, "
                f"{block}, {overwrite!r}"
            )
        if class_weight < 0 or distance_weight < 0:
            raise ValueError(f"LDCE: expected weights >= 0, got {class_weight} and {distance_weight}")
        self.steps, self.strength, self.angle, self.block = steps, strength, angle, block
        self.class_weight, self.distance_weight = class_weight, distance_weight
        self.overwrite: Overwrite = overwrite

    @property
    def depth(self) -> int:
        """Steps that are taken back."""
        return steps_back(self.strength, self.steps)

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        generator, query, rows = attempt.generator, attempt.query, attempt.rows
        levels, decode = generator.levels(self.steps), generator.codec.decode
        start = min(self.depth + (self.parity == "published"), levels.steps)
        x = noised(attempt.factual, attempt.draw("start", fresh=False)(0), start, levels)

        def distance(clean: Tensor) -> Tensor:
            return (2 * (decode(clean).clamp(0, 1) - attempt.images).abs()).flatten(1).sum(1)

        guidance = Consensus(
            attempt.told(query.target[rows]),
            lambda clean: query.loss(decode(clean), rows, "log-probability"),
            distance,
            (self.class_weight, self.distance_weight),
            attempt.scale,
            self.angle,
            self.block,
            self.overwrite,
            _told,
            lenient=self.parity == "published",
        )
        model = guided(generator.denoiser(levels), generator.nothing(len(x)), guidance)
        x = generate(model, x, levels, DDIM(Explicit()), depth=self.depth)
        return decode(x), torch.ones_like(attempt.images[:, :1], dtype=torch.bool)
