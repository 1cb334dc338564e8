"""DiME: guided by a classifier of the clean image that each noisy one leads to, found by a whole trajectory."""

from __future__ import annotations

from causalcf.diffusion.ancestral import Ancestral
from causalcf.diffusion.descent import Chain, Estimate
from causalcf.diffusion.guidance import NoGuidance, guided
from causalcf.diffusion.schedule import Levels
from causalcf.diffusion.solvers import Sampler
from causalcf.explain.explainer import Attempt
from causalcf.explain.returning import Returning


class DiME(Returning):
    """The classifier is asked about the end of a trajectory of its own (Jeanneret et al., ACCV 2022).

    At every step the clean image is found by ancestral steps without guidance, down from the noisy image: the sum over
    k of k network calls, 1830 at a depth of 60. Options are those of `Returning`.
    """

    def estimate(self, attempt: Attempt, levels: Levels) -> Estimate:
        """How clean images are found."""
        free = guided(attempt.generator.denoiser(levels), attempt.generator.nothing(len(attempt.factual)), NoGuidance())

        def inner(start: int) -> Sampler:
            return Ancestral(attempt.draw(f"inner.{start}"), self.variance)

        return Chain(free, inner, attempt.factual)
