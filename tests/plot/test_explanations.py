"""Pictures of explanations, and their page: what is shown is what was found."""

import base64
import io
import re
from dataclasses import replace
from html.parser import HTMLParser

import matplotlib.image
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

from causalcf.explain import Explanation, page
from causalcf.plot import explanations
from causalcf.plot.sheet import CHANGE, change

ROWS = 3


def made(method, seed, channels=3):
    generator = torch.Generator().manual_seed(seed)
    images = torch.rand(ROWS, channels, 8, 8, generator=torch.Generator().manual_seed(5))
    mask = torch.rand(ROWS, 1, 8, 8, generator=generator) < 0.4
    became = torch.where(mask, torch.rand(ROWS, channels, 8, 8, generator=generator), images)
    after = torch.tensor([0.91, 0.24, 0.77])
    return Explanation(
        images,
        became,
        torch.tensor([0, 1, 0]),
        torch.tensor([1, 2, 2]),
        torch.tensor([0.12, 0.03, 0.44]),
        after,
        after > 0.5,
        mask,
        torch.tensor([8.0, 15.0, 10.0]),
        torch.tensor([60.0, 180.0, 120.0]),
        torch.tensor([0.0, 6.0, 3.0]),
        torch.tensor([7, 8, 9]),
        torch.tensor([0.5, 1.5, 1.0]),
        torch.full((ROWS,), float("nan")),
        {"method": method, "steps": 200, "scales": [8.0, 10.0]},
    )


@pytest.fixture(scope="module")
def mask():
    return made("MaskDiME", 1)


@pytest.fixture(scope="module")
def everywhere():
    found = made("DiME", 2)
    return replace(found, mask=torch.ones_like(found.mask))


def axes(figure):
    return {axis.get_gid(): axis for axis in figure.axes}


def shown(axis):
    return np.asarray(axis.images[0].get_array())


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_a_line_shows_what_was_found(mask):
    drawn = axes(explanations(mask))
    assert len(drawn) == 4 * ROWS + 1
    for row in range(ROWS):
        for name, images in (("factual", mask.images), ("counterfactual:0", mask.counterfactuals)):
            np.testing.assert_allclose(shown(drawn[f"{name}:{row}"]), images[row].movedim(0, -1).numpy(), atol=1e-6)
        np.testing.assert_array_equal(shown(drawn[f"mask:0:{row}"]), mask.mask[row, 0].float().numpy())
        moved = 255 * (mask.counterfactuals - mask.images)[row].double().numpy()
        picked = shown(drawn[f"difference:0:{row}"])
        np.testing.assert_allclose(np.abs(picked), np.abs(moved).max(0), atol=1e-4)
        assert ((np.abs(moved - picked) < 1e-4).any(0)).all()


def test_a_new_hue_of_the_same_brightness_is_a_change():
    before = torch.full((1, 3, 2, 2), 0.5)
    after = before + torch.tensor([0.3, -0.1, -0.2])[:, None, None]
    np.testing.assert_allclose(change(after, before), 255 * 0.3, rtol=1e-5)
    np.testing.assert_allclose(change(before, after), -255 * 0.3, rtol=1e-5)


def test_captions_are_the_numbers_and_flips_are_strong(mask):
    figure = explanations(mask, classes=["sad", "calm", "glad"], names=["a", "b", "a-name-that-is-much-too-long.png"])
    found = texts(figure)
    for text in ("sad → calm", "calm → glad", "sad → glad", "p 0.12", "p 0.03", "p 0.44", "a", "b", "MaskDiME"):
        assert text in found
    strong = {text.get_text() for text in figure.texts if text.get_weight() == "bold"}
    assert strong == {"factual", "MaskDiME", "p 0.91", "p 0.77"}
    (p,) = (text for text in figure.texts if text.get_text() == "p 0.24")
    assert to_rgb(p.get_color()) != (0, 0, 0)
    change = 255 * (mask.counterfactuals - mask.images).abs()[1].mean().item()
    assert f"change {change:.1f}" in found
    assert f"{100 * mask.mask[2].float().mean().item():.0f} %" in found
    (long,) = (text for text in found if text.startswith("a-name"))
    assert "…" in long
    assert long.endswith(".png")
    assert "0 → 1" in texts(explanations(mask))


@pytest.mark.parametrize("channels", [1, 3])
def test_captions_stay_below_their_pictures_whatever_they_say(channels):
    wide = {"names": ["W" * 30, "IMG_20240101_123456", "i"], "classes": ["not smiling", "smiling broadly", "W" * 30]}
    found = made("MaskDiME", 1, channels), made("DiME", 2, channels)
    for options in (wide, {"classes": wide["classes"]}, {"names": wide["names"]}):
        figure = explanations(*found, **options)
        assert ("0 → 1" if "classes" not in options else "not smiling →") in texts(figure)
        figure.canvas.draw()
        boxes = [artist.get_window_extent() for artist in (*figure.texts, *figure.axes)]
        for index, box in enumerate(boxes):
            assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
            assert not [other for other in boxes[index + 1 :] if box.padded(-1).overlaps(other.padded(-1))]


def test_methods_stand_side_by_side_on_one_scale(mask, everywhere):
    figure = explanations(mask, everywhere, rows=2, titles=["masked", "free"])
    drawn = axes(figure)
    assert len([gid for gid in drawn if gid.startswith("factual")]) == 2
    assert {gid for gid in drawn if gid.startswith("mask")} == {"mask:0:0", "mask:0:1"}
    limits = {drawn[f"difference:{index}:{line}"].images[0].get_clim() for index in (0, 1) for line in (0, 1)}
    assert len(limits) == 1
    assert {"masked", "free", "factual"} <= set(texts(figure))
    left = [drawn[f"{name}:0"].get_position().x0 for name in ("factual", "counterfactual:0", "counterfactual:1")]
    assert left == sorted(left)
    assert "mask:" not in " ".join(texts(explanations(everywhere)))


def test_pixels_are_whole_dots_and_pyplot_is_left_alone(mask):
    figure = explanations(mask)
    box = axes(figure)["factual:0"].get_position()
    dots = box.width * figure.get_figwidth() * figure.dpi
    assert dots == pytest.approx(round(dots / 8) * 8)
    assert dots >= 0.8 * figure.dpi - 1e-6
    assert plt.get_fignums() == []


def test_what_cannot_be_drawn_together_is_refused(mask, everywhere):
    others = replace(everywhere, target=torch.tensor([2, 2, 2]))
    for given, options, message in [
        ((), {}, "at least one, got none"),
        ((mask, others), {}, "that at place 1 explains other images or targets"),
        ((mask, everywhere[:2]), {}, "that at place 1 explains other images or targets"),
        ((mask,), {"rows": 0}, "rows >= 1"),
        ((mask,), {"titles": ["a", "b"]}, "expected 1 titles, got 2"),
        ((mask,), {"names": ["a"]}, "expected 3 names, got 1"),
        ((mask,), {"classes": ["sad", "glad"]}, "names of the classes 0 to 2, got 2"),
    ]:
        with pytest.raises(ValueError, match=message):
            explanations(*given, **options)


# ---- the page


class Table(HTMLParser):
    """The cells of the table, their values and pictures."""

    def __init__(self, text):
        super().__init__()
        self.rows, self.addresses, self.heads = [], [], 0
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        given = dict(attributes)
        self.heads += tag == "th"
        if tag == "tr":
            self.rows.append([])
        if tag == "td":
            self.rows[-1].append(given.get("data-value"))
        if tag == "img":
            self.rows[-1][-1] = matplotlib.image.imread(
                io.BytesIO(base64.b64decode(given["src"].removeprefix("data:image/png;base64,")))
            )
        self.addresses += [value for name, value in attributes if name in ("src", "href")]


@pytest.mark.parametrize("channels", [1, 3])
def test_a_page_holds_its_pictures_and_numbers(channels):
    found = made("MaskDiME", 1, channels)
    table = Table(page(found, names=["one", "two <2>", "three"], classes=["sad", "calm", "glad"]))
    assert [row[0] for row in table.rows[1:]] == ["one", "two <2>", "three"]
    assert [row[5] for row in table.rows[1:]] == ["sad calm", "calm glad", "sad glad"]
    moved = change(found.counterfactuals, found.images)
    limit = np.abs(moved).max()
    for index, row in enumerate(table.rows[1:]):
        assert len(row) == table.heads
        for place, images in ((1, found.images), (2, found.counterfactuals), (4, found.mask.float())):
            wanted = images[index].expand(3, -1, -1).movedim(0, -1).numpy()
            np.testing.assert_allclose(row[place][..., :3], wanted, atol=1 / 255)
        wanted = CHANGE(moved[index] / limit / 2 + 0.5)
        np.testing.assert_allclose(row[3][..., :3], wanted[..., :3], atol=1 / 255)
        before, after, flipped, l1, share, scale, forward, backward, seconds = map(float, row[6:])
        assert (before, after) == (found.before[index].item(), found.after[index].item())
        assert flipped == found.flipped[index]
        assert l1 == pytest.approx((found.counterfactuals - found.images)[index].abs().mean().item())
        assert share == pytest.approx(found.mask[index].float().mean().item())
        costs = found.scale[index], found.forward[index], found.backward[index], found.seconds[index]
        assert (scale, forward, backward, seconds) == costs


def test_a_page_fetches_nothing(mask):
    text = page(mask)
    assert "//" not in re.sub(r"base64,[^\"]*", "", text)
    assert all(address.startswith("data:image/png;base64,") for address in Table(text).addresses)
    assert len(Table(text).addresses) == 4 * ROWS


def test_a_page_is_the_same_in_any_encoding(mask):
    text = page(mask, names=["smörgås", "微笑", "a"], title="Größe")
    assert text.isascii()
    assert [row[0] for row in Table(text).rows[1:]] == ["smörgås", "微笑", "a"]
    assert "<title>Gr&#246;&#223;e</title>" in text


def test_a_page_sums_up(mask):
    text = page(mask, title="Smiles & why")
    assert "<title>Smiles &amp; why</title>" in text
    l1 = (mask.counterfactuals - mask.images).abs().mean().item()
    for part in ("flip rate, 2 of 3 rows", "<b>0.667</b>", f"<b>{l1:.4f}</b>", "<b>120</b>", "<b>3 s</b>", "MaskDiME"):
        assert part in text
    assert "<code>steps=200</code> <code>scales=[8.0, 10.0]</code>" in text
    assert "GPU" not in text
    assert "<b>2.00 GiB</b>" in page(replace(mask, memory=torch.full((ROWS,), 2.0**31)))
    with pytest.raises(ValueError, match="a name for each of 3 rows, got 1"):
        page(mask, names=["a"])
