"""The shallow network behind one that sees patches."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.networks.refinement import Refinement
from causalcf.networks.unet import ConditionalUNet


def woken(network):
    """With a last layer that does something."""
    torch.nn.init.normal_(network.last.weight, generator=torch.Generator().manual_seed(1))
    return network


def test_at_first_it_adds_nothing():
    torch.manual_seed(0)
    network = ConditionalUNet(1, (8, 8), 2, (8, 8), patch=2, refine=4)
    torch.manual_seed(0)
    plain = ConditionalUNet(1, (8, 8), 2, (8, 8), patch=2)
    x, condition, step = torch.randn(3, 1, 8, 8), torch.randn(3, 2), torch.tensor([0, 500, 999])
    assert torch.equal(network(x, step, condition), plain(x, step, condition))
    woken(network.refine)
    assert not torch.allclose(network(x, step, condition), plain(x, step, condition))


def test_it_sees_the_pixels_around_and_the_level():
    refine = woken(Refinement(1, 4))
    x, output = torch.randn(1, 1, 16, 16), torch.randn(1, 1, 16, 16)
    there = refine(x, output, torch.tensor([500])) - output
    moved = x.clone()
    moved[..., 8, 8] += 1
    change = (refine(moved, output, torch.tensor([500])) - output - there).abs()[0, 0]
    assert change[5:12, 5:12].min() > 0
    change[5:12, 5:12] = 0
    assert change.max() == 0
    assert not torch.allclose(refine(x, output, torch.tensor([10])) - output, there)
    assert not torch.allclose(refine(x, output + 1, torch.tensor([500])) - output - 1, there)


def scm(**options):
    torch.manual_seed(0)
    graph = cf.CausalGraph("a -> x", a=cf.Continuous(), x=cf.Image(1, 8, 8))
    image = M.SpatialDiffusion(widths=(8, 8), patch=2, recipe=M.Recipe(steps=2, batch=4), **options)
    rows = {"a": torch.randn(20), "x": torch.rand(20, 1, 8, 8), "id": torch.arange(20)}
    return cf.SCM(graph, {"a": M.Gaussian(weights={}), "x": image}).fit(rows, progress=False), rows


def test_a_mechanism_with_it_is_trained_saved_and_asked_otherwise(tmp_path):
    fitted, rows = scm(refine=4)
    assert fitted.mechanism("x").config()["refine"] == 4
    assert fitted.mechanism("x").network.refine.last.weight.any()
    fitted.save(tmp_path / "model")
    loaded = cf.SCM.load(tmp_path / "model")
    answers = [one.using(x={"steps": 4}).observe(rows).do(a=1.0)["x"] for one in (fitted, loaded)]
    assert torch.equal(*answers)


def test_without_it_nothing_is_said_of_it():
    fitted, _ = scm()
    assert "refine" not in fitted.mechanism("x").config()
    assert fitted.mechanism("x").network.refine is None


@pytest.mark.parametrize("refine", [-1, 1.5, True, "4"])
def test_its_width_is_a_number_of_channels(refine):
    with pytest.raises(ValueError, match="whole number refine >= 0"):
        M.SpatialDiffusion(refine=refine)
