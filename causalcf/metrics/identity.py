"""Identity preservation: how far the counterfactual is from where it came from."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from causalcf.interventions import Do
from causalcf.metrics.tally import Label, Tally, distance, flat, read, unit_of
from causalcf.world import World

Encode = Callable[[Tensor], Tensor]  # images -> (B, D)
Distance = Callable[[Tensor, Tensor], Tensor]  # images, images -> (B,)


class Identity(Tally):
    """Distance of the counterfactual to the observation, and to its reconstruction (IDP; Rasal et al., 2025).

    The published score takes the reconstruction, which forgives what abduction loses. Doing nothing is best at both:
    read them next to effectiveness alone.

    The published distance is LPIPS. Whoever has torchvision and its weights of AlexNet takes that of torchmetrics,
    which wants three channels, of at least 32 pixels a side, and the reduction "none"; numbers of other networks do
    not compare::

        from torchmetrics.image.lpip import LearnedPerceptualImagePatchSimilarity

        lpips = LearnedPerceptualImagePatchSimilarity("alex", reduction="none", normalize=True)

        def apart(a, b):  # a batch of one comes back without its dimension
            return lpips(a.expand(-1, 3, -1, -1), b.expand(-1, 3, -1, -1)).reshape(-1)

        Identity(distance=apart, named="LPIPS (AlexNet)")

    With torch-fidelity and a file of weights, the features of Inception are an encoder, here and for `Frechet`::

        from torchmetrics.image.fid import NoTrainInceptionV3

        inception = NoTrainInceptionV3("inception-v3-compat", ["2048"], "pt_inception-2015-12-05-6726825d.pth")

        def encode(images):
            return inception((255 * images).round().byte().expand(-1, 3, -1, -1))

        Identity(encode=encode, named="Inception")

    Args:
        node: the image, by default the only one.
        encode: images in [0, 1] -> features `(B, D)`, compared by `1 - cosine`.
        distance: two batches of images in [0, 1] -> how far apart they are, row by row, `(B,)`. By default, pixels are
            compared on 0 to 255.
        named: what tables call it, to tell several kinds apart.

    Raises:
        ValueError: both an encoder and a distance; a distance that is not one number per row, or features that are not
            one vector.

    Example:
        >>> def largest(a, b):
        ...     return (a - b).abs().flatten(1).amax(1)
        >>> Identity(distance=largest, named="largest change").named
        'largest change'
    """

    higher_is_better = False
    title = "identity"

    def __init__(
        self,
        node: str | None = None,
        encode: Encode | None = None,
        distance: Distance | None = None,
        named: str = "identity",
    ) -> None:
        super().__init__()
        if encode is not None and distance is not None:
            raise ValueError("Identity: expected an encoder or a distance, got both; make one Identity of each")
        self.node, self.encode, self.distance, self.named = node, encode, distance, named
        self.again = torch.empty(0)

    @torch.no_grad()
    def trial(self, world: World) -> None:  # noqa: D102
        what = "encoder" if self.distance is None else "distance"
        read(f"{self.named}: the {what}", lambda image: self._apart(image, image), world[self.on(world)])

    @torch.no_grad()
    def seen(self, world: World) -> None:  # noqa: D102
        self.again = world.recomputed(self.on(world))

    @torch.no_grad()
    def done(self, world: World, action: Do, name: str, counterfactual: World) -> None:  # noqa: D102
        node = self.on(world)
        for kind, other in (("observation", world[node]), ("reconstruction", self.again)):
            label = Label(f"{self.named}, to the {kind}", name, node, self._unit(world))
            self.tally(label, self._apart(counterfactual[node], other))

    def _unit(self, world: World) -> str:
        if self.distance is not None:
            return "-"
        return unit_of(world, self.on(world)) if self.encode is None else "1 - cosine"

    def _apart(self, a: Tensor, b: Tensor) -> Tensor:
        if self.distance is not None:
            found = self.distance(a, b)
            if found.shape != (len(a),):
                raise ValueError(
                    f"{self.named}: expected a distance of shape ({len(a)},), one per row, got {tuple(found.shape)}; "
                    "in torchmetrics take reduction='none', and .reshape(-1)"
                )
            return found
        if self.encode is None:
            return distance(a, b, image=True)
        here, there = (flat(f"{self.named}: the encoder", self.encode(images)).double() for images in (a, b))
        return 1 - torch.cosine_similarity(here, there, dim=1)
