"""What the Frechet distance is measured in: features of a network that reads every factor of a scene."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from jaxtyping import Float
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from causalcf.networks.encoder import Trunk

WIDTHS = (16, 32, 32)


class Judge(Trunk):
    """Reads standardised factors from images in [0, 1]; no model is trained with it.

    Args:
        channels: of the image.
        size: height and width of the image.
        factors: how many.
        widths: channels after each halving of the resolution.
    """

    def __init__(self, channels: int, size: tuple[int, int], factors: int, widths: tuple[int, ...] = WIDTHS) -> None:
        super().__init__(channels, size, 0, widths)
        self.head = nn.Linear(self.width, factors)
        self.options = {"channels": channels, "size": list(size), "factors": factors, "widths": list(widths)}

    def forward(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch factors"]:
        """The factors."""
        return self.head(self.embedding(image))

    def embedding(self, image: Float[Tensor, "batch channel height width"]) -> Float[Tensor, "batch width"]:
        """What the linear head sees."""
        image = image.to(self.head.weight.dtype)
        return self.hidden(2 * image - 1, image.new_zeros(len(image), 0))


def fit_judge(
    image: Float[Tensor, "batch channel height width"],
    factors: Float[Tensor, "batch factors"],
    *,
    steps: int,
    batch: int = 64,
    seed: int = 100,
) -> Judge:
    """Train on pictures and what they show.

    Args:
        image: pictures in [0, 1].
        factors: in any units.
        steps: optimiser steps.
        batch: rows per step.
        seed: of weights and order.
    """
    z = (factors - factors.mean(0)) / factors.std(0).clamp_min(1e-6)
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]), torch.enable_grad():
        torch.manual_seed(seed)
        judge = Judge(image.shape[1], (image.shape[2], image.shape[3]), factors.shape[1])
        optimiser = torch.optim.AdamW(judge.parameters(), 2e-3, weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps + 1)
        for _ in range(steps):
            some = torch.randint(len(z), (batch,), generator=generator)
            loss = nn.functional.smooth_l1_loss(judge(image[some]), z[some], beta=0.1)
            optimiser.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(judge.parameters(), 1.0)
            optimiser.step()
            cycle.step()
    return judge.eval()


def save_judge(judge: Judge, folder: Path) -> None:
    """Write config.json and weights.safetensors."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file({key: tensor.contiguous() for key, tensor in judge.state_dict().items()}, folder / "weights.safetensors")
    (folder / "config.json").write_text(json.dumps({"type": "Judge", "options": judge.options}) + "\n")


def load_judge(folder: Path) -> Judge:
    """Read what `save_judge` wrote.

    Raises:
        ValueError: it holds the weights of something else.
    """
    config = json.loads((folder / "config.json").read_text())
    if config["type"] != "Judge":
        raise ValueError(f"{folder} holds a {config['type']}, which reads one factor; train the judge again")
    options = config["options"]
    judge = Judge(options["channels"], tuple(options["size"]), options["factors"], tuple(options["widths"]))
    judge.load_state_dict(load_file(folder / "weights.safetensors"))
    return judge.eval()
