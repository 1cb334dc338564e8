"""Counterfactuals, effects and densities against closed forms, on random linear-Gaussian models and on known curves."""

import hypothesis.strategies as st
import torch
from hypothesis import given, settings

import causalcf as cf
from causalcf import decompose, do
from causalcf import mechanisms as M


@st.composite
def random_models(draw):
    """A linear-Gaussian model on a random DAG, with its matrix, biases and scales, nodes in a random naming."""
    count = draw(st.integers(2, 7))
    weight = st.floats(-2, 2, allow_nan=False).map(lambda w: round(w, 3))
    names = draw(st.permutations([f"x{i}" for i in range(count)]))
    edges = [(i, j) for j in range(count) for i in range(j) if draw(st.booleans())]
    matrix = torch.zeros(count, count, dtype=torch.float64)
    for i, j in edges:
        matrix[j, i] = draw(weight)
    bias = torch.tensor([draw(weight) for _ in range(count)], dtype=torch.float64)
    scales = torch.tensor([draw(st.floats(0.1, 3)) for _ in range(count)], dtype=torch.float64)
    graph = cf.CausalGraph([(names[i], names[j]) for i, j in edges], **{name: cf.Continuous() for name in names})
    mechanisms = {
        names[j]: M.Gaussian(
            weights={names[i]: float(matrix[j, i]) for i in range(count) if (i, j) in edges},
            bias=float(bias[j]),
            scale=float(scales[j]),
        )
        for j in range(count)
    }
    scm = cf.SCM(graph, mechanisms).double()
    for j, name in enumerate(names):  # options pass through float32 buffers; the reference must use the same numbers
        for i, parent in enumerate(names):
            if parent in graph.parents(name):
                matrix[j, i] = scm.mechanisms[name].weight[graph.parents(name).index(parent)]
        bias[j], scales[j] = scm.mechanisms[name].location, scm.mechanisms[name].spread
    targets = draw(st.sets(st.integers(0, count - 1), min_size=1, max_size=count))
    return scm, names, matrix, bias, {t: draw(weight) for t in targets}


@given(random_models())
@settings(max_examples=60, deadline=None)
def test_linear_counterfactuals_solve_the_mutilated_system(model):
    scm, names, matrix, bias, targets = model
    rows = scm.sample(5, seed=1)
    values = torch.stack([rows[name] for name in names], 1)
    noise = values @ (torch.eye(len(names)).double() - matrix).T - bias  # s u
    cut, pushed = matrix.clone(), noise + bias
    for target, value in targets.items():
        cut[target] = 0
        pushed[:, target] = value
    expected = pushed @ torch.linalg.inv(torch.eye(len(names)).double() - cut).T
    world = scm.observe(rows).do(**{names[target]: value for target, value in targets.items()})
    found = torch.stack([world[name] for name in names], 1)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


@given(random_models())
@settings(max_examples=40, deadline=None)
def test_linear_effects_are_sums_over_paths(model):
    scm, names, matrix, _, _ = model
    world = scm.observe(scm.sample(3, seed=1))
    total = torch.linalg.inv(torch.eye(len(names)).double() - matrix)
    for i, cause in enumerate(names):
        for j, outcome in enumerate(names):
            if outcome in scm.graph.descendants(cause):
                effects = decompose(world, do(**{cause: cf.shift(1.0)}), on=outcome)
                torch.testing.assert_close(effects.total, total[j, i].expand(3), atol=1e-6, rtol=1e-6)
                torch.testing.assert_close(effects.direct, matrix[j, i].expand(3), atol=1e-6, rtol=1e-6)
                torch.testing.assert_close(effects.interaction, torch.zeros(3).double(), atol=1e-6, rtol=0)


def test_interaction_of_a_product_is_the_product_of_the_changes():
    """`m = 2 a + u_m`, `y = a m + u_y`: total, direct, indirect and interaction in closed form."""
    graph = cf.CausalGraph("a -> m; a -> y; m -> y", a=cf.Continuous(), m=cf.Continuous(), y=cf.Continuous())
    product = M.Functional(lambda u, pa: pa["a"] * pa["m"] + u, lambda x, pa: x - pa["a"] * pa["m"])
    known = {"a": M.Gaussian(weights={}), "m": M.Gaussian(weights={"a": 2.0}), "y": product}
    scm = cf.SCM(graph, known).double()
    rows = scm.sample(20, seed=0)
    a, m, h = rows["a"], rows["m"], 0.7
    effects = decompose(scm.observe(rows), do(a=cf.shift(h)), on="y")
    for found, expected in [
        (effects.direct, h * m),
        (effects.indirect, a * 2 * h),
        (effects.interaction, torch.full_like(a, 2 * h * h)),
        (effects.total, (a + h) * (m + 2 * h) - a * m),
    ]:
        torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6)


def test_post_nonlinear_counterfactual_in_closed_form():
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous(lower=0.0))
    curve = M.Functional(lambda u, pa: (pa["a"] / 2 + u).exp(), lambda x, pa: x.log() - pa["a"] / 2)
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": curve}).double()
    rows = scm.sample(50, seed=0)
    found = scm.observe(rows).do(a=1.25)["b"]
    torch.testing.assert_close(found, rows["b"] * ((1.25 - rows["a"]) / 2).exp(), atol=1e-6, rtol=1e-6)


def test_log_prob_of_a_linear_model_is_that_of_its_joint_normal():
    graph = cf.CausalGraph("a -> b; a -> c; b -> c", a=cf.Continuous(), b=cf.Continuous(), c=cf.Continuous())
    known = {
        "a": M.Gaussian(weights={}, bias=0.5),
        "b": M.Gaussian(weights={"a": 2.0}, scale=0.5),
        "c": M.Gaussian(weights={"a": -1.0, "b": 0.75}, scale=2.0),
    }
    scm = cf.SCM(graph, known).double()
    rows = scm.sample(30, seed=0)
    matrix = torch.tensor([[0, 0, 0], [2.0, 0, 0], [-1.0, 0.75, 0]]).double()
    spread = torch.linalg.inv(torch.eye(3).double() - matrix) @ torch.diag(torch.tensor([1.0, 0.5, 2.0]).double())
    mean = torch.linalg.inv(torch.eye(3).double() - matrix) @ torch.tensor([0.5, 0, 0]).double()
    joint = torch.distributions.MultivariateNormal(mean, spread @ spread.T)
    total = sum(scm.log_prob(rows).values())
    expected = joint.log_prob(torch.stack([rows[name] for name in "abc"], 1))
    torch.testing.assert_close(total, expected, atol=1e-6, rtol=1e-6)
