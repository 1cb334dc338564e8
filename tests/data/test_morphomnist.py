"""Causal Morpho-MNIST: reading, generating as the published files were, and true counterfactuals."""

import gzip
import os
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import ndimage
from skimage import draw, morphology
from skimage.transform import AffineTransform, pyramid_reduce, warp

from causalcf.data import morphometry
from causalcf.data import morphomnist_generator as generator
from causalcf.data.morphomnist import GRAPH, MorphoMNIST, intensity_from, intensity_noise
from causalcf.interventions import do, shift

ROOT = Path(__file__).parents[2]
real = pytest.mark.skipif("CAUSALCF_DATA" not in os.environ, reason="CAUSALCF_DATA is not set")
TRAIN, TEST = 12, 6


def handwriting(count: int, seed: int = 0) -> np.ndarray:
    """Two joined strokes per image, one below the other."""
    rng = np.random.default_rng(seed)
    images = []
    for _ in range(count):
        fine = np.zeros((112, 112))
        y0, y1, y2 = rng.integers((28, 50, 76), (36, 60, 84)).tolist()
        x0, x1, x2 = rng.integers(36, 76, 3).tolist()
        fine[draw.line(y0, x0, y1, x1)] = 1
        fine[draw.line(y1, x1, y2, x2)] = 1
        fine = ndimage.gaussian_filter(ndimage.binary_dilation(fine, iterations=4).astype(float), 2)
        images.append((255 * fine.reshape(28, 4, 28, 4).mean((1, 3))).astype(np.uint8))
    return np.stack(images)


def write_idx(path: Path, array: np.ndarray) -> None:
    data = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def write_set(folder: Path, prefix: str, images: np.ndarray, labels: np.ndarray, suffix: str) -> None:
    folder.mkdir(exist_ok=True)
    write_idx(folder / f"{prefix}-images-idx3-ubyte{suffix}", images)
    write_idx(folder / f"{prefix}-labels-idx1-ubyte{suffix}", labels)


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> tuple[Path, Path, dict[str, np.ndarray]]:
    """Folders of a small Morpho-MNIST and of the handwriting it was made from."""
    root = tmp_path_factory.mktemp("data")
    rng = np.random.default_rng(1)
    kept = {}
    for prefix, count, suffix in (("train", TRAIN, ".gz"), ("t10k", TEST, "")):
        plain = handwriting(count, seed=count)
        labels = rng.integers(0, 10, count, dtype=np.uint8)
        thickness = rng.uniform(1.5, 4, count).astype(np.float32)
        intensity = rng.uniform(80, 240, count).astype(np.float32)
        images = generator.regenerate(plain, thickness, intensity)
        write_set(root / "mnist", prefix, plain, labels, suffix)
        write_set(root / "morpho", prefix, images, labels, suffix)
        pairs = zip(thickness.tolist(), intensity.tolist(), strict=True)
        lines = (f"{k},{t!r},{i!r}" for k, (t, i) in enumerate(pairs))
        (root / "morpho" / f"{prefix}-morpho.csv").write_text("index,thickness,intensity\n" + "\n".join(lines))
        kept |= {f"{prefix}-plain": plain, prefix: images, f"{prefix}-labels": labels}
        kept |= {f"{prefix}-thickness": thickness, f"{prefix}-intensity": intensity}
    return root / "morpho", root / "mnist", kept


@pytest.fixture
def data(written) -> MorphoMNIST:
    root, mnist, _ = written
    return MorphoMNIST(root, "test", mnist=mnist)


# --- reading


def test_rows_are_what_was_written(written):
    root, _, kept = written
    rows = MorphoMNIST(root, "test")[:]
    for name, dtype in (("thickness", torch.float32), ("intensity", torch.float32), ("digit", torch.int64)):
        assert rows[name].dtype == dtype
    np.testing.assert_array_equal(rows["thickness"], kept["t10k-thickness"])
    np.testing.assert_array_equal(rows["intensity"], kept["t10k-intensity"])
    np.testing.assert_array_equal(rows["digit"], kept["t10k-labels"])
    assert rows["image"].shape == (TEST, 1, 28, 28)
    assert rows["image"].dtype == torch.float32
    np.testing.assert_array_equal((255 * rows["image"][:, 0]).round().byte(), kept["t10k"])
    GRAPH.check_rows(rows)


def test_validation_is_the_end_of_the_training_rows(written):
    root, _, kept = written
    train, val = MorphoMNIST(root, "train", val=5), MorphoMNIST(root, "val", val=5)
    assert (len(train), len(val), len(MorphoMNIST(root, "test"))) == (TRAIN - 5, 5, TEST)
    np.testing.assert_array_equal(val[:]["thickness"], kept["train-thickness"][-5:])
    assert val[:]["id"].tolist() == list(range(TRAIN - 5, TRAIN))
    ids = [part[:]["id"].tolist() for part in (train, val, MorphoMNIST(root, "test"))]
    assert len(set().union(*ids)) == TRAIN + TEST
    assert len(MorphoMNIST(root, "train", val=0)) == TRAIN


def test_indexing(data):
    rows = data[:]
    for index, expected in (
        ([4, 0], [4, 0]),
        (slice(1, 5, 2), [1, 3]),
        (torch.tensor([3, 3]), [3, 3]),
        (torch.arange(TEST) % 2 == 1, [1, 3, 5]),
        (2, [2]),
        (-1, [TEST - 1]),
    ):
        found = data[index]
        for name, values in rows.items():
            assert torch.equal(found[name], values[expected]), name
    for index in (TEST, [0, -TEST - 1]):
        with pytest.raises(IndexError, match="6 rows of the test split"):
            data[index]


def test_columns_are_read_without_rows(data):
    rows = data[:]
    for names in (["digit", "id"], ["thickness", "image"]):
        columns = data.columns(names)
        assert list(columns) == names
        assert all(torch.equal(columns[name], rows[name]) for name in names)
        for column in columns.values():
            column.zero_()  # what a user does to them is not done to the data set
    assert all(torch.equal(data[:][name], rows[name]) for name in rows)


def damage_table(old: str, new: str):
    def damage(folder: Path) -> None:
        path = folder / "t10k-morpho.csv"
        path.write_text(path.read_text().replace(old, new, 1))

    return damage


def damage_bytes(name: str, change):
    def damage(folder: Path) -> None:
        path = folder / name
        path.write_bytes(change(path.read_bytes()))

    return damage


def zip_and_cut(folder: Path) -> None:
    path = folder / "t10k-images-idx3-ubyte"
    Path(f"{path}.gz").write_bytes(gzip.compress(path.read_bytes())[:-20])


def zip_and_spoil(folder: Path) -> None:
    path, header = folder / "t10k-images-idx3-ubyte", 10
    zipped = gzip.compress(path.read_bytes())
    Path(f"{path}.gz").write_bytes(zipped[:header] + b"\xff" + zipped[header + 1 :])


def infinite_row(folder: Path) -> None:
    rows = "".join(f"{row},2,{'inf' if row == 1 else 100}\n" for row in range(TEST))
    (folder / "t10k-morpho.csv").write_text("index,thickness,intensity\n" + rows)


IMAGES, LABELS = "t10k-images-idx3-ubyte", "t10k-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("damage", "error", "message"),
    [
        (
            lambda folder: (folder / IMAGES).unlink(),
            FileNotFoundError,
            rf"{IMAGES}\[.gz\] is missing; .*causal-gen",
        ),
        (
            lambda folder: (folder / "t10k-morpho.csv").unlink(),
            FileNotFoundError,
            "morpho.csv is missing; .*causal-gen",
        ),
        (
            damage_bytes(IMAGES, lambda data: b"PK" + data[2:]),
            ValueError,
            f"{IMAGES}: .*00 00 08 03, got 50 4b 08 03",
        ),
        (damage_bytes(IMAGES, lambda data: b""), ValueError, f"{IMAGES}: .*got nothing; download"),
        (damage_bytes(IMAGES, lambda data: data[:10]), ValueError, f"{IMAGES}: expected .* got 10; download"),
        (
            damage_bytes(IMAGES, lambda data: data[:-1]),
            ValueError,
            f"{IMAGES}: expected 4720 bytes .* got 4719; download",
        ),
        (zip_and_cut, ValueError, rf"{IMAGES}.gz: expected a complete gzip file .*; download"),
        (zip_and_spoil, ValueError, rf"{IMAGES}.gz: expected a complete gzip file .*; download"),
        (
            lambda folder: write_idx(folder / LABELS, np.zeros(TEST - 1, dtype=np.uint8)),
            ValueError,
            "6 images, 5 labels, 6 rows of the table; take all three from one release",
        ),
        (
            damage_table("thickness", "width"),
            ValueError,
            "t10k-morpho.csv: expected a column 'thickness', got index, width",
        ),
        (damage_table("\n0,", "\n7,"), ValueError, "index that counts the rows from 0; sort the table"),
        (
            damage_table("\n0,", "\n0,thick"),
            ValueError,
            "expected numbers in row 0 .*; correct that row",
        ),
        (damage_table("\n0,", "\n0,nan,"), ValueError, "expected 3 cells in every row"),
        (infinite_row, ValueError, "finite numbers, got .*inf.* in row 1; correct"),
    ],
)
def test_damaged_files_are_named_and_a_remedy_given(written, tmp_path, damage, error, message):
    root, _, _ = written
    for path in root.glob("t10k-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    assert len(MorphoMNIST(tmp_path, "test")) == TEST
    damage(tmp_path)
    with pytest.raises(error, match=message):
        MorphoMNIST(tmp_path, "test")


def test_options_that_leave_no_rows_are_refused(written):
    root, _, _ = written
    for split, val in (("val", 0), ("train", TRAIN), ("train", TRAIN + 1), ("val", -1), ("val", 0.5)):
        with pytest.raises(ValueError, match="choose val between 1 and 11"):
            MorphoMNIST(root, split, val=val)
    with pytest.raises(ValueError, match="'train', 'val' or 'test', got 'dev'"):
        MorphoMNIST(root, "dev")


# --- structural equations


def test_intensity_and_its_noise_invert_each_other():
    thickness = torch.linspace(0.6, 6, 50, dtype=torch.float64)
    noise = torch.linspace(-3, 3, 50, dtype=torch.float64).flip(0)
    intensity = intensity_from(thickness, noise)
    inside = (intensity > 64.01) & (intensity < 254.99)
    assert inside.sum() > 30
    torch.testing.assert_close(intensity_noise(thickness, intensity)[inside], noise[inside])
    assert intensity_from(torch.tensor([3.0]), torch.tensor([-2.0])).item() == pytest.approx(64 + 191 / 2)


def test_noise_is_finite_at_the_ends_of_the_support():
    noise = intensity_noise(torch.full((4,), 2.5), torch.tensor([0.0, 64.0, 255.0, 300.0]))
    assert noise.isfinite().all()
    assert noise[0] == noise[1] < -20 < 20 < noise[2] == noise[3]


def test_the_graph_of_the_repository_is_the_one_of_the_data():
    spec = spec_from_file_location("graph_file", ROOT / "graphs" / "morphomnist.py")
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.graph == GRAPH == MorphoMNIST.graph
    assert len((ROOT / "graphs" / "morphomnist.py").read_text().splitlines()) <= 40


# --- the generator


def test_thickness_is_set_up_to_the_step_of_the_radius():
    images = handwriting(6)
    target = np.array([1.5, 2.0, 2.5, 3.0, 3.5, 4.0], dtype=np.float32)
    measured = morphometry.measure(generator.set_thickness(images, target))["thickness"]
    assert np.abs(measured - target).max() < 0.4
    assert np.abs(measured - target).mean() < 0.2


def test_strokes_grow_beyond_the_part_of_the_image_they_were_in():
    bar = np.zeros((1, 28, 28), dtype=np.uint8)
    bar[0, 8:20, 13:15] = 255
    wide = generator.set_thickness(bar, np.array([14.0]))[0]
    grown = np.flatnonzero(wide[14] > 127)
    assert 13 <= len(grown) <= 16
    assert grown[0] + grown[-1] == 27


def test_slant_is_set():
    target = np.linspace(-0.5, 0.5, 6)
    images = generator.set_slant(handwriting(6), target)
    measured = morphometry.measure(images, scale=4)["slant"]
    assert np.abs(measured - target).max() < 0.02


def test_intensity_is_set_and_truncated():
    target = np.array([40.0, 70.3, 100.5, 130.0, 180.0, 199.9])
    measured = morphometry.measure(generator.set_intensity(handwriting(6), target), scale=2)["intensity"]
    error = np.abs(measured - target)
    assert error.max() < 3  # truncation may move a pixel across the threshold, and the median with it
    assert error.mean() < 1


@pytest.mark.filterwarnings("error")
def test_blank_images_stay_blank():
    blank = np.zeros((1, 28, 28), dtype=np.uint8)
    for change in (generator.set_thickness, generator.set_slant, generator.set_intensity):
        assert (change(blank, np.array([3.0])) == 0).all()
        assert change(blank[:0], np.zeros(0)).shape == (0, 28, 28)


def test_the_generator_refuses_what_it_cannot_use():
    images = handwriting(2)
    with pytest.raises(TypeError, match="uint8"):
        generator.set_slant(images / 255, np.zeros(2))
    for target in (np.zeros(3), np.array([0, np.nan])):
        with pytest.raises(ValueError, match="one finite number for each of 2 images"):
            generator.set_slant(images, target)


@pytest.mark.parametrize("radius", [0, 1, 4, 11, 18, 25])
def test_footprints_are_the_antialiased_disks_of_scikit_image(radius):
    disk = morphology.disk(16 * radius, dtype=np.float64)
    reduced = pyramid_reduce(disk, downscale=16, order=1) if radius else disk
    np.testing.assert_array_equal(generator.footprint(radius), reduced > 0)


def test_dilation_is_that_of_scipy():
    rng = np.random.default_rng(0)
    ink = ndimage.gaussian_filter(rng.normal(size=(70, 90)), 3) > 0.08
    for radius in (0, 2, 6, 19):
        expected = ndimage.binary_dilation(ink, generator.footprint(radius)[::-1, ::-1])
        np.testing.assert_array_equal(generator._dilate(ink, radius), expected)


def test_upsampling_is_the_affine_warp_of_scikit_image():
    image = handwriting(1)[0] / 255
    fine = AffineTransform(np.array([[1 / 16, 0, 0.5 / 16 - 0.5], [0, 1 / 16, 0.5 / 16 - 0.5], [0, 0, 1]]))
    expected = warp(image, fine, output_shape=(448, 448), order=3, mode="reflect", clip=False)
    matrix = generator.catmull_rom(28, 16)
    np.testing.assert_allclose(matrix @ image @ matrix.T, expected, atol=1e-12)


@real
def test_published_pixels_are_regenerated():
    data = Path(os.environ["CAUSALCF_DATA"])
    published = MorphoMNIST(data / "morphomnist", "test", mnist=data / "mnist")
    # radius 19, whose footprint is lopsided: erosion in 25, 48, 94, dilation in 1140, 1415, 1647
    rows = published[[25, 48, 94, 1140, 1415, 1647, *range(2000, 2030), *range(7970, 8000)]]
    again = published.redraw(rows["id"], rows["thickness"], rows["intensity"])
    assert (255 * (again - rows["image"])).abs().mean() == 0
    truth = published.true_counterfactual(rows, {"thickness": rows["thickness"]})
    assert torch.equal(truth["intensity"], rows["intensity"])
    assert torch.equal(truth["image"], rows["image"])


@real
def test_real_rows_fit_the_graph_and_the_equations():
    root = Path(os.environ["CAUSALCF_DATA"]) / "morphomnist"
    for split, count in (("train", 55_000), ("val", 5_000), ("test", 8_000)):
        data = MorphoMNIST(root, split)
        assert len(data) == count
        columns = data.columns(["thickness", "intensity", "digit"])
        GRAPH.check_rows(data[-3:])
        assert columns["thickness"].min() > 0.5
        assert 64 < columns["intensity"].min() < columns["intensity"].max() < 255
        noise = intensity_noise(columns["thickness"], columns["intensity"])
        assert noise.mean().abs() < 0.05
        assert noise.std() == pytest.approx(1, abs=0.03)


# --- true counterfactuals


def test_do_thickness_moves_intensity_by_its_equation_and_keeps_the_handwriting(data, written):
    _, _, kept = written
    rows = data[[0, 2, 5]]
    target = torch.tensor([2.0, 2.6, 3.3])
    truth = data.true_counterfactual(rows, {"thickness": target})
    share = (rows["intensity"].double() - 64) / 191
    moved = torch.logit(share) + 2 * (target - rows["thickness"]).double()
    expected = (64 + 191 * torch.sigmoid(moved)).float()
    torch.testing.assert_close(truth["thickness"], target)
    torch.testing.assert_close(truth["intensity"], expected)
    assert truth["digit"] is rows["digit"]
    image = generator.regenerate(kept["t10k-plain"][[0, 2, 5]], target, expected)
    assert np.abs((255 * truth["image"][:, 0]).round().numpy() - image).max() <= 1
    measured = MorphoMNIST.oracles()["intensity"](truth["image"])
    assert (measured - truth["intensity"]).abs().max() < 1.01


def test_do_intensity_leaves_thickness_alone(data):
    rows = data[:3]
    truth = data.true_counterfactual(rows, do(intensity=200.0))
    assert truth["thickness"] is rows["thickness"]
    oracles = data.oracles()
    assert (oracles["intensity"](truth["image"]) - 200).abs().max() < 1.01
    assert (oracles["thickness"](truth["image"]) - oracles["thickness"](rows["image"])).abs().max() < 0.1


def test_where_nothing_changes_the_image_is_the_published_one(data):
    rows = data[:]
    for action in (
        {"thickness": rows["thickness"]},
        {"thickness": rows["thickness"], "intensity": rows["intensity"]},
    ):
        truth = data.true_counterfactual(rows, action)
        for name in ("thickness", "intensity", "image"):
            assert torch.equal(truth[name], rows[name]), name


def test_do_slant_shears_and_nothing_else(data):
    rows = data[:4]
    truth = data.true_counterfactual(rows, {"slant": torch.tensor([-0.3, 0.0, 0.2, 0.4])})
    assert (data.oracles()["slant"](truth["image"]) - truth["slant"]).abs().max() < 0.02
    assert truth["thickness"] is rows["thickness"]
    leaning = data.true_counterfactual(rows, do(slant=shift(0.25)))
    torch.testing.assert_close(leaning["slant"], data.oracles()["slant"](rows["image"]) + 0.25)


def test_where_the_slant_stays_no_pixel_is_drawn_anew(data):
    rows = data[:]
    truth = data.true_counterfactual(rows, do(slant=shift(0.0)))
    assert torch.equal(truth["image"], rows["image"])
    thick = data.true_counterfactual(rows, do(thickness=shift(0.5), slant=shift(0.0)))
    assert torch.equal(thick["image"], data.true_counterfactual(rows, do(thickness=shift(0.5)))["image"])
    some = torch.tensor([0.0, 0.3] * (TEST // 2))
    part = data.true_counterfactual(rows, do(slant=shift(some)))["image"]
    assert torch.equal(part[::2], rows["image"][::2])
    assert (part[1::2] - rows["image"][1::2]).abs().flatten(1).amax(1).min() > 0.1


def test_a_slant_that_was_set_stays_when_something_else_is_done(data):
    rows = data[:4]
    leaning = data.true_counterfactual(rows, do(slant=0.4))
    later = data.true_counterfactual(leaning, do(thickness=3.0))
    at_once = data.true_counterfactual(rows, do(slant=0.4, thickness=3.0))
    assert later.keys() == at_once.keys()
    assert all(torch.equal(later[name], at_once[name]) for name in at_once)
    assert (data.oracles()["slant"](later["image"]) - 0.4).abs().max() < 0.03


def test_images_made_from_mnist_are_not_taken_for_it(written):
    root, _, _ = written
    with pytest.raises(ValueError, match=r"off by [\d.]+ grey levels; give plain MNIST, not images made from it"):
        MorphoMNIST(root, "test", mnist=root)


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t10k-labels-idx1-ubyte", np.full(TEST, 200, np.uint8), "labels from 0 to 9, got 200"),
        ("t10k-images-idx3-ubyte", np.zeros((TEST, 32, 32), np.uint8), "images of 28x28 pixels, got 32x32"),
        ("t10k-morpho.csv", "thickness,intensity\n" + "2.0,2061\n" * TEST, "intensity: expected values <= 255"),
        ("t10k-morpho.csv", "thickness,intensity\n" + "0,2.0,100\n" * TEST, "expected 2 cells in every row, got 3"),
        (
            "t10k-morpho.csv",
            "\ufeffindex,thickness,intensity\n" + "9,2.0,100\n" * TEST,
            "an index that counts the rows",
        ),
        ("t10k-morpho.csv", "thickness,intensity,thickness\n" + "2,100,3\n" * TEST, "one column 'thickness', got 2"),
    ],
)
def test_files_that_hold_something_else_are_refused(written, tmp_path, name, content, message):
    for path in written[0].glob("t10k-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    if isinstance(content, str):
        (tmp_path / name).write_text(content, encoding="utf-8")
    else:
        write_idx(tmp_path / name, content)
    with pytest.raises(ValueError, match=message):
        MorphoMNIST(tmp_path, "test")


def test_columns_of_text_beside_those_wanted_are_left_alone(written, tmp_path):
    for path in written[0].glob("t10k-*"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    lines = (tmp_path / "t10k-morpho.csv").read_text().splitlines()
    (tmp_path / "t10k-morpho.csv").write_text("\n".join(f"{line},who" for line in lines))
    assert torch.equal(MorphoMNIST(tmp_path, "test")[:]["thickness"], MorphoMNIST(written[0], "test")[:]["thickness"])


def test_mappings_and_do_are_the_same_action(data):
    rows = data[1:3]
    action = {"thickness": torch.tensor([2.0, 3.0]), "intensity": 150.0}
    first, second = (data.true_counterfactual(rows, what) for what in (action, do(**action)))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_counterfactuals_that_nobody_knows_are_refused(data, written):
    root, mnist, _ = written
    rows = data[:2]
    assert data.knows(do(thickness=2.0))
    assert not data.knows(do(digit=3, thickness=2.0))
    with pytest.raises(ValueError, match=r"do\(digit = 3\) is unknown; it exists for thickness, intensity and slant"):
        data.true_counterfactual(rows, do(digit=3))
    unsourced = MorphoMNIST(root, "test")
    assert not unsourced.knows(do(thickness=2.0))
    with pytest.raises(ValueError, match=r"write MorphoMNIST\(root, split, mnist="):
        unsourced.true_counterfactual(rows, do(thickness=2.0))
    with pytest.raises(ValueError, match="id 1000000 is no row of the val split"):
        MorphoMNIST(root, "val", val=5, mnist=mnist).true_counterfactual(rows, do(thickness=2.0))
    with pytest.raises(ValueError, match="'id'"):
        data.true_counterfactual({name: rows[name] for name in GRAPH.nodes}, do(thickness=2.0))
    with pytest.raises(ValueError, match="expected the handwriting of train rows 7 to 11"):
        reordered = mnist.parent / "reordered"
        write_set(reordered, "train", handwriting(TRAIN), np.zeros(TRAIN, dtype=np.uint8), ".gz")
        MorphoMNIST(root, "val", val=5, mnist=reordered)
