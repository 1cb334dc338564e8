"""What `do` accepts, and what it refuses."""

import pyro.distributions as dist
import pytest
import torch

import causalcf as cf
from causalcf import do, resample, scale, shift
from causalcf import mechanisms as M

N = 400


@pytest.fixture(scope="module")
def scm():
    graph = cf.CausalGraph(
        "a -> b; k -> b; b -> c; s -> c",
        a=cf.Continuous(),
        b=cf.Continuous(),
        c=cf.Continuous(lower=0.0),
        k=cf.Categorical(3),
        s=cf.Binary(),
    )
    known = {
        "a": M.Gaussian(weights={}),
        "b": M.Functional(lambda u, pa: pa["a"] + pa["k"] + u, lambda x, pa: x - pa["a"] - pa["k"]),
        "c": M.Functional(lambda u, pa: (pa["b"] / 9 + u).exp(), lambda x, pa: x.log() - pa["b"] / 9),
        "k": M.Categorical(probabilities=[0.2, 0.3, 0.5]),
        "s": M.Binary(probabilities=[0.5, 0.5]),
    }
    return cf.SCM(graph, known).double()


@pytest.fixture(scope="module")
def world(scm):
    return scm.observe(scm.sample(N, seed=1))


def test_numbers_and_tensors(world):
    assert (world.do(a=2)["a"] == 2).all()
    assert (world.do(k=2)["k"] == 2).all()
    assert (world.do(s=True)["s"] == 1).all()
    per_row = torch.linspace(0, 1, N, dtype=torch.float64)
    assert torch.equal(world.do(a=per_row)["a"], per_row)
    assert world.do(a=torch.tensor(1.5))["a"].dtype == torch.float64


def test_numbers_of_the_wrong_kind_are_refused(world):
    with pytest.raises(ValueError, match=r"k: do\(\) expected an integer.*got 1.5"):
        world.do(k=1.5)["k"]
    with pytest.raises(ValueError, match=r"k: expected.*got 3"):
        world.do(k=3)["k"]
    with pytest.raises(ValueError, match=r"c: expected values >= 0.*got -1"):
        world.do(c=-1.0)["c"]
    with pytest.raises(ValueError, match=r"a: .*finite"):
        world.do(a=float("nan"))
    with pytest.raises(ValueError, match=r"a: .*3 values for 400 rows"):
        world.do(a=torch.zeros(3))["a"]
    with pytest.raises(TypeError, match=r"a: do.. expected a number, as the variable is Continuous"):
        world.do(a="high")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("c", -1.0, r"c: expected values >= 0.*got -1"),
        ("c", torch.tensor(-1.0), r"c: expected values >= 0.*got -1"),
        ("c", torch.linspace(1, -1, N), r"c: expected values >= 0"),
        ("k", 3, r"k: expected.*got 3"),
        ("k", 1.5, r"k: do\(\) expected an integer.*got 1.5"),
        ("a", torch.zeros(N, 2), r"a: do\(\) expected a tensor of shape"),
    ],
)
def test_a_value_that_no_world_can_have_is_refused_where_it_is_asked_for(scm, world, name, value, message):
    for asked in (scm.do, world.do):
        with pytest.raises(ValueError, match=message):
            asked(**{name: value})
    with pytest.raises(ValueError, match=message):  # the first step would have to be abducted again
        cf.sequence(scm, world.values(), [do(a=1.0), do(**{name: value})], reabduct=True)
    with pytest.raises(ValueError, match=r"a: do\(\) got a list of numbers.*write a=torch.tensor"):
        do(a=[3.0, 4.0, 5.0])


def test_doing_nothing_is_refused(world):
    with pytest.raises(ValueError, match="intervenes on nothing"):
        do()
    with pytest.raises(ValueError, match="intervenes on nothing"):
        world.do()
    with pytest.raises(ValueError, match="empty list"):
        do(a=[])


def test_a_mapping_is_not_taken_for_interventions(scm, world):
    for ask in (world.do, scm.do, lambda action: scm.counterfactual(world.values(), action)):
        with pytest.raises(TypeError, match=r"do\(\) expected what do\(...\) returns.*got dict; write .*do\(\*\*"):
            ask({"a": 1.0})
    assert repr(world.do(do(a=1.0), k=2).actions) == repr(scm.do(do(a=1.0), k=2).actions) == "do(a = 1, k = 2)"


def test_unknown_names_are_refused_with_a_suggestion(world):
    with pytest.raises(ValueError, match="unknown variable 'aa'"):
        world.do(aa=1.0)


def test_shift_and_scale_need_a_number_to_move(world):
    with pytest.raises(TypeError, match=r"k: shift.*Continuous"):
        world.do(k=shift(1))["k"]
    with pytest.raises(ValueError, match=r"scale\(-1\) leaves the support.*clamp=True"):
        world.do(c=scale(-1))["c"]
    assert (world.do(c=scale(-1, clamp=True))["c"] == 0).all()


@pytest.mark.parametrize(("move", "expected"), [(shift, 3.0), (scale, 2.0)])
def test_moving_by_other_floats_keeps_the_dtype_of_the_world(move, expected):
    graph = cf.CausalGraph("a -> x", a=cf.Continuous(), x=cf.Image(1, 4, 4))
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "x": M.VAE(latent=1, widths=(8,))})
    world = scm.observe({"a": torch.ones(3), "x": torch.rand(3, 1, 4, 4)})
    moved = world.do(a=move(torch.full((3,), 2.0, dtype=torch.float64)), x=torch.rand(3, 1, 4, 4, dtype=torch.float64))
    assert moved["a"].dtype == moved["x"].dtype == torch.float32
    assert moved["a"].tolist() == [expected] * 3
    for by in (torch.ones(2), torch.ones(3, 1), torch.ones(1)):
        with pytest.raises(ValueError, match=r"a: .*\(given rows\) got shape .* for 3 rows; give one number for all"):
            world.do(a=move(by, clamp=True))["a"]


def test_a_policy_sees_its_parents_only(world):
    assert torch.equal(world.do(b=lambda pa: pa["a"] * 2)["b"], world["a"] * 2)
    assert torch.equal(world.do(b=lambda pa: (pa["a"] > 0) * 3)["b"], (world["a"] > 0) * 3.0)
    with pytest.raises(ValueError, match=r"b: the policy asked for 'c'.*parents are a, k"):
        world.do(b=lambda pa: pa["c"])["b"]


def test_distributions_are_drawn_per_unit(scm, world):
    drawn = world.do(a=dist.Normal(3.0, 0.5))["a"]
    assert abs(drawn.mean() - 3) < 0.1
    assert abs(drawn.std() - 0.5) < 0.1
    gamma = world.do(a=dist.Gamma(4.0, 2.0))["a"]
    assert abs(gamma.mean() - 2) < 0.2
    share = world.do(k=dist.Categorical(torch.tensor([0.0, 0.0, 1.0])))["k"]
    assert (share == 2).all()
    assert 0.4 < world.do(s=dist.Bernoulli(0.5))["s"].double().mean() < 0.6
    part = scm.observe({name: value[10:13] for name, value in world.values().items()})
    assert torch.equal(part.do(a=dist.Normal(3.0, 0.5))["a"], drawn[10:13])
    assert torch.equal(part.do(a=dist.Gamma(4.0, 2.0))["a"], gamma[10:13])


def test_resampling_takes_values_from_the_list(world):
    values = torch.tensor([1.0, 2.0, 4.0], dtype=torch.float64)
    assert set(world.do(a=resample(values))["a"].tolist()) == {1.0, 2.0, 4.0}


@pytest.mark.parametrize("values", [[1.0, 2.0], torch.zeros(0), torch.tensor(1.0)])
def test_resampling_from_nothing_is_refused(values):
    with pytest.raises(ValueError, match=r"resample: expected a tensor of one or more values, .*; write torch.tensor"):
        resample(values)


def test_classes_are_not_cut_from_a_continuous_draw(world):
    with pytest.raises(ValueError, match=r"k: do\(\) expected a distribution of integers, because .* got Normal"):
        world.do(k=dist.Normal(1.5, 0.1))["k"]
    assert set(world.do(k=dist.Binomial(2, 0.5))["k"].tolist()) == {0, 1, 2}


def test_a_mechanism_can_be_replaced(scm, world):
    other = M.Gaussian(weights={}, bias=10.0, scale=0.1).build(cf.Continuous(), {}).double()
    drawn = world.do(a=other)["a"]
    assert abs(drawn.mean() - 10) < 0.05
    assert abs(drawn.std() - 0.1) < 0.02
    assert torch.corrcoef(torch.stack([drawn, world["a"]]))[0, 1].abs() < 0.2
    assert torch.equal(scm.do(a=other).sample(5)["a"], scm.do(a=other).sample(3 + 2)["a"])
    with pytest.raises(ValueError, match="c: the replacing mechanism models"):
        world.do(c=other)
    for unfitted in (M.Flow(), M.Flow().build(cf.Continuous(), {})):
        with pytest.raises(RuntimeError, match="a: the replacing Flow is not fitted; take a fitted mechanism"):
            world.do(a=unfitted)
    with pytest.raises(RuntimeError, match="not fitted"):
        scm.do(a=M.Flow())


def test_interventions_print(world):
    assert repr(do(a=shift(1.5), k=2)) == "do(a += 1.5, k = 2)"
    assert repr(do(a=[shift(1), scale(2)])) == "do(a += 1, a *= 2)"
    assert "a = 1" in repr(world.do(a=1))


def test_another_world_is_one_of_the_same_units(scm, world):
    rows = {**world.values(), "id": torch.arange(len(world))}
    whole = scm.observe(rows)
    other = whole.do(a=2.0)
    first, last = ({name: values[part] for name, values in rows.items()} for part in (slice(0, 5), slice(5, 10)))
    with pytest.raises(ValueError, match="a: the other world is one of other units"):
        scm.observe(last).do(a=scm.observe(first).do(a=2.0))["a"]
    part = do(b=other).at(slice(5, 10), len(world))
    assert torch.equal(scm.observe(last).do(part)["b"], other["b"][5:10])


def test_interventions_are_sliced_with_their_rows():
    action = do(a=torch.arange(6.0), b=shift(torch.arange(6.0)), c=2.0)
    part = action.at(slice(2, 4), 6)
    assert part["a"][0].value.tolist() == [2, 3]
    assert part["b"][0].by.tolist() == [2, 3]
    assert part["c"] == action["c"]
    image = torch.rand(3, 8, 8)
    assert do(x=image).at(slice(0, 2), 3)["x"][0].value is image  # one for all rows, whose channels are as many
    assert do(x=torch.rand(3, 1, 8, 8)).at(slice(0, 2), 3)["x"][0].value.shape == (2, 1, 8, 8)


def test_classes_are_set_by_name():
    shape = cf.Categorical(names=("none", "circle", "triangle"))
    graph = cf.CausalGraph("marker -> a", marker=shape, a=cf.Continuous())
    area = M.Functional(lambda u, pa: 10.0 * pa["marker"] + u, lambda x, pa: x - 10.0 * pa["marker"])
    scm = cf.SCM(graph, {"marker": M.Categorical(probabilities=[0.2, 0.3, 0.5]), "a": area})
    world = scm.observe({"marker": torch.tensor([0, 2]), "a": torch.tensor([1.0, 22.0])})
    circle = world.do(marker="circle")
    assert repr(circle.actions) == "do(marker = circle)"
    assert (circle["marker"].tolist(), circle["a"].tolist()) == ([1, 1], [11.0, 12.0])
    part = do(marker="circle").at(slice(0, 1), 2)
    assert scm.counterfactual({"marker": torch.tensor([0]), "a": torch.tensor([1.0])}, part)["a"].tolist() == [11.0]
    for ask in (scm.do, world.do, lambda action: cf.sequence(scm, {}, [action])):
        with pytest.raises(ValueError, match=r"marker: expected one of none, circle, triangle, got 'square'; correct"):
            ask(do(marker="square"))
        with pytest.raises(TypeError, match=r"a: do.. expected a number"):
            ask(do(a="high"))
    with pytest.raises(ValueError, match=r"a list of names.*graph\['marker'\]\.encode"):
        do(marker=["none", "circle"])
