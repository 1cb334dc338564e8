"""The model of Pendulum that ships, measured on rows it has not seen."""

import pytest
import torch

import causalcf as cf
from causalcf import do
from causalcf.data import Pendulum
from causalcf.diffusion.gradient import Balanced, Slope, Towards
from causalcf.diffusion.schedule import Schedule
from causalcf.metrics import CounterfactualError, Effectiveness

ROWS = 6
SHARES = {"angle": 0.2, "sun": 0.2, "length": 0.4, "position": 0.7}  # of the error of doing nothing
OFF = {"angle": 0.02, "sun": 0.02, "length": 0.6, "position": 1.5}  # of the measured factor, in its unit
PLAN = {
    "do(angle)": do(angle=0.4),
    "do(sun)": do(sun=1.9),
    "do(length)": do(length=7.0),
    "do(position)": do(position=8.0),
}


@pytest.fixture(scope="module")
def scm():
    return cf.load_pretrained("pendulum-nscm")


@pytest.fixture(scope="module")
def data():
    return Pendulum("test", rows=ROWS, stray=2.0)


@pytest.fixture(scope="module")
def report(scm, data):
    return cf.evaluate(scm, data, PLAN, [Effectiveness(data.oracles()), CounterfactualError(data)])


@pytest.mark.parametrize("factor", SHARES)
def test_counterfactuals_are_nearer_to_the_truth_than_doing_nothing(report, factor):
    line = report["error against the truth", f"do({factor})", "image"]
    assert line.estimate.mean < SHARES[factor] * line.reference.mean


@pytest.mark.parametrize("factor", OFF)
def test_the_factor_is_drawn_where_it_was_put(report, factor):
    assert report["error of oracle", f"do({factor})", factor].estimate.mean < OFF[factor]


def test_the_shadow_follows_the_sun(scm, data):
    rows = data[:]
    found = scm.observe(rows).do(sun=1.9)
    true = data.true_counterfactual(rows, do(sun=1.9))
    assert (found["position"] - true["position"]).abs().max() < 0.5  # of 20, with the noise by which this one strays
    assert (found["angle"] == rows["angle"]).all()


def test_the_published_way_of_leading_is_an_option_of_the_same_weights(scm, data):
    rows = {name: value[:2] for name, value in data[:].items()}
    action = do(angle=rows["angle"] - 0.3)
    true = data.true_counterfactual(rows, action)["image"]
    asked = scm.using(image={"by": "nscm", "scale": "balanced", "size": 0.1, "direct": False, "edit": None})
    found = asked.observe(rows).do(action)["image"]
    assert torch.isfinite(found).all()
    assert (found - true).abs().mean() < 0.7 * (rows["image"] - true).abs().mean()


def test_each_part_serves_alone(scm, data):
    rows, image = data[:], scm.mechanism("image")
    read, after = image.read(rows["image"]), image.follow(rows, angle=-0.3)
    true = data.true_counterfactual(rows, do(angle=-0.3))
    for name, off in OFF.items():
        assert (read[name] - rows[name]).abs().mean() < off, name
    for name in ("length", "position"):
        assert (after[name] - true[name]).abs().mean() < 0.2 * (rows[name] - true[name]).abs().mean(), name


def test_lambda_grows_with_the_noise_though_the_projector_is_as_steep(scm, data):
    image, rows = scm.mechanism("image"), data[:]
    alpha_bar = Schedule(image.schedule).alpha_bar
    steepness, scales = [], []
    for step in (60, 300, 600, 900):
        share, generator = alpha_bar[step].item(), torch.Generator().manual_seed(0)
        e = torch.randn(rows["image"].shape, generator=generator)
        x = share**0.5 * (2 * rows["image"] - 1) + (1 - share) ** 0.5 * e
        pull = Towards(image.projector, image.features(rows, ROWS), image.projector.spread)
        gradient, jacobian = pull._slope(x, torch.full((ROWS,), step))
        steepness.append(jacobian.mean().item())
        scales.append(Balanced()(Slope(gradient, jacobian, (1 - share) ** 0.5, 1.0)).mean().item())
    assert scales == sorted(scales)
    assert scales[-1] > 5 * scales[0]
    assert max(steepness) < 3 * min(steepness)
