"""Measurements of handwriting, against scikit-image one image at a time and against known shapes."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import draw
from skimage.morphology import medial_axis as skimage_medial_axis
from skimage.transform import pyramid_expand

from causalcf.data import medial_axis as ours
from causalcf.data import morphometry
from causalcf.data.idx import read_idx
from causalcf.data.morphometry import NAMES, intensity, measure, slant, thickness
from causalcf.data.upsampling import splines, upsample

STEP_LENGTH = np.array([[0, 0, 0], [0, 0, 1], [2**0.5, 1, 2**0.5]])


def one_by_one(image: np.ndarray, scale: int) -> dict[str, float]:
    """The definitions of Morpho-MNIST, written down with scikit-image and full arrays."""
    fine = (255 * pyramid_expand(image, upscale=scale, order=3)).astype(np.uint8).astype(float)
    ink = fine >= fine.min() + 0.5 * (fine.max() - fine.min())
    skeleton, distance = skimage_medial_axis(ink, return_distance=True, rng=42)
    steps = ndimage.correlate(skeleton.astype(float), STEP_LENGTH, mode="constant")
    y, x = np.arange(fine.shape[0])[:, None], np.arange(fine.shape[1])[None]
    mass = fine / fine.sum()
    middle = (mass * y).sum()
    dx, dy = x - (mass * x).sum(), y - middle
    slope = (mass * dx * dy).sum() / (mass * dy * dy).sum()
    across = [(mass * (x + 0.5 < t + slope * dy)).sum() for t in x[0]]
    down = [(mass * (y < t)).sum() for t in y[:, 0]]
    left, right = np.interp([0.01, 0.99], across, x[0])
    top, bottom = np.interp([0.01, 0.99], down, y[:, 0])
    bright = image[image >= image.min() + 0.5 * (float(image.max()) - image.min())]
    return {
        "thickness": 2 * distance[skeleton].mean() / scale,
        "slant": np.arctan(-slope),
        "intensity": np.median(bright),
        "area": ink.sum() / scale**2,
        "length": steps[skeleton].sum() / scale,
        "width": (right - left) / scale,
        "height": (bottom - top) / scale,
    }


def scribbles(count: int, height: int = 28, width: int = 28, seed: int = 0) -> np.ndarray:
    """Smooth random strokes; some touch the border."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        y, x = rng.uniform(0, 1, (2, 4)) * [[4 * height - 1], [4 * width - 1]]
        line = np.zeros((4 * height, 4 * width))
        for part in range(3):
            ends = (int(value) for value in (y[part], x[part], y[part + 1], x[part + 1]))
            line[draw.line(*ends)] = 1
        stroke = ndimage.gaussian_filter(line, rng.uniform(3, 6)).reshape(height, 4, width, 4).mean((1, 3))
        images.append((255 * (stroke / stroke.max()) ** 0.7 * rng.uniform(0.4, 1)).astype(np.uint8))
    return np.stack(images)


def assert_equal_measurements(images: np.ndarray, scale: int) -> None:
    found = measure(images, scale)
    assert tuple(found) == NAMES
    expected = [one_by_one(image, scale) for image in images]
    for name in NAMES:
        wanted = [row[name] for row in expected]
        np.testing.assert_allclose(found[name], wanted, atol=1e-8, err_msg=name)


@pytest.mark.parametrize("scale", [2, 3, 4, 16])
def test_measurements_are_those_of_scikit_image(scale):
    assert_equal_measurements(scribbles(4, seed=scale), scale)


def test_measurements_are_those_of_scikit_image_on_other_shapes_grey_grounds_and_noise():
    assert_equal_measurements(scribbles(2, height=20, width=33), 8)
    assert_equal_measurements(np.maximum(scribbles(2, seed=5), 9), 8)
    faint = (scribbles(2, seed=6) // 40).astype(np.uint8)
    assert faint.max() < 8
    assert_equal_measurements(faint, 4)
    noise = np.random.default_rng(0).integers(0, 256, (2, 12, 12), dtype=np.uint8)
    assert_equal_measurements(noise, 8)


def test_saturated_strokes_are_truncated_as_scikit_image_truncates_them():
    # wide plateaus: 255 times weights that sum to 1 less a rounding error is 254, which moves the threshold
    images = np.zeros((3, 28, 28), dtype=np.uint8)
    for image, level in zip(images, (255, 254, 199), strict=True):
        image[6:22, 9:20] = level
    assert_equal_measurements(images, 16)


@pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
@pytest.mark.parametrize("folder", ["mnist", "morphomnist"])
def test_measurements_are_those_of_scikit_image_on_real_rows(folder):
    images = read_idx(Path(os.environ["CAUSALCF_DATA"]) / folder, "t10k-images-idx3-ubyte", 3, "")
    assert_equal_measurements(images[40:45], 16)


def test_a_bar_measures_what_it_is():
    bar = np.zeros((1, 28, 28), dtype=np.uint8)
    bar[:, 4:24, 12:16] = 200
    found = {name: float(value[0]) for name, value in measure(bar).items()}
    assert found["intensity"] == 200
    assert found["area"] == pytest.approx(80, abs=1)
    assert found["height"] == pytest.approx(20, abs=0.5)
    assert found["width"] == pytest.approx(4, abs=1)
    assert 16 < found["length"] < 16 + 4 * 2 * 2**0.5  # the skeleton forks into the four corners
    assert 3 < found["thickness"] < 4
    assert found["slant"] == pytest.approx(0, abs=1e-9)


def test_slant_is_positive_to_the_right():
    image = torch.zeros(1, 1, 28, 28)
    for y in range(4, 24):
        x = round(14 - 0.5 * (y - 14))
        image[0, 0, y, x : x + 3] = 1
    assert slant(image).item() == pytest.approx(np.arctan(0.5), abs=0.02)


def test_oracles_agree_with_measure_and_take_any_size():
    for height, width in ((28, 28), (19, 40)):
        images = torch.from_numpy(scribbles(3, height, width))[:, None].float() / 255
        expected = measure(images)
        for name, oracle in (("thickness", thickness), ("slant", slant), ("intensity", intensity)):
            found = oracle(images)
            assert found.dtype == torch.float32
            assert found.shape == (3,)
            np.testing.assert_allclose(found, expected[name], rtol=1e-6)


def test_a_row_does_not_depend_on_its_batch_nor_on_the_type_of_its_grey_levels():
    images = scribbles(5, seed=3)
    whole = measure(images, scale=4)
    for row in range(5):
        alone = measure(images[row : row + 1], scale=4)
        assert all(alone[name][0] == whole[name][row] for name in NAMES)
    floats = torch.from_numpy(images)[:, None].float()
    for name, found in measure(floats / 255, scale=4).items():
        np.testing.assert_allclose(found, whole[name], rtol=1e-6)
    unsaved = measure((floats - 0.4).clamp(min=0) / 255, scale=4)
    assert all((unsaved[name] == whole[name]).all() for name in NAMES if name != "intensity")


def test_intensity_is_the_median_of_the_bright_pixels_without_rounding():
    image = torch.tensor([0.0, 0.1, 0.3, 0.4, 0.6, 0.1]).reshape(1, 1, 2, 3)
    assert intensity(image).item() == pytest.approx(255 * 0.4, abs=1e-3)
    image[0, 0, 0, 1] = 0.5
    assert intensity(image).item() == pytest.approx(255 * 0.45, abs=1e-3)
    # 3 is half-way between 1 and 5, but its float32 is a rounding error below
    levels = torch.tensor([1.0, 3.0, 5.0, 1.0]).reshape(1, 1, 2, 2)
    assert intensity(levels / 255).item() == pytest.approx(4, abs=1e-3)


def test_images_without_contrast_have_no_strokes():
    images = np.stack([np.zeros((9, 9)), np.full((9, 9), 77)]).astype(np.uint8)
    found = measure(images)
    assert found.pop("intensity").tolist() == [0, 77]
    assert all((value == 0).all() for value in found.values())
    assert slant(torch.zeros(2, 1, 9, 9)).tolist() == [0, 0]
    assert measure(np.zeros((0, 9, 9), dtype=np.uint8))["thickness"].shape == (0,)


def test_workers_change_nothing(monkeypatch):
    calls = []

    class Sequential:  # processes are joblib's business and take seconds to start
        def __init__(self, n_jobs):
            calls.append(n_jobs)

        def __call__(self, jobs):
            jobs = list(jobs)
            calls.append(len(jobs))
            return [function(*args, **kwargs) for function, args, kwargs in jobs]

    monkeypatch.setattr(morphometry, "Parallel", Sequential)
    images = scribbles(11)
    alone, shared = measure(images, 4), measure(images, 4, workers=2)
    assert calls == [2, 8]
    assert all((alone[name] == shared[name]).all() for name in NAMES)


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (torch.zeros(2, 3, 8, 8), ValueError, r"\(2, 3, 8, 8\)"),
        (torch.zeros(8, 8), ValueError, r"\(8, 8\)"),
        (torch.full((1, 1, 8, 8), 7.0), ValueError, "images / 255"),
        (torch.full((1, 1, 8, 8), torch.nan), ValueError, "nan"),
        (torch.zeros(1, 1, 8, 8, dtype=torch.int64), TypeError, "int64"),
        ([[0.0]], TypeError, "list"),
    ],
)
def test_what_is_no_image_is_refused(images, error, message):
    for oracle in (thickness, slant, intensity, measure):
        with pytest.raises(error, match=message):
            oracle(images)


def test_too_small_options_are_refused():
    with pytest.raises(ValueError, match="2 or more, got 1"):
        measure(scribbles(1), scale=1)
    with pytest.raises(ValueError, match="1 or more"):
        measure(scribbles(1), workers=0)


def test_distances_and_medial_axes_are_those_of_the_libraries():
    rng = np.random.default_rng(1)
    for size, sigma in (((40, 61), 2.0), ((61, 40), 4.0), ((50, 50), 0.7), ((90, 80), 9.0)):
        ink = ndimage.gaussian_filter(rng.normal(size=size), sigma) > 0
        squares = ours.squared_distance(ink)
        skeleton, distance = skimage_medial_axis(ink, return_distance=True, rng=42)
        np.testing.assert_allclose(squares, distance**2, atol=1e-9)
        np.testing.assert_array_equal(ours.medial_axis(ink, squares), skeleton)


def test_medial_axis_without_the_loop_of_scikit_image(monkeypatch):
    assert ours._thin is not None
    ink = scribbles(1)[0] > 90
    squares = ours.squared_distance(ink)
    expected = ours.medial_axis(ink, squares)
    monkeypatch.setattr(ours, "_thin", None)
    np.testing.assert_array_equal(ours.medial_axis(ink, squares), expected)


def test_distances_beyond_sixteen_bits():
    ink = np.ones((420, 400), dtype=bool)
    ink[200, 3] = False
    expected = ndimage.distance_transform_edt(ink) ** 2
    np.testing.assert_allclose(ours.squared_distance(ink), expected, atol=1e-6)


def test_upsampling_is_that_of_scikit_image():
    image = scribbles(1, seed=9)[0]
    fine = upsample(image, 16)
    full = 255 * pyramid_expand(image, upscale=16, order=3)
    part = full[fine.top : fine.top + len(fine.grey), fine.left : fine.left + fine.grey.shape[1]]
    np.testing.assert_allclose(fine.grey, part, atol=1e-10)
    assert splines(28, 16).sum(1) == pytest.approx(1)
