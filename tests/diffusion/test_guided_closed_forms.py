"""What guidance does in the linear-Gaussian world, where it is known: composition, overshoot, and aligned tokens."""

from dataclasses import replace

import pytest
import torch

from causalcf.diffusion.alignment import aligned
from causalcf.diffusion.guidance import Anchored, ClassifierFree, NoGuidance, guided
from causalcf.diffusion.readers import Reading
from causalcf.diffusion.replay import Replay, residuals
from causalcf.diffusion.solvers import DDIM, FixedPoint, move
from causalcf.diffusion.trajectory import generate, invert
from tests.diffusion.linear import LinearModel

EXACT = DDIM(FixedPoint(passes=60, tolerance=1e-12))
OMEGAS = [1.5, 3.0]
STEPS = 100


class Asked:
    """One linear model, an inversion of its images, and the guided ways down from it."""

    def __init__(self, omega, steps):
        self.linear, self.omega = LinearModel(), omega
        self.denoiser = self.linear.denoiser(steps)
        self.levels = self.denoiser.levels
        self.path = [self.linear.x]
        factual = guided(self.denoiser, self.linear.a, NoGuidance())
        self.noise = invert(factual, self.linear.x, self.levels, EXACT, watch=lambda k, x: self.path.append(x))

    def followed(self, a, guidance, missed=None):
        solver = EXACT if missed is None else Replay(EXACT, missed)
        return generate(guided(self.denoiser, a, guidance), self.noise, self.levels, solver)

    def plain(self, a):
        return self.followed(a, ClassifierFree(self.omega, self.linear.null))

    def anchored(self, a):
        return self.followed(a, Anchored(self.omega, self.linear.a))

    def replayed(self, a):
        own = ClassifierFree(self.omega, self.linear.null)
        missed = residuals(guided(self.denoiser, self.linear.a, own), self.path, self.noise, self.levels, EXACT)
        return self.followed(a, own, missed)

    def tokens(self, passes, rate):
        null = self.linear.null.expand(len(self.linear.a), -1)
        return aligned(self.denoiser, self.path, self.linear.a, null, self.omega, passes, rate, 0.0, 1000)

    def aligned(self, a):
        return self.followed(a, Anchored(self.omega, self.tokens(passes=20, rate=0.1)))


REPAIRED = {
    "factual reference": (Asked.anchored, STEPS, 1e-8),
    "residual replay": (Asked.replayed, STEPS, 1e-8),
    "aligned tokens": (Asked.aligned, 40, 1e-3),
}
"""Ways to repair composition: how, in how many steps, and to which tolerance."""


@pytest.mark.parametrize("omega", OMEGAS)
@pytest.mark.parametrize(("repaired", "steps", "tolerance"), REPAIRED.values(), ids=REPAIRED)
def test_repaired_guidance_composes_and_overshoots_by_omega_minus_one(repaired, steps, tolerance, omega):
    """`x_cf = x + omega W (a* - a)`: to the tolerance that of conditioning there, which is W of it in many steps."""
    asked = Asked(omega, steps)
    linear = asked.linear
    torch.testing.assert_close(repaired(asked, linear.a), linear.x, atol=tolerance, rtol=0)
    found = repaired(asked, linear.a_star)
    past = asked.followed(linear.a + omega * (linear.a_star - linear.a), NoGuidance())
    torch.testing.assert_close(found, past, atol=tolerance, rtol=0)
    effect = linear.image(linear.a_star - linear.a)
    assert (found - linear.x - omega * effect).abs().mean() < 0.03 * omega * effect.abs().mean()
    assert (found - linear.x - effect).abs().mean() > 0.9 * (omega - 1) * effect.abs().mean()


@pytest.mark.parametrize("omega", OMEGAS)
def test_plain_guidance_shifts_the_factual_and_the_counterfactual_image(omega):
    """With null parents n: composition is off by `(omega - 1) W (a - n)`, `x_cf = x + W (n + omega (a* - n) - a)`."""
    asked = Asked(omega, STEPS)
    linear = asked.linear
    shift = (omega - 1) * linear.image(linear.a - linear.null)
    off = asked.plain(linear.a) - linear.x
    assert (off - shift).abs().mean() < 0.03 * shift.abs().mean()
    pushed = linear.image(linear.null + omega * (linear.a_star - linear.null) - linear.a)
    moved = asked.plain(linear.a_star) - linear.x
    assert (moved - pushed).abs().mean() < 0.03 * pushed.abs().mean()


def losses(asked, passes, rate):
    """The losses of every row before each gradient step on its token, and after the last: level by level."""
    linear, levels, seen = asked.linear, asked.levels, []

    def network(x, timestep, condition):
        seen.append((int(timestep[0]), x, linear.network(x, timestep, condition)))
        return seen[-1][2]

    asked.denoiser = replace(asked.denoiser, network=network)
    asked.tokens(passes, rate)
    assert len(seen) == asked.levels.steps * (1 + passes + 1)
    found = []
    for k in range(levels.steps, 0, -1):
        (timestep, _, e), *tries = seen[: passes + 2]
        assert timestep == levels.timestep[k]
        ends = [move(x, away + asked.omega * (e - away), levels, k, k - 1) for _, x, away in tries]
        found.append(torch.stack([(end - asked.path[k - 1]).square().flatten(1).mean(1) for end in ends]).detach())
        del seen[: passes + 2]
    return torch.stack(found)


@pytest.mark.parametrize("omega", OMEGAS)
def test_the_loss_of_alignment_falls_over_its_passes(omega):
    found = losses(Asked(omega, 20), passes=10, rate=1e-3)
    assert found.shape == (20, 11, 6)
    assert (found[:, 1:] <= found[:, :-1] * (1 + 1e-9)).all()
    assert (found[:, -1] < found[:, 0]).all()


@pytest.mark.parametrize("omega", OMEGAS)
def test_tokens_belong_to_their_levels(omega):
    """Once they retrace the path; tokens on their way to it may do better at levels other than their own."""
    asked = Asked(omega, 20)
    linear, tokens = asked.linear, asked.tokens(passes=10, rate=0.1)

    def composition(tokens):
        return (asked.followed(linear.a, Anchored(omega, tokens)) - linear.x).abs().mean()

    own, plain = composition(tokens), (asked.plain(linear.a) - linear.x).abs().mean()
    assert own < 1e-3 * plain
    generator = torch.Generator().manual_seed(0)
    orders = [torch.arange(20).flip(0), *(torch.randperm(20, generator=generator) for _ in range(10))]
    assert min(composition(tokens[:, order]) for order in orders) > 10 * own


def test_guidances_added_to_a_sum_each_name_their_remedy():
    linear = LinearModel()
    denoiser = linear.denoiser(4)
    reading = Reading({"mean": lambda image: image.flatten(1).mean(1)}, {"mean": torch.zeros(6)})
    both = NoGuidance() + ClassifierFree(1e308, 1e9 * linear.null) + reading
    with pytest.raises(
        FloatingPointError,
        match=r"; lower omega=1e\+308 and leave the readers of mean out, or take more steps",
    ):
        guided(denoiser, linear.a, both)(1e9 * linear.x, 4, None)
