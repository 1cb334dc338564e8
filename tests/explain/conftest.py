"""A tiny generator and a logistic classifier, in float64."""

import pytest
import torch

from causalcf.diffusion.schedule import Schedule
from causalcf.explain.generators import Generator
from causalcf.networks.unet import ConditionalUNet

SHAPE = (1, 8, 8)


@pytest.fixture
def generator():
    torch.manual_seed(0)
    network = ConditionalUNet(1, (8, 8), 3, (8, 8)).double().eval().requires_grad_(False)
    network.unet.conv_out.weight.data *= 0.05
    return Generator(network, network.null.detach(), Schedule("linear"))


@pytest.fixture
def classifier():
    """Whether the left half is brighter than the right."""

    def logits(images):
        return 20 * (images[..., :4].mean((1, 2, 3)) - images[..., 4:].mean((1, 2, 3)))

    return logits


@pytest.fixture
def images():
    image = 0.4 + 0.2 * torch.rand(5, *SHAPE, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    image[..., :4] += 0.1
    return image
