"""Noise levels."""

import pytest
import torch
from diffusers import DDIMScheduler

from causalcf.diffusion.schedule import Schedule


@pytest.mark.parametrize(("kind", "theirs"), [("linear", "linear"), ("cosine", "squaredcos_cap_v2")])
def test_alpha_bar_is_that_of_diffusers(kind, theirs):
    reference = DDIMScheduler(beta_schedule=theirs, beta_start=1e-4, beta_end=0.02).alphas_cumprod.double()
    torch.testing.assert_close(Schedule(kind).alpha_bar, reference, atol=1e-6, rtol=1e-3)


@pytest.mark.parametrize("kind", ["linear", "cosine"])
@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "log-snr", "fine log-snr"])
@pytest.mark.parametrize("steps", [1, 2, 10, 50, 100, 500, 990])
def test_levels_are_distinct_and_span_image_to_noise(kind, spacing, steps):
    levels = Schedule(kind).levels(steps, spacing)
    assert levels.steps == steps
    assert levels.timestep[0] == 0
    assert levels.timestep[-1] == (999 if kind == "linear" else 990)
    assert (levels.timestep.diff() > 0).all()
    torch.testing.assert_close(levels.alpha**2 + levels.sigma**2, torch.ones(steps + 1).double())
    torch.testing.assert_close(levels.alpha**2, Schedule(kind).alpha_bar[levels.timestep])


def test_log_snr_spacing_is_even_in_log_snr():
    levels = Schedule().levels(20, "log-snr")
    gaps = (levels.alpha / levels.sigma).log().diff()
    inner = gaps[3:]
    assert inner.max() / inner.min() < 1.1


def test_fine_levels_are_finer_near_the_image():
    even, fine = (
        -(levels.alpha / levels.sigma).log() for levels in map(Schedule().levels, (20, 20), ("log-snr", "fine log-snr"))
    )
    torch.testing.assert_close(fine[[0, -1]], even[[0, -1]])
    share = torch.linspace(0, 1, 21).double()[10:] ** (4 / 3)
    torch.testing.assert_close(fine[10:], fine[0] + share * (fine[-1] - fine[0]), atol=0.05, rtol=0)


def test_the_cosine_keeps_a_usable_top_level():
    assert Schedule("cosine").levels(50).alpha[-1] > 0.01


@pytest.mark.parametrize("steps", [0, 1000])
def test_steps_that_do_not_fit_are_refused(steps):
    with pytest.raises(ValueError, match="do not fit"):
        Schedule().levels(steps)
    with pytest.raises(ValueError, match="top"):
        Schedule().levels(10, top=1000)


@pytest.mark.parametrize("spacing", ["uniform", "quadratic", "log-snr", "fine log-snr"])
@pytest.mark.parametrize("steps", [1, 7, 50, 930])
def test_levels_may_begin_above_the_image(spacing, steps):
    levels = Schedule("cosine").levels(steps, spacing, bottom=60)
    assert levels.timestep[[0, -1]].tolist() == [60, 990]
    assert (levels.timestep.diff() > 0).all()
    torch.testing.assert_close(levels.alpha**2, Schedule("cosine").alpha_bar[levels.timestep])
    if spacing == "log-snr" and steps == 7:
        gaps = (levels.alpha / levels.sigma).log().diff()
        assert gaps.max() / gaps.min() < 1.1


@pytest.mark.parametrize("bottom", [-1, 999, 2.0, True])
def test_a_lowest_level_that_is_none_is_refused(bottom):
    with pytest.raises(ValueError, match="lowest level to be a training step from 0 to 998"):
        Schedule().levels(10, bottom=bottom)
    with pytest.raises(ValueError, match="between level 900 and level 999; use 1 to 99 whole steps"):
        Schedule().levels(100, bottom=900)


def test_unknown_names_are_refused():
    with pytest.raises(ValueError, match="'linear' or 'cosine'"):
        Schedule("quartic")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="spacing"):
        Schedule().levels(10, "cubic")  # type: ignore[arg-type]
