"""Errors of the clean image are those of the network, whatever it is trained to output."""

import json

import torch

import causalcf as cf
from causalcf import mechanisms as M
from experiments.explain import outputs


def test_a_perfect_network_has_no_error_and_a_silent_one_has():
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    made = M.SpatialDiffusion(widths=(8, 8), patch=8, prediction="x0", schedule="cosine")
    made = made.build(cf.Image(3, 64, 64), {"k": cf.Binary()}).eval()
    null = made.network.null

    class Perfect(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.null = null

        def forward(self, x, timestep, condition):
            return 2 * images - 1

    made.network = Perfect()
    assert max(outputs.errors(made, images)) < 1e-4
    made.network.forward = lambda x, timestep, condition: torch.zeros_like(x)
    expected = (2 * images - 1).square().mean().sqrt().item()
    assert all(abs(found - expected) < 1e-3 for found in outputs.errors(made, images))


def test_it_is_written(tmp_path):
    outputs.main(steps=1, rows=64, outputs=["v", "scaled"], out=tmp_path, work=tmp_path / "work")
    content = json.loads((tmp_path / "outputs.json").read_text())
    assert {name: len(found) for name, found in content["errors"].items()} == {"v": 5, "scaled": 5}
