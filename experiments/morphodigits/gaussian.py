"""What the probability flow of Gaussian images makes of a slant: how far spatial noise can get, without any training.

    python -m experiments.morphodigits.gaussian

For each digit a Gaussian is fitted to drawings of the training handwriting at each of two slants, all else equal. The
flow of a Gaussian has a closed form, so its counterfactual of unseen handwriting is
`mu* + S*^(1/2) S^(-1/2) (x - mu)`, with `floor` added to all variances. Prints its error against the truth over that of
doing nothing, and that of exchanging the means alone.
"""

import torch
from torch import Tensor

from causalcf.data.morphodigits import SPLITS, draw, sources

PAIRS = ((-0.1, 0.1), (-0.2, 0.2), (0.0, 0.4), (-0.4, 0.4))


def images(lines: Tensor, slant: float) -> Tensor:
    """Drawings at thickness 2.5 px and intensity 150, as rows of pixels."""
    count = len(lines)
    attributes = [torch.full((count,), value) for value in (2.5, 150.0, slant)]
    return draw(lines, *attributes).flatten(1).double()


def root(covariance: Tensor, floor: float, power: float) -> Tensor:
    """A power of a covariance with `floor` added to its eigenvalues."""
    values, vectors = torch.linalg.eigh(covariance)
    return (vectors * (values.clamp_min(0) + floor) ** power) @ vectors.T


def main(floor: float = 0.01) -> None:
    """Print one line for each pair of slants.

    Args:
        floor: variance added to every direction.
    """
    lines, labels = sources()
    known, unseen = range(*SPLITS["train"]), range(*SPLITS["test"])
    for before, after in PAIRS:
        error = alone = nothing = 0.0
        for digit in range(10):
            train = lines[[index for index in known if labels[index] == digit]]
            test = lines[[index for index in unseen if labels[index] == digit]]
            first, second = images(train, before), images(train, after)
            x, truth = images(test, before), images(test, after)
            change = root(torch.cov(first.T), floor, -0.5) @ root(torch.cov(second.T), floor, 0.5)
            found = (second.mean(0) + (x - first.mean(0)) @ change).clamp(0, 1)
            means = (x + second.mean(0) - first.mean(0)).clamp(0, 1)
            error += float((found - truth).abs().sum())
            alone += float((means - truth).abs().sum())
            nothing += float((x - truth).abs().sum())
        print(f"slant {before} to {after} rad: flow {error / nothing:.2f}, means alone {alone / nothing:.2f}")


if __name__ == "__main__":
    from jsonargparse import auto_cli

    auto_cli(main)
