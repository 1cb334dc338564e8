"""The engine against the linear-Gaussian image model, whose counterfactual is `x + W (a* - a)`."""

import pytest
import torch

from causalcf.diffusion.denoiser import PREDICTIONS, Scaled
from causalcf.diffusion.guidance import ClassifierFree, NoGuidance, guided
from causalcf.diffusion.schedule import Schedule
from causalcf.diffusion.solvers import DDIM, Explicit, FixedPoint, noised
from causalcf.diffusion.trajectory import generate, invert
from tests.diffusion.linear import LinearModel

EXACT = DDIM(FixedPoint(passes=60, tolerance=1e-12))


def counterfactual(linear, denoiser, solver, guidance=None, a_star=None):
    levels = denoiser.levels
    (u, *more) = invert(guided(denoiser, linear.a, NoGuidance()), linear.x, levels, solver)
    model = guided(denoiser, linear.a_star if a_star is None else a_star, guidance or NoGuidance())
    return u, generate(model, (u, *more), levels, solver)


def limit(linear, levels):
    """The counterfactual of the continuous trajectory between the first and the last level.

    The last level keeps `alpha_S` of the signal, so a little of the factual parents stays in u: the effect is
    `W (a* - a) (alpha_0 - alpha_S s_0 / s_S)`, with `s_k^2 = alpha_k^2 s^2 + sigma_k^2`, instead of `W (a* - a)`.
    """
    spread = (levels.alpha**2 * linear.s**2 + levels.sigma**2).sqrt()
    share = levels.alpha[0] - levels.alpha[-1] * spread[0] / spread[-1]
    return linear.x + share * linear.image(linear.a_star - linear.a)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["uniform", "log-snr"])
def test_counterfactual_error_falls_as_steps_grow(prediction, kind, spacing):
    errors = []
    for steps in (10, 40, 160):
        linear = LinearModel(prediction, kind)
        denoiser = linear.denoiser(steps, spacing)
        _, found = counterfactual(linear, denoiser, EXACT)
        errors.append((found - limit(linear, denoiser.levels)).abs().mean().item())
        ideal = linear.x + linear.image(linear.a_star - linear.a)
    assert errors[1] < 0.5 * errors[0]
    assert errors[2] < 0.5 * errors[1]
    assert (found - ideal).abs().mean() < 0.02


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "log-snr"])
def test_fixed_point_inversion_is_exact_at_any_number_of_steps(spacing):
    linear = LinearModel()
    for steps in (8, 50):
        _, back = counterfactual(linear, linear.denoiser(steps, spacing), EXACT, a_star=linear.a)
        torch.testing.assert_close(back, linear.x, atol=1e-8, rtol=0)


def test_explicit_inversion_is_first_order():
    errors = []
    for steps in (50, 100, 200):
        linear = LinearModel()
        _, back = counterfactual(linear, linear.denoiser(steps), DDIM(Explicit()), a_star=linear.a)
        errors.append((back - linear.x).abs().mean().item())
    assert 1.7 < errors[0] / errors[1] < 2.4
    assert 1.7 < errors[1] / errors[2] < 2.4


def test_inversion_returns_the_standardised_residual():
    linear = LinearModel()
    u, _ = counterfactual(linear, linear.denoiser(400), EXACT)
    torch.testing.assert_close(u, linear.xi, atol=0.05, rtol=0.05)


@pytest.mark.parametrize("omega", [1.5, 3.0])
def test_guidance_is_conditioning_past_the_parents(omega):
    """With null parents n: guided by omega is conditioned on `n + omega (a* - n)`, to rounding."""
    linear = LinearModel()
    _, guided_image = counterfactual(linear, linear.denoiser(50), EXACT, ClassifierFree(omega, linear.null))
    shifted = linear.null + omega * (linear.a_star - linear.null)
    _, conditioned = counterfactual(linear, linear.denoiser(50), EXACT, a_star=shifted)
    torch.testing.assert_close(guided_image, conditioned, atol=1e-8, rtol=0)


def test_guidances_add_up_and_share_one_network_call():
    linear = LinearModel()
    denoiser = linear.denoiser(10)
    both = ClassifierFree(1.5, linear.null) + ClassifierFree(1.5, linear.null) + NoGuidance()
    linear.asked.clear()
    once = guided(denoiser, linear.a, ClassifierFree(2.0, linear.null))(linear.x, 5, None)
    twice = guided(denoiser, linear.a, both)(linear.x, 5, None)
    torch.testing.assert_close(once, twice, atol=1e-10, rtol=0)
    assert [count for _, count in linear.asked] == [12, 18]


def test_the_network_is_told_training_steps_and_every_level_once():
    linear = LinearModel()
    denoiser = linear.denoiser(20)
    linear.asked.clear()
    generate(guided(denoiser, linear.a, NoGuidance()), linear.xi, denoiser.levels, EXACT)
    told = [int(timestep[0]) for timestep, _ in linear.asked]
    assert told == denoiser.levels.timestep.flip(0)[:-1].tolist()
    assert told[0] == 999


def test_explicit_inversion_tells_the_network_the_level_that_the_image_has():
    linear = LinearModel()
    denoiser = linear.denoiser(20)
    linear.asked.clear()
    invert(guided(denoiser, linear.a, NoGuidance()), linear.x, denoiser.levels, DDIM(Explicit()))
    assert [int(timestep[0]) for timestep, _ in linear.asked] == denoiser.levels.timestep[:-1].tolist()


def test_a_row_does_not_depend_on_the_rows_beside_it():
    linear = LinearModel()
    u, image = counterfactual(linear, linear.denoiser(20), DDIM(FixedPoint(8, 1e-3)))
    linear.a, linear.a_star, linear.xi = linear.a[3:4], linear.a_star[3:4], linear.xi[3:4]
    alone, lonely = counterfactual(linear, linear.denoiser(20), DDIM(FixedPoint(8, 1e-3)))
    torch.testing.assert_close(alone[0], u[3], atol=1e-12, rtol=0)
    torch.testing.assert_close(lonely[0], image[3], atol=1e-12, rtol=0)


def test_converged_rows_are_not_asked_again():
    linear = LinearModel()
    linear.x[0] = 0
    denoiser = linear.denoiser(20)
    linear.asked.clear()
    invert(guided(denoiser, linear.a, NoGuidance()), linear.x, denoiser.levels, DDIM(FixedPoint(30, 1e-2)))
    counts = [count for _, count in linear.asked]
    assert sum(counts) < 6 * 20 * 6
    assert min(counts) < 6


def test_inversion_to_a_depth_and_back():
    linear = LinearModel()
    denoiser = linear.denoiser(20)
    model = guided(denoiser, linear.a, NoGuidance())
    half = invert(model, linear.x, denoiser.levels, EXACT, depth=9)
    torch.testing.assert_close(generate(model, half, denoiser.levels, EXACT, depth=9), linear.x, atol=1e-8, rtol=0)


def test_partial_noising_has_the_moments_of_its_level():
    levels = Schedule().levels(50)
    generator = torch.Generator().manual_seed(0)
    e = torch.randn(2000, 1, 4, 4, generator=generator, dtype=torch.float64)
    x = noised(torch.full_like(e, 0.5), e, 30, levels)
    assert abs(x.mean() - 0.5 * levels.alpha[30]) < 0.02
    assert abs(x.std() - levels.sigma[30]) < 0.02


def test_the_trajectory_can_be_watched():
    linear = LinearModel()
    denoiser = linear.denoiser(5)
    model = guided(denoiser, linear.a, NoGuidance())
    up, down = [], []
    u = invert(model, linear.x, denoiser.levels, EXACT, watch=lambda k, x: up.append((k, x)))
    generate(model, u, denoiser.levels, EXACT, watch=lambda k, x: down.append((k, x)))
    assert [k for k, _ in up] == [1, 2, 3, 4, 5]
    assert [k for k, _ in down] == [4, 3, 2, 1, 0]
    torch.testing.assert_close(up[2][1], down[1][1], atol=1e-8, rtol=0)


def test_a_scaled_output_is_v_at_spread_1_and_has_unit_variance_at_the_spread_of_the_data():
    generator = torch.Generator().manual_seed(0)
    x0, e = (torch.randn(2, 1, 200, 200, generator=generator, dtype=torch.float64) for _ in range(2))
    levels = Schedule("cosine").levels(10)
    for alpha, sigma in zip(levels.alpha, levels.sigma, strict=True):
        v = PREDICTIONS["v"].target(x0, e, alpha, sigma)
        torch.testing.assert_close(Scaled(1.0).target(x0, e, alpha, sigma), -v)
        half = 0.5 * x0
        output = Scaled(0.5).target(half, e, alpha, sigma)
        assert abs(output.std().item() - 1) < 0.02
        torch.testing.assert_close(Scaled(0.5).epsilon(output, alpha * half + sigma * e, alpha, sigma), e)
        assert abs((output * (alpha * half + sigma * e)).mean()) < 0.02  # what is left has no linear part
