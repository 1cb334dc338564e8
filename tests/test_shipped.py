"""The model that ships, measured on unseen handwriting."""

import pytest
import torch

import causalcf as cf
from causalcf import do, resample
from causalcf.data import MorphoDigits
from causalcf.demo import oracles
from causalcf.metrics import Composition, CounterfactualError, Effectiveness

ROWS = 16


@pytest.fixture(scope="module")
def scm():
    return cf.load_pretrained("morphodigits-semantic")


@pytest.fixture(scope="module")
def report(scm):
    columns = MorphoDigits("train", rows=5000).columns(["thickness", "intensity", "slant"])
    plan = {name: do(**{name: resample(values)}) for name, values in columns.items()}
    data = MorphoDigits("test", rows=ROWS)
    metrics = [Composition(cycles=(1,)), Effectiveness(oracles()), CounterfactualError(data)]
    return cf.evaluate(scm, data, plan, metrics)


def test_doing_nothing_changes_nothing(report):
    assert report["composition, 1 cycle", "", "image"].estimate.mean < 0.3


def test_interventions_hit_their_targets(report):
    for name, slack in (("thickness", 0.05), ("slant", 0.05)):
        line = report["error of oracle", name, name]
        assert line.estimate.mean < 2 * line.reference.mean + slack
    assert report["error of oracle", "intensity", "intensity"].estimate.mean < 8


def test_intensity_follows_thickness(report):
    assert report["error against the truth", "thickness", "intensity"].estimate.mean < 3


@pytest.mark.parametrize(("name", "share"), [("thickness", 0.5), ("intensity", 0.5), ("slant", 0.9)])
def test_counterfactuals_are_nearer_to_the_truth_than_doing_nothing(report, name, share):
    line = report["error against the truth", name, "image"]
    assert line.estimate.mean < share * line.reference.mean


def test_a_row_keeps_its_counterfactual_in_any_batch_order_and_position(scm):
    rows = MorphoDigits("test", rows=8)[:]
    order = torch.tensor([7, 2])
    whole = scm.observe(rows).do(thickness=3.5, slant=0.1)["image"]
    part = scm.observe({name: value[order] for name, value in rows.items()}).do(thickness=3.5, slant=0.1)["image"]
    torch.testing.assert_close(part, whole[order], atol=1e-5, rtol=0)
