"""Views disturb what they name, and nothing else."""

import pytest
import torch

from causalcf import mechanisms as M
from causalcf.data import MorphoDigits, morphometry
from causalcf.networks.views import view


@pytest.fixture(scope="module")
def images():
    return MorphoDigits("val", rows=48)[:]["image"]


MEASURED = {"shear": "slant", "brightness": "intensity", "stroke": "thickness"}
SIZES = {"shear": 0.5, "brightness": 0.5, "stroke": 0.8}
MOVED = {"slant": 0.1, "intensity": 15.0, "thickness": 0.25}  # mean absolute change that counts as disturbed


@pytest.mark.parametrize("name", MEASURED)
def test_a_view_disturbs_what_it_names(name, images):
    seen = view(images, {name: SIZES[name]}, torch.Generator().manual_seed(0))
    assert seen.shape == images.shape
    assert seen.min() >= 0 and seen.max() <= 1
    oracle = morphometry.ORACLES[MEASURED[name]]
    assert (oracle(seen) - oracle(images)).abs().mean() > MOVED[MEASURED[name]]
    for other in set(MEASURED.values()) - {MEASURED[name], "intensity"}:
        still = morphometry.ORACLES[other]
        assert (still(seen) - still(images)).abs().mean() < MOVED[other]


def test_shear_is_that_of_the_data(images):
    """Up to 0.5 rad either way: the mean change is half of that, less what the window cuts off."""
    seen = view(images, {"shear": 0.5}, torch.Generator().manual_seed(0))
    change = (morphometry.ORACLES["slant"](seen) - morphometry.ORACLES["slant"](images)).abs()
    assert 0.15 < change.mean() < 0.3


def test_views_belong_to_the_generator_and_no_view_is_the_image(images):
    first, second = (view(images, SIZES, torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(view(images, {}), images)
    torch.testing.assert_close(view(images, {"shear": 0.0, "scale": 0.0, "rotation": 0.0}), images, atol=1e-5, rtol=0)


def test_rotation_turns_and_scale_grows():
    image = torch.zeros(1, 1, 21, 21)
    image[..., 10, 4:17] = 1
    seen = [view(image, {"rotation": 1.5}, torch.Generator().manual_seed(k)) for k in range(12)]
    assert max(float(x[..., 4:17, 10].sum()) for x in seen) > 5
    extent = lambda x: int((x > 0.3).any(-2).sum())  # noqa: E731
    widths = {extent(view(image, {"scale": 0.5}, torch.Generator().manual_seed(k))) for k in range(12)}
    assert min(widths) < 13
    assert max(widths) > 15


@pytest.mark.parametrize("size", [(32, 32), (16, 32), (48, 32)])
@pytest.mark.parametrize("name", ["rotation", "shear"])
def test_angles_are_those_of_pixels_whatever_the_sides(name, size, monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.ones(1))
    image, angle = torch.zeros(1, 1, *size), 0.4
    long = slice(4, -4)
    if name == "rotation":
        image[..., size[0] // 2, long] = 1
    else:
        image[..., long, 16] = 1
    row, column = (view(image, {name: angle})[0, 0] > 0.3).nonzero().double().T
    across, along = (row, column) if name == "rotation" else (column, row)
    slope = ((along - along.mean()) * across).sum() / (along - along.mean()).square().sum()
    assert slope.abs().atan().item() == pytest.approx(angle, abs=0.04)


@pytest.mark.parametrize("views", [{"colour": 0.1}, {"shear": -0.1}])
def test_unknown_views_and_negative_sizes_are_refused(views):
    with pytest.raises(ValueError, match="expected sizes >= 0 of the views"):
        M.SemanticDiffusion(views=views)
