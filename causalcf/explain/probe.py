"""Asked before anything is drawn: whether a generator fits the images, and which classifier and generator these are."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from causalcf.explain.generator import Generator
from causalcf.explain.queries import Query
from causalcf.units import Units

Answers = dict[str, list[float]]
ALIKE = 1e-5  # of the mean size of an answer: rounding, but no other weights


@torch.no_grad()
def refuse_misfit(generator: Generator, images: Float[Tensor, "batch channel height width"]) -> None:
    """Raise if a generator does not draw images of this shape; asks its network once, of one row.

    Args:
        generator: what is to draw.
        images: at least one, in [0, 1].

    Raises:
        ValueError: another resolution, or other channels.
        FloatingPointError: what its network says is not finite.
    """
    channels, height, width = images.shape[1:]
    if generator.size is not None and (generator.channels, *generator.size) != (channels, height, width):
        drawn = " by ".join(map(str, (generator.channels, *generator.size)))
        raise ValueError(
            f"generator: it draws images of {drawn} (channels, height, width), got {channels} by {height} by {width}; "
            "resize the images before the classifier sees them, or choose a generator that was trained on such ones; a "
            "pipeline's network that is meant for other sizes is taken with from_diffusers(..., any_size=True)"
        )
    levels = generator.levels(2)
    try:
        x = generator.codec.encode(images[:1])
        found = generator.denoiser(levels).epsilon(x, levels.steps, generator.nothing(1))
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, IndexError) as error:  # of a layer in the middle of its network
        said = str(error).strip().partition("\n")[0]
        raise ValueError(
            f"generator: it does not take images of {channels} by {height} by {width}: {said}; resize the images, or "
            "choose a generator that was trained on such ones"
        ) from error
    if found.shape != x.shape:
        raise ValueError(
            f"generator: its network answers {tuple(x.shape)} with {tuple(found.shape)}; it is to predict what it is "
            "shown, without variances, network=lambda x, t, c: unet(x, t).sample[:, : x.shape[1]]"
        )
    if not found.isfinite().all():
        raise FloatingPointError("generator: what its network says is not finite; load it in float32")


def answers(explainer: Any, classifier: Any, generator: Generator, like: Tensor) -> Answers:
    """What classifier and generator say to two images of noise, in a few numbers each, by which they are known again.

    Functions have no digest, and weights none that is the same on every device; what they answer is what counts.

    Args:
        explainer: its networks (`surrogate`, `perceptual`) are asked as well.
        classifier: asked for logits and their gradient.
        generator: asked at two levels, and what it tells of each class.
        like: images, whose shape, type and device the noise is to have.

    Returns:
        "classifier", "generator" and names of the explainer's networks -> numbers.
    """
    units = Units(torch.arange(2), seed=0)
    images = units.uniform("probe", like.shape[1:]).to(like)
    query = Query(classifier, images[:1], 0)
    found = {"classifier": _differentiated(query.logits, images)}
    for name, value in vars(explainer).items():
        if callable(value):
            found[name] = _differentiated(value, images)
    with torch.no_grad():
        levels, x = generator.levels(3), generator.codec.encode(images)
        denoiser, said = generator.denoiser(levels), [generator.codec.decode(x)]
        said += [denoiser.epsilon(x, k, generator.nothing(2)) for k in (1, levels.steps)]
        if generator.conditions is not None:
            with suppress(ValueError, IndexError, RuntimeError):  # it knows fewer: a method that asks for them says so
                classes = torch.arange(query.classes, device=x.device)
                given = generator.given(images[:1].expand(len(classes), *images.shape[1:]))
                said.append(generator.told(classes, given))
    found["generator"] = [number for tensor in [*said, levels.alpha] for number in _numbers(tensor)]
    return found


def alike(one: list[float], other: list[float]) -> bool:
    """Whether two answers differ by rounding at most."""
    if len(one) != len(other):
        return False
    sizes = one[::2]
    pairs = zip(one, other, [size for size in sizes for _ in range(2)], strict=True)
    return all(abs(a - b) <= ALIKE * size + 1e-30 for a, b, size in pairs)


def _differentiated(network: Callable[..., Any], images: Tensor) -> list[float]:
    with torch.enable_grad():
        leaf = images.detach().requires_grad_()
        said = torch.cat([network(image) for image in leaf.split(1)])  # some networks take one at a time
        numbers = _numbers(said)
        if said.requires_grad:
            (gradient,) = torch.autograd.grad((said * _wave(said)).sum(), leaf, allow_unused=True)
            numbers += [] if gradient is None else _numbers(gradient)
    return numbers


def _numbers(tensor: Tensor) -> list[float]:
    """The mean size, and a mean that knows the order."""
    values = tensor.detach().double().cpu()
    return [values.abs().mean().item(), (values * _wave(values)).mean().item()]


def _wave(like: Tensor) -> Tensor:
    return torch.arange(like.numel(), device=like.device, dtype=torch.float64).cos().reshape(like.shape).to(like)
