"""Other gradients of a classifier: its logits as they are, and where they rise read elsewhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from causalcf.explain.queries import Classifier
from causalcf.units import Units

Images = Float[Tensor, "batch channel height width"]
Points = Callable[[Images], Iterator[Images]]


class _Averaged(torch.autograd.Function):
    """The value `f(x)`; its gradient, the mean of those that another has at other points."""

    @staticmethod
    def forward(ctx: Any, images: Tensor, classifier: Classifier, leader: Classifier, points: Points) -> Tensor:
        ctx.save_for_backward(images)
        ctx.leader, ctx.points = leader, points
        return classifier(images)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *slopes: Tensor) -> tuple[Tensor, None, None, None]:  # type: ignore[override]
        (images,) = ctx.saved_tensors
        total, count = torch.zeros_like(images), 0
        for point in ctx.points(images):  # one at a time, so that memory does not grow with their number
            with torch.enable_grad():
                leaf = point.detach().requires_grad_()
                logits = ctx.leader(leaf)
                if {*logits.shape[1:], *slopes[0].shape[1:]} == {1}:  # two classes, said by one of them with a column
                    logits = logits.reshape(slopes[0].shape)
                if logits.shape != slopes[0].shape:
                    raise ValueError(
                        f"Led: the classifier gives logits of {tuple(slopes[0].shape)}, the surrogate "
                        f"{tuple(logits.shape)}; take one that was distilled from this classifier"
                    )
                (gradient,) = torch.autograd.grad(logits, leaf, slopes[0])
            total, count = total + gradient, count + 1
        return total / count, None, None, None


class SmoothGrad:
    r"""A classifier with the gradient `mean_i grad f(x + sigma n_i)`, of normal noise.

    All rows share the noises `n_i`, at every call: so the gradient is that of one function, the mean of `f` moved
    about, and does not depend on the batch. Noise of a row's own would have to follow from its image, and in a method
    that asks of images it has computed, rounding would change it altogether.

    Source: Smilkov et al., "SmoothGrad" (2017), https://arxiv.org/abs/1706.03825.

    Args:
        classifier: images in [0, 1] -> logits, differentiable, each row on its own.
        sigma: of the noise, of images in [0, 1].
        samples: how many gradients are averaged; one evaluation each, at the backward pass.
        seed: of the noise.

    Example:
        >>> steep = SmoothGrad(lambda images: (40 * images).sin().sum((1, 2, 3)), sigma=0.2)
        >>> image = torch.full((1, 1, 2, 2), 0.5, requires_grad=True)
        >>> steep(image).item() == (40 * image).sin().sum().item()
        True
    """

    def __init__(self, classifier: Classifier, sigma: float = 0.1, samples: int = 16, seed: int = 0) -> None:
        if not sigma > 0 or samples < 1:
            raise ValueError(f"SmoothGrad: expected sigma > 0 and samples >= 1, got {sigma} and {samples}")
        self.classifier, self.sigma, self.samples, self.seed = classifier, sigma, samples, seed

    def __call__(self, images: Images) -> Float[Tensor, "batch ..."]:
        """The classifier's logits."""
        return _Averaged.apply(images, self.classifier, self.classifier, self._points)  # type: ignore[no-any-return]

    def _points(self, images: Images) -> Iterator[Images]:
        units = Units(torch.zeros(1, dtype=torch.int64), self.seed)
        for index in range(self.samples):
            yield images + self.sigma * units.normal(f"smoothgrad.{index}", images.shape[1:]).to(images)


class IntegratedGradients:
    r"""A classifier with the gradient `int_0^1 grad f(x' + a (x - x')) da`, along the way from a baseline `x'`.

    Times `x - x'` it is the attribution of Sundararajan et al., "Axiomatic Attribution for Deep Networks" (2017),
    https://arxiv.org/abs/1703.01365, which sums to `f(x) - f(x')`; that factor would hold still what equals the
    baseline, and is left out here, where the gradient is a direction to go.

    Args:
        classifier: images in [0, 1] -> logits, differentiable, each row on its own.
        baseline: `x'`, a grey level or an image `(C, H, W)`.
        steps: at the middles of how many equal parts of the way; one evaluation each, at the backward pass.
    """

    def __init__(self, classifier: Classifier, baseline: float | Tensor = 0.0, steps: int = 16) -> None:
        if steps < 1:
            raise ValueError(f"IntegratedGradients: expected steps >= 1, got {steps}")
        self.classifier, self.baseline, self.steps = classifier, torch.as_tensor(baseline), steps
        if self.baseline.ndim not in (0, 3) or not self.baseline.isfinite().all():
            raise ValueError(
                "IntegratedGradients: expected as baseline a grey level or a finite image (C, H, W), got shape "
                f"{tuple(self.baseline.shape)}"
            )

    def __call__(self, images: Images) -> Float[Tensor, "batch ..."]:
        """The classifier's logits."""
        if self.baseline.ndim and self.baseline.shape != images.shape[1:]:
            raise ValueError(
                f"IntegratedGradients: the baseline has shape {tuple(self.baseline.shape)}, the images "
                f"{tuple(images.shape[1:])}"
            )
        return _Averaged.apply(images, self.classifier, self.classifier, self._points)  # type: ignore[no-any-return]

    def _points(self, images: Images) -> Iterator[Images]:
        start = self.baseline.to(images)
        for index in range(self.steps):
            yield start + (index + 0.5) / self.steps * (images - start)


class Led:
    """A classifier with the gradient of another, of a smooth student of it for example: any explainer can follow that.

    What it says, and so whether a row flips, remains the classifier's own word.

    Args:
        classifier: images in [0, 1] -> logits.
        surrogate: the same, differentiable, with as many logits; `causalcf.training.surrogates.distil` makes one.

    Example:
        `cf.explain.MaskDiME().explain(cf.explain.Led(classifier, student), generator, images)`
    """

    def __init__(self, classifier: Classifier, surrogate: Classifier) -> None:
        self.classifier, self.surrogate = classifier, surrogate

    def __call__(self, images: Images) -> Float[Tensor, "batch ..."]:
        """The classifier's logits."""
        return _Averaged.apply(images, self.classifier, self.surrogate, lambda x: iter((x,)))  # type: ignore[no-any-return]
