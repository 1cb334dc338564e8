import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.text import Text

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.plot import effects

PARTS = ("total", "direct", "indirect", "interaction")


@pytest.fixture(scope="module")
def world():
    graph = cf.CausalGraph(
        "a -> b; a, b -> c; a, b -> image",
        a=cf.Continuous(),
        b=cf.Continuous(),
        c=cf.Continuous(),
        image=cf.Image(1, 8, 8),
    )
    known = {
        "a": M.Gaussian(weights={}),
        "b": M.Gaussian(weights={"a": 2.0}),
        "c": M.Functional(lambda u, pa: pa["a"] * pa["b"] + u, lambda x, pa: x - pa["a"] * pa["b"]),
        "image": M.SpatialDiffusion(widths=(8, 8), steps=4),
    }
    scm = cf.SCM(graph, known)
    scm.mechanisms["image"].initialise(0)
    scm.mechanisms["image"].fitted = True
    generator = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(5, generator=generator) for name in "abc"}
    return scm.observe(rows | {"image": torch.rand(5, 1, 8, 8, generator=generator)})


def test_a_change_of_hue_is_a_change():
    red, blue = (torch.zeros(1, 3, 4, 4) for _ in range(2))
    red[:, 0], blue[:, 2] = 1, 1
    found = cf.Effects("image", cf.do(a=1.0), (), red, blue, blue, red)
    figure = effects(found)
    texts = [text.get_text() for text in figure.findobj(Text)]
    drawn = next(axes for axes in figure.axes if axes.get_gid() == "total:0")
    assert np.abs(drawn.images[0].get_array()).min() > 0
    assert "mean 170.0" in texts  # two channels of three


@pytest.fixture(scope="module")
def of_image(world):
    return cf.decompose(world, cf.do(a=cf.shift(1.5)), on="image")


@pytest.fixture(scope="module")
def of_number(world):
    return cf.decompose(world, cf.do(a=cf.shift(1.5)), on="c")


def test_maps_show_every_part_on_one_symmetric_scale(of_image):
    figure = effects(of_image, rows=3)
    axes = {axis.get_gid(): axis.images[0] for axis in figure.axes if axis.get_gid() != "scale"}
    assert len(axes) == 3 * 6
    greatest = max(255 * float(getattr(of_image, part)[:3].abs().max()) for part in PARTS)
    for line in range(3):
        for name in ("factual", "counterfactual"):
            image = axes[f"{name}:{line}"]
            np.testing.assert_allclose(image.get_array(), getattr(of_image, name)[line, 0].numpy(), atol=1e-7)
            assert image.get_clim() == (0, 1)
        for name in PARTS:
            image = axes[f"{name}:{line}"]
            expected = 255 * getattr(of_image, name)[line, 0].double().numpy()
            np.testing.assert_allclose(image.get_array(), expected, atol=1e-9)
            assert image.get_clim() == pytest.approx((-greatest, greatest))
    texts = [text.get_text() for text in figure.texts]
    assert {"factual", "counterfactual", *PARTS} <= set(texts)
    assert f"mean {255 * float(of_image.direct[0].abs().mean()):.1f}" in texts
    assert "do(a += 1.5) on image, mediated by b" in " ".join(texts)


def test_strips_show_every_unit_and_the_means(of_number):
    (axes,) = effects(of_number, rows=1).axes
    strips = {strip.get_gid(): strip for strip in axes.collections}
    assert tuple(strips) == PARTS
    lines = [line for line in axes.lines if line.get_linewidth() > 2]
    for part, line in zip(PARTS, lines, strict=True):
        values = getattr(of_number, part).double().numpy()
        np.testing.assert_allclose(strips[part].get_offsets()[:, 0], values, atol=1e-12)
        assert line.get_xdata()[0] == pytest.approx(values.mean())
    assert [label.get_text() for label in axes.get_yticklabels()] == list(PARTS)
    assert axes.get_title(loc="left") == "do(a += 1.5) on c, mediated by b"
    assert "5 units" in axes.get_xlabel()


@pytest.mark.parametrize("size", [1.5, -1.5e6, 1.5e-7])
def test_texts_of_strips_are_whole_and_apart(size):
    long = "average_cortical_thickness_of_the_left_hemisphere"
    graph = cf.CausalGraph(
        f"a -> b; a, b -> {long}", {"a": cf.Continuous(), "b": cf.Continuous(), long: cf.Continuous()}
    )
    known = {
        "a": M.Gaussian(weights={}),
        "b": M.Gaussian(weights={"a": 2.0}),
        long: M.Gaussian(weights={"b": 1.0, "a": 1.0}),
    }
    scm = cf.SCM(graph, known)
    world = scm.observe({name: torch.zeros(1) for name in graph})
    figure = effects(cf.decompose(world, cf.do(a=cf.shift(size)), on=long))
    figure.canvas.draw()
    (axes,) = figure.axes
    assert axes.xaxis.get_offset_text().get_text() == ""
    ticks = [
        tick for tick in axes.get_xticklabels() if axes.get_xlim()[0] <= tick.get_position()[0] <= axes.get_xlim()[1]
    ]
    boxes = [text.get_window_extent() for text in (axes._left_title, axes.xaxis.label, *axes.texts, *ticks)]
    for index, box in enumerate(boxes):
        assert figure.bbox.x0 <= box.x0 < box.x1 <= figure.bbox.x1
        assert figure.bbox.y0 <= box.y0 < box.y1 <= figure.bbox.y1
        assert not [other for other in boxes[index + 1 :] if box.padded(-1).overlaps(other.padded(-1))]


def test_an_effect_without_mediators_says_so(world):
    (axes,) = effects(cf.decompose(world, cf.do(b=1.0), on="c")).axes
    assert axes.get_title(loc="left") == "do(b = 1) on c, no mediators"


def test_fewer_than_one_row_is_refused(of_image):
    with pytest.raises(ValueError, match="rows >= 1, got 0"):
        effects(of_image, rows=0)


def test_pyplot_knows_nothing_of_it(of_image, of_number):
    effects(of_image)
    effects(of_number)
    assert plt.get_fignums() == []
