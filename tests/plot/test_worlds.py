import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgb

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.plot import worlds
from causalcf.plot.sheet import CHANGE

ROWS = 4


@pytest.fixture(scope="module")
def scm():
    graph = cf.CausalGraph(
        "thickness -> intensity; thickness, intensity, tilt, digit -> image",
        thickness=cf.Continuous(unit="px"),
        intensity=cf.Continuous(),
        tilt=cf.Continuous(),
        digit=cf.Categorical(10),
        image=cf.Image(1, 8, 8),
    )
    known = {
        "thickness": M.Gaussian(weights={}),
        "intensity": M.Gaussian(weights={"thickness": 2.0}),
        "tilt": M.Gaussian(weights={}),
        "image": M.SpatialDiffusion(widths=(8, 8), steps=4),
    }
    scm = cf.SCM(graph, known)
    scm.mechanisms["image"].initialise(0)
    scm.mechanisms["image"].fitted = scm.mechanisms["digit"].fitted = True
    return scm


@pytest.fixture(scope="module")
def rows():
    generator = torch.Generator().manual_seed(1)
    return {
        "thickness": torch.tensor([2.5, 1.0, 3.25, 0.04]),
        "intensity": torch.tensor([182.0, 20.0, -31.0, 5.0]),
        "tilt": torch.tensor([0.1, -0.25, -0.001, 0.0]),
        "digit": torch.tensor([4, 7, 2, 2]),
        "image": torch.rand(ROWS, 1, 8, 8, generator=generator),
    }


@pytest.fixture(scope="module")
def factual(scm, rows):
    return scm.observe(rows)


@pytest.fixture(scope="module")
def thick(factual):
    return factual.do(thickness=cf.shift(1.5))


@pytest.fixture(scope="module")
def tilted(thick):
    return thick.do(tilt=0.5)


def axes(figure):
    return {axis.get_gid(): axis for axis in figure.axes}


def shown(axis):
    return np.asarray(axis.images[0].get_array())


def texts(figure):
    return [text.get_text() for text in figure.texts]


def test_the_effect_map_is_the_change_against_the_first_world(factual, thick, tilted):
    drawn = axes(worlds(factual, thick, tilted))
    for index, world in enumerate((factual, thick, tilted)):
        for line in range(ROWS):
            picture = world["image"][line, 0].numpy()
            np.testing.assert_allclose(shown(drawn[f"image:{index}:{line}"]), picture, atol=1e-7)
            if index:
                change = 255 * (world["image"] - factual["image"])[line, 0].double().numpy()
                np.testing.assert_allclose(shown(drawn[f"effect:{index}:{line}"]), change, atol=1e-4)
                assert np.abs(change).max() > 1


def test_there_is_a_line_per_unit_and_no_map_of_the_first_world(factual, thick, tilted):
    names = set(axes(worlds(factual, thick, tilted, rows=3)))
    columns = {name.rpartition(":")[0] for name in names - {"scale"}}
    assert columns == {"image:0", "image:1", "effect:1", "image:2", "effect:2"}
    assert len(names) == 3 * len(columns) + 1
    assert len(worlds(factual, thick, rows=99).axes) == 3 * ROWS + 1
    assert len(worlds(factual).axes) == ROWS


def test_one_symmetric_scale_holds_for_all_maps_and_no_change_is_white(factual, thick, tilted):
    drawn = axes(worlds(factual, thick, tilted))
    maps = [axis.images[0] for name, axis in drawn.items() if name.startswith("effect")]
    limits = {image.get_clim() for image in maps}
    greatest = max(np.abs(image.get_array()).max() for image in maps)
    assert len(limits) == 1
    assert limits.pop() == pytest.approx((-greatest, greatest))
    assert drawn["scale"].get_xlim() == pytest.approx((-greatest, greatest))
    assert maps[0].cmap(maps[0].norm(0.0))[:3] == to_rgb("white")
    (more, less) = (CHANGE(1.0), CHANGE(0.0))
    assert more[0] > 2 * more[2]
    assert less[2] > 2 * less[0]


def test_without_any_change_the_scale_is_not_empty(factual):
    low, high = axes(worlds(factual, factual))["effect:1:0"].images[0].get_clim()
    assert low < 0 < high


def test_pictures_share_one_scale_of_grey(factual, thick):
    drawn = axes(worlds(factual, thick))
    limits = {axis.images[0].get_clim() for name, axis in drawn.items() if name.startswith("image")}
    assert limits == {(0, 1)}


def test_the_truth_stands_beside_with_its_error(factual, thick, tilted, rows):
    true = {"image": (rows["image"] + 0.1).clamp(0, 1)}
    figure = worlds(factual, thick, tilted, truth=[None, true, None])
    drawn = axes(figure)
    assert {name for name in drawn if name.startswith("truth")} == {f"truth:1:{line}" for line in range(ROWS)}
    np.testing.assert_allclose(shown(drawn["truth:1:2"]), true["image"][2, 0].numpy(), atol=1e-7)
    for line in range(ROWS):
        error = 255 * (thick["image"] - true["image"])[line].abs().mean()
        assert f"error {error:.1f}" in texts(figure)


def test_the_distance_from_the_first_column_is_below_the_map(factual, thick):
    figure = worlds(factual, thick)
    for line in range(ROWS):
        distance = 255 * (thick["image"] - factual["image"])[line].abs().mean()
        assert f"change {distance:.1f}" in texts(figure)


def test_columns_are_called_by_what_was_done_last(factual, thick, tilted):
    found = texts(worlds(factual, thick, tilted, tilted.do(thickness=0.0)))
    assert "as observed" in found
    assert "do(thickness += 1.5)" in found
    assert "then do(tilt = 0.5)" in found
    assert "then do(thickness = 0)" in found


def test_a_world_beside_another_is_called_by_all_that_was_done_in_it(factual, thick, tilted):
    found = " ".join(texts(worlds(factual, tilted, thick, factual.do(recompute=True))))
    assert "do(thickness += 1.5, tilt =" in found
    assert "then" not in found
    assert "nothing done" in found


def test_only_a_world_made_from_the_one_before_is_called_by_the_difference(factual):
    one, other = factual.do(thickness=1.0), factual.do(thickness=2.0, tilt=0.5)
    found = " ".join(texts(worlds(factual, one, other)))
    assert "do(thickness = 2, tilt = 0.5)" in found
    assert "then" not in found


def test_interventions_that_hold_a_value_per_row_have_a_title(factual):
    one, other = factual.do(tilt=torch.arange(4.0)), factual.do(tilt=torch.arange(4.0))
    found = " ".join(texts(worlds(factual, one, other, other.do(thickness=0.0))))
    assert found.count("do(tilt = given rows)") == 2
    assert "then do(thickness = 0)" in found


def test_titles_can_be_given(factual, thick):
    found = texts(worlds(factual, thick, titles=["before", "after"]))
    assert {"before", "after"} <= set(found)
    assert "as observed" not in found


def test_values_stand_below_and_those_that_changed_are_strong(factual, thick):
    figure = worlds(factual, thick)
    weights = [(text.get_text(), text.get_weight()) for text in figure.texts]
    assert ("th 2.5", "normal") in weights
    assert ("th 4.0", "bold") in weights
    assert ("i 182", "normal") in weights
    assert ("i 185", "bold") in weights
    assert weights.count(("d 4", "normal")) == 2
    assert ("ti −0.25", "normal") in weights
    assert ("ti 0.00", "normal") in weights
    assert "ti −0.00" not in texts(figure)
    assert "th: thickness (px)" in " ".join(texts(figure))
    assert "ti: tilt" in " ".join(texts(figure))


@pytest.mark.parametrize("size", [(1, 8, 8), (3, 8, 12)], ids=["grey", "colour"])
@pytest.mark.parametrize("count", [1, 3])
@pytest.mark.parametrize("name", ["attribute", "volume_of_white_matter_of_either_hemisphere", "W" * 30])
def test_no_text_overlaps_another_text_or_a_picture(size, count, name):
    many = {f"{name}_{letter}": cf.Continuous(unit="mm") for letter in "abcdefgh"[: 3 * count]}
    graph = cf.CausalGraph(f"{', '.join(many)} -> image", {**many, "image": cf.Image(*size)})
    known = {name: M.Gaussian(weights={}) for name in many}
    scm = cf.SCM(graph, known | {"image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["image"].fitted = True
    rows = {name: 1000 * torch.randn(2) for name in many} | {"image": torch.rand(2, *size)}
    factual = scm.observe(rows)
    actions = {name: cf.shift(123.0) for name in many}
    figure = worlds(factual, *[factual.do(**actions) for _ in range(count)], truth=[None, *[rows] * count])
    figure.canvas.draw()
    ticks = [text for axis in figure.axes for text in axis.get_xticklabels()]
    boxes = [artist.get_window_extent() for artist in (*figure.texts, *figure.axes, *ticks)]
    frame = figure.bbox
    for index, box in enumerate(boxes):
        assert frame.x0 <= box.x0 < box.x1 <= frame.x1
        assert frame.y0 <= box.y0 < box.y1 <= frame.y1
        assert not [other for other in boxes[index + 1 :] if box.padded(-1).overlaps(other.padded(-1))]


def test_of_many_variables_those_that_change_are_told():
    many = {f"{letter}": cf.Continuous() for letter in "abcdefgh"}
    graph = cf.CausalGraph(f"{', '.join(many)} -> image", {**many, "image": cf.Image(1, 8, 8)})
    scm = cf.SCM(graph, {"image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["image"].fitted = True
    factual = scm.observe({name: torch.ones(1) for name in many} | {"image": torch.rand(1, 1, 8, 8)})
    found = texts(worlds(factual, factual.do(h=7.0)))
    assert {"h 1.0", "h 7.0", "a 1.0", "e 1.0"} <= set(found)
    assert "f 1.0" not in found


def test_classes_are_called_by_their_names():
    names = ("none", "circle", "a very long name of a marker")
    graph = cf.CausalGraph("marker -> image", marker=cf.Categorical(names=names), image=cf.Image(1, 8, 8))
    scm = cf.SCM(graph, {"image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["image"].fitted = scm.mechanisms["marker"].fitted = True
    factual = scm.observe({"marker": torch.tensor([0, 2]), "image": torch.rand(2, 1, 8, 8)})
    found = texts(worlds(factual, factual.do(marker="circle")))
    assert found.count("m circle") == 2
    assert {"m none", "m a very l…", "do(marker = circle)"} <= set(found)


def test_small_values_are_told_apart(scm, rows):
    factual = scm.observe({**rows, "tilt": torch.tensor([2e-7, -1e-7, 0.0, 1e-9])})
    figure = worlds(factual, factual.do(tilt=5e-7))
    strong = [text.get_text() for text in figure.texts if text.get_weight() == "bold"]
    assert [text for text in strong if text.startswith("ti ")] == ["ti 5e−07"] * ROWS
    assert {"ti 2e−07", "ti −1e−07", "ti 0", "ti 1e−09"} <= set(texts(figure))


def test_rounding_is_no_change(scm, rows):
    factual = scm.observe(rows)
    rounded = factual.do(tilt=rows["tilt"] * (1 + 2e-7), thickness=rows["thickness"] * (1 + 2e-7))
    strong = [text.get_text() for text in worlds(factual, rounded).texts if text.get_weight() == "bold"]
    assert not [text for text in strong if text.startswith(("ti ", "th "))]


def test_colour_images_are_shown_in_colour_and_their_change_is_that_of_the_channel_that_changed_most():
    graph = cf.CausalGraph("a -> image", a=cf.Continuous(), image=cf.Image(3, 8, 8))
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["image"].fitted = True
    factual = scm.observe({"a": torch.zeros(1), "image": torch.rand(1, 3, 8, 8)})
    other = factual.do(image=torch.rand(1, 3, 8, 8))
    drawn = axes(worlds(factual, other))
    np.testing.assert_allclose(shown(drawn["image:0:0"]), factual["image"][0].permute(1, 2, 0).numpy(), atol=1e-7)
    moved = 255 * (other["image"] - factual["image"])[0]
    change = moved.gather(0, moved.abs().argmax(0, keepdim=True))[0].numpy()
    np.testing.assert_allclose(shown(drawn["effect:1:0"]), change, atol=1e-4)


def test_an_image_may_be_called_otherwise_and_effects_fit_a_line():
    graph = cf.CausalGraph("a -> scan", a=cf.Continuous(), scan=cf.Image(1, 8, 8))
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "scan": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    scm.mechanisms["scan"].fitted = True
    factual = scm.observe({"a": torch.zeros(1), "scan": torch.rand(1, 1, 8, 8)})
    assert set(axes(worlds(factual, factual.do(a=1.0)))) >= {"image:0:0", "image:1:0"}
    said = repr(cf.decompose(factual, cf.do(a=1.0), on="scan"))
    assert said.startswith("Effects of do(a = 1) on scan of 1 units; mean size: total ")
    assert "\n" not in said
    generator = cf.explain.generators.from_scm(scm)
    assert repr(generator) == "Generator(ConditionalUNet, 1 channels, 8 by 8, told no class)"
    several = cf.CausalGraph("x; y", x=cf.Image(1, 8, 8), y=cf.Image(1, 8, 8))
    with pytest.raises(ValueError, match="the graph has several images, x, y; say which variable is meant, node="):
        several.image()


def test_wrong_input_is_refused_with_a_remedy(scm, factual, thick, rows):
    with pytest.raises(ValueError, match="write worlds"):
        worlds()
    with pytest.raises(TypeError, match=r"expected a World at place 1, got dict"):
        worlds(factual, rows)
    with pytest.raises(ValueError, match="did you mean 'image'"):
        worlds(factual, thick, node="imag")
    with pytest.raises(TypeError, match=r"thickness is Continuous.*images are image"):
        worlds(factual, thick, node="thickness")
    with pytest.raises(ValueError, match="truth of 2 worlds, got 1"):
        worlds(factual, thick, truth=[None])
    with pytest.raises(ValueError, match="titles of 2 worlds, got 3"):
        worlds(factual, thick, titles=["a", "b", "c"])
    with pytest.raises(ValueError, match=r"truth\[1\] expected image of shape \(4, 1, 8, 8\), got \(2, 1, 8, 8\)"):
        worlds(factual, thick, truth=[None, {"image": rows["image"][:2]}])
    with pytest.raises(ValueError, match="same units"):
        worlds(factual, scm.observe({name: value[:2] for name, value in rows.items()}))
    with pytest.raises(ValueError, match="rows >= 1"):
        worlds(factual, rows=0)


def test_worlds_of_other_units_are_not_drawn_as_one_s_counterfactuals(scm, rows, factual):
    others = scm.observe({name: values.flip(0) for name, values in rows.items()})
    with pytest.raises(ValueError, match="row 0 of the world at place 1 is another unit than that of the first"):
        worlds(factual, others)


def test_pyplot_knows_nothing_of_it(factual, thick):
    worlds(factual, thick)
    assert plt.get_fignums() == []
