"""Guidance by causal representations: which factors are read, which are led through their equations."""

import math

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.gradient import Balanced, Towards
from causalcf.diffusion.schedule import Schedule
from causalcf.mechanisms.led import SETTLING
from causalcf.networks.projector import Equations
from causalcf.training.discovery import hamming
from causalcf.units import Units

N = 5
PARENTS = {name: cf.Continuous() for name in ("a", "b", "c")}
UNITS = Units(torch.arange(N))
STRUCTURE = {"c": ["a", "b"]}


def built(**options):
    torch.manual_seed(0)
    options = {"structure": STRUCTURE, "widths": (8, 8), "projector": (8, 8), "steps": 6, "solver": "2m", **options}
    made = M.NSCMDiffusion(**options).build(cf.Image(1, 8, 8), PARENTS).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    image = 0.1 + 0.8 * torch.rand(N, 1, 8, 8, generator=generator, dtype=torch.float64)
    return image, {name: torch.randn(N, generator=generator, dtype=torch.float64) for name in PARENTS}


def test_abduction_reads_no_parents(rows):
    image, parents = rows
    mechanism = built()
    first = mechanism.abduct(image, parents, UNITS, "x")
    second = mechanism.abduct(image, {name: value + 1 for name, value in parents.items()}, UNITS, "x")
    assert torch.equal(first["u"], second["u"])
    torch.testing.assert_close(first["f"], torch.stack(list(parents.values()), 1))


def test_replay_makes_the_null_intervention_exact_and_others_move(rows):
    image, parents = rows
    mechanism = built(replay=True)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    torch.testing.assert_close(mechanism.predict(noise, parents), image, atol=1e-7, rtol=0)
    moved = mechanism.predict(noise, {**parents, "a": parents["a"] + 1})
    assert (moved - image).abs().mean() > 1e-3


def test_without_size_prediction_is_that_of_the_generator(rows):
    image, parents = rows
    free, pulled = built(size=0.0), built()
    noise = free.abduct(image, parents, UNITS, "x")
    other = {**parents, "a": parents["a"] + 1}
    assert torch.equal(free.predict(noise, parents), free.predict(noise, other))
    assert not torch.equal(pulled.predict(noise, parents), pulled.predict(noise, other))


def test_an_intervention_within_the_noise_of_an_equation_is_seen(rows):
    image, parents = rows
    mechanism = built()
    with torch.no_grad():
        mechanism.equations.last += 0.5
        mechanism.equations.log_spread.fill_(0.0)  # noise as wide as the factors
    noise = mechanism.abduct(image, parents, UNITS, "x")
    shifts = torch.tensor([0.0, 0.5, -0.5, 0.0, 0.02], dtype=torch.float64)
    assert mechanism.caused(noise, {**parents, "c": parents["c"] + shifts})[:, 2].tolist() == [
        True,
        False,
        False,
        True,
        False,
    ]
    moved = noise["f"] + torch.tensor([1.0, 0.0, 0.0])
    natural = (mechanism.equations(moved) + noise["f"] - mechanism.equations(noise["f"]))[:, 2].detach()
    found = mechanism.caused(noise, {"a": moved[:, 0], "b": moved[:, 1], "c": natural + shifts})
    assert found.tolist() == [[False, False, natural_] for natural_ in (True, False, False, True, True)]


def test_known_interventions_are_not_guessed(rows):
    image, parents = rows
    mechanism = built()
    with torch.no_grad():
        mechanism.equations.last += 0.5
    noise = mechanism.abduct(image, parents, UNITS, "x")
    far, near = {**parents, "c": parents["c"] + 3}, {**parents, "c": parents["c"] + 1e-5}
    assert not mechanism.caused(noise, far).any()
    assert mechanism.caused(noise, near)[:, 2].all()
    left, done = mechanism.act(noise, ["a"]), mechanism.act(noise, ["c"])
    x, timestep = torch.randn(N, 1, 8, 8, dtype=torch.float64), torch.full((N,), 300)
    read = mechanism.projector(x, timestep)
    for other in (far, near):
        assert mechanism.caused(left, other).tolist() == [[False, False, True]] * N
        assert not mechanism.caused(done, other).any()
        through, direct = (mechanism._guidance(known, other).parts[1].reads(x, timestep) for known in (left, done))
        own = noise["f"] - mechanism.equations(noise["f"])
        torch.testing.assert_close(through[:, 2], (mechanism.equations(read) + own)[:, 2])
        assert torch.equal(direct, read)
    assert not mechanism.but(direct=True).caused(left, far).any()


@pytest.fixture
def asked(monkeypatch):
    """A model whose flows are not its equations, and which of its factors each prediction leads through these."""
    torch.manual_seed(0)
    numbers = {name: cf.Continuous() for name in "abmc"}
    graph = cf.CausalGraph("a -> m -> c; b -> c; a, b, c -> image", **numbers, image=cf.Image(1, 8, 8))
    known = {name: M.Gaussian(weights={cause: 1.0 for cause in graph.parents(name)}) for name in numbers}
    scm = cf.SCM(graph, {**known, "image": M.NSCMDiffusion(widths=(8, 8), projector=(8, 8), steps=2)})
    scm.mechanisms["image"].fitted = True
    image, found = scm.mechanism("image"), []

    def predict(noise, parents):
        found.append(image.caused(noise, parents).tolist())
        return torch.zeros(len(noise["u"]), 1, 8, 8)

    monkeypatch.setattr(image, "predict", predict)
    return scm, found


READ, LED = [[False, False, False]], [[False, False, True]]
ONE, OTHER = cf.do(c=1.0), cf.do(a=lambda pa: torch.zeros(N))


@pytest.mark.parametrize(
    ("plan", "again", "expected"),
    [
        ([OTHER], False, [LED]),
        ([ONE], False, [READ]),
        ([cf.do(c=cf.shift(0.0))], False, [READ]),
        ([cf.do(c=lambda pa: pa["m"] + pa["b"])], False, [READ]),
        ([cf.do(m=1.0)], False, [READ]),  # by way of it the others cause c
        ([ONE, OTHER], False, [READ, READ]),
        ([OTHER, ONE], False, [LED, READ]),
        ([ONE, OTHER], True, [READ, LED]),
    ],
)
def test_a_world_knows_what_was_intervened_on(asked, plan, again, expected, rows):
    scm, found = asked
    values = {"a": rows[1]["a"], "b": rows[1]["b"], "m": rows[1]["c"], "c": rows[1]["a"], "image": rows[0]}
    worlds = cf.sequence(scm, {name: value.float() for name, value in values.items()}, plan, reabduct=again)
    for world in worlds[1:]:
        world["image"]
    assert found == [rows_ * N for rows_ in expected]


def test_samples_know_what_was_intervened_on(asked):
    scm, found = asked
    for model in (scm, scm.do(a=1.0), scm.do(c=1.0)):
        model.sample(1)
        model.to_pyro()(1)
    assert found == [LED, LED, LED, LED, READ, READ]


@pytest.mark.parametrize("kept", [True, False])
def test_a_caused_factor_is_led_through_its_equation_unless_it_was_intervened_on(kept, rows):
    image, parents = rows
    mechanism = built()
    with torch.no_grad():
        mechanism.equations.last += 0.5
        mechanism.equations.log_spread.fill_(-3.0)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    factual = noise["f"]
    own = factual - mechanism.equations(factual)
    moved = factual + torch.tensor([1.0, 0.0, 0.0])
    natural = (mechanism.equations(moved) + own)[:, 2]
    other = {"a": moved[:, 0], "b": moved[:, 1], "c": natural if kept else natural + 5}
    pull = mechanism._guidance(noise, other).parts[1]
    assert isinstance(pull, Towards)
    assert isinstance(pull.scale, Balanced)
    x, timestep = torch.randn(N, 1, 8, 8, dtype=torch.float64), torch.full((N,), 300)
    z, read = mechanism.projector(x, timestep), pull.reads(x, timestep)
    assert torch.equal(read[:, :2], z[:, :2])
    expected = (mechanism.equations(z) + own)[:, 2] if kept else z[:, 2]
    torch.testing.assert_close(read[:, 2], expected)
    torch.testing.assert_close(pull.target, torch.stack(list(other.values()), 1))


def test_a_direct_leader_reads_every_factor(rows):
    image, parents = rows
    plain, mechanism = built(), built(direct=True)
    with torch.no_grad():
        for one in (plain, mechanism):
            one.equations.last += 0.5
            one.equations.log_spread.fill_(-3.0)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    assert plain.caused(noise, parents)[:, 2].all()
    assert not mechanism.caused(noise, parents).any()
    pull = mechanism._guidance(noise, {**parents, "a": parents["a"] + 1}).parts[1]
    x, timestep = torch.randn(N, 1, 8, 8, dtype=torch.float64), torch.full((N,), 300)
    assert torch.equal(pull.reads(x, timestep), mechanism.projector(x, timestep))
    assert mechanism.config()["direct"] is True
    assert "direct" not in plain.config()
    assert mechanism.but(direct=False).caused(noise, parents)[:, 2].all()
    with pytest.raises(ValueError, match="expected direct to be True or False, got 1"):
        M.NSCMDiffusion(direct=1)


def spatial(parents=PARENTS, image=None, **options):
    torch.manual_seed(5)
    options = {"widths": (8, 16), "schedule": "linear", "prediction": "v", "null_probability": 0.2, **options}
    made = M.SpatialDiffusion(**options).build(image or cf.Image(1, 8, 8), parents).double().eval()
    made.fitted = True
    for parameter in made.parameters():
        parameter.data += 0.03 * torch.randn_like(parameter)
    return made


def test_a_projector_leads_any_denoiser(rows):
    image, parents = rows
    leader, generator = built(), spatial()
    leader.fitted = True
    led = leader.leading(generator)
    assert led.widths == (8, 16)
    noise = led.abduct(image, parents, UNITS, "x")
    timestep, nothing = torch.full((N,), 500), generator.network.null.expand(N, -1)
    expected = generator.network(image, timestep, nothing)
    torch.testing.assert_close(led.network(image, timestep, led.network.null.expand(N, -1)), expected)
    torch.testing.assert_close(led.projector(image, timestep), leader.projector(image, timestep))
    moved = led.predict(noise, {**parents, "a": parents["a"] + 1})
    assert (moved - led.predict(noise, parents)).abs().mean() > 1e-3


@pytest.mark.parametrize(
    ("generator", "message"),
    [
        (lambda: spatial({"a": cf.Continuous(), "q": cf.Continuous()}), "reads a, b, c, and this .* listens to a, q"),
        (lambda: spatial(image=cf.Image(1, 16, 16)), r"reads images of shape \(1, 8, 8\), and .* draws \(1, 16, 16\)"),
        (lambda: spatial(schedule="cosine"), "knows the noise of schedule='linear', and .* 'cosine'"),
        (lambda: spatial(null_probability=0.0), "without parents and without a code"),
        (lambda: shifted(spatial()), "other means or spreads"),
    ],
)
def test_a_projector_of_other_factors_is_refused(generator, message):
    leader = built()
    with pytest.raises(ValueError, match="two fitted mechanisms"):
        leader.leading(spatial())
    leader.fitted = True
    with pytest.raises(ValueError, match=message):
        leader.leading(generator())


def test_a_projector_leads_a_generator_without_parents(rows):
    image, parents = rows
    leader, generator = built(), spatial({}, null_probability=0.0)
    leader.fitted = True
    led = leader.leading(generator)
    timestep, nothing = torch.full((N,), 500), torch.zeros(N, 0, dtype=torch.float64)
    expected = generator.network(image, timestep, nothing)
    torch.testing.assert_close(led.network(image, timestep, led.network.null.expand(N, -1)), expected)
    noise = led.abduct(image, parents, UNITS, "x")
    torch.testing.assert_close(noise["u"], generator.but(steps=6, solver="2m").abduct(image, {}, UNITS, "x")["u"])
    moved = led.predict(noise, {**parents, "a": parents["a"] + 1})
    assert (moved - led.predict(noise, parents)).abs().mean() > 1e-3
    again = led.but(size=0.5)
    assert torch.equal(again.network.embed[0].bias, generator.network.embed[0].bias)
    with pytest.raises(ValueError, match="trained without parents; lead it by='nscm'"):
        led.but(by="parents").predict(noise, parents)
    asked = leader.but(by="parents")
    with pytest.raises(ValueError, match="by='parents' asks the generator, and this SpatialDiffusion has no parents"):
        asked.leading(generator)


@pytest.mark.parametrize("other", [M.VAE(), "image", None])
def test_what_is_no_denoiser_cannot_be_led(other):
    leader = built()
    leader.fitted = True
    with pytest.raises(TypeError, match=r"leading: expected a diffusion mechanism, .* got (VAE|str|NoneType)"):
        leader.leading(other)


def test_pulls_cut_short_are_counted_and_said(rows, caplog):
    image, parents = rows
    noise = built().abduct(image, parents, UNITS, "x")
    other = {**parents, "a": parents["a"] + 1}
    gentle, wild = built(size=1e-6), built(scale="constant", size=1e6)
    gentle.predict(noise, other)
    assert (gentle.pulls.count, gentle.pulls.cut) == (N * 6, 0)
    assert 0 < gentle.pulls.longest < 1e-3
    assert gentle.pulls.vectors == N * 6 * (1 + len(PARENTS))
    assert not caplog.records
    wild.predict(noise, other)
    assert wild.pulls.cut > 0.9 * wild.pulls.count
    assert wild.pulls.longest > 100
    assert wild.pulls.vectors == N * 6
    assert "limit=3 cut" in caplog.text
    assert "lower size" in caplog.text
    caplog.clear()
    endless = built(scale="constant", size=1e6, limit=math.inf)
    endless.predict(noise, other)
    assert endless.pulls.cut == 0
    assert "limit=inf cut 0 % of the pulls short, where size=1e+06 asks for up to" in caplog.text


@pytest.mark.parametrize(
    ("scale", "size"), [("balanced", 0.1), ("empirical", 0.1), ("ancestral", 0.03), ("constant", 1)]
)
def test_the_size_that_is_not_given_follows_the_form(rows, scale, size):
    image, parents = rows
    other = {**parents, "a": parents["a"] + 1}
    plain = built(scale="constant", size=None) if scale == "balanced" else built(size=None)
    asked = plain.but(scale=scale)  # of another form, whose size it must not keep
    noise = asked.abduct(image, parents, UNITS, "x")
    assert asked.config()["size"] is None
    assert torch.equal(asked.predict(noise, other), asked.but(size=size).predict(noise, other))
    assert not torch.equal(asked.predict(noise, other), asked.but(size=2 * size).predict(noise, other))


def test_probes_belong_to_the_unit(rows):
    image, parents = rows
    mechanism = built(probes=1, size=0.3)
    other = {**parents, "a": parents["a"] + 1}

    def asked(seed, row=slice(0, N)):
        noise = mechanism.abduct(
            image[row], {k: v[row] for k, v in parents.items()}, Units(torch.arange(N)[row], seed), "x"
        )
        given = {k: v[row] for k, v in other.items()}
        pull = mechanism._guidance(noise, given).parts[1]
        assert len(set(pull.seed.tolist())) == len(pull.seed)
        return pull.seed, mechanism.predict(noise, given)

    seeds, whole = asked(0)
    part = asked(0, slice(2, 4))
    assert torch.equal(part[0], seeds[2:4])
    torch.testing.assert_close(part[1], whole[2:4])
    assert not (asked(1)[0] == seeds).any()
    drawn = mechanism.noise(UNITS, "x")
    assert torch.equal(mechanism._guidance(drawn, other).parts[1].seed, mechanism._guidance(drawn, other).parts[1].seed)


def shifted(generator):
    generator.features.mean[1] += 0.5
    return generator


def test_asked_by_the_parents_it_is_a_conditional_model(rows):
    image, parents = rows
    mechanism = built().but(by="parents", omega=2.0)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    assert "f" not in noise
    other = {name: value + 1 for name, value in parents.items()}
    assert not torch.equal(noise["u"], mechanism.abduct(image, other, UNITS, "x")["u"])


def test_spreads_are_the_errors_after_training(rows, monkeypatch):
    image, parents = rows
    mechanism = built()
    factors = mechanism.features(parents, N)

    def off(x, timestep):
        return factors + (0.1 + timestep[:, None] / 1000) * torch.tensor([1.0, -1.0, 2.0])

    monkeypatch.setattr(mechanism.projector, "forward", off)
    mechanism.settle(image, parents)
    for step in (10, 460, 990):
        expected = (0.1 + step / 1000) * torch.tensor([1.0, 1.0, 2.0]).double()
        found = mechanism.projector.spread(torch.tensor([step]))[0]
        torch.testing.assert_close(found, expected, atol=0.08, rtol=0)


def test_a_fit_measures_the_spreads_it_ends_with(rows):
    image, parents = rows
    graph = cf.CausalGraph("a, b, c -> x", **PARENTS, x=cf.Image(1, 8, 8))
    options = {"structure": STRUCTURE, "widths": (8, 8), "projector": (8, 8), "recipe": M.Recipe(steps=2, batch=4)}
    known = {name: M.Gaussian(weights={}) for name in PARENTS}
    data = {"x": image.float(), **{name: value.float() for name, value in parents.items()}}
    fitted = cf.SCM(graph, {**known, "x": M.NSCMDiffusion(**options)}).fit(data, progress=False).mechanism("x")
    found = fitted.projector.log_spread.clone()
    with torch.no_grad():
        fitted.projector.log_spread.fill_(0.0)
    fitted.settle(data["x"], {name: data[name] for name in PARENTS})
    torch.testing.assert_close(fitted.projector.log_spread, found)
    assert found.abs().min() > 0


def test_spreads_are_measured_on_rows_from_all_over(monkeypatch):
    """The first rows are read without error, and the others are not."""
    mechanism, late = built(), torch.arange(2 * SETTLING).double() // SETTLING
    monkeypatch.setattr(mechanism.projector, "forward", lambda x, _: x.new_zeros(len(x), 3))
    mechanism.settle(torch.rand(2 * SETTLING, 1, 8, 8).double(), dict.fromkeys(PARENTS, late))
    torch.testing.assert_close(mechanism.projector.log_spread[0].exp().square(), torch.full((3,), 0.5).double())


@pytest.mark.parametrize(
    ("scale", "stop"), [("empirical", 0.5), ("ancestral", 0.5), ("balanced", 0.0), ("constant", 0.0)]
)
def test_pulls_that_do_not_die_out_stop(scale, stop, rows):
    image, parents = rows
    mechanism = built(scale=scale)
    noise = mechanism.abduct(image, parents, UNITS, "x")

    def tolerance(made):
        return made._guidance(noise, parents).parts[1].tolerance

    assert tolerance(mechanism) == tolerance(built().but(scale=scale)) == stop
    assert mechanism.config()["stop"] is None
    saved = mechanism.but(stop=0.0)
    assert tolerance(saved) == tolerance(saved.but(size=0.5)) == 0
    assert saved.config()["stop"] == 0
    assert tolerance(mechanism.but(stop=0.3)) == 0.3


def test_inference_mode_is_refused_where_gradients_lead(rows):
    image, parents = rows
    mechanism = built()
    noise = mechanism.abduct(image, parents, UNITS, "x")
    mechanism.network.register_forward_hook(lambda *_: pytest.fail("asked the network"))
    with (
        torch.inference_mode(),
        pytest.raises(RuntimeError, match=r"NSCMDiffusion\(by='nscm'\) needs gradients, .* torch.no_grad\(\)"),
    ):
        mechanism.predict(noise, parents)


def test_told_and_led_it_is_pulled_from_what_it_is_told(rows):
    image, parents = rows
    other = {name: value + 1 for name, value in parents.items()}
    told = built().but(by="parents")
    noise = told.abduct(image, parents, UNITS, "x")
    both = built().but(by="both", size=0.0)
    held = both.abduct(image, parents, UNITS, "x")
    assert torch.equal(held["u"], noise["u"])
    torch.testing.assert_close(both.predict(held, other), told.predict(noise, other))
    led, free = both.but(size=0.3), built().but(size=0.3)
    assert not torch.allclose(led.predict(held, other), told.predict(noise, other), atol=1e-4)
    assert not torch.allclose(led.predict(held, other), free.predict(held, other), atol=1e-4)
    again = led.but(replay=True)
    torch.testing.assert_close(again.predict(again.abduct(image, parents, UNITS, "x"), parents), image)
    assert led.but(omega=2.0).omega == 2


def test_equations_listen_to_their_causes_alone():
    mask = torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 0]])
    equations = Equations(3, mask)
    torch.nn.init.normal_(equations.last)
    z = torch.randn(4, 3, requires_grad=True)
    jacobian = torch.autograd.functional.jacobian(lambda z: equations(z).sum(0), z)  # (3, 4, 3)
    assert ((jacobian.abs().sum(1) > 0) == mask.bool()).all()


def test_equations_learn_a_function_and_its_noise():
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(512, 3, generator=generator)
    z[:, 2] = torch.sin(z[:, 0]) * z[:, 1] + 0.1 * torch.randn(512, generator=generator)
    torch.manual_seed(0)
    equations = Equations(3, torch.tensor([[0, 0, 0], [0, 0, 0], [1, 1, 0]]))
    optimiser = torch.optim.Adam(equations.parameters(), 1e-2)
    for _ in range(400):
        optimiser.zero_grad()
        equations.loss(z).mean().backward()
        optimiser.step()
    assert equations.spread()[2] < 0.2
    assert (equations(z)[:, 2] - torch.sin(z[:, 0]) * z[:, 1]).abs().mean() < 0.15


@pytest.fixture
def gates():
    """A mechanism whose gates ended as `sigmoid`, none of them shut."""
    mechanism = built(structure="learned")
    opening = torch.tensor([[0.3, 0.2, 0.3], [0.4, 0.3, 0.3], [0.9, 0.3, 0.3]]).double()
    with torch.no_grad():
        mechanism.equations.gates.copy_(opening.logit())
        mechanism.equations.last += 0.5
    return mechanism


def test_gates_more_than_half_open_are_edges(gates, rows):
    image, parents = rows
    assert gates.graph() == {"a": [], "b": [], "c": ["a"]}
    assert hamming(gates.graph(), {"c": ["a", "b"]}) == 1
    assert built().graph() == {"a": [], "b": [], "c": ["a", "b"]}
    assert (gates.equations.adjacency().sum(1) > 0.5).all()  # roots hear as much in all
    noise = gates.abduct(image, parents, UNITS, "x")
    assert gates.caused(noise, parents).tolist() == [[False, False, True]] * N
    pull = gates._guidance(noise, parents).parts[1]
    x, timestep = torch.randn(N, 1, 8, 8, dtype=torch.float64), torch.full((N,), 300)
    z = gates.projector(x, timestep)
    expected = pull.reads(x, timestep)
    assert torch.equal(expected[:, :2], z[:, :2])
    with torch.no_grad():
        gates.equations.gates[2, 1:] = -1e9  # what is no edge is not heard
    torch.testing.assert_close(gates._guidance(noise, parents).parts[1].reads(x, timestep), expected)


def test_no_edge_is_said_once_after_fitting(gates, rows, caplog):
    gates.settle(*rows)
    assert not caplog.records
    with torch.no_grad():
        gates.equations.gates.fill_(-1.0)
    gates.settle(*rows)
    assert len(caplog.records) == 1
    assert "no learned gate ended more than half open (the widest at 0.27)" in caplog.text
    assert not any(gates.graph().values())
    caplog.clear()
    built(structure={}).settle(*rows)
    assert not caplog.records


def test_cycles_are_counted():
    acyclic = Equations(3, torch.tensor([[0, 0, 0], [1, 0, 0], [1, 1, 0]]))
    cyclic = Equations(2, torch.tensor([[0, 1], [1, 0]]))
    assert acyclic.cycles().abs() < 1e-5
    assert cyclic.cycles() > 0.5
    learned = Equations(3)
    assert learned.penalty(0.0) > 0
    assert acyclic.penalty(1.0) == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"structure": {"c": ["d"]}},
            "names 'd', which is no parent of this image; take it out, or name one of a, b, c",
        ),
        ({"structure": {"a": ["b"], "b": ["a"]}}, "has a cycle, b -> a -> b; take one of these edges out"),
        ({"structure": None}, 'nothing says what its factors listen to; .* structure="learned"'),
        ({"structure": "learnt"}, "expected structure=.* got 'learnt'"),
        ({"stop": float("nan")}, "expected a finite stop >= 0, got nan"),
        ({"stop": float("inf")}, "expected a finite stop >= 0, got inf"),
        ({"probes": 0.5}, "expected a whole number probes >= 0, got 0.5"),
        ({"size": "big"}, "expected a finite size >= 0, got 'big'"),
        ({"limit": "long"}, "expected limit > 0, math.inf for none, got 'long'"),
        ({"scale": "big"}, "expected scale in"),
        ({"by": "all"}, "expected by='nscm' or 'parents' or 'both'"),
        ({"size": -1.0}, "expected a finite size >= 0"),
        ({"size": float("nan")}, "expected a finite size >= 0"),
        ({"size": float("inf")}, "expected a finite size >= 0"),
        (
            {"inversion": "guided"},
            "inversion='guided' is of a generator .* by='nscm' tells it nothing; take inversion='condition'",
        ),
        ({"reference": "factual"}, "reference='factual' is of a generator that is told .* take reference='null'"),
        ({"omega": 2.0}, "omega=2.0 is of by='parents'"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built(**options)


@pytest.mark.parametrize("by", ["parents", "both"])
def test_a_generator_that_is_told_may_be_guided(by):
    assert built(by=by, omega=2.0, inversion="guided").but(inversion="condition", reference="factual").omega == 2


@pytest.mark.parametrize(
    ("structure", "message"),
    [
        ({"c": "angle"}, r"expected a list of the causes of c in the structure; write \['angle'\]"),
        ({"c": 3}, "expected a list of the causes of c in the structure; write a list"),
        (["c"], r"expected structure=.* got \['c'\]"),
    ],
)
@pytest.mark.parametrize("kind", [M.NSCMDiffusion, M.CausalVAE])
def test_a_structure_maps_names_to_lists_of_names(kind, structure, message):
    with pytest.raises(TypeError, match=message):
        kind(structure)


@pytest.mark.parametrize(
    ("factors", "size", "message"),
    [
        (
            "abd",
            8,
            r"given a, b, c, and here x is Image.* given a, b, d; fit a NSCMDiffusion .* or .*\.leading\(\.\.\.\)",
        ),
        ("", 8, "given a, b, c, and here x is Image.* given nothing; fit"),
        ("abc", 16, r"Image\(channels=1, height=8, .* and here x is Image\(channels=1, height=16"),
    ],
)
def test_a_mechanism_of_another_model_is_told_apart(factors, size, message):
    graph = cf.CausalGraph(
        [(n, "x") for n in factors], {n: cf.Continuous() for n in factors} | {"x": cf.Image(1, size, size)}
    )
    with pytest.raises(ValueError, match=f"x: this NSCMDiffusion models .*{message}"):
        cf.SCM(graph).using(x=built())


def test_parents_of_other_bounds_are_named():
    numbers = {**PARENTS, "b": cf.Continuous(lower=0.0)}
    graph = cf.CausalGraph([(n, "x") for n in numbers], {**numbers, "x": cf.Image(1, 8, 8)})
    with pytest.raises(
        ValueError, match=r"given a, b, c; its b is Continuous.*, not Continuous.*lower=0.0.*, and here"
    ):
        cf.SCM(graph).using(x=built())


@pytest.mark.parametrize("kind", [M.NSCMDiffusion, M.DiffSCM])
def test_an_image_without_factors_is_refused(kind):
    with pytest.raises(ValueError, match=f"{kind.__name__}: this image has no parents, .* use SpatialDiffusion"):
        kind().build(cf.Image(1, 8, 8), {}, {})


@pytest.mark.parametrize("kind", [M.NSCMDiffusion, M.DiffSCM])
@pytest.mark.parametrize("widths", [(12,), (), 32, (32, -8), (8.0,), None])
def test_widths_of_the_projector_are_checked(kind, widths):
    with pytest.raises(ValueError, match=r"projector to be one or more widths that 8 divides, .* got "):
        kind(projector=widths)


def test_a_class_is_no_factor():
    with pytest.raises(TypeError, match="k is categorical, and factors are numbers"):
        M.NSCMDiffusion(widths=(8, 8)).build(cf.Image(1, 8, 8), {"k": cf.Categorical(3)})


def test_the_projector_alone_reads_factors_in_their_units(rows):
    image = rows[0]
    mechanism = built()
    mechanism.features.mean[:] = torch.tensor([3.0, 0.0, -1.0])
    mechanism.features.std[:] = torch.tensor([2.0, 1.0, 0.5])
    read = mechanism.read(image)
    near = Schedule("linear").alpha_bar[0].sqrt().item() * (2 * image - 1)
    z = mechanism.projector(near, torch.zeros(N, dtype=torch.long))
    torch.testing.assert_close(
        torch.stack([read[name] for name in PARENTS], 1), z * mechanism.features.std + mechanism.features.mean
    )
    torch.testing.assert_close(mechanism.features(read, N), z)
    with pytest.raises(ValueError, match=r"image: expected"):
        mechanism.read(image[:, :, :4])


def test_the_equations_alone_say_what_follows(rows):
    _, parents = rows
    mechanism = built(structure={"a": ["b"], "c": ["a"]})  # the causes of c come after one another, not in their order
    torch.nn.init.normal_(mechanism.equations.last, generator=torch.Generator().manual_seed(0))
    same = mechanism.follow(parents)
    assert all(torch.allclose(same[name], parents[name]) for name in PARENTS)
    moved = mechanism.follow(parents, b=1.5)
    assert (moved["b"] == 1.5).all()
    z, new = (mechanism.features(values, N) for values in (parents, moved))
    torch.testing.assert_close((new - mechanism.equations(new))[:, [0, 2]], (z - mechanism.equations(z))[:, [0, 2]])
    assert ((moved["c"] - parents["c"]).abs() > 1e-3).all()
    held = mechanism.follow(parents, b=1.5, a=parents["a"])
    torch.testing.assert_close(held["c"], parents["c"])
    with pytest.raises(ValueError, match="follow: expected factors of a, b, c, got 'q'"):
        mechanism.follow(parents, q=1.0)
