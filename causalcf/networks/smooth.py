"""A classifier whose gradients are smooth: what a surrogate of another classifier is made of."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional

from causalcf.networks.classifier import Predictor


class SmoothLeaky(nn.Module):
    """The activation `(LeakyReLU_0.1(a) + Softplus_{beta=10}(a)) / 2` (Bender et al.)."""

    def forward(self, a: Tensor) -> Tensor:  # noqa: D102
        return 0.5 * (functional.leaky_relu(a, 0.1) + functional.softplus(a, 10.0))


def unnormalised(before: int, after: int, stride: int) -> list[nn.Module]:
    """Two 3x3 convolutions, each with a `SmoothLeaky`; the first one strided.

    Their weights begin at the variance that keeps that of the signal.
    """
    layers: list[nn.Module] = []
    for channels, step in ((before, stride), (after, 1)):
        convolution = nn.Conv2d(channels, after, 3, stride=step, padding=1)
        nn.init.kaiming_normal_(convolution.weight, a=0.1)
        nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
        layers += [convolution, SmoothLeaky()]
    return layers


class SmoothClassifier(Predictor):
    """The architecture of `Classifier` with smooth activations, as a function of each image alone.

    It has no batch normalisation, as it learns from mixed and attacked images, whose statistics are not those of the
    images that it reads later, and no normalisation of each image, whose gradient is steep where the image is flat.

    Args:
        channels: of the image.
        outputs: how many logits: `(B, outputs)`, of which 1 speaks of two classes; None gives `(B,)`, of two classes.
        widths: channels after each stage; each but the first halves the resolution.
        reads: name of the attribute.
    """

    def __init__(
        self, channels: int, outputs: int | None, widths: Sequence[int] = (32, 64, 128), reads: str = ""
    ) -> None:
        super().__init__(channels, 1 if outputs is None else outputs, widths, reads, stage=unnormalised, dropout=0.0)
        self.options = {"channels": channels, "outputs": outputs, "widths": list(widths), "reads": reads}

    @torch.no_grad()
    def standardise(self, images: Float[Tensor, "batch channel height width"]) -> None:
        """Scale and shift the convolutions, so that on these images every channel has mean 0 and variance 1.

        It is an initialisation by data (Salimans and Kingma, "Weight Normalization", 2016), and gives a network without
        normalisation the start of one that has it.

        Args:
            images: in [0, 1].
        """
        x = 2 * images.to(self.head.weight) - 1
        for layer in self.body:
            if isinstance(layer, nn.Conv2d) and layer.bias is not None:
                out = layer(x)
                mean, spread = out.mean((0, 2, 3)), out.std((0, 2, 3)).clamp_min(1e-4)
                layer.weight.div_(spread.reshape(-1, 1, 1, 1))
                layer.bias.sub_(mean).div_(spread)
            x = layer(x)

    def forward(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch ..."]:
        """Logits, in the form that `outputs` says."""
        logits = self.head(self.features(image))
        return logits[:, 0] if self.options["outputs"] is None else logits

    def predict(self, image: Float[Tensor, "batch channel height width"]) -> Int[Tensor, " batch"]:
        """The most probable class."""
        logits = self.head(self.features(image))
        return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)

    def loss(self, image: Float[Tensor, "batch channel height width"], wanted: Tensor) -> Float[Tensor, " batch"]:
        """Cross-entropy."""
        logits = self.head(self.features(image))
        if logits.shape[1] == 1:
            return functional.binary_cross_entropy_with_logits(logits[:, 0], wanted.to(logits), reduction="none")
        return functional.cross_entropy(logits, wanted, reduction="none")
