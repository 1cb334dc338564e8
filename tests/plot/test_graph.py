import matplotlib.pyplot as plt
import networkx as nx
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.figure import Figure
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch

from causalcf.graph import CausalGraph
from causalcf.plot.graph import ACCENT, graph
from causalcf.plot.layers import layered
from causalcf.variables import Binary, Categorical, Continuous, Image

ATTRIBUTES = ("Age", "Male", "Smiling", "Bald", "No_Beard", "Eyeglasses", "Mouth_Slightly_Open")
GRAPHS = {
    "digits": CausalGraph(
        "thickness -> intensity; digit -> slant; thickness, intensity, slant, digit -> image",
        thickness=Continuous(lower=0.0, unit="px"),
        intensity=Continuous(lower=0.0, upper=255.0),
        digit=Categorical(10),
        slant=Continuous(),
        image=Image(1, 28, 28),
    ),
    "faces": CausalGraph(
        "Age, Male -> Bald; Male -> No_Beard; Smiling -> Mouth_Slightly_Open; Male, Age -> Eyeglasses;"
        f"{', '.join(ATTRIBUTES)} -> image",
        {**dict.fromkeys(ATTRIBUTES, Binary()), "image": Image(3, 64, 64)},
    ),
    "ten": CausalGraph(
        "a -> b -> c -> d -> e; a -> e; b -> f -> g; c -> g -> h; f -> h; a, h, e, t, s -> x; s -> t; s -> c",
        {**dict.fromkeys("abcdefghst", Binary()), "x": Image(1, 8, 8)},
    ),
    "lonely": CausalGraph([], {"only one": Continuous(upper=3.5), "$x_1$": Continuous(unit="mm")}),
}


@st.composite
def dags(draw):
    names = "abcdefghi"[: draw(st.integers(1, 9))]
    possible = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(possible), unique=True, max_size=14)) if possible else []
    return CausalGraph(edges, dict.fromkeys(draw(st.permutations(names)), Binary()))


def boxes(figure):
    return {
        patch.get_gid().removeprefix("node:"): patch.get_bbox()
        for patch in figure.axes[0].patches
        if isinstance(patch, FancyBboxPatch) and patch.get_gid().startswith("node:")
    }


def arrows(figure):
    return {patch.get_gid(): patch for patch in figure.axes[0].patches if isinstance(patch, FancyArrowPatch)}


def curve(arrow):
    """Points along the path from which an arrow was made; its get_path is the outline."""
    return arrow._path_original.to_polygons(closed_only=False)[0]


def check(drawn, figure):
    places = boxes(figure)
    assert set(places) == set(drawn.nodes)
    assert set(arrows(figure)) == {f"edge:{cause}->{effect}" for cause, effect in drawn.edges}
    pairs = [(one, two) for i, one in enumerate(places) for two in list(places)[i + 1 :]]
    assert not [pair for pair in pairs if places[pair[0]].overlaps(places[pair[1]])]
    for cause, effect in drawn.edges:
        points = curve(arrows(figure)[f"edge:{cause}->{effect}"])
        assert points[0][0] == pytest.approx(places[cause].x1)
        assert points[-1][0] == pytest.approx(places[effect].x0)
        assert places[cause].y0 < points[0][1] < places[cause].y1
        assert places[effect].y0 < points[-1][1] < places[effect].y1
        for other in set(places) - {cause, effect}:
            box = places[other]
            inside = (points > (box.x0, box.y0)) & (points < (box.x1, box.y1))
            assert not inside.all(axis=1).any(), f"{cause} -> {effect} passes through {other}"


@pytest.mark.parametrize("name", GRAPHS)
def test_every_node_is_a_box_and_every_edge_an_arrow_beside_the_boxes(name):
    check(GRAPHS[name], graph(GRAPHS[name]))


@settings(max_examples=40, deadline=None)
@given(dags())
def test_so_on_any_graph(drawn):
    check(drawn, graph(drawn))


@pytest.mark.parametrize("name", GRAPHS)
def test_labels_lie_within_their_boxes(name):
    figure = graph(GRAPHS[name])
    figure.canvas.draw()
    axes = figure.axes[0]
    labels = {text.get_gid(): text for text in axes.texts if text.get_gid()}
    assert {gid: text.get_text() for gid, text in labels.items()} == {f"label:{n}": n for n in GRAPHS[name]}
    for node, box in boxes(figure).items():
        extent = labels[f"label:{node}"].get_window_extent().transformed(axes.transData.inverted())
        assert box.x0 < extent.x0 < extent.x1 < box.x1
        assert box.y0 < min(extent.y0, extent.y1)
        assert max(extent.y0, extent.y1) < box.y1


def test_details_name_classes_where_there_is_room():
    story = CausalGraph(
        "side, marker, finding -> image",
        side=Binary(names=("right", "left")),
        marker=Categorical(names=("none", "circle", "triangle")),
        finding=Categorical(names=("architectural distortion", "calcification", "mass")),
        image=Image(1, 8, 8),
    )
    texts = {text.get_text() for text in graph(story).axes[0].texts}
    assert {"right, left", "none, circle, triangle", "3 classes"} <= texts


def test_details_tell_support_and_unit_and_the_legend_names_the_types():
    texts = {text.get_text() for name in ("digits", "lonely") for text in graph(GRAPHS[name]).axes[0].texts}
    assert {"≥ 0 px", "0 to 255", "10 classes", "1 × 28 × 28", "real", "≤ 3.5", "in mm"} <= texts
    assert {"continuous", "categorical", "image"} <= texts
    assert "binary" not in texts


def test_an_image_looks_different():
    patches = {patch.get_gid(): patch for patch in graph(GRAPHS["digits"]).axes[0].patches if patch.get_gid()}
    luminance = {node: np.mean(patches[f"node:{node}"].get_facecolor()[:3]) for node in ("image", "digit")}
    assert luminance["image"] < 0.4
    assert luminance["digit"] > 0.8


def test_highlight_marks_nodes_and_the_edges_among_them():
    figure = graph(GRAPHS["digits"], highlight=["digit", "slant", "thickness"])
    red = FancyBboxPatch((0, 0), 1, 1, edgecolor=ACCENT).get_edgecolor()
    marked = {patch.get_gid() for patch in figure.axes[0].patches if patch.get_gid() and patch.get_edgecolor() == red}
    assert marked == {"node:digit", "node:slant", "node:thickness", "edge:digit->slant"}
    with pytest.raises(ValueError, match="did you mean 'digit'"):
        graph(GRAPHS["digits"], highlight="digt")


def test_given_axes_are_used_and_the_drawing_fits():
    figure = Figure(figsize=(4, 2))
    left, right = figure.subplots(1, 2)
    assert graph(GRAPHS["faces"], ax=right) is figure
    assert not left.texts
    figure.canvas.draw()
    frame = right.get_window_extent()
    assert all(frame.contains(*corner) for text in right.texts for corner in text.get_window_extent().corners())


def test_pyplot_knows_nothing_of_it():
    graph(GRAPHS["digits"])
    assert plt.get_fignums() == []


@pytest.mark.parametrize(
    ("edges", "crossings"),
    [
        ([(a, b) for a, b in zip("abcd", "hgfe", strict=True)], 0),
        ([(a, b) for a in "ab" for b in "cd"], 1),  # K(2, 2) in two columns
        (nx.balanced_tree(2, 3, create_using=nx.DiGraph).edges, 0),
    ],
)
def test_edges_cross_no_more_than_they_must(edges, crossings):
    digraph = nx.DiGraph()
    digraph.add_nodes_from(sorted({str(node) for edge in edges for node in edge}, reverse=True))
    digraph.add_edges_from((str(a), str(b)) for a, b in edges)
    layout = layered(digraph, dict.fromkeys(digraph, 1.0), gap=1.0, lane=0.5, port=0.1)
    assert layout.crossings == crossings


def test_lanes_are_level():
    digraph = GRAPHS["ten"].to_networkx()
    layout = layered(digraph, dict.fromkeys(digraph, 40.0), gap=20.0, lane=8.0, port=9.0)
    lanes = [[layout.y[item] for item in route[1:-1]] for route in layout.routes.values() if len(route) > 3]
    assert len(lanes) > 2
    assert max(max(lane) - min(lane) for lane in lanes) < 2.0
