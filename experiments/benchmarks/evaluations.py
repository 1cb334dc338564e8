"""What every way of asking evaluates for one row: counts, which no machine changes.

    python -m experiments.benchmarks.evaluations [--rows 4]

Rows shown to the denoiser, forwards and backwards; and to whatever else looks at images: encoders, decoders, and the
readers that steer. Abduction and one counterfactual together.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits
from causalcf.mechanisms.steering import By

PLAIN: dict[str, Any] = {"solver": "2m", "steps": 25, "replay": False}


def ask(scm: cf.SCM, rows: Mapping[str, Tensor]) -> Tensor:
    """Abduction, and one counterfactual."""
    return scm.observe(rows).do(thickness=3.0)["image"]


class Brightness(nn.Module):
    """A reader of the mean grey level; what is counted does not depend on what is read."""

    def forward(self, image: Tensor) -> Tensor:
        """About as large as a thickness."""
        return 20 * image.flatten(1).mean(1)


def parts(image: M.Mechanism) -> Iterator[tuple[str, nn.Module]]:
    """What looks at images in a mechanism of them, and what its evaluations are called."""
    if isinstance(image, M.Diffusion):
        yield "", image.network
        for reader in image.steering.readers.values():
            module = getattr(reader, "__self__", reader)  # of a predictor's method
            assert isinstance(module, nn.Module), f"{reader} is no module, and cannot be watched"
            yield "reader ", module
    if isinstance(image, M.SemanticDiffusion | M.VAE):
        yield "encoder ", image.encoder
    if isinstance(image, M.VAE):
        yield "decoder ", image.decoder
    if isinstance(image, M.HVAE):
        yield "encoder ", image.ladder.stem  # asked once where an image is encoded
        yield "decoder ", image.ladder


class Asked:
    """The rows of every call that some work makes, by what is called and which way.

    "forward" and "backward" are the denoiser's; others say whose they are, "encoder forward", "reader backward". What
    the caller's own gradients pass through counts as backward too, so that work belongs within `torch.no_grad()`.
    """

    def __init__(self, image: M.Mechanism) -> None:
        self.rows: dict[str, list[int]] = {"forward": [], "backward": []}
        self.hooks = [module.register_forward_hook(partial(self._seen, part)) for part, module in parts(image)]

    def _seen(self, part: str, _: nn.Module, args: tuple[Tensor, ...], output: Tensor | tuple[Any, ...]) -> None:
        first = output if isinstance(output, Tensor) else output[0]
        for way in ("forward", *(["backward"] if first.requires_grad else [])):
            self.rows.setdefault(f"{part}{way}", []).append(len(args[0]))

    def __enter__(self) -> Asked:
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self.hooks:
            hook.remove()


@torch.no_grad()
def evaluations(scm: cf.SCM, rows: Mapping[str, Tensor]) -> dict[str, float]:
    """Evaluations per row of abduction and one counterfactual, by part and way."""
    with Asked(scm.mechanism("image")) as asked:
        ask(scm, rows)
    return {way: sum(counts) / len(rows["image"]) for way, counts in asked.rows.items()}


def variants(scm: cf.SCM) -> dict[str, cf.SCM]:
    """Ways of asking one diffusion model."""
    made = {
        "DDIM with fixed point, 50": {**PLAIN, "solver": "ddim", "steps": 50},
        "explicit DDIM, 50": {**PLAIN, "solver": "explicit ddim", "steps": 50},
        "2M, 25": PLAIN,
        "2M with replay, 25": {**PLAIN, "replay": True},
        "bidirectional DDIM, 25": {**PLAIN, "solver": "bidirectional ddim"},
        "BELM, 25": {**PLAIN, "solver": "belm"},
        "EDICT, 25": {**PLAIN, "solver": "edict"},
        "2M, 25, omega 2": {**PLAIN, "omega": 2.0},
        "2M with replay, 25, omega 2": {**PLAIN, "omega": 2.0, "replay": True},
        "2M, 25, omega 2, factual reference": {**PLAIN, "omega": 2.0, "reference": "factual"},
        "2M, 25, omega 2, guided inversion": {**PLAIN, "omega": 2.0, "inversion": "guided"},
    }
    found = {name: scm.using(image=options) for name, options in made.items()}
    for name, options in (("2M", PLAIN), ("2M with replay", {**PLAIN, "replay": True})):
        found[f"{name}, 25, steered by a reader"] = steered(scm, "reading", **options)
        found[f"{name}, 25, calibrated omega"] = steered(scm, "omega", **options)
    image = scm.mechanism("image")
    if isinstance(image, M.SemanticDiffusion):
        options = {**PLAIN, "solver": "explicit ddim", "omega": 2.0, "passes_per_level": 10, "stop": 0.0}
        found["CTA, 25, 10 passes"] = scm.using(image=image.but(M.DynamicDiffusion, **options))
    return found


def steered(scm: cf.SCM, by: By, **options: Any) -> cf.SCM:
    """The same with a reader that steers."""
    image = scm.mechanism("image").but(**options)
    assert isinstance(image, M.Diffusion)
    tolerance = {"thickness": 0.1} if by == "omega" else None
    return scm.using(image=image.steer({"thickness": Brightness()}, by, tolerance))


def autoencoders(scm: cf.SCM) -> dict[str, cf.SCM]:
    """Untrained ones in the place of the image's mechanism: a pass is a pass."""
    image = scm.mechanism("image")
    made = {kind.__name__: kind().build(image.variable, image.parents).eval() for kind in (M.VAE, M.HVAE)}
    for mechanism in made.values():
        mechanism.fitted = True
    return {name: scm.using(image=mechanism) for name, mechanism in made.items()}


def main(semantic: str = "morphodigits-semantic", spatial: str = "morphodigits-spatial", rows: int = 4) -> None:
    """Count, and print JSON.

    Args:
        semantic: a shipped model's name.
        spatial: another one's.
        rows: batch size; only the fixed point, which stops row by row, knows rows apart.
    """
    models = {"semantic": cf.load_pretrained(semantic), "spatial": cf.load_pretrained(spatial)}
    asked = {f"{kind}: {name}": scm for kind, model in models.items() for name, scm in variants(model).items()}
    table = MorphoDigits("test", rows=rows)[:]
    counts = {name: evaluations(scm, table) for name, scm in {**asked, **autoencoders(models["spatial"])}.items()}
    print(json.dumps({"rows": rows, "evaluations of a row": counts}, indent=1))


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
