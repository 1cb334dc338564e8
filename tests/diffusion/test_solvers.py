"""What every solver must do, on the linear-Gaussian image model; one body, run over all of them."""

import pytest
import torch

from causalcf.diffusion.ancestral import Ancestral, leverage, posterior, spread
from causalcf.diffusion.guidance import ClassifierFree, NoGuidance, guided
from causalcf.diffusion.multistep import Multistep
from causalcf.diffusion.replay import Replay, residuals
from causalcf.diffusion.reversible import BELM, EDICT, BidirectionalDDIM
from causalcf.diffusion.schedule import FlowSchedule, Schedule
from causalcf.diffusion.solvers import DDIM, Explicit, FixedPoint, Solver
from causalcf.diffusion.trajectory import generate, invert
from tests.diffusion.linear import LinearModel

REVERSIBLE = {"leapfrog": BidirectionalDDIM(), "damped": BidirectionalDDIM(0.96), "belm": BELM(), "edict": EDICT()}
SOLVERS = {"ddim": DDIM(FixedPoint(60, 1e-12)), "explicit": DDIM(Explicit()), "2m": Multistep(), **REVERSIBLE}
PAIRS = (20, 19)  # calls of 20 steps, up and down: the last one up need not be repeated
CALLS = {"explicit": (20, 20), "2m": (20, 20), "leapfrog": PAIRS, "damped": PAIRS, "belm": PAIRS, "edict": (40, 40)}


def model_of(linear, denoiser, parents, omega=1.0, memory=None):
    return guided(denoiser, parents, NoGuidance() if omega == 1 else ClassifierFree(omega, linear.null), memory)


def truth(linear, levels):
    """The counterfactual of the continuous trajectory; see test_engine."""
    spread = (levels.alpha**2 * linear.s**2 + levels.sigma**2).sqrt()
    share = levels.alpha[0] - levels.alpha[-1] * spread[0] / spread[-1]
    return linear.x + share * linear.image(linear.a_star - linear.a)


@pytest.mark.parametrize("name", REVERSIBLE)
@pytest.mark.parametrize("omega", [1.0, 3.0])
@pytest.mark.parametrize("steps", [5, 50])
def test_reversible_solvers_lead_back_whatever_the_network_says(name, omega, steps):
    linear = LinearModel()
    denoiser = linear.denoiser(steps, "uniform")
    model = model_of(linear, denoiser, linear.a, omega)
    noise = invert(model, linear.x, denoiser.levels, SOLVERS[name])
    assert len(noise) == 2
    back = generate(model, noise, denoiser.levels, SOLVERS[name])
    torch.testing.assert_close(back, linear.x, atol=1e-6, rtol=0)


@pytest.mark.parametrize("name", SOLVERS)
def test_counterfactuals_approach_those_of_the_continuous_trajectory(name):
    errors = []
    for steps in (20, 80):
        linear = LinearModel(kind="cosine")
        denoiser = linear.denoiser(steps, "uniform")
        noise = invert(model_of(linear, denoiser, linear.a), linear.x, denoiser.levels, SOLVERS[name])
        found = generate(model_of(linear, denoiser, linear.a_star), noise, denoiser.levels, SOLVERS[name])
        errors.append((found - truth(linear, denoiser.levels)).abs().mean().item())
    assert errors[1] < 0.5 * errors[0]


def test_two_steps_of_memory_make_the_order_two():
    errors = []
    for steps in (40, 80, 160):
        linear = LinearModel()
        denoiser = linear.denoiser(steps)
        model = model_of(linear, denoiser, linear.a)
        back = generate(model, linear.xi, denoiser.levels, Multistep())
        spread = (denoiser.levels.alpha**2 * linear.s**2 + denoiser.levels.sigma**2).sqrt()
        levels = denoiser.levels
        mean = linear.image(linear.a)
        exact = levels.alpha[0] * mean + spread[0] / spread[-1] * (linear.xi - levels.alpha[-1] * mean)
        errors.append((back - exact).abs().mean().item())
    assert 3.3 < errors[0] / errors[1] < 5
    assert 3.3 < errors[1] / errors[2] < 5


@pytest.mark.parametrize("name", CALLS)
def test_calls_are_counted(name):
    linear = LinearModel()
    denoiser = linear.denoiser(20)
    model = model_of(linear, denoiser, linear.a)
    linear.asked.clear()
    noise = invert(model, linear.x, denoiser.levels, SOLVERS[name])
    up = len(linear.asked)
    generate(model, noise, denoiser.levels, SOLVERS[name])
    assert (up, len(linear.asked) - up) == CALLS[name]


@pytest.mark.parametrize("name", SOLVERS)
def test_noise_that_was_drawn_is_enough(name):
    linear = LinearModel()
    denoiser = linear.denoiser(100)
    model = model_of(linear, denoiser, linear.a)
    image = generate(model, linear.xi, denoiser.levels, SOLVERS[name])
    assert (image - linear.x).abs().mean() < 0.05


@pytest.mark.parametrize("name", ["explicit", "2m"])
@pytest.mark.parametrize("omega", [1.0, 3.0])
def test_replay_retraces_the_factual_trajectory_and_no_row_is_asked_twice(name, omega):
    linear = LinearModel()
    denoiser, solver, memory = linear.denoiser(12), SOLVERS[name], {}
    path = [linear.x]
    linear.asked.clear()
    up = model_of(linear, denoiser, linear.a, memory=memory)
    noise = invert(up, linear.x, denoiser.levels, solver, watch=lambda k, x: path.append(x))
    found = residuals(model_of(linear, denoiser, linear.a, omega, memory), path, noise, denoiser.levels, solver)
    if name == "2m":
        further = [6] if omega == 1 else [12] + 11 * [6]
        assert [rows for _, rows in linear.asked] == 12 * [6] + further
    same = model_of(linear, denoiser, linear.a, omega)
    again = generate(same, noise, denoiser.levels, Replay(solver, found))
    torch.testing.assert_close(again, linear.x, atol=1e-10, rtol=0)
    without = generate(same, noise, denoiser.levels, solver)
    assert (without - linear.x).abs().mean() > 1e-4


def test_replay_leads_one_way_and_every_solver_both():
    assert not isinstance(Replay(DDIM(), []), Solver)
    assert all(isinstance(solver, Solver) for solver in SOLVERS.values())


@pytest.mark.parametrize("wrong", [lambda: BidirectionalDDIM(0.0), lambda: BidirectionalDDIM(1.1), lambda: EDICT(0.5)])
def test_options_out_of_range_are_refused(wrong):
    with pytest.raises(ValueError, match="expected 0"):
        wrong()


CHAINS = {"linear": Schedule(), "cosine": Schedule("cosine"), "flow": FlowSchedule(shift=1.0), "late": FlowSchedule()}


@pytest.mark.parametrize("schedule", CHAINS.values(), ids=CHAINS)
def test_ancestral_steps_reach_the_level_below(schedule):
    """Given the true noise `e`, the mean is `alpha x0 + w e`, and `w^2` and the variance are that of the level."""
    levels = schedule.levels(20).with_clean()
    x0, e, g = torch.randn(3, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for k in range(1, levels.steps + 1):
        alpha, sigma = levels.alpha[k - 1], levels.sigma[k - 1]
        x = levels.alpha[k] * x0 + levels.sigma[k] * e
        signal = levels.alpha[k] / alpha
        beta = spread(levels, k, "large")
        w = signal * sigma**2 / levels.sigma[k]
        torch.testing.assert_close(posterior(x, e, k, levels), alpha * x0 + w * e)
        torch.testing.assert_close(w**2 + spread(levels, k), sigma**2)
        torch.testing.assert_close(signal**2 * sigma**2 + beta, levels.sigma[k] ** 2)
        if isinstance(schedule, Schedule):
            assert beta == pytest.approx(1 - signal.item() ** 2, rel=1e-9)
        for variance in ("small", "large"):
            pulled = posterior(x, e + leverage(levels, k, variance) * g, k, levels)
            torch.testing.assert_close(posterior(x, e, k, levels) - pulled, spread(levels, k, variance) * g)


@pytest.mark.parametrize("schedule", CHAINS.values(), ids=CHAINS)
@pytest.mark.parametrize("variance", ["small", "large"])
def test_ancestral_steps_lead_to_the_law_of_the_data(schedule, variance):
    """Of normal data the best noise is known and linear, so that every step multiplies, and adds its variance."""
    levels, data = schedule.levels(900).with_clean(), 0.04
    one = torch.ones(1, 1, 1, 1, dtype=torch.float64)

    def model(x, k, rows):
        return levels.sigma[k] * x / (levels.alpha[k] ** 2 * data + levels.sigma[k] ** 2)

    found = levels.alpha[-1] ** 2 * data + levels.sigma[-1] ** 2
    for k in range(levels.steps, 0, -1):
        (mean,) = Ancestral(variance=variance).step(model, (one,), k, levels)
        found = mean.item() ** 2 * found + (spread(levels, k, variance) if k > 1 else 0)
    torch.testing.assert_close(found, torch.tensor(data, dtype=torch.float64), rtol=0.05, atol=0)
