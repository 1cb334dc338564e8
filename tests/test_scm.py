"""The model as a whole: what it refuses, how it samples, and what it says of itself."""

from itertools import pairwise

import pytest
import torch

import causalcf as cf
from causalcf import do
from causalcf import mechanisms as M


def tiny(fitted=True):
    """Every type of variable; the image by an untrained diffusion model."""
    graph = cf.CausalGraph(
        "t -> i; k -> s; t -> x; i -> x; s -> x; k -> x",
        t=cf.Continuous(lower=0.0, unit="px"),
        i=cf.Continuous(lower=0.0, upper=10.0),
        s=cf.Continuous(),
        k=cf.Categorical(3),
        x=cf.Image(1, 8, 8),
    )
    with torch.random.fork_rng():
        torch.manual_seed(0)
        scm = cf.SCM(
            graph,
            {"x": M.SpatialDiffusion(widths=(8, 8), steps=12, passes=40, tolerance=1e-7), "s": M.Gaussian(hidden=(8,))},
        )
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = fitted
    return scm


@pytest.fixture(scope="module")
def scm():
    return tiny()


@pytest.fixture(scope="module")
def rows(scm):
    return scm.sample(6, seed=0)


# ---- bad input


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"t": None}, "missing evidence: t"),
        ({"t": torch.full((6,), float("nan"))}, "t: .*row 0"),
        ({"t": -torch.ones(6)}, "t: expected values >= 0.0 px, got -1"),
        ({"t": torch.ones(5)}, "same number of rows"),
        ({"t": torch.ones(6, 2)}, r"t: expected shape \(B,\), got \(6, 2\)"),
        ({"k": torch.full((6,), 7)}, "k: .*got 7"),
        ({"x": torch.rand(6, 8, 8)}, r"x: expected shape.*unsqueeze\(1\)"),
        ({"x": torch.rand(6, 1, 8, 8) * 255}, "x: .*255"),
        ({"unknown": torch.ones(6)}, "unknown variable 'unknown'"),
    ],
)
def test_bad_evidence_is_refused_where_it_enters(scm, rows, change, message):
    bad = {name: value for name, value in {**rows, **change}.items() if value is not None}
    with pytest.raises(ValueError, match=message):
        scm.observe(bad)


@pytest.mark.parametrize(
    "change", [{"k": torch.ones(6)}, {"x": torch.ones(6, 1, 8, 8, dtype=torch.uint8)}, {"t": [1.0] * 6}]
)
def test_wrong_dtypes_are_refused(scm, rows, change):
    with pytest.raises(TypeError, match=f"{next(iter(change))}: expected"):
        scm.observe({**rows, **change})


def test_an_unfitted_mechanism_says_so():
    scm = tiny(fitted=False)
    with pytest.raises(RuntimeError, match=r"t: its Flow is not fitted yet; call scm.fit\(train\)"):
        scm.sample(2)


def test_a_mechanism_for_another_type_is_refused():
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Binary())
    with pytest.raises(TypeError, match="b: Flow models a Continuous variable"):
        cf.SCM(graph, {"b": M.Flow()})
    with pytest.raises(ValueError, match="a: Gaussian has no bounds"):
        cf.SCM(cf.CausalGraph("a -> b", a=cf.Continuous(lower=0.0), b=cf.Binary()), {"a": M.Gaussian()})
    with pytest.raises(ValueError, match="unknown variable 'c'"):
        cf.SCM(graph, {"c": M.Flow()})
    with pytest.raises(TypeError, match="a: expected a mechanism"):
        cf.SCM(graph, {"a": "flow"})


def test_one_mechanism_for_two_nodes_is_refused():
    shared = M.Gaussian(weights={})
    with pytest.raises(ValueError, match="b: Gaussian: this mechanism is built already"):
        cf.SCM(cf.CausalGraph("", variables={"a": cf.Continuous(), "b": cf.Continuous()}), {"a": shared, "b": shared})


def test_an_image_that_the_network_cannot_halve_is_refused():
    with pytest.raises(ValueError, match=r"x: UNet: .*9x9"):
        cf.SCM(cf.CausalGraph("", variables={"x": cf.Image(1, 9, 9)}))


def test_guidance_without_a_null_token_is_refused():
    with pytest.raises(ValueError, match="null_probability=0 never trains it"):
        M.SpatialDiffusion(omega=2.0, null_probability=0.0)


def test_evidence_belongs_to_the_original_model(scm, rows):
    with pytest.raises(ValueError, match="observe with the original model"):
        scm.do(t=1.0).observe(rows)


def test_a_density_that_is_not_there_is_refused(scm, rows):
    with pytest.raises(ValueError, match="x: SpatialDiffusion has no density"):
        scm.log_prob(rows, on=["x"])
    assert set(scm.log_prob(rows)) == {"t", "i", "s", "k"}
    with pytest.raises(ValueError, match="missing evidence: k, s, t, i; every row needs a value for k, s, t, i"):
        scm.log_prob({"x": rows["x"]}, on=["s", "i"])


def test_effects_on_what_is_not_reached_or_has_no_difference(scm, rows):
    world = scm.observe(rows)
    with pytest.raises(ValueError, match="s is no effect of t"):
        cf.decompose(world, do(t=1.0), on="s")
    graph = cf.CausalGraph("a -> k", a=cf.Continuous(), k=cf.Categorical(2))
    other = cf.SCM(graph, {"a": M.Gaussian(weights={}), "k": M.Categorical(probabilities=[0.5, 0.5])})
    with pytest.raises(TypeError, match="no difference"):
        cf.decompose(other.observe(other.sample(3)), do(a=1.0), on="k")


# ---- units, batches, images


def test_a_row_keeps_its_counterfactual_in_any_batch_order_and_position():
    scm = tiny().double()
    rows = scm.sample(6, seed=0)
    whole = scm.observe(rows, seed=2).do(t=2.0, k=1)
    order = torch.tensor([4, 1])
    part = scm.observe({name: value[order] for name, value in rows.items()}, seed=2).do(t=2.0, k=1)
    for name in scm.graph:
        torch.testing.assert_close(part[name], whole[name][order], atol=1e-5, rtol=0)


def test_of_a_sample_only_what_is_asked_for_is_drawn():
    scm = tiny()
    whole = scm.do(t=1.0).sample(3, seed=3)
    scm.mechanisms["x"].fitted = scm.mechanisms["k"].fitted = False
    found = scm.do(t=1.0).sample(3, seed=3, only=["i"])
    assert set(found) == {"i", "id"}
    assert torch.equal(found["i"], whole["i"])
    assert torch.equal(found["id"], whole["id"])
    with pytest.raises(RuntimeError, match="k: its Categorical is not fitted yet"):
        scm.do(t=1.0).sample(3, only=["i", "s"])


def test_samples_are_the_same_rows_whatever_their_number():
    scm = tiny().double()
    few, many = scm.sample(2, seed=1), scm.sample(4, seed=1)
    assert torch.equal(few["k"], many["k"][:2])
    torch.testing.assert_close(few["x"], many["x"][:2], atol=1e-5, rtol=0)
    assert not torch.equal(scm.sample(2, seed=2)["t"], few["t"])


def test_images_are_decomposed_too(scm, rows):
    effects = cf.decompose(scm.observe(rows), do(t=3.0), on="x")
    assert effects.mediators == ("i",)
    torch.testing.assert_close(effects.total, effects.direct + effects.reverse_indirect, atol=1e-6, rtol=0)
    assert effects.total.shape == rows["x"].shape


def test_a_mediator_that_does_not_move_carries_nothing():
    """Also where the mechanism heeds which parents were intervened on."""
    graph = cf.CausalGraph("a -> b; a -> x; b -> x", a=cf.Continuous(), b=cf.Continuous(), x=cf.Image(1, 8, 8))
    small = {"widths": (8, 8), "projector": (8, 8), "steps": 6, "replay": True, "solver": "2m", "size": 0.02}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        image = M.NSCMDiffusion(**small)
        scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 0.0}), "x": image})
        for parameter in image.parameters():
            parameter.data += 0.05 * torch.randn(parameter.shape)
        image.fitted = True
        rows = {"a": torch.randn(4), "b": torch.randn(4), "x": torch.rand(4, 1, 8, 8)}
    effects = cf.decompose(scm.observe(rows), do(a=cf.shift(1.0)), on="x")
    assert effects.direct.abs().max() > 0.01
    assert torch.equal(effects.total, effects.direct)
    assert not effects.indirect.any() and not effects.reverse_indirect.any()


def test_one_call_does_all_three_steps(scm, rows):
    found = scm.counterfactual(rows, do(t=2.0))
    world = scm.observe(rows).do(t=2.0)
    assert torch.equal(found["x"], world["x"])
    assert set(found) == {*scm.graph, "id"}


def test_a_variable_may_have_the_name_of_an_argument():
    names = ("self", "action", "rows", "name", "folder", "mechanisms", "graph", "variables", "edges")
    graph = cf.CausalGraph([("self", "action")], dict.fromkeys(names, cf.Continuous()))
    known = {name: M.Gaussian(weights=dict.fromkeys(graph.parents(name), 2.0)) for name in names}
    scm = cf.SCM(graph, known).using(**{"self": M.Gaussian(weights={}, bias=1.0).build(cf.Continuous(), {})})
    world = scm.observe(scm.sample(2)).do(**{"self": 1.0, "name": 0.0})
    assert world["action"].tolist() == (2.0 + world.noise["action"]["u"]).tolist()


def test_long_chains_and_many_interventions_are_answered():
    names = [f"n{place}" for place in range(1100)]
    graph = cf.CausalGraph(pairwise(names), dict.fromkeys(names, cf.Continuous()))
    known = {name: M.Gaussian(weights=dict.fromkeys(graph.parents(name), 1.0)) for name in graph}
    world = cf.SCM(graph, known).observe({name: torch.zeros(2) for name in graph})
    assert world.do(n0=2.0)["n1099"].tolist() == [2.0, 2.0]
    for _ in range(1100):
        world = world.do(n1098=1.0)
    assert world["n0"].tolist() == [0.0, 0.0]
    assert world["n1099"].tolist() == [1.0, 1.0]


@pytest.mark.parametrize(
    ("name", "equation", "came"),
    [
        ("b", lambda u, pa: pa["a"][:, None] + u, r"floats of shape \(3,\), got torch.float32 of shape \(3, 3\)"),
        ("b", lambda u, pa: (pa["a"] + u).mean(), r"floats of shape \(3,\), got torch.float32 of shape \(\)"),
        ("k", lambda u, pa: (pa["a"] > u).float(), r"torch.int64 of shape \(3,\), got torch.float32 of shape \(3,\)"),
    ],
)
def test_an_equation_that_broadcasts_or_makes_no_classes_is_refused(name, equation, came):
    graph = cf.CausalGraph("a -> b; a -> k", a=cf.Continuous(), b=cf.Continuous(), k=cf.Binary())
    wrong = {name: M.Functional(equation, lambda x, pa: x - pa["a"])}
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), **wrong})
    rows = {"a": torch.randn(3), "b": torch.randn(3), "k": torch.tensor([0, 1, 1])}
    with pytest.raises(ValueError, match=f"{name}: expected its mechanism to predict {came}"):
        scm.observe(rows).do(a=1.0)[name]


def test_a_prediction_that_is_not_finite_is_refused_with_its_row():
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    wild = M.Functional(lambda u, pa: (100 * pa["a"]).exp() + u, lambda x, pa: x - (100 * pa["a"]).exp())
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": wild})
    world = scm.observe({"a": torch.zeros(3), "b": torch.ones(3)})
    with pytest.raises(FloatingPointError, match="b: the predicted value of row 1 is not finite"):
        world.do(a=torch.tensor([0.0, 5.0, 5.0]))["b"]


def test_what_a_mechanism_says_is_not_finite_is_told_of_its_variable_once():
    def refused(message, out):
        def equation(value, pa):
            if out:
                raise FloatingPointError(message)
            return value

        return equation

    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    rows = {"a": torch.zeros(3), "b": torch.ones(3)}
    for message in ("step 2 is not finite", "b: step 2 is not finite"):
        for fails in ("predict", "abduct"):
            mechanism = M.Functional(refused(message, fails == "predict"), refused(message, fails == "abduct"))
            world = cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": mechanism}).observe(rows)
            with pytest.raises(FloatingPointError, match=r"^b: step 2 is not finite$"):
                world.do(a=1.0)["b"]


def test_how_many_rows_and_which_variables_are_checked(scm):
    for rows in (2.5, -1, 0):
        with pytest.raises(ValueError, match="sample: expected a whole number rows >= 1"):
            scm.sample(rows)
    assert set(scm.sample(2, only="t")) == {"t", "id"}
    with pytest.raises(ValueError, match="unknown variable 'tt'"):
        scm.sample(2, only="tt")


def test_half_precision_has_no_noise_to_abduct(rows):
    with pytest.raises(TypeError, match=r"the model computes in torch.float16.*write scm.float\(\)"):
        tiny().half().observe(rows)


def test_an_unknown_entry_of_a_recipe_is_named():
    with pytest.raises(TypeError, match="Recipe: it has no 'lr'; it has steps, batch, learning_rate"):
        M.VAE(recipe={"lr": 5})


def test_the_table_names_every_node(scm):
    table = scm.check()
    assert "SpatialDiffusion" in table
    assert len(table.splitlines()) == 1 + len(scm.graph)
    assert repr(scm) == "SCM(\n" + "\n".join(f"    {line}" for line in table.splitlines()) + "\n)"
