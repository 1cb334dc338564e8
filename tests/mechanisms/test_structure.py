"""What factors listen to: the graph's edges unless something else is asked for."""

import logging

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.mechanisms.structure import causes

SMALL = {
    M.NSCMDiffusion: {"widths": (8, 8), "projector": (8, 8), "steps": 4},
    M.CausalVAE: {"width": 2, "widths": (8, 8), "hidden": 8},
}
GRAPH = cf.CausalGraph(
    "c -> a; b -> a; a -> image; b -> image; c -> image",
    a=cf.Continuous(),
    b=cf.Continuous(),
    c=cf.Continuous(),
    image=cf.Image(1, 8, 8),
)


def modelled(kind, **options):
    return cf.SCM(GRAPH, {"image": kind(**SMALL[kind], **options)})


@pytest.mark.parametrize("kind", SMALL)
def test_the_graph_is_the_default_and_is_saved(kind, tmp_path):
    scm = modelled(kind)
    image = scm.mechanisms["image"]
    names, mask = list(image.parents), image.equations.mask
    assert {(names[j], names[k]) for k, j in mask.nonzero().tolist()} == {("c", "a"), ("b", "a")}
    assert {name: set(heard) for name, heard in image.config()["structure"].items()} == {"a": {"b", "c"}}
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = True
    scm.save(tmp_path / "m")
    again = cf.SCM.load(tmp_path / "m").mechanisms["image"]
    assert again.config() == image.config()
    assert torch.equal(again.equations.mask, mask)
    assert torch.equal(image.but().equations.mask, mask)


@pytest.mark.parametrize("kind", SMALL)
def test_learning_and_other_graphs_are_explicit(kind, caplog):
    learned = modelled(kind, structure="learned").mechanisms["image"]
    assert learned.equations.learned
    assert learned.config()["structure"] == "learned"
    assert not caplog.records
    with caplog.at_level(logging.WARNING):
        wrong = modelled(kind, structure={"b": ["a"]}).mechanisms["image"]
    assert wrong.equations.mask.sum() == 1
    for said in ("b listens to a, where the graph says none", "a listens to none, where the graph says"):
        assert said in caplog.text
    caplog.clear()
    modelled(kind, structure={"a": ["c", "b"]})
    assert not caplog.records


def test_a_cause_by_way_of_another_variable_is_a_cause():
    graph = cf.CausalGraph(
        "a -> m -> n -> b; a -> image; b -> image; b -> c; c -> image",
        {name: cf.Continuous() for name in "amnbc"},
        image=cf.Image(1, 8, 8),
    )
    assert causes(graph, "image") == {"a": [], "b": ["a"], "c": ["b"]}
    assert causes(graph, "b") == {"n": []}
