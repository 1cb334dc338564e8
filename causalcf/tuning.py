"""`fine_tune`: teach a fitted model to be read as it was intervened on."""

from __future__ import annotations

import copy
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from causalcf import storage
from causalcf.interventions import do
from causalcf.mechanisms.base import Parents, Recipe
from causalcf.mechanisms.diffusion import Diffusion
from causalcf.mechanisms.trials import tried
from causalcf.mechanisms.vae import Variational
from causalcf.networks.classifier import Predictor
from causalcf.rows import Dataset, Table, moved
from causalcf.scm import SCM
from causalcf.training.finetuning import Proposal, Tuning
from causalcf.training.fit import keep, take, train_until_done
from causalcf.training.steps import derived_seed

MEASURED_ROWS = 2048
RECIPE = Recipe(steps=2000, batch=128, learning_rate=1e-4, weight_decay=0.01, clip=50.0, ema=0.999, checkpoint=250)


def fine_tune(
    scm: SCM,
    train: Mapping[str, Tensor] | Dataset,
    predictors: Mapping[str, Predictor],
    *,
    node: str = "image",
    bound: float | None = None,
    damping: float = 100.0,
    climb: float = 1e-2,
    recipe: Recipe = RECIPE,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: bool = True,
) -> SCM:
    """A model whose image answers interventions in a way that predictors read, and explains the data as well as before.

    Each step intervenes on one parent of the image, drawn at random, with the values of other rows; its children follow
    by their mechanisms. The predictors must not be those that judge the result.

    Args:
        scm: fitted, with a `VAE` or `HVAE` at the node; it is not changed.
        train: training rows.
        predictors: parent of the image -> the predictor that reads it.
        node: the image.
        bound: the largest loss on the data, nats per dimension; by default the model's own on the first training rows.
        damping: how steeply the constraint pushes near its bound; at least 0.
        climb: step size of the price of the constraint; at least 0.
        recipe: of the training.
        folder: of the checkpoints; by default `runs/<digest of model, predictors, data and seed>`.
        seed: of order, interventions and noise.
        progress: whether to show a bar.

    Raises:
        TypeError: a mechanism that cannot be tuned, or a predictor without a loss.
        ValueError: options out of range, or a folder that holds the result of another model, data or predictors.
        FloatingPointError: a loss, a gradient or weights that are not finite; says where the last good checkpoint is.

    Example:
        `tuned = cf.fine_tune(scm, MorphoMNIST(folder), {"thickness": reader_t, "digit": reader_d})`
    """
    scm.graph.require(node)
    mechanism = scm.mechanisms[node]
    if not isinstance(mechanism, Variational):
        instead = "; a diffusion model is corrected when it is asked, by steer(readers)"
        raise TypeError(
            f"fine_tune: {node} is a {type(mechanism).__name__}; it takes a VAE or HVAE"
            f"{instead if isinstance(mechanism, Diffusion) else ''}"
        )
    scm.mechanism(node)  # raises where it is not fitted
    parents = scm.graph.parents(node)
    if not predictors or set(predictors) - set(parents):
        raise ValueError(
            f"fine_tune: expected predictors of parents of {node} ({', '.join(parents)}), got {sorted(predictors)}"
        )
    for name, predictor in predictors.items():
        if not isinstance(predictor, Predictor):
            raise TypeError(
                f"fine_tune: the predictor of {name} is a {type(predictor).__name__}, and tuning needs the loss of a "
                f"Predictor; give fit_regressor(rows, {name!r}) or fit_classifier(rows, {name!r}, classes)"
            )
        blank = torch.zeros(2, *mechanism.variable.shape, device=mechanism.device, dtype=mechanism.dtype)
        trial = copy.deepcopy(predictor).to(mechanism.device, mechanism.dtype).eval()
        tried("fine_tune", name, trial, scm.graph[name], blank, False)
    for option, value in (("damping", damping), ("climb", climb)):
        if not 0 <= value < math.inf:
            raise ValueError(f"fine_tune: expected a finite {option} >= 0, got {value}")
    table = Table(train, scm.graph, "train")
    sample = table[: min(MEASURED_ROWS, len(table))]
    if bound is None:
        bound = _loss(mechanism, sample, node, parents, seed)
    if not math.isfinite(bound):
        raise ValueError(f"fine_tune: expected a finite bound, got {bound}")
    described = {"model": storage.describe(scm), "recipe": str(recipe), "bound": bound, "damping": damping}
    given = {
        "weights": {name: _digest(of) for name, of in scm.mechanisms.items()},
        "predictors": {name: [type(of).__name__, _digest(of)] for name, of in predictors.items()},
    }
    print_of = {**described, **given, "climb": climb, "data": table.fingerprint((node, *parents)), "seed": seed}
    path = storage.fit_folder(folder, print_of) / f"{node}-tuned"
    tuned = copy.deepcopy(mechanism)
    result = path / "result.safetensors"
    if result.exists():
        take(tuned, result)
        return scm.using(**{node: tuned})
    path.mkdir(parents=True, exist_ok=True)
    tuned.recipe = recipe
    frozen = {
        name: copy.deepcopy(predictor).to(mechanism.device).eval().requires_grad_(False)
        for name, predictor in predictors.items()
    }
    options: dict[str, Any] = {"bound": bound, "damping": damping, "climb": climb}
    module = Tuning(
        tuned, node, parents, table, None, seed, path, predictors=frozen, proposal=_proposal(scm, node), **options
    )
    train_until_done(module, progress)
    keep(tuned.eval(), result)
    tuned.recipe = mechanism.recipe
    return scm.using(**{node: tuned})


def _digest(module: nn.Module) -> str:
    """A digest of weights and buffers, bit by bit."""
    digest = hashlib.blake2b(digest_size=16)
    for name, tensor in module.state_dict().items():
        content = tensor.detach().cpu().contiguous()
        digest.update(f"{name} {content.dtype} {tuple(content.shape)} ".encode())
        digest.update(content.reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()


@torch.no_grad()
def _loss(mechanism: Variational, rows: Mapping[str, Tensor], node: str, parents: tuple[str, ...], seed: int) -> float:
    generator = torch.Generator(mechanism.device).manual_seed(derived_seed(seed, "bound"))
    shown = moved({name: rows[name] for name in (node, *parents)}, mechanism.device, mechanism.dtype)
    return mechanism.loss(shown[node], {parent: shown[parent] for parent in parents}, generator).mean().item()


def _proposal(scm: SCM, node: str) -> Proposal:
    parents = scm.graph.parents(node)

    def proposed(rows: Mapping[str, Tensor], seed: int) -> Parents:
        generator = torch.Generator().manual_seed(seed)
        chosen = parents[int(torch.randint(len(parents), (), generator=generator))]
        order = torch.randperm(len(rows[chosen]), generator=generator).to(rows[chosen].device)
        world = scm.observe(rows).do(do(**{chosen: rows[chosen][order]}))
        return {parent: world[parent] for parent in parents}

    return proposed
