"""Scales that adjust themselves, and pulls towards a representation, where everything has a closed form."""

import math
import re
from dataclasses import replace

import pytest
import torch

from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser
from causalcf.diffusion.gradient import Ancestral, Balanced, Constant, Empirical, Likely, Pulls, Towards
from causalcf.diffusion.guidance import NoGuidance, Step, guided
from causalcf.diffusion.schedule import Schedule
from causalcf.diffusion.solvers import DDIM
from causalcf.diffusion.trajectory import generate, invert

B, K, D = 6, 3, 16
LEVELS = Schedule("linear").levels(20)
SPREAD = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)


class Linear:
    """`z = x A`, the same at every level; counts its calls."""

    def __init__(self, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.a = torch.randn(D, K, generator=generator, dtype=torch.float64)
        self.forward = self.backward = 0

    def __call__(self, x, timestep):
        self.forward += 1
        z = x.flatten(1) @ self.a
        if z.requires_grad:
            z.register_hook(lambda _: setattr(self, "backward", self.backward + 1))
        return z


def step(k=10, seed=1):
    generator = torch.Generator().manual_seed(seed)
    x, e = torch.randn(2, B, 1, 4, 4, generator=generator, dtype=torch.float64)
    return Step(x, k, LEVELS, e)


def target(seed=2):
    return torch.randn(B, K, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def towards(scale, reads=None, wanted=None, **options):
    wanted = target() if wanted is None else wanted
    return Towards(reads or Linear(), wanted, SPREAD, scale, **{"limit": math.inf, **options})


def rms(x):
    return x.flatten(1).square().mean(1).sqrt()


@pytest.mark.parametrize("size", [0.3, 1.0])
@pytest.mark.parametrize("k", [1, 7, 20])
def test_an_empirical_pull_has_the_variance_of_the_noise(size, k):
    change = towards(Empirical(size))(step(k), ())
    sigma = LEVELS.sigma[k]
    torch.testing.assert_close(rms(change) / sigma**2, torch.full((B,), size, dtype=torch.float64), rtol=0.01, atol=0)


def test_a_balanced_pull_has_the_variance_of_the_noise_for_residuals_of_unit_variance():
    reads, at = Linear(), step()
    z = reads(at.x, None)
    square, draws = 0.0, 400
    for seed in range(draws):
        wanted = z + SPREAD * target(seed)
        square = square + rms(towards(Balanced(), reads, wanted)(at, ())).square() / draws
    torch.testing.assert_close(square.sqrt(), LEVELS.sigma[10].square().expand(B), rtol=0.05, atol=0)


def test_a_balanced_scale_falls_with_the_noise_and_the_pull_with_the_miss():
    reads = Linear()
    norm = (reads.a / SPREAD).norm()
    for k in (1, 5, 20):
        at = step(k)
        z, sigma = reads(at.x, None), LEVELS.sigma[k]
        change = towards(Balanced(), reads)(at, ())
        gradient = ((target() - z) / SPREAD.square()) @ reads.a.T
        expected = -sigma * (sigma * math.sqrt(D) / norm) * gradient
        torch.testing.assert_close(change.flatten(1), expected)
    at = step()
    near = towards(Balanced(), reads, reads(at.x, None) + 0.01)(at, ())
    far = towards(Balanced(), reads, reads(at.x, None) + 0.1)(at, ())
    torch.testing.assert_close(far, 10 * near)
    assert torch.equal(towards(Balanced(), reads, reads(at.x, None))(at, ()), torch.zeros_like(at.x))


def test_an_ancestral_pull_shifts_the_next_image_by_the_noise_of_the_level():
    for k in (2, 10, 20):
        at = step(k)
        change = towards(Ancestral(0.5))(at, ())

        def moved(e, k=k, at=at):
            (image,) = DDIM().step(lambda x, k, rows: e, (at.x,), k, LEVELS)[:1]
            return image

        shift = moved(at.epsilon + change) - moved(at.epsilon)
        sigma = LEVELS.sigma[k]
        torch.testing.assert_close(rms(shift), (0.5 * sigma).expand(B), rtol=1e-6, atol=1e-9)
        assert (shift.flatten(1) @ Linear().a * (target() - at.x.flatten(1) @ Linear().a) / SPREAD**2).sum() > 0


def test_probes_estimate_the_norm_without_bias():
    exact = towards(Balanced())._slope(step().x, torch.zeros(B))[1]
    squares = [
        towards(Balanced(), probes=2, seed=seed)._slope(step().x, torch.zeros(B))[1].square() for seed in range(300)
    ]
    torch.testing.assert_close(torch.stack(squares).mean(0), exact.square(), rtol=0.1, atol=0)


def test_probes_are_others_at_each_level_and_in_each_row():
    def norms(seed, level, rows=slice(0, B)):
        pull = towards(Balanced(), wanted=target()[rows], probes=1, seed=seed)
        return pull._slope(step().x[rows], torch.full((B,), level)[rows])[1]

    exact, seeds = norms(0, 0).new_tensor(float((Linear().a / SPREAD).norm())), torch.arange(B)
    for found in (
        torch.stack([norms(0, level)[0] for level in range(0, 1000, 4)]),
        torch.cat([norms(seeds + B * k, 7) for k in range(40)]),
    ):
        torch.testing.assert_close(found.square().mean().sqrt(), exact, rtol=0.1, atol=0)
        assert len(found.round(decimals=6).unique()) == 2 ** (K - 1)
    assert torch.equal(norms(0, 7), norms(0, 7))
    assert len(norms(0, 7).round(decimals=6).unique()) == 1
    torch.testing.assert_close(norms(seeds[2:4], 7, slice(2, 4)), norms(seeds, 7)[2:4])


@pytest.mark.parametrize("scale", [Constant(), Empirical(), Balanced(), Ancestral()])
def test_a_pull_costs_one_forward_and_one_backward_pass(scale):
    reads = Linear()
    towards(scale, reads)(step(), ())
    assert (reads.forward, reads.backward) == (1, 1)


@pytest.mark.parametrize("scale", [Constant(), Empirical(), Balanced(), Ancestral()])
def test_rows_do_not_touch_each_other(scale):
    at = step()
    whole = towards(scale)(at, ())
    part = towards(scale, wanted=target()[2:4])(Step(at.x[2:4], at.k, LEVELS, at.epsilon[2:4]), ())
    torch.testing.assert_close(part, whole[2:4])


def test_free_factors_and_small_misses_do_not_pull():
    reads, at = Linear(), step()
    z = reads(at.x, None)
    wanted = target().clone()
    wanted[:, 1] = torch.nan
    free = towards(Constant(), reads, wanted)(at, ())
    same = target().clone()
    same[:, 1] = z[:, 1]
    torch.testing.assert_close(free, towards(Constant(), reads, same)(at, ()))
    close = z + 0.5 * SPREAD
    assert (towards(Empirical(), reads, close, tolerance=0.6)(at, ()) == 0).all()
    assert (towards(Empirical(), reads, close, tolerance=0.4)(at, ()) != 0).any()


def test_no_pull_is_longer_than_its_limit():
    change = towards(Constant(1e6), limit=2.0)(step(), ())
    torch.testing.assert_close(rms(change), (2.0 * LEVELS.sigma[10] ** 2).expand(B))


def test_pulls_are_added_up():
    pulls = Pulls()
    towards(Constant(1e6), limit=2.0, pulls=pulls)(step(), ())
    assert (pulls.count, pulls.cut, pulls.share, pulls.vectors) == (B, B, 1.0, B)
    gradient = towards(Constant())._slope(step().x, torch.zeros(B))[0]
    asked = 1e6 * rms(gradient).max() / LEVELS.sigma[10]
    assert pulls.longest == pytest.approx(asked.item())
    endless = Pulls()
    towards(Constant(1e6), pulls=endless)(step(), ())
    assert (endless.cut, endless.longest) == (0, pulls.longest)
    towards(Balanced(1e-9), limit=2.0, pulls=pulls)(step(), ())
    assert (pulls.count, pulls.cut, pulls.vectors) == (2 * B, B, B + B * (1 + K))
    towards(Balanced(1e-9), probes=2, pulls=pulls)(step(), ())
    assert pulls.vectors == 2 * B + B * (1 + K) + 2 * B
    before = replace(pulls)
    Likely(lambda x, t: -0.5 * x.square().flatten(1).sum(1), Constant(), 0.01, pulls=pulls)(step(), ())
    assert pulls.since(before) == Pulls(B, B, pulls.longest, B)


class Broken(Linear):
    """Reads, or differentiates, what is not finite in one row."""

    def __init__(self, where, row=2):
        super().__init__()
        self.where, self.row = where, row

    def __call__(self, x, timestep):
        z = super().__call__(x, timestep).clone()
        spoilt = z[self.row]
        if self.where == "reading":
            z[self.row, 1] = torch.nan
        else:  # the root of 0 has no finite slope
            z[self.row] = spoilt + torch.sqrt((spoilt - spoilt.detach()).abs())
        return z


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("reading", r"what reads the factors is not finite \(entry 1, row 2 of 6, training step \d+\)"),
        ("slope", r"the gradient of the factors read is not finite \(row 2 of 6, training step \d+\)"),
    ],
)
@pytest.mark.parametrize("far", [False, True])
def test_what_is_not_finite_is_named_with_its_remedy(where, message, far):
    at = step()
    at.x[2] *= 1000 if far else 1
    with pytest.raises(FloatingPointError, match=message) as caught:
        towards(Balanced(), Broken(where))(at, ())
    said = str(caught.value)
    assert "Towards" not in said
    assert ("lower the size or the limit" in said) == far
    assert ("no size of the pull changes that: look for weights of the projector" in said) != far


def test_a_factor_that_is_not_finite_is_called_by_its_name():
    with pytest.raises(FloatingPointError, match=r"what reads the factors is not finite \(sun, row 2 of 6"):
        towards(Balanced(), Broken("reading"), names=("angle", "sun", "length"))(step(), ())


@pytest.mark.parametrize("value", [torch.nan, torch.inf])
@pytest.mark.parametrize("limit", [3.0, math.inf])
def test_a_scale_that_is_not_finite_is_named_whatever_the_limit(value, limit):
    class Own(Constant):
        def __call__(self, slope):
            return torch.where(torch.arange(B) == 4, value, super().__call__(slope))

    with pytest.raises(FloatingPointError, match=rf"lambda_t of Own is {value} \(row 4 of 6, training step \d+\)"):
        towards(Own(), limit=limit)(step(), ())


def test_a_jacobian_that_is_not_finite_is_named():
    def reads(x, timestep):
        z = Linear()(x, timestep)
        return z + (z - z.detach()).abs().sqrt() * torch.tensor([0.0, 1.0, 0.0])

    wanted = target().clone()
    wanted[:, 1] = torch.nan  # free, so its slope is only part of the norm
    with pytest.raises(FloatingPointError, match=r"(gradient|Jacobian) of the factors read is not finite"):
        towards(Balanced(), reads, wanted)(step(), ())


def test_a_likelihood_that_is_not_finite_is_named():
    with pytest.raises(FloatingPointError, match=r"the log-likelihood of the classifier is not finite .row 0 of 6"):
        Likely(lambda x, t: x.flatten(1).sum(1) * torch.inf)(step(), ())
    with pytest.raises(FloatingPointError, match="the gradient of the classifier is not finite"):
        Likely(lambda x, t: (x - x.detach()).abs().flatten(1).sum(1).sqrt())(step(), ())


def test_a_likelihood_pulls_along_its_gradient():
    at = step()
    middle = torch.ones(1, 4, 4, dtype=torch.float64)

    def log_likelihood(x, timestep):
        assert (timestep == LEVELS.timestep[10]).all()
        return -0.5 * (x - middle).square().flatten(1).sum(1)

    change = Likely(log_likelihood, Constant(0.7), limit=math.inf, dtype=torch.float64)(at, ())
    torch.testing.assert_close(change, -0.7 * LEVELS.sigma[10] * (middle - at.x))
    with pytest.raises(TypeError, match="Balanced needs the Jacobian of a representation"):
        Likely(log_likelihood, Balanced(), dtype=torch.float64)(at, ())


class Gaussian:
    """`x0 = W a + s xi` with `a` standard normal: the exact denoiser, and the exact reader of `a` at every level."""

    def __init__(self, s=0.3):
        generator = torch.Generator().manual_seed(0)
        self.w = torch.randn(D, K, generator=generator, dtype=torch.float64)
        self.covariance = self.w @ self.w.T + s**2 * torch.eye(D, dtype=torch.float64)
        self.a = torch.randn(B, K, generator=generator, dtype=torch.float64)
        xi = torch.randn(B, D, generator=generator, dtype=torch.float64)
        self.x = (self.a @ self.w.T + s * xi).reshape(B, 1, 4, 4)
        self.abar = Schedule("linear").alpha_bar

    def solved(self, x, timestep):
        share = self.abar[timestep[0]]
        spread = share * self.covariance + (1 - share) * torch.eye(D, dtype=torch.float64)
        return torch.linalg.solve(spread, x.flatten(1).T).T, share

    def network(self, x, timestep, condition):
        found, share = self.solved(x, timestep)
        return ((1 - share).sqrt() * found).reshape(x.shape)

    def reads(self, x, timestep):
        found, share = self.solved(x, timestep)
        return share.sqrt() * found @ self.w


@pytest.mark.parametrize(("scale", "tolerance"), [(Empirical(2.0), 1.0), (Balanced(), 0.0), (Ancestral(0.3), 1.0)])
def test_a_pull_brings_generation_to_the_target(scale, tolerance):
    world, levels = Gaussian(), Schedule("linear").levels(50, "log-snr")
    denoiser, nothing = Denoiser(world.network, PREDICTIONS["epsilon"], levels), torch.zeros(B, 1, dtype=torch.float64)
    free = guided(denoiser, nothing, NoGuidance())
    noise = invert(free, world.x, levels, DDIM())
    wanted = world.a + torch.tensor([1.0, 0.0, 0.0])
    pull = Towards(world.reads, wanted, torch.full((K,), 0.1, dtype=torch.float64), scale, tolerance=tolerance)

    def miss(guidance):
        image = generate(guided(denoiser, nothing, guidance), noise, levels, DDIM())
        return (world.reads(image, torch.zeros(B, dtype=torch.int64)) - wanted).abs().mean(0)

    before, after = miss(NoGuidance()), miss(pull)
    assert after[0] < 0.25 * before[0]
    assert (after[1:] < 0.15).all()


@pytest.mark.parametrize("form", [Constant, Empirical, Balanced, Ancestral])
@pytest.mark.parametrize("size", [-0.3, math.nan, math.inf])
def test_a_size_is_finite_and_not_negative(form, size):
    with pytest.raises(ValueError, match=rf"{form.__name__}: expected a finite size >= 0, got {size}"):
        form(size)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"limit": -1.0}, "expected limit > 0, math.inf for none, got -1.0; a scale of size 0 does not pull"),
        ({"limit": 0.0}, "expected limit > 0, math.inf for none, got 0.0"),
        ({"limit": math.nan}, "expected limit > 0, math.inf for none, got nan"),
        ({"tolerance": -0.5}, "expected a finite tolerance >= 0, got -0.5"),
        ({"tolerance": math.nan}, "expected a finite tolerance >= 0, got nan"),
        ({"probes": -1}, "expected a whole number probes >= 0, got -1; 0 computes the norm itself"),
        ({"probes": 1.5}, "expected a whole number probes >= 0, got 1.5"),
    ],
)
def test_what_cannot_pull_is_refused(options, message):
    with pytest.raises(ValueError, match=f"Towards: {message}"):
        towards(Balanced(), **options)
    if "limit" in options:
        with pytest.raises(ValueError, match=f"Likely: {message}"):
            Likely(lambda x, t: x.flatten(1).sum(1), limit=options["limit"])


@pytest.mark.parametrize("wanted", [target()[:, :2], target()[:, :1], target()[:, 0]])
def test_targets_of_other_factors_are_refused(wanted):
    shape = re.escape(str(tuple(wanted.shape)))
    with pytest.raises(
        ValueError, match=rf"targets of the shape that is read, \(6, 3\), got {shape}; give one per row"
    ):
        towards(Balanced(), wanted=wanted)(step(), ())


def test_targets_of_other_rows_are_refused():
    with pytest.raises(ValueError, match="6 targets for 2 rows"):
        towards(Constant())(Step(step().x[:2], 10, LEVELS, step().epsilon[:2]), ())
