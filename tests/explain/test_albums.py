"""Folders of images as tensors: of whatever kind the files are, and named where they cannot be taken."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from causalcf.explain.files import read_images


def picture(path, *size, mode="RGB", value=0.5):
    deep = 65535 if mode == "I;16" else 255
    colours = {"RGB": (int(deep * value), 0, 10), "RGBA": (9, 9, 9, 128), "LA": (9, 255)}
    if mode == "I;16":
        Image.fromarray(np.full(size[::-1], int(deep * value), dtype=np.uint16)).save(path)
    else:
        Image.new(mode, size, colours.get(mode, int(deep * value))).save(path)


def test_images_are_read_in_the_order_of_their_names_whatever_their_kind(tmp_path):
    picture(tmp_path / "b.png", 8, 6, mode="L", value=0.4)
    picture(tmp_path / "a.png", 8, 6, mode="I;16", value=0.3)
    picture(tmp_path / "c.png", 8, 6, mode="LA")
    (tmp_path / "aa.png").mkdir()
    album = read_images(tmp_path)
    assert album.names == ["a", "b", "c"]
    assert album.images.shape == (3, 1, 6, 8)
    torch.testing.assert_close(album.images[:, 0, 0, 0], torch.tensor([0.3, 0.4, 9 / 255]), atol=2e-3, rtol=0)
    picture(tmp_path / "d.JPG", 8, 6, value=0.8)
    album = read_images(tmp_path)
    assert album.images.shape == (4, 3, 6, 8)
    assert album.images[3, :, 3, 3].tolist() == pytest.approx([0.8, 0, 10 / 255], abs=0.03)
    assert album.images[0, 0].equal(album.images[0, 2])
    assert read_images(tmp_path, rows=2, channels=3).images.shape == (2, 3, 6, 8)
    (tmp_path / "a.png").unlink()
    assert read_images(tmp_path).ids.tolist() == album.ids[1:].tolist()


def test_a_photograph_stands_upright(tmp_path):
    image = Image.new("L", (8, 4))
    exif = image.getexif()
    exif[0x0112] = 6
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_images(tmp_path).images.shape == (1, 1, 8, 4)


def test_a_name_that_is_no_text_is_told(tmp_path):
    name = os.fsdecode(b"\xff\xfe.png")
    try:
        picture(tmp_path / name, 8, 8, mode="L")
    except OSError:
        pytest.skip("the file system takes no such name")
    with pytest.raises(
        ValueError, match=r"images: the name of '\\udcff\\udcfe.png' is not in the encoding .* rename it"
    ):
        read_images(tmp_path)


@pytest.mark.parametrize(
    ("files", "options", "expected"),
    [
        ({}, {}, "no PNG or JPEG file in .*; it is empty"),
        ({"a.gif": ("L", 8, 8)}, {}, "no PNG or JPEG file in .*; it has a.gif"),
        ({"a.png": None}, {}, "a.png cannot be read .*; convert it to PNG, or take it away"),
        ({"a.png": ("L", 8, 8), "b.png": ("L", 8, 9)}, {}, "b.png is 8 wide and 9 high, a.png is 8 and 8"),
        ({"a.png": ("L", 8, 8), "a.jpg": ("L", 8, 8)}, {}, "a.jpg and a.png differ by their ending only"),
        ({"a.png": ("RGB", 8, 8)}, {"channels": 1}, "a.png has colours, and classifier or generator is to have grey"),
        ({"a.png": ("RGB", 8, 8)}, {"channels": 2}, "expected 1 or 3 channels, got 2"),
        ({"a.png": ("RGBA", 8, 8)}, {}, "a.png has transparent places"),
    ],
)
def test_images_that_cannot_be_taken_are_named(tmp_path, files, options, expected):
    for name, kind in files.items():
        if kind is None:
            (tmp_path / name).write_bytes(b"\x89PNG\r\n\x1a\n and then nothing")
        else:
            picture(tmp_path / name, *kind[1:], mode=kind[0])
    with pytest.raises((ValueError, FileNotFoundError), match=expected):
        read_images(tmp_path, **options)
