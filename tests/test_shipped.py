"""The models that ship, measured on unseen handwriting."""

import pytest
import torch

import causalcf as cf
from causalcf import do, resample
from causalcf.data import MorphoDigits
from causalcf.demo import oracles
from causalcf.metrics import Composition, CounterfactualError, Effectiveness, NoiseMoments

ROWS = 16


SHARES = {"morphodigits-semantic": 0.4, "morphodigits-spatial": 0.8}  # of the error of doing nothing, under do(slant)


@pytest.fixture(scope="module", params=SHARES)
def name(request):
    return request.param


@pytest.fixture(scope="module")
def scm(name):
    return cf.load_pretrained(name)


@pytest.fixture(scope="module")
def report(scm):
    columns = MorphoDigits("train", rows=5000).columns(["thickness", "intensity", "slant"])
    plan = {name: do(**{name: resample(values)}) for name, values in columns.items()}
    data = MorphoDigits("test", rows=ROWS)
    metrics = [Composition(cycles=(1,)), NoiseMoments(["image"]), Effectiveness(oracles()), CounterfactualError(data)]
    return cf.evaluate(scm, data, plan, metrics)


def test_doing_nothing_changes_nothing(report):
    assert report["composition, 1 cycle", "", "image"].estimate.mean < 1e-3


@pytest.mark.parametrize("steps", [50])
def test_doing_nothing_changes_nothing_by_fixed_point_inversion_either(scm, steps):
    rows = MorphoDigits("test", rows=8)[:]
    plain = scm.using(image={"solver": "ddim", "steps": steps, "replay": False})
    again = plain.observe(rows).do(recompute=True)["image"]
    assert 255 * (again - rows["image"]).abs().mean() < 0.3


def test_abducted_noise_has_unit_spread(report):
    mean, square = (report[f"noise {what}", "", "image"].estimate.mean for what in ("mean", "mean square"))
    assert 0.95 < (square - mean**2) ** 0.5 < 1.05


def test_interventions_hit_their_targets(report):
    for variable in ("thickness", "slant"):
        line = report["error of oracle", variable, variable]
        assert line.estimate.mean < 2 * line.reference.mean + 0.05  # px, rad
    assert report["error of oracle", "intensity", "intensity"].estimate.mean < 8


def test_intensity_follows_thickness(report):
    assert report["error against the truth", "thickness", "intensity"].estimate.mean < 3


@pytest.mark.parametrize("variable", ["thickness", "intensity", "slant"])
def test_counterfactuals_are_nearer_to_the_truth_than_doing_nothing(report, name, variable):
    line = report["error against the truth", variable, "image"]
    assert line.estimate.mean < (SHARES[name] if variable == "slant" else 0.5) * line.reference.mean


def test_a_row_keeps_its_counterfactual_in_any_batch_order_and_position(scm):
    rows = MorphoDigits("test", rows=8)[:]
    order = torch.tensor([7, 2])
    whole = scm.observe(rows).do(thickness=3.5, slant=0.1)["image"]
    part = scm.observe({name: value[order] for name, value in rows.items()}).do(thickness=3.5, slant=0.1)["image"]
    torch.testing.assert_close(part, whole[order], atol=1e-5, rtol=0)
