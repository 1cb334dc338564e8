"""Train what the comparison needs; killed and started again, it goes on.

    python -m experiments.explain.train --data toyfaces
    CAUSALCF_DATA=folder python -m experiments.explain.train --data celeba

Writes `runs/<data>-readers`, `runs/<data>-spatial` and `runs/<data>-latent`. Weights of `celeba` are of photographs of
people, and stay where they are made.
"""

from pathlib import Path

import torch

from causalcf.diffusion.codec import Latents
from causalcf.training.predictors import has_predictor, load_predictor, save_predictor
from experiments.explain.data import Faces, Held
from experiments.explain.latents import coded, fit_autoencoder, load
from experiments.explain.models import model
from experiments.explain.readers import accuracy, fit_reader, student

PARTS = ("readers", "spatial", "latent")
STEPS = {"toyfaces": 400, "celeba": 1500}  # of a reader
VAL = 500  # rows that readers are tried on
AUTOENCODER = 1500  # optimiser steps
SEEDS = {"classifier": 0, "independent": 100, "attributes": 200}


def main(
    data: str = "toyfaces",
    only: list[str] = list(PARTS),  # noqa: B006
    out: Path = Path("runs"),
    steps: int | None = None,
    rows: int | None = None,
    seed: int = 0,
) -> None:
    """Fit and save.

    Args:
        data: toyfaces or celeba.
        only: what, of readers, spatial and latent.
        out: folder of the folders.
        steps: optimiser steps of each network, instead of its recipe's.
        rows: training rows, instead of 20,000 or 5,500.
        seed: of weights, order and noise of the generator; the readers are the same for all seeds.
    """
    unknown = [name for name in only if name not in PARTS]
    if unknown:
        raise SystemExit(f"train: expected parts of {', '.join(PARTS)}, got {unknown[0]!r}")
    faces = Faces(data)
    train = faces.train(rows)
    for name in only:
        if name == "readers":
            fit_readers(faces, train, out / f"{data}-readers", STEPS[data] if steps is None else steps)
        elif name == "latent":
            fit_latent(train, out, data, AUTOENCODER if steps is None else steps, steps)
        else:
            target = out / f"{data}-{name}{f'-{seed}' if seed else ''}"
            if target.is_dir():
                continue
            scm = model(train.graph, steps)
            seen = faces.split("val", min(VAL, 200))
            val = {node: seen[node] for node in train.graph}
            scm.fit(train.modelled(), val, folder=target.with_name(target.name + "-fit"), seed=seed)
            scm.save(target, overwrite=True, half=True)


def fit_readers(faces: Faces, train: Held, out: Path, steps: int) -> None:
    """The explained classifier, its surrogate, the smoothed judge of another classifier, and what reads attributes."""
    seen = faces.split("val", VAL)
    smile = seen[faces.query]

    for name in ("classifier", "independent"):
        if not has_predictor(out / name):
            network = fit_reader(train, [faces.query], steps=steps, seed=SEEDS[name])
            save_predictor(network, out / name)
            print(f"{name}: accuracy {accuracy(network, seen['image'], smile):.4f} on {VAL} rows", flush=True)
    for name, teacher in (("surrogate", "classifier"), ("judge", "independent")):
        if not has_predictor(out / name):
            source = load_predictor(out / teacher)
            smooth = student(source, train, 2 * steps, SEEDS[teacher])
            save_predictor(smooth, out / name)
            said = (smooth.predict(seen["image"]) == source.predict(seen["image"])).double().mean()
            right = (smooth.predict(seen["image"]) == smile).double().mean()
            print(f"{name}: agrees with {teacher} on {said:.4f}, right on {right:.4f} of {VAL} rows", flush=True)
    if not has_predictor(out / "attributes"):
        names = train.attributes
        network = fit_reader(train, names, widths=(24, 48, 96), steps=2 * steps, seed=SEEDS["attributes"])
        save_predictor(network, out / "attributes")
        wanted = torch.stack([seen[name] for name in names], 1)
        print(f"attributes: accuracy {accuracy(network, seen['image'], wanted):.4f} on {VAL} rows", flush=True)


def fit_latent(train: Held, out: Path, data: str, first: int, steps: int | None) -> None:
    """The autoencoder, and the model of its codes."""
    autoencoder, target = out / f"{data}-autoencoder", out / f"{data}-latent"
    if not autoencoder.is_dir():
        network = fit_autoencoder(train, first)
        with torch.no_grad():
            x = train[:200]["image"]
            again = Latents(network).decode(Latents(network).encode(x))
        print(f"autoencoder: {255 * (again - x).abs().mean().item():.2f} grey levels on 200 training rows", flush=True)
        unfinished = autoencoder.with_name(autoencoder.name + ".part")
        network.save_pretrained(unfinished)
        unfinished.rename(autoencoder)
    if not target.is_dir():
        graph, rows = coded(load(autoencoder).autoencoder, train)
        scm = model(graph, steps)
        scm.fit(rows, folder=target.with_name(target.name + "-fit"))
        scm.save(target, overwrite=True, half=True)


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
