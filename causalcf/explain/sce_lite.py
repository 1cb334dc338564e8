"""SCE-LITE-HQ: gradients of a smoothed surrogate at the clean estimate, under a mask; no gradient of the generator.

And `Told`, our own: the same of a generator that is told what is to become of the image.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor

from causalcf.diffusion.descent import Descent, Lagging, OneStep, Term, beyond, clipped, sparse, stepwise
from causalcf.diffusion.guidance import guided
from causalcf.diffusion.masks import Blurred, Mask, moved, outstanding, refuse_even
from causalcf.diffusion.pasting import Pasted
from causalcf.diffusion.schedule import FlowSchedule, Levels
from causalcf.diffusion.solvers import DDIM, Explicit, noised
from causalcf.diffusion.trajectory import generate
from causalcf.explain.explainer import Attempt, Explainer, Parity, steps_back
from causalcf.explain.inputs import refuse_unknown
from causalcf.explain.queries import LossForm


class Stepping(Explainer):
    r"""Deterministic steps back from a depth, each followed by a step down the gradient.

    `z <- z - rate grad (s L_class(surrogate(D(z0))) + lambda_1 |z0 - z_f| + lambda_2 |z0 - z_f|_2)` at the clean
    estimate z0, which costs no further pass; where the decoded estimate has not moved, the factual one is put back, at
    the noise of the level. With a rectified flow the step is Euler's. Further explanations of the same row keep out of
    the places that earlier ones changed.

    Args:
        surrogate: images in [0, 1] -> logits, whose gradients are taken; None takes the classifier's own. Whether a row
            flipped is always the classifier's word.
        steps: of the whole chain.
        strength: which share of them is taken back.
        rate: of the gradient steps.
        l1: lambda_1.
        l2: lambda_2.
        threshold: of the blurred difference from which on a pixel may change; published, a share of the row's largest.
        blur: side of the square that blurs, in pixels.
        limit: published, of the entries of the gradients' sum; None for none.
        warmup: share of the steps taken before there is a mask.
        scales: s, of the class term; rows that do not flip at one are tried again at the next.
        loss: "logit" or "log-probability".
        parity: "published" or None.
        batch: rows at a time.
        seed: of all noise.
    """

    def __init__(
        self,
        surrogate: Any = None,
        steps: int = 25,
        strength: float = 0.6,
        rate: float = 0.1,
        l1: float = 0.02,
        l2: float = 0.0,
        threshold: float = 0.03,
        blur: int = 5,
        warmup: float = 0.3,
        limit: float | None = None,
        scales: Sequence[float] = (1.0, 2.0, 4.0),
        loss: LossForm = "log-probability",
        parity: Parity = None,
        batch: int = 8,
        seed: int = 0,
    ) -> None:
        super().__init__(scales, parity, batch, seed)
        kind = type(self).__name__
        refuse_unknown(kind, loss)
        refuse_even(blur)
        if not 0 < strength <= 1 or not 0 <= warmup < 1:
            raise ValueError(f"{kind}: expected strength in (0, 1] and warmup in [0, 1), got {strength} and {warmup}")
        if not (rate > 0 and (limit is None or limit > 0)) or l1 < 0 or l2 < 0 or threshold < 0:
            raise ValueError(
                f"{kind}: expected rate and limit > 0, l1, l2, threshold >= 0, got "
                f"{rate}, {limit}, {l1}, {l2}, {threshold}"
            )
        self.surrogate, self.steps, self.strength, self.rate = surrogate, steps, strength, rate
        self.l1, self.l2, self.threshold, self.blur, self.warmup = l1, l2, threshold, blur, warmup
        self.limit = limit
        self.loss: LossForm = loss

    @property
    def depth(self) -> int:
        """Steps that are taken back."""
        return steps_back(self.strength, self.steps)

    @abstractmethod
    def condition(self, attempt: Attempt) -> Tensor:
        """What the generator is told of each row."""

    def attempt(self, attempt: Attempt) -> tuple[Tensor, Tensor]:  # noqa: D102
        generator, factual, published = attempt.generator, attempt.factual, self.parity == "published"
        levels, decode = generator.levels(self.steps), generator.codec.decode
        mask = Blurred(attempt.images, decode, self.threshold, self.blur, attempt.locked)
        mask.start = int(self.depth * (1 - self.warmup) + 1e-9)  # 1 - 0.8 is a little less than 0.2
        mask.differs, mask.both = outstanding if published else moved, published
        descent = self.descent(attempt, mask)
        descent.begin()
        x = self.begun(attempt, levels)
        model = guided(generator.denoiser(levels), self.condition(attempt), descent)
        sampler = Pasted(DDIM(Explicit()), mask, factual, attempt.draw("paste"), late=published)
        x = generate(model, x, levels, sampler, depth=self.depth)
        where = mask.pixels
        if where is None:
            return decode(x), torch.ones_like(attempt.images[:, :1], dtype=torch.bool)
        if published:
            return decode(mask.kept(x, factual)), where
        return torch.where(where, decode(x), attempt.images), where

    def descent(self, attempt: Attempt, mask: Mask) -> Descent:
        """What steps go down."""
        factual, decode, query = attempt.factual, attempt.generator.codec.decode, attempt.query.through(self.surrogate)

        def chosen(clean: Tensor) -> Tensor:
            return query.loss(decode(clean), attempt.rows, self.loss)

        def near(x: Tensor) -> Tensor:
            away = (x - factual.to(x)).flatten(1)
            return self.l1 * away.abs().sum(1) + self.l2 * away.square().sum(1).add(1e-12).sqrt()

        if self.parity == "published":
            terms = Term(chosen, attempt.scale, leads=True, shape=sparse), Term(near, 1.0, of="noisy")
            estimate, shape = Lagging(factual, beyond), partial(clipped, limit=self.limit)
            return Descent(terms, estimate, factual, mask, stepwise, self.rate, divided=False, shape=shape)
        terms = Term(chosen, attempt.scale, leads=True), Term(near, 1.0)
        return Descent(terms, OneStep(), factual, mask, stepwise, self.rate, divided=False)

    def begun(self, attempt: Attempt, levels: Levels) -> Tensor:
        """The factual images, noised to where the steps begin."""
        factual, schedule = attempt.factual, attempt.generator.schedule
        e = attempt.draw("start", fresh=False)(0)
        if self.parity == "published" and isinstance(schedule, FlowSchedule):
            t = levels.sigma[self.depth].item()
            t = t / (schedule.shift - (schedule.shift - 1) * t)
            return (1 - t) * factual + t * e
        return noised(factual, e, self.depth, levels)


class SCELiteHQ(Stepping):
    r"""Steps back of a generator that is told nothing, under gradients of a smoothed surrogate (Bender et al.).

    Source: https://arxiv.org/abs/2603.17048.

    The paper prints an exclusion mask that freezes what did not change; it is meant, and done here, the other way. It
    prints no values of the weights; the defaults here are ours.

    Published code takes gradients of the class at the estimate of the step before, the first at the factual image, and
    reads estimates off what a step reaches as if it were still at the level left; it drops entries below a tenth of the
    largest, takes the distance of the noisy image, shortens the sum, puts the factual image back at the noise of the
    level left, in codes, and masks what stands out of the blurred difference. Of a flow with shifted times it begins
    with the noise of the time before the shift.

    Args: those of `Stepping`.
    """

    def condition(self, attempt: Attempt) -> Tensor:  # noqa: D102
        return attempt.generator.nothing(len(attempt.rows))


class Told(Stepping):
    r"""SCE-LITE-HQ of a generator that is told the target, and what else the image shows; a combination of our own.

    Needs a generator that can be told classes. SCE-LITE-HQ asks it for any image at all, and leaves all of the target
    to the surrogate's gradient; told the target, every step is one towards such an image, and the gradient has less to
    do. With readers (`generators.from_scm`) what they read stays as it is.

    Args:
        surrogate: as for `Stepping`, and so are all options; there is no published form.
        options: of `Stepping`.
    """

    tells = True

    def __init__(self, surrogate: Any = None, **options: Any) -> None:
        if options.get("parity") is not None:
            raise ValueError(f"Told: there is no {options['parity']} form; leave parity out, or take SCELiteHQ")
        super().__init__(surrogate, **options)

    def condition(self, attempt: Attempt) -> Tensor:  # noqa: D102
        return attempt.told(attempt.query.target[attempt.rows])
