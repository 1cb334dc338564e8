"""What is particular to the diffusion mechanisms; the rest is in the contract."""

import math

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.schedule import Schedule
from causalcf.networks.classifier import Regressor
from causalcf.units import Units

N, S = 6, 12
PARENTS = {"a": cf.Continuous()}
UNITS = Units(torch.arange(N))


def built(kind, **options):
    """A quiet random network, in float64."""
    torch.manual_seed(0)
    made = kind(widths=(8, 8), steps=S, **options).build(cf.Image(1, 8, 8), PARENTS).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    made.network.unet.conv_out.weight.data *= 0.05
    return made


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    image = 0.1 + 0.8 * torch.rand(N, 1, 8, 8, generator=generator, dtype=torch.float64)
    return image, {"a": torch.randn(N, generator=generator, dtype=torch.float64)}


def calls(mechanism, act):
    """How often `act` asks the network, and the most rows it asks for at once."""
    asked = []
    hook = mechanism.network.register_forward_hook(lambda _, args, __: asked.append(len(args[2])))
    result = act()
    hook.remove()
    return result, asked


def test_an_image_without_spread_is_abducted_as_noise_of_unit_spread(rows):
    """A network that knows the image exactly: all that is left is the noise of the lowest level, carried up."""
    mechanism = built(M.SpatialDiffusion, solver="2m")
    image = torch.full((N, 1, 8, 8), 0.25, dtype=torch.float64)

    class Knows(torch.nn.Module):
        null = torch.zeros(1)

        def forward(self, x, timestep, condition):
            share = Schedule("linear").alpha_bar[timestep].reshape(-1, 1, 1, 1)
            return (x - share.sqrt() * (2 * 0.25 - 1)) / (1 - share).sqrt()

    mechanism.network = Knows()
    noise = mechanism.abduct(image, rows[1], UNITS, "x")
    top = Schedule("linear").alpha_bar[-1]
    torch.testing.assert_close((noise["u"] + 0.5 * top.sqrt()) / (1 - top).sqrt(), noise["e"], atol=1e-6, rtol=1e-6)
    assert 0.8 < noise["u"].std() < 1.2
    torch.testing.assert_close(mechanism.predict(noise, rows[1]), image, atol=1e-8, rtol=0)


def test_a_network_that_does_not_see_little_noise_is_asked_above_it(rows):
    """Exact at the training steps from 100 on, and blind below, where trajectories lose the noise they begin with."""
    image = torch.full((N, 1, 8, 8), 0.25, dtype=torch.float64)

    class Blind(torch.nn.Module):
        null = torch.zeros(1)

        def forward(self, x, timestep, condition):
            share = Schedule("linear").alpha_bar[timestep].reshape(-1, 1, 1, 1)
            known = (x - share.sqrt() * (2 * 0.25 - 1)) / (1 - share).sqrt()
            return torch.where(timestep.reshape(-1, 1, 1, 1) < 100, 0.0, known)

    spreads = {}
    for lowest in (0, 100):
        mechanism = built(M.SpatialDiffusion, solver="2m", lowest=lowest)
        mechanism.network = Blind()
        noise = mechanism.abduct(image, rows[1], UNITS, "x")
        spreads[lowest] = noise["u"].std().item()
        assert mechanism.config().get("lowest", 0) == lowest
    torch.testing.assert_close(mechanism.predict(noise, rows[1]), image, atol=1e-6, rtol=0)
    assert spreads[0] < 0.3
    assert 0.8 < spreads[100] < 1.2


def test_drawn_noise_ends_at_the_image_the_network_means(rows):
    mechanism = built(M.SpatialDiffusion, solver="2m")
    drawn = mechanism.noise(UNITS, "x")
    assert set(drawn) == {"u"}
    clean, asked = calls(mechanism, lambda: mechanism.predict(drawn, rows[1]))
    assert len(asked) == S + 1
    same = mechanism.predict({**drawn, "e": torch.zeros_like(drawn["u"])}, rows[1])
    assert 0 < (clean - same).abs().mean() < 0.02


def test_replay_by_a_second_order_solver_costs_one_call_more(rows):
    image, parents = rows
    plain, replayed = built(M.SpatialDiffusion, solver="2m"), built(M.SpatialDiffusion, solver="2m", replay=True)
    before, asked = calls(plain, lambda: plain.abduct(image, parents, UNITS, "x"))
    assert len(asked) == S
    noise, asked = calls(replayed, lambda: replayed.abduct(image, parents, UNITS, "x"))
    assert len(asked) == S + 1
    assert torch.equal(noise["u"], before["u"])
    back, asked = calls(replayed, lambda: replayed.predict(noise, parents))
    assert len(asked) == S
    torch.testing.assert_close(back, image, atol=1e-12, rtol=0)
    assert (plain.predict(before, parents) - image).abs().mean() > 1e-7


@pytest.mark.parametrize("option", [{"reference": "factual"}, {"replay": True}])
def test_composition_holds_at_any_guidance_scale(option, rows):
    image, parents = rows
    kept = built(M.SpatialDiffusion, solver="ddim", passes=40, tolerance=1e-10, omega=3.0, **option)
    lost = built(M.SpatialDiffusion, solver="ddim", passes=40, tolerance=1e-10, omega=3.0)
    back = kept.predict(kept.abduct(image, parents, UNITS, "x"), parents)
    torch.testing.assert_close(back, image, atol=1e-6, rtol=0)
    gone = lost.predict(lost.abduct(image, parents, UNITS, "x"), parents)
    assert (gone - image).abs().mean() > 1e-4


@pytest.mark.parametrize(("solver", "mixing", "default"), [("bidirectional ddim", 0.96, 1.0), ("edict", 0.9, 0.93)])
def test_a_reversible_scheme_mixes_as_much_as_it_is_told(solver, mixing, default, rows):
    image, parents = rows
    other = {"a": parents["a"] + 1}
    plain, same, mixed = (built(M.SpatialDiffusion, solver=solver, mixing=own) for own in (None, default, mixing))
    noises = [own.abduct(image, parents, UNITS, "x") for own in (plain, same, mixed)]
    torch.testing.assert_close(mixed.predict(noises[2], parents), image, atol=1e-9, rtol=0)
    answers = [own.predict(noise, other) for own, noise in zip((plain, same, mixed), noises, strict=True)]
    assert torch.equal(answers[0], answers[1])
    assert (answers[0] - answers[2]).abs().mean() > 1e-6
    assert mixed.config()["mixing"] == mixing
    assert mixed.but(mixing=None).config() == plain.config()
    assert "mixing" not in plain.config()


@pytest.mark.parametrize("solver", ["ddim", "bidirectional ddim"])
def test_guided_inversion_retraces_the_image_and_its_noise_pays(solver, rows):
    image, parents = rows
    options = {"solver": solver, "passes": 60, "tolerance": 1e-10, "omega": 2.0}
    own, plain = (built(M.SpatialDiffusion, inversion=kind, **options) for kind in ("guided", "condition"))
    noise, asked = calls(own, lambda: own.abduct(image, parents, UNITS, "x"))
    assert asked[0] == 2 * N
    torch.testing.assert_close(own.predict(noise, parents), image, atol=1e-6, rtol=0)
    other = plain.abduct(image, parents, UNITS, "x")
    assert (plain.predict(other, parents) - image).abs().mean() > 1e-4
    assert (noise["u"] - other["u"]).abs().mean() > 1e-3


@pytest.mark.parametrize(("inversion", "rows_asked"), [("condition", [N] * S), ("guided", [2 * N] * S)])
def test_replay_of_guidance_asks_of_each_level_only_what_inversion_did_not(inversion, rows_asked, rows):
    image, parents = rows
    mechanism = built(M.SpatialDiffusion, inversion=inversion, solver="2m", omega=2.0, replay=True)
    noise, asked = calls(mechanism, lambda: mechanism.abduct(image, parents, UNITS, "x"))
    assert asked == [*rows_asked, 2 * N, *[N] * (S - 1)]
    torch.testing.assert_close(mechanism.predict(noise, parents), image, atol=1e-10, rtol=0)


def test_a_guided_step_that_is_not_finite_names_its_level_and_the_remedy(rows):
    image, parents = rows
    mechanism = built(M.SpatialDiffusion, solver="2m", omega=1e306)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    mechanism.network.null.data *= 1e3
    with pytest.raises(
        FloatingPointError, match=r"level 1[12] of 12 is not finite \(row 0 of 6\); lower omega=1e\+306, or take more"
    ):
        mechanism.predict(noise, parents)
    plain = built(M.SpatialDiffusion, solver="2m")
    with pytest.raises(FloatingPointError, match=r"\(row 3 of 6\); the parents of this row"):
        plain.predict(noise, {"a": parents["a"].masked_fill(torch.arange(N) == 3, torch.inf)})


def test_a_compiled_network_says_the_same(rows):
    image, parents = rows
    plain = built(M.SpatialDiffusion, solver="2m")
    compiled = built(M.SpatialDiffusion, solver="2m", compiled=True)
    assert compiled.network._compiled_call_impl is not None
    compiled.network._compiled_call_impl = lambda *args: asked.append(1) or compiled.network._call_impl(*args)
    asked = []
    noise = compiled.abduct(image, parents, UNITS, "x")
    assert len(asked) == S
    assert torch.equal(noise["u"], plain.abduct(image, parents, UNITS, "x")["u"])


def test_the_code_is_kept_and_the_parents_are_exchanged(rows):
    image, parents = rows
    mechanism = built(M.SemanticDiffusion, latent=3)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    other = {"a": parents["a"] + 1}
    first, second = mechanism.condition(noise, parents), mechanism.condition(noise, other)
    assert torch.equal(first[:, :3], noise["z"])
    assert torch.equal(first[:, :3], second[:, :3])
    assert (first[:, 3:] != second[:, 3:]).all()


@pytest.mark.parametrize(("dropped", "kept"), [("all", 0), ("parents", 3)])
def test_the_null_token_stands_for_all_or_for_the_parents(dropped, kept, rows):
    mechanism = built(M.SemanticDiffusion, latent=3, dropped=dropped, omega=2.0)
    condition = torch.randn(N, 4, dtype=torch.float64)
    (null,) = mechanism._guidance({}).branches(condition, 1)
    assert torch.equal(null[:, :kept], condition[:, :kept])
    assert torch.equal(null[:, kept:], mechanism.network.null[kept:].expand(N, -1))
    trained = mechanism.network.dropped(condition, torch.ones(N, dtype=torch.bool), mechanism.kept)
    assert torch.equal(trained, null)


@pytest.mark.parametrize("hidden", [0.0, 0.5])
def test_the_code_is_hidden_in_a_share_of_the_rows(hidden, rows):
    image, parents = rows
    mechanism = built(M.SemanticDiffusion, latent=3, hidden=hidden, null_probability=0.0)
    told = []
    mechanism.network.register_forward_pre_hook(lambda _, args: told.append(args[2]))
    for seed in range(40):
        mechanism.loss(image, parents, torch.Generator().manual_seed(seed))
    told = torch.cat(told)
    covered = (told[:, :3] == mechanism.network.null[:3]).all(1)
    assert abs(covered.double().mean() - hidden) < 0.12
    assert (told[:, 3:] == mechanism.features(parents, N).repeat(40, 1)).all()


def test_tokens_bring_the_guided_trajectory_back_and_each_row_has_its_own(rows):
    image, parents = rows
    distance, options = [], {"latent": 3, "omega": 3.0, "passes": 40, "rate": 0.05, "stop": 0.0}
    for passes in (1, 30):
        mechanism = built(M.DynamicDiffusion, passes_per_level=passes, **options)
        noise = mechanism.abduct(image, parents, UNITS, "x")
        assert noise["tokens"].shape == (N, S, 4)
        distance.append((mechanism.predict(noise, parents) - image).abs().mean())
    plain = built(M.SemanticDiffusion, latent=3, omega=3.0, passes=40)
    without = (plain.predict(plain.abduct(image, parents, UNITS, "x"), parents) - image).abs().mean()
    assert distance[0] < without
    assert distance[1] < 0.7 * distance[0]
    part = mechanism.abduct(image[2:4], {"a": parents["a"][2:4]}, Units(torch.arange(2, 4)), "x")
    torch.testing.assert_close(part["tokens"], noise["tokens"][2:4], atol=1e-6, rtol=0)


def test_tokens_cost_two_calls_a_level_and_one_a_pass_forward_and_backward(rows):
    image, parents = rows
    mechanism = built(M.DynamicDiffusion, latent=3, solver="explicit ddim", passes_per_level=4, stop=0.0)
    backward = []
    hook = mechanism.network.unet.conv_out.register_full_backward_hook(lambda *_: backward.append(1))
    noise, asked = calls(mechanism, lambda: mechanism.abduct(image, parents, UNITS, "x"))
    hook.remove()
    assert len(asked) == S + S * (1 + 4 + 1)
    assert len(backward) == S * 4
    assert all(parameter.grad is None for parameter in mechanism.parameters())
    _, asked = calls(mechanism, lambda: mechanism.predict(noise, parents))
    assert asked == [2 * N] * S


def test_tokens_are_found_in_inference_mode_too(rows):
    image, parents = rows
    mechanism = built(M.DynamicDiffusion, latent=3, solver="explicit ddim", passes_per_level=2)
    expected = mechanism.abduct(image, parents, UNITS, "x")["tokens"]
    with torch.inference_mode():
        given = {name: value.clone() for name, value in parents.items()}
        found = mechanism.abduct(image.clone(), given, UNITS, "x")["tokens"]
    assert torch.equal(found, expected)


def test_a_rate_that_is_too_large_is_named(rows):
    image, parents = rows
    mechanism = built(M.DynamicDiffusion, latent=3, solver="explicit ddim", rate=1e308)
    with pytest.raises(FloatingPointError, match=r"the step from level 12 of 12 is not finite .*; lower rate, or"):
        mechanism.abduct(image, parents, UNITS, "x")


def test_rows_that_are_near_enough_are_not_asked_again(rows):
    image, parents = rows
    mechanism = built(M.DynamicDiffusion, latent=3, solver="explicit ddim", passes_per_level=5, stop=1e9)
    noise, asked = calls(mechanism, lambda: mechanism.abduct(image, parents, UNITS, "x"))
    assert len(asked) == S + S * (1 + 1 + 1)
    (null,) = M.SemanticDiffusion._guidance(mechanism, {}).branches(mechanism.condition(noise, parents), 1)
    assert torch.equal(noise["tokens"], null[:, None].expand(-1, S, -1))


def brightness(image):
    return 10 * image.flatten(1).mean(1)


@pytest.mark.parametrize("replay", [False, True])
def test_readers_steer_relative_to_how_the_factual_image_reads(replay, rows):
    image, parents = rows
    mechanism = built(M.SpatialDiffusion, solver="2m", replay=replay).steer({"a": brightness})
    noise = mechanism.abduct(image, parents, UNITS, "x")
    torch.testing.assert_close(noise["h.a"], brightness(image) - parents["a"])
    moved = mechanism.predict(noise, {"a": parents["a"] + 0.5})
    plain = built(M.SpatialDiffusion, solver="2m", replay=replay)
    unmoved = plain.predict(plain.abduct(image, parents, UNITS, "x"), {"a": parents["a"] + 0.5})
    aim = brightness(image) + 0.5
    assert (brightness(moved) - aim).abs().mean() < 0.2 * (brightness(unmoved) - aim).abs().mean()
    back = mechanism.predict(noise, parents)
    assert ((back - image).abs().mean() < 1e-10) == replay


def test_what_is_steered_is_another_mechanism(rows):
    image, parents = rows
    plain = built(M.SpatialDiffusion, solver="2m", omega=1.5)
    noise, other = plain.abduct(image, parents, UNITS, "x"), {"a": parents["a"] + 0.5}
    before = plain.predict(noise, other)
    steered = plain.steer({"a": brightness}, relative=False)
    assert not torch.equal(steered.predict(noise, other), before)
    assert torch.equal(plain.predict(noise, other), before)
    assert steered.network.null.data_ptr() == plain.network.null.data_ptr()


def test_drawn_noise_is_not_guided_away_from_a_null_token_that_was_never_trained(rows):
    image, parents = rows
    anchored = built(M.SpatialDiffusion, null_probability=0.0, reference="factual", omega=2.0)
    noise = anchored.abduct(image, parents, UNITS, "x")
    anchored.predict(noise, parents)
    drawn = {site: noise[site] for site in ("u", "e")}
    anchored.network.register_forward_hook(lambda *_: pytest.fail("asked the network"))
    with pytest.raises(ValueError, match=r"drawn noise has no factual condition for omega=2.0 .*draw with .but"):
        anchored.predict(drawn, parents)


def test_a_calibrated_scale_costs_no_further_calls(rows):
    image, parents = rows
    mechanism = built(M.SpatialDiffusion, solver="2m").steer({"a": brightness}, by="omega", tolerance={"a": 0.1})
    noise = mechanism.abduct(image, parents, UNITS, "x")
    _, asked = calls(mechanism, lambda: mechanism.predict(noise, {"a": parents["a"] + 0.5}))
    assert asked == [2 * N] * S


def test_absolute_readings_aim_at_the_parent_itself(rows):
    image, parents = rows

    def reader(image):
        return brightness(image) - 5

    aim = reader(image) + 0.5
    misses = []
    for relative in (False, True):
        steered = built(M.SpatialDiffusion, solver="2m").steer({"a": reader}, relative=relative)
        noise = steered.abduct(image, parents, UNITS, "x")
        assert ("h.a" in noise) == relative
        misses.append((reader(steered.predict(noise, {"a": aim})) - aim).abs().mean())
    assert misses[0] < 0.5 * misses[1]


def test_classes_choose_the_scale_and_numbers_are_read():
    torch.manual_seed(0)
    parents = {"a": cf.Continuous(), "k": cf.Categorical(3)}
    made = M.SpatialDiffusion(widths=(8, 8), steps=S, solver="2m", omega=1.2).build(cf.Image(1, 8, 8), parents).eval()
    made = made.steer({"a": brightness, "k": lambda image: torch.zeros(len(image), dtype=torch.int64)}, by="both")
    values = {"a": torch.randn(N), "k": torch.zeros(N, dtype=torch.int64)}
    seen = torch.tensor([0, 0, 1, 2, 0, 1])
    guidance = made._guidance({"h.a": torch.ones(N), "h.k": seen}, values)
    scaled, reading = guidance.parts
    assert scaled.wanted.tolist() == [False, False, True, True, False, True]
    assert (list(scaled.readers), scaled.omegas) == (["k"], (1.2, 1.25, 1.5, 2.0, 3.0))
    torch.testing.assert_close(reading.targets["a"], values["a"] + 1)
    image = torch.rand(N, 1, 8, 8)
    assert set(made.abduct(image, values, UNITS, "x")) == {"u", "e", "h.a", "h.k"}
    with pytest.raises(ValueError, match=r"k is a class, which has no distance; .* by='omega' or 'both'"):
        made.steer({"k": brightness})


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (({"a": brightness}, "all"), "expected by in"),
        (({"b": brightness},), "b is no parent of this image; it has a"),
        (({},), "expected a reader for one parent at least, got none"),
        (({"a": brightness}, "omega"), "needs a tolerance for each of a"),
    ],
)
def test_readers_that_do_not_fit_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        built(M.SpatialDiffusion).steer(*arguments)
    reads_other = Regressor(1, (4,), reads="b").double()
    for reader in (reads_other, reads_other.predict):
        with pytest.raises(
            ValueError, match=r"a: this predictor reads 'b'; give the one trained on 'a', fit_regressor"
        ):
            built(M.SpatialDiffusion).steer({"a": reader})
    untrained = built(M.SpatialDiffusion, null_probability=0.0)
    with pytest.raises(ValueError, match=r"needs a trained null token.*by='reading'"):
        untrained.steer({"a": brightness}, "omega", {"a": 0.1})


def test_options_change_without_a_refit_and_weights_are_shared(rows):
    image, parents = rows
    graph = cf.CausalGraph("a -> x", a=cf.Continuous(), x=cf.Image(1, 8, 8))
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "x": M.SemanticDiffusion(widths=(8, 8), latent=3, steps=9)})
    scm.mechanisms["x"].fitted = True
    evidence = {"x": image.float(), "a": parents["a"].float()}
    fast = scm.using(x={"steps": 4, "solver": "2m"})
    assert (fast.mechanism("x").steps, scm.mechanism("x").steps) == (4, 9)
    assert fast.mechanism("x").network.null.data_ptr() == scm.mechanism("x").network.null.data_ptr()
    assert fast.mechanism("a") is scm.mechanism("a")
    _, asked = calls(fast.mechanism("x"), lambda: fast.observe(evidence).noise["x"])
    assert len(asked) == 4
    tokens = scm.using(x=scm.mechanism("x").but(M.DynamicDiffusion, omega=2.0, steps=3, passes_per_level=1))
    assert tokens.observe(evidence).noise["x"]["tokens"].shape == (N, 3, 4)
    with pytest.raises(ValueError, match=r"x: SemanticDiffusion: latent would need other weights.*before fit"):
        scm.using(x={"latent": 5})
    with pytest.raises(ValueError, match=r"x: SemanticDiffusion: .*unexpected keyword argument 'speed'"):
        scm.using(x={"speed": 5})
    with pytest.raises(ValueError, match="x: SemanticDiffusion: expected solver in"):
        scm.using(x={"solver": "fast"})
    with pytest.raises(
        ValueError, match=r"x: this SpatialDiffusion was not built .* x={...}, or make SCM\(graph, {'x'"
    ):
        scm.using(x=M.SpatialDiffusion())


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        (M.SpatialDiffusion, {"solver": "euler"}, "expected solver in"),
        (M.SpatialDiffusion, {"reference": "nothing"}, "expected reference 'null' or 'factual'"),
        (M.SpatialDiffusion, {"omega": 2.0, "null_probability": 0.0}, "needs a trained null token.*train again"),
        (M.SemanticDiffusion, {"latent": 0}, "expected a whole number latent >= 1, got 0"),
        (M.SemanticDiffusion, {"hidden": 1.0}, "expected 0 <= hidden < 1"),
        (M.SemanticDiffusion, {"encoder": "text"}, "expected encoder 'image'"),
        (M.SemanticDiffusion, {"dropped": "z"}, "expected dropped in"),
        (M.DynamicDiffusion, {"omega": 1.0}, "expected omega > 1, got 1.0"),
        (M.DynamicDiffusion, {"omega": -3.0}, "expected omega > 1, got -3.0"),
        (M.DynamicDiffusion, {"reference": "factual"}, "with reference='factual' the tokens would begin where they"),
        (M.DynamicDiffusion, {"rate": 0.0}, "rate > 0"),
        (M.DynamicDiffusion, {"rate": math.nan}, "expected a finite rate >= 0, got nan"),
        (M.DynamicDiffusion, {"stop": math.nan}, "expected a finite stop >= 0, got nan"),
        (M.DynamicDiffusion, {"passes_per_level": 2.5}, "expected a whole number passes_per_level >= 1, got 2.5"),
        (M.SemanticDiffusion, {"latent": 2.5}, "expected a whole number latent >= 1, got 2.5"),
        (M.SemanticDiffusion, {"views": {"shear": math.nan}}, "expected sizes >= 0 of the views"),
        (M.VAE, {"latent": True}, "VAE: expected a whole number latent >= 1, got True"),
        (M.VAE, {"beta": math.nan}, "VAE: expected a finite beta >= 0, got nan"),
        (M.HVAE, {"free_bits": math.inf}, "HVAE: expected a finite free_bits >= 0, got inf"),
        (M.HVAE, {"blocks": 1.5}, "HVAE: expected a whole number blocks >= 1, got 1.5"),
        (M.DynamicDiffusion, {"solver": "2m"}, "expected solver 'ddim' or 'explicit ddim'"),
        (M.DynamicDiffusion, {"replay": True}, "without replay"),
        (M.DynamicDiffusion, {"inversion": "guided"}, "inversion 'condition'"),
        (M.SpatialDiffusion, {"inversion": "null"}, "expected inversion 'condition' or 'guided'"),
    ],
)
def test_options_that_cannot_work_are_refused_before_anything_is_built(kind, options, message):
    with pytest.raises(ValueError, match=message):
        kind(**options)
