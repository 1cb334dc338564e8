"""Autoencoders: what free bits cost, and the scale below which nothing is divided."""

import math

import pytest
import torch

from causalcf import mechanisms as M
from causalcf.units import Units
from causalcf.variables import Continuous, Image

KINDS = {"VAE": lambda **options: M.VAE(4, (8,), **options), "HVAE": lambda **options: M.HVAE((8, 8), 2, 2, **options)}
GREY = 2 / 255  # one grey level of an image in [-1, 1]


def made(kind, **options):
    """With weights that are not those of the start, where all divergences are zero."""
    mechanism = KINDS[kind](**options).build(Image(1, 8, 8), {"a": Continuous()})
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for tensor in mechanism.parameters():
            tensor.copy_(0.2 * torch.randn(tensor.shape, generator=generator))
    return mechanism


def rows(n=6):
    generator = torch.Generator().manual_seed(1)
    return torch.rand(n, 1, 8, 8, generator=generator), {"a": torch.randn(n, generator=generator)}


def loss_and_slopes(mechanism):
    image, parents = rows()
    loss = mechanism.loss(image, parents, torch.Generator().manual_seed(2)).mean()
    slopes = torch.autograd.grad(loss, list(mechanism.parameters()), allow_unused=True)
    return loss.item(), [torch.zeros(()) if slope is None else slope for slope in slopes]


@pytest.mark.parametrize("kind", KINDS)
def test_a_divergence_within_its_free_bits_costs_the_same_whatever_it_is_and_is_not_trained(kind):
    loss, slopes = loss_and_slopes(made(kind, free_bits=1e4))
    bare, unpaid = loss_and_slopes(made(kind, beta=0.0))
    layers = len(made(kind)._shapes())
    assert loss - bare == pytest.approx(1e4 * layers / 64, rel=1e-3)
    for slope, expected in zip(slopes, unpaid, strict=True):
        torch.testing.assert_close(slope, expected)


@pytest.mark.parametrize("kind", KINDS)
def test_a_divergence_above_its_free_bits_is_trained_as_if_there_were_none(kind):
    loss, slopes = loss_and_slopes(made(kind, free_bits=1e-4))
    whole, paid = loss_and_slopes(made(kind))
    assert loss == pytest.approx(whole)
    for slope, expected in zip(slopes, paid, strict=True):
        torch.testing.assert_close(slope, expected)
    _, unpaid = loss_and_slopes(made(kind, beta=0.0))
    assert any(not torch.allclose(slope, expected) for slope, expected in zip(slopes, unpaid, strict=True))


def scaled(kind, log_scale):
    """An autoencoder whose every pixel asks for this log scale."""
    mechanism = made(kind).double()
    head = mechanism.decoder.head if kind == "VAE" else mechanism.ladder.head
    with torch.no_grad():
        head.weight[1:] = 0
        head.bias[1:] = log_scale + 2.0
    return mechanism


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("asked", "held"), [(-3.0, -3.0), (-6.9, -6.9), (-30.0, -7.0)])
@torch.no_grad()
def test_loss_abduction_and_prediction_see_one_scale_with_a_floor(kind, asked, held):
    mechanism, (image, parents) = scaled(kind, asked), rows()
    image, parents = image.double(), {"a": parents["a"].double()}
    features = mechanism.features(parents, len(image))
    mean, log_scale, codes, _ = mechanism._passed(2 * image - 1, features, False)
    torch.testing.assert_close(log_scale, torch.full_like(log_scale, held))
    noise = mechanism.abduct(image, parents, Units(torch.arange(len(image)), 0), "x")
    torch.testing.assert_close(noise["u"], (2 * image - 1 - mean.clamp(-1, 1)) / math.exp(held))
    torch.testing.assert_close(mechanism.predict(noise, parents), image)
    decoded, log_scale = mechanism._decoded(codes, features)
    torch.testing.assert_close(log_scale, torch.full_like(log_scale, held))
    one = mechanism.predict({**noise, "u": torch.ones_like(image)}, parents)
    torch.testing.assert_close(one, ((decoded.clamp(-1, 1) + math.exp(held) + 1) / 2).clamp(0, 1))
    exact = mechanism.loss(image, parents, torch.Generator().manual_seed(0))
    torch.testing.assert_close(exact, scaled(kind, held).loss(image, parents, torch.Generator().manual_seed(0)))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_is_left_over_cannot_explode_under_other_parents(kind):
    mechanism, (image, parents) = scaled(kind, -30.0), rows()
    image, parents = image.double(), {"a": parents["a"].double()}
    noise = mechanism.abduct(image, parents, Units(torch.arange(len(image)), 0), "x")
    head = mechanism.decoder.head if kind == "VAE" else mechanism.ladder.head
    head.bias[1:] += 20.0  # another parent, under which the raw scale is still below the floor
    found = mechanism.predict(noise, parents)
    assert (found - image).abs().max() < GREY


@pytest.mark.parametrize("kind", KINDS)
def test_black_is_no_noise_where_the_mean_is_blacker(kind, monkeypatch):
    """The ends of the likelihood hold its tails, so training leaves a mean beyond them free; abduction must not."""
    mechanism, (_, parents) = made(kind).double(), rows()
    parents = {name: value.double() for name, value in parents.items()}
    plain = mechanism._decoded

    def blacker(codes, features):
        mean, log_scale = plain(codes, features)
        return mean - 5, log_scale

    monkeypatch.setattr(mechanism, "_decoded", blacker)
    monkeypatch.setattr(mechanism, "_passed", lambda x, f, draw: (*blacker(codes, f), codes, []))
    codes = [torch.zeros(6, *shape, dtype=torch.float64) for shape in mechanism._shapes()]
    black = torch.zeros(6, 1, 8, 8, dtype=torch.float64)
    noise = mechanism.abduct(black, parents, Units(torch.arange(6)), "x")
    assert (noise["u"] == 0).all()
    other = mechanism.predict(noise, {"a": parents["a"] + 3})
    assert (other == 0).all()
