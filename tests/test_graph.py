import copy
import pickle
import sys

import networkx as nx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from causalcf.graph import RESERVED, CausalGraph
from causalcf.variables import Binary, Categorical, Continuous, Image

VARIABLES = {
    "thickness": Continuous(lower=0.0, unit="px"),
    "intensity": Continuous(lower=0.0, upper=255.0),
    "digit": Categorical(10),
    "image": Image(1, 4, 4),
}
EDGES = [("thickness", "intensity"), ("thickness", "image"), ("intensity", "image"), ("digit", "image")]


@pytest.fixture
def graph():
    return CausalGraph(EDGES, **VARIABLES)


@pytest.fixture
def rows():
    return {
        "thickness": torch.tensor([1.0, 2.0]),
        "intensity": torch.tensor([10.0, 20.0]),
        "digit": torch.tensor([3, 4]),
        "image": torch.rand(2, 1, 4, 4),
    }


def binary(*names):
    return dict.fromkeys(names, Binary())


@pytest.mark.parametrize(
    "edges",
    [
        EDGES,
        tuple(EDGES),
        [list(edge) for edge in EDGES],
        {"thickness": ["intensity", "image"], "intensity": ["image"], "digit": ("image",)},
        nx.DiGraph(EDGES),
        "thickness -> intensity; thickness -> image; intensity -> image; digit -> image",
        "thickness -> intensity\nthickness, intensity, digit -> image\n",
        "thickness -> intensity, image;; intensity, digit -> image ; image",
    ],
    ids=["pairs", "tuple", "lists", "mapping", "networkx", "text", "lines", "several"],
)
def test_every_form_declares_the_same_graph(edges, graph):
    assert CausalGraph(edges, **VARIABLES) == graph
    assert hash(CausalGraph(edges, VARIABLES)) == hash(graph)


def test_queries(graph):
    assert graph.nodes == ("thickness", "intensity", "digit", "image")
    assert graph.edges == tuple(EDGES)
    assert graph.parents("image") == ("thickness", "intensity", "digit")
    assert graph.parents("digit") == ()
    assert graph.children("thickness") == ("intensity", "image")
    assert graph.ancestors("image") == {"thickness", "intensity", "digit"}
    assert graph.descendants("thickness") == {"intensity", "image"}
    assert graph.descendants(["intensity", "digit"]) == {"image"}
    assert graph.descendants(["thickness", "intensity"]) == {"intensity", "image"}
    assert graph.descendants([]) == set()
    assert graph.images == ("image",)
    assert graph["digit"] == Categorical(10)
    assert "digit" in graph
    assert "letter" not in graph
    assert list(graph) == list(graph.nodes)
    assert len(graph) == 4
    assert dict(graph.variables) == VARIABLES


def test_parents_keep_the_declared_order_and_differ_by_it():
    one = CausalGraph([("b", "c"), ("a", "c")], **binary("a", "b", "c"))
    two = CausalGraph([("a", "c"), ("b", "c")], **binary("a", "b", "c"))
    assert one.parents("c") == ("b", "a")
    assert one.nodes == two.nodes == ("a", "b", "c")
    assert one != two
    for same in (
        CausalGraph.from_json(one.to_json()),
        CausalGraph(one.to_networkx()),
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
    ):
        assert same == one
        assert same.parents("c") == ("b", "a")


def test_a_networkx_graph_gives_parents_in_the_order_of_its_edges():
    digraph = nx.DiGraph()
    digraph.add_nodes_from("abc")
    digraph.add_edges_from([("b", "c"), ("a", "c")])
    assert CausalGraph(digraph, **binary("a", "b", "c")).parents("c") == ("b", "a")


def test_nodes_follow_the_variables_where_the_edges_leave_a_choice():
    assert CausalGraph("a -> c; b -> c", **binary("c", "b", "a")).nodes == ("b", "a", "c")
    assert CausalGraph([], **binary("z", "y")).nodes == ("z", "y")


def test_to_networkx_is_a_copy(graph):
    digraph = graph.to_networkx()
    assert digraph.nodes["digit"]["variable"] == Categorical(10)
    assert set(digraph.edges) == set(EDGES)
    digraph.remove_node("digit")
    assert "digit" in graph


def test_a_graph_does_not_change(graph):
    with pytest.raises(AttributeError, match="does not change"):
        graph.nodes = ()
    with pytest.raises(AttributeError):
        graph.anything = 1
    with pytest.raises(TypeError):
        graph.variables["digit"] = Binary()


def test_names_that_are_no_identifiers():
    graph = CausalGraph("Mouth open -> face 2", {"Mouth open": Binary()}, **{"face 2": Image(3, 2, 2)})
    assert graph.nodes == ("Mouth open", "face 2")
    assert CausalGraph.from_json(graph.to_json()) == graph
    with pytest.raises(ValueError, match="give it once"):
        CausalGraph([], {"a": Binary()}, a=Binary())


def test_repr_names_every_node_and_its_parents(graph):
    assert "image: Image(channels=1, height=4, width=4) <- thickness, intensity, digit" in repr(graph)


@pytest.mark.parametrize(
    ("edges", "names", "pattern"),
    [
        ("a -> b -> c -> a", "abc", r"cycle, a -> b -> c -> a; "),
        ("d -> a -> b -> a", "abd", r"cycle, a -> b -> a; "),
        ("a -> a", "a", r"a -> a is a loop"),
        ("a -> b; a -> b", "ab", r"a -> b is there twice"),
        ("a -> b", "a", r"the node 'b' has no variable; write CausalGraph\(..., b=Continuous\(\)\)"),
        ("a -> b c", "a", r"the node 'b c' has no variable; write .*variables=\{\"b c\": Continuous\(\)\}"),
        ("a -> thickness", ["a", "thicknes"], r"'thickness' has no variable \(you gave 'thicknes'"),
        ("a -> ", "a", r"expected names on both sides"),
        ("a,, b -> c", "abc", r"expected names on both sides"),
        ([], "", r"the graph is empty"),
        ("a -> seed", ["a", "seed"], r"'seed' is a reserved name"),
        ([], ["a/b"], r"without slashes.* got 'a/b'; write 'a_b'"),
        ([], [""], r"without slashes"),
        ([], [" a"], r"without slashes.* write 'a'"),
    ],
)
def test_impossible_graphs_are_refused(edges, names, pattern):
    with pytest.raises(ValueError, match=pattern):
        CausalGraph(edges, binary(*names))


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_reserved_names(name):
    with pytest.raises(ValueError, match="reserved"):
        CausalGraph([], {name: Binary()})


@pytest.mark.parametrize(
    ("edges", "variables", "pattern"),
    [
        (3, {}, r"expected pairs, a mapping, text or an nx.DiGraph, got int"),
        (["ab"], binary("a", "b"), r"expected pairs \(cause, effect\), got 'ab'"),
        ([("a", "b", "c")], binary("a", "b", "c"), r"expected pairs \(cause, effect\)"),
        ({"a": "image"}, binary("a", "image"), r"got 'image'; write \{\"a\": \[\"image\"\]\}"),
        (nx.Graph([("a", "b")]), binary("a", "b"), r"build an nx.DiGraph"),
        (nx.MultiDiGraph([("a", "b")]), binary("a", "b"), r"build an nx.DiGraph"),
        ([(1, 2)], {}, r"expected strings, got 1"),
        ([], {"a": Binary}, r"a: expected a variable, got .*; write a=Continuous\(\)"),
    ],
)
def test_the_wrong_types_are_refused(edges, variables, pattern):
    with pytest.raises(TypeError, match=pattern):
        CausalGraph(edges, variables)


def test_unknown_names_suggest_a_known_one(graph):
    for ask in (
        graph.require,
        graph.parents,
        graph.children,
        graph.ancestors,
        graph.descendants,
        graph.__getitem__,
    ):
        with pytest.raises(ValueError, match=r"unknown variable 'thicknes'; the graph has .*'thickness'\?"):
            ask("thicknes")
    with pytest.raises(ValueError, match=r"unknown variable 'xyz'; the graph has [^?]*$"):
        graph.require("digit", "xyz")
    graph.require("digit", "image")


def test_gml(tmp_path):
    text = """graph [
      directed 1
      node [ id 0 label "b" ]
      node [ id 1 label "a" ]
      node [ id 2 label "c" ]
      edge [ source 1 target 2 ]
      edge [ source 0 target 2 ]
    ]"""
    graph = CausalGraph.from_gml(text, **binary("a", "b", "c"))
    assert graph.parents("c") == ("a", "b")
    (tmp_path / "g.gml").write_text(text)
    assert CausalGraph.from_gml(tmp_path / "g.gml", **binary("a", "b", "c")) == graph
    assert CausalGraph.from_gml(str(tmp_path / "g.gml"), binary("a", "b", "c")) == graph
    with pytest.raises(TypeError, match="directed 1"):
        CausalGraph.from_gml(text.replace("directed 1", ""), **binary("a", "b", "c"))
    with pytest.raises(ValueError, match="label of its own on every node, got None on id 2"):
        CausalGraph.from_gml(text.replace('label "c"', ""), **binary("a", "b", "c"))
    with pytest.raises(ValueError, match="no such file"):
        CausalGraph.from_gml("nowhere.gml")


DOT = """// a story
strict digraph "the story" {
    rankdir=LR; node [shape=box,
                      color="#ff0000"]
    b; "two words" [label="x -> y"]
    b -> c [weight=2];
    a -> c -> "two words" /* the
    end */
}
"""


def test_plain_dot_needs_no_pydot(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "pydot", None)
    variables = binary("a", "b", "c", "two words")
    graph = CausalGraph.from_dot(DOT, variables)
    assert set(graph.edges) == {("b", "c"), ("a", "c"), ("c", "two words")}
    assert graph.parents("c") == ("b", "a")
    (tmp_path / "g.dot").write_text(DOT)
    assert CausalGraph.from_dot(tmp_path / "g.dot", variables) == graph
    with pytest.raises(ImportError, match=r"pip install causalcf\[dot\]"):
        CausalGraph.from_dot("digraph { a -> {b c} }", variables)


def test_quoted_text_in_dot_hides_no_edges(monkeypatch):
    monkeypatch.setitem(sys.modules, "pydot", None)
    text = r"""digraph {
        a [URL="http://x.org/a"];
        a -> b;
        b [label="[0, 1] /* px", tooltip="\"b\" // ]"];
        b -> c  // the end
    }"""
    assert CausalGraph.from_dot(text, binary("a", "b", "c")).edges == (("a", "b"), ("b", "c"))


def test_other_dot_goes_to_pydot():
    pytest.importorskip("pydot")
    text = 'digraph {\n b -> {c "two words"}\n subgraph { node [shape=box]; a -> c }\n}\n'
    graph = CausalGraph.from_dot(text, binary("a", "b", "c", "two words"))
    assert set(graph.edges) == {("b", "c"), ("b", "two words"), ("a", "c")}
    with pytest.raises(TypeError, match="digraph"):
        CausalGraph.from_dot("graph { a -- b }", binary("a", "b"))


def test_valid_rows_come_back_in_order_and_untouched(graph, rows):
    rows["id"] = torch.tensor([7, 7])
    checked = graph.check_rows(dict(reversed(rows.items())))
    assert list(checked) == [*graph.nodes, "id"]
    assert all(checked[name] is rows[name] for name in rows)
    assert list(graph.check_rows(rows, ["digit"])) == ["digit", "id"]
    assert list(graph.check_rows({"digit": rows["digit"]}, "digit")) == ["digit"]


@pytest.mark.parametrize(
    ("change", "error", "pattern"),
    [
        ({"digit": None, "image": None}, ValueError, r"missing evidence: digit, image; "),
        ({"digt": torch.tensor([1, 2])}, ValueError, r"unknown variable 'digt'.*did you mean 'digit'\?"),
        (
            {"digit": torch.tensor([1])},
            ValueError,
            r"thickness has 2, intensity has 2, digit has 1, image has 2",
        ),
        ({"digit": torch.tensor([1, 10])}, ValueError, r"digit: expected classes 0 to 9, got 10 in row 1"),
        ({"id": torch.tensor([1])}, ValueError, r"id has 1"),
        ({"id": torch.tensor([1.0, 2.0])}, TypeError, r"id: expected torch.int64, got torch.float32"),
        ({"id": torch.tensor([[1], [2]])}, ValueError, r"id: expected shape \(B,\)"),
        ({"id": [1, 2]}, TypeError, r"id: expected a tensor, got list"),
    ],
)
def test_invalid_rows_are_refused(graph, rows, change, error, pattern):
    rows = {name: value for name, value in {**rows, **change}.items() if value is not None}
    with pytest.raises(error, match=pattern):
        graph.check_rows(rows)


def test_empty_batches_and_other_types_are_refused(graph, rows):
    with pytest.raises(ValueError, match="at least one row"):
        graph.check_rows({name: value[:0] for name, value in rows.items()})
    with pytest.raises(TypeError, match="expected a mapping"):
        graph.check_rows([rows])


@st.composite
def dags(draw):
    names = draw(st.lists(st.text("abcdefgh_ ", min_size=1, max_size=4), min_size=1, max_size=7, unique=True))
    names = list(dict.fromkeys(name.strip() or "x" for name in names))
    possible = [(a, b) for i, a in enumerate(names) for b in names[i + 1 :]]
    edges = draw(st.lists(st.sampled_from(possible), unique=True)) if possible else []
    return CausalGraph(edges, dict.fromkeys(draw(st.permutations(names)), Binary()))


@settings(max_examples=60, deadline=None)
@given(dags())
def test_on_any_dag(graph):
    position = {name: index for index, name in enumerate(graph.nodes)}
    assert all(position[cause] < position[effect] for cause, effect in graph.edges)
    for name in graph.nodes:
        assert graph.parents(name) == tuple(cause for cause, effect in graph.edges if effect == name)
        assert set(graph.children(name)) == {effect for cause, effect in graph.edges if cause == name}
        assert graph.descendants(name) == {other for other in graph.nodes if name in graph.ancestors(other)}
        assert name not in graph.descendants(name)
    assert CausalGraph.from_json(graph.to_json()) == graph
    assert CausalGraph(graph.to_networkx()) == graph
