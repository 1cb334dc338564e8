"""Gauges: they read back what was drawn, and give a number whatever they see."""

import pytest
import torch

from causalcf.data.drawing import Canvas, paint
from causalcf.data.gauges import box_ends, fit, unmix

PALETTE = [(1.0, 1.0, 1.0), (1.0, 0.6, 0.0), (0.7, 0.1, 0.1), (0.0, 0.0, 0.0)]


@pytest.fixture
def noise():
    return torch.rand(5, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def test_unmixing_undoes_painting(noise):
    layers = list(noise.unbind(1))
    weights = unmix(paint(PALETTE[0], list(zip(layers, PALETTE[1:], strict=True))), PALETTE)
    torch.testing.assert_close(weights[:, 3], layers[2], atol=1e-5, rtol=0)
    torch.testing.assert_close(weights[:, 2], layers[1] * (1 - layers[2]), atol=1e-5, rtol=0)
    torch.testing.assert_close(weights.sum(1), torch.ones(5, 8, 8), atol=1e-5, rtol=0)


def test_other_colours_give_shares_all_the_same(noise):
    weights = unmix(noise, PALETTE)
    assert weights.min() >= 0
    assert weights.max() <= 1


def test_bad_images_are_refused(noise):
    with pytest.raises(TypeError, match="images / 255"):
        unmix((255 * noise).byte(), PALETTE)
    with pytest.raises(ValueError, match=r"shape \(B, 3, size, size\)"):
        unmix(noise[:, :1], PALETTE)
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        unmix(2 * noise - 1, PALETTE)
    with pytest.raises(ValueError, match="floats from 0 to 1"):
        unmix(noise * float("nan"), PALETTE)


def test_a_fit_lies_between_the_templates_and_ignores_contrast():
    canvas = Canvas(32, 0.0, 8.0, 0.0, 8.0)
    values = torch.linspace(2.0, 6.0, 200)
    truth = torch.tensor([2.5, 3.2012, 5.4321])
    for contrast, base in ((1.0, 0.0), (0.5, 0.2)):
        seen = contrast * canvas.disk(truth, 4.0, 1.0) + base
        torch.testing.assert_close(fit(seen, canvas.disk(values, 4.0, 1.0), values), truth, atol=2e-3, rtol=0)


def test_a_fit_stays_on_its_grid():
    canvas = Canvas(32, 0.0, 8.0, 0.0, 8.0)
    values = torch.linspace(2.0, 6.0, 200)
    seen = torch.cat([canvas.disk(torch.tensor([1.0, 7.5]), 4.0, 1.0), torch.zeros(1, 32, 32), torch.ones(1, 32, 32)])
    read = fit(seen, canvas.disk(values, 4.0, 1.0), values)
    assert ((read >= 2.0) & (read <= 6.0)).all()
    torch.testing.assert_close(read[:2], torch.tensor([2.0, 6.0]), atol=0.05, rtol=0)


def test_the_ends_of_a_box_are_found_whatever_else_there_is():
    canvas = Canvas(64, 0.0, 64.0, 0.0, 64.0)
    begin, end = torch.tensor([3.3, 10.0, 20.75, 0.0]), torch.tensor([30.1, 11.5, 64.0, 64.0])
    profile = canvas.box(begin, end, 0.0, 64.0)[:, 0]
    other = canvas.box(50.0, 51.0, 0.0, 64.0)[:, 0]
    for seen in (profile, 0.8 * profile, (profile + other).clamp(0, 1), profile + 0.2 * other * (profile == 0)):
        torch.testing.assert_close(box_ends(seen), (begin, end), atol=1e-4, rtol=0)
    uneven = profile * (0.8 + 0.1 * (-1) ** torch.arange(64))
    torch.testing.assert_close(box_ends(uneven), (begin, end), atol=0.3, rtol=0)


def test_no_box_gives_numbers_too():
    for seen in (torch.zeros(2, 64), torch.full((2, 64), 0.3), torch.full((2, 64), 0.5)):
        assert torch.stack(box_ends(seen)).isfinite().all()
