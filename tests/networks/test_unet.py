"""The network of diffusion mechanisms."""

import torch

from causalcf.networks.unet import ConditionalUNet


def test_the_layout_of_the_weights_changes_no_output():
    network = ConditionalUNet(1, (8, 8), 2, (8, 8))
    torch.nn.init.normal_(network.unet.conv_out.weight)
    x, t, c = torch.randn(3, 1, 8, 8), torch.tensor([1, 500, 900]), torch.randn(3, 2)
    with torch.no_grad():
        before = network(x, t, c)
        assert network.unet.conv_in.weight.is_contiguous()
        after = network.eval()(x, t, c)
    assert network.unet.conv_in.weight.is_contiguous(memory_format=torch.channels_last)
    assert not network.unet.conv_in.weight.is_contiguous()
    torch.testing.assert_close(after, before, atol=1e-5, rtol=1e-5)
    assert network.train().unet.conv_in.weight.is_contiguous()
