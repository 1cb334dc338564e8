"""The linear-Gaussian image model `x = W a + s xi`: its optimal denoiser and its counterfactuals are known."""

import torch

from causalcf.diffusion.denoiser import PREDICTIONS, Denoiser
from causalcf.diffusion.schedule import Schedule


class LinearModel:
    """The analytic network, in any prediction type; its null token stands for the mean parents."""

    def __init__(self, prediction="epsilon", kind="linear", s=0.3, parents=3, seed=0):
        generator = torch.Generator().manual_seed(seed)
        self.w = torch.randn(16, parents, generator=generator, dtype=torch.float64)
        self.s, self.kind, self.prediction = s, kind, prediction
        self.abar = Schedule(kind).alpha_bar
        self.asked = []
        self.a = torch.randn(6, parents, generator=generator, dtype=torch.float64)
        self.a_star = torch.randn(6, parents, generator=generator, dtype=torch.float64)
        self.xi = torch.randn(6, 1, 4, 4, generator=generator, dtype=torch.float64)
        self.null = torch.randn(parents, generator=generator, dtype=torch.float64)

    def image(self, a):
        return (a @ self.w.T).reshape(-1, 1, 4, 4)

    @property
    def x(self):
        return self.image(self.a) + self.s * self.xi

    def network(self, x, timestep, condition):
        self.asked.append((timestep.clone(), len(x)))
        abar = self.abar[timestep].reshape(-1, 1, 1, 1)
        alpha, sigma = abar.sqrt(), (1 - abar).sqrt()
        e = sigma * (x - alpha * self.image(condition)) / (abar * self.s**2 + 1 - abar)
        x0 = (x - sigma * e) / alpha
        return PREDICTIONS[self.prediction].target(x0, e, alpha, sigma)

    def denoiser(self, steps, spacing="log-snr"):
        return Denoiser(self.network, PREDICTIONS[self.prediction], Schedule(self.kind).levels(steps, spacing))
