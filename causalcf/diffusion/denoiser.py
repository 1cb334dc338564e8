"""What the network says about a noisy image: epsilon, v, x0 and others behind one interface."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor

from causalcf.diffusion.schedule import Levels

Images = Float[Tensor, "batch channel height width"]
Network = Callable[[Tensor, Tensor, Tensor], Tensor]


class Prediction(ABC):
    """What a network is trained to output for `x = alpha x0 + sigma e`, and how it tells us `e`."""

    @abstractmethod
    def target(self, x0: Tensor, e: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The output a perfect network would give."""

    @abstractmethod
    def epsilon(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:
        """The noise that an output means, with the alpha and sigma of the level the network was asked at."""


class Epsilon(Prediction):
    """The noise itself (Ho et al., 2020)."""

    def target(self, x0: Tensor, e: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return e

    def epsilon(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return output


class Velocity(Prediction):
    """`v = alpha e - sigma x0` (Salimans and Ho, 2022)."""

    def target(self, x0: Tensor, e: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return alpha * e - sigma * x0

    def epsilon(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return (alpha * output + sigma * x) / (alpha**2 + sigma**2)


class Clean(Prediction):
    """The clean image x0."""

    def target(self, x0: Tensor, e: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return x0

    def epsilon(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return (x - alpha * output) / sigma


@dataclass(frozen=True)
class Scaled(Prediction):
    r"""`F = (sigma x0 - alpha s^2 e) / (s D^(1/2))`, `D = alpha^2 s^2 + sigma^2`: v for data whose spread s is not 1.

    What is left of x0 when the best linear guess from x is taken off, at unit variance (Karras et al., "Elucidating the
    Design Space of Diffusion-Based Generative Models", 2022, here for `alpha^2 + sigma^2 = 1`); for s = 1 it is -v. The
    smaller s, the less noise the network has to carry from its input to its output, which narrow networks on large
    patches fail at.

    Args:
        spread: s, the standard deviation of the data about what the network can tell at once.
    """

    spread: float = 0.25

    def _total(self, alpha: Tensor, sigma: Tensor) -> Tensor:
        return (alpha * self.spread) ** 2 + sigma**2

    def target(self, x0: Tensor, e: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        left = sigma * x0 - alpha * self.spread**2 * e
        return left / (self.spread * self._total(alpha, sigma).sqrt())

    def epsilon(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        total = self._total(alpha, sigma)
        return sigma * x / total - alpha * self.spread * output / total.sqrt()


class Flow(Prediction):
    """The velocity `e - x0` of a rectified flow, `x = (1 - t) x0 + t e` (Liu et al., 2023)."""

    def target(self, x0: Tensor, e: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return e - x0

    def epsilon(self, output: Tensor, x: Tensor, alpha: Tensor, sigma: Tensor) -> Tensor:  # noqa: D102
        return (x + alpha * output) / (alpha + sigma)


PREDICTIONS: dict[str, Prediction] = {
    "epsilon": Epsilon(),
    "v": Velocity(),
    "scaled": Scaled(),
    "x0": Clean(),
    "flow": Flow(),
}


@dataclass(frozen=True)
class Denoiser:
    """A network, asked for the noise in an image at one level of a trajectory.

    The trajectory may be kept in a wider float than the network computes in: the image is cast on the way in, the
    noise on the way out.

    Args:
        network: `(x, timestep, condition) -> output`, with `x` of shape `(B, C, H, W)` and `timestep` of shape `(B,)`.
        prediction: what the output means.
        levels: the noise levels of the trajectory.
        limit: the largest value of a clean image; noise that leads beyond it is taken to lead to it. None allows all.
    """

    network: Network
    prediction: Prediction
    levels: Levels
    limit: float | None = None

    def epsilon(self, x: Images, k: int, condition: Tensor) -> Images:
        """The noise in `x` at level `k`; the network is told the training step of that level, not `k`."""
        dtype = condition.dtype if condition.is_floating_point() else x.dtype
        timestep = self.levels.timestep[k].to(x.device).expand(len(x))
        output = self.network(x.to(dtype), timestep, condition).to(x.dtype)
        alpha, sigma = (level[k].to(x.device, x.dtype) for level in (self.levels.alpha, self.levels.sigma))
        e = self.prediction.epsilon(output, x, alpha, sigma)
        if self.limit is None:
            return e
        return (x - alpha * ((x - sigma * e) / alpha).clamp(-self.limit, self.limit)) / sigma
