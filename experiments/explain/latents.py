"""A small autoencoder of faces, and the model of its codes: a generator to explain in latents with."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL
from torch import Tensor

import causalcf as cf
from causalcf.diffusion.codec import Latents
from causalcf.hardware import autocast
from causalcf.training.steps import Batches
from experiments.explain.data import Held

SPAN = 3.0  # standard deviations of a code that are kept; codes are modelled as images, which have ends
CHANNELS, WIDTHS = 4, (16, 32, 32)  # each width but the first halves the sides


def fit_autoencoder(rows: Held, steps: int, batch: int = 32, rate: float = 2e-3, seed: int = 0) -> AutoencoderKL:
    """Teach an autoencoder to draw faces again, by the L1 distance and a slight pull of its codes to normal ones.

    Its scaling is such that nearly all codes are within [-1, 1].

    Args:
        rows: training rows.
        steps: optimiser steps, of AdamW under a one-cycle rate.
        batch: rows per step.
        rate: the largest.
        seed: of weights, order and noise.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shape: dict[str, Any] = {
            "down_block_types": ("DownEncoderBlock2D",) * len(WIDTHS),
            "up_block_types": ("UpDecoderBlock2D",) * len(WIDTHS),
            "block_out_channels": WIDTHS,
        }
        network = AutoencoderKL(
            **shape, latent_channels=CHANNELS, norm_num_groups=8, mid_block_add_attention=False
        ).train()
        optimiser = torch.optim.AdamW(network.parameters(), rate, weight_decay=0.01)
        cycle = torch.optim.lr_scheduler.OneCycleLR(optimiser, rate, total_steps=steps + 1)
        for index in Batches(len(rows), batch, seed, 0, steps):
            x = 2 * rows[index]["image"] - 1
            with autocast("auto", torch.device("cpu")):
                codes = network.encode(x).latent_dist  # pyright: ignore[reportAttributeAccessIssue]
                again = network.decode(codes.sample()).sample  # pyright: ignore[reportAttributeAccessIssue]
            loss = (again.float() - x).abs().mean() + 1e-6 * codes.kl().float().mean()
            optimiser.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimiser.step()
            cycle.step()
    network.eval()
    seen = encoded(network, rows, 1000)
    network.register_to_config(scaling_factor=(1 / (SPAN * seen.std())).item(), shift_factor=seen.mean().item())
    return network


@torch.no_grad()
def encoded(network: AutoencoderKL, rows: Held, count: int | None = None) -> Tensor:
    """Codes of the first rows, within [-1, 1] if the network is fitted."""
    codec, parts = Latents(network), []
    for start in range(0, len(rows) if count is None else min(count, len(rows)), 250):
        parts.append(codec.encode(rows[start : start + 250]["image"]))
    return torch.cat(parts)


def coded(network: AutoencoderKL, rows: Held) -> tuple[cf.CausalGraph, dict[str, Tensor]]:
    """The rows with their codes, as images in [0, 1], and the graph with a code in the image's place."""
    codes = (encoded(network, rows) + 1) / 2
    graph, side = rows.graph, codes.shape[2]
    nodes: dict[str, Any] = {name: graph[name] for name in graph if name != "image"}
    edges = [(parent, name) for name in graph for parent in graph.parents(name)]
    found = cf.CausalGraph(edges, {**nodes, "image": cf.Image(CHANNELS, side, side)})
    return found, {**rows.columns(list(nodes)), "image": codes.clamp(0, 1)}


def load(folder: Path) -> Latents:
    """The codec that `fit_autoencoder` made, from a folder."""
    network: Any = AutoencoderKL.from_pretrained(folder, local_files_only=True, low_cpu_mem_usage=False)
    return Latents(network)
