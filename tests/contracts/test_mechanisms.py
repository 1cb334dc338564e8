"""What every mechanism must satisfy: one body, run over all of them. A new mechanism adds a line to CASES."""

import copy
import json
from dataclasses import dataclass, field

import numpy as np
import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.units import Units

N = 12
PARENTS = {"a": cf.Continuous(), "k": cf.Categorical(3), "b": cf.Binary()}
FREE, ABOVE, BETWEEN = cf.Continuous(), cf.Continuous(lower=1.0), cf.Continuous(lower=-1.0, upper=2.0)
EQUATION = {"equation": lambda u, pa: pa["a"] + u**3 + u, "inverse": lambda x, pa: _root(x - pa["a"])}


def _root(y):
    """The real solution u of u^3 + u = y, by Cardano."""
    d = (y**2 / 4 + 1 / 27).sqrt()
    cubic = lambda v: v.sign() * v.abs() ** (1 / 3)  # noqa: E731
    return cubic(y / 2 + d) + cubic(y / 2 - d)


@dataclass
class Case:
    name: str
    kind: type
    variable: cf.Variable
    parents: dict = field(default_factory=lambda: PARENTS)
    options: dict = field(default_factory=dict)
    leads_back: bool = True  # whether prediction undoes abduction, if not exactly


CASES = [
    Case("gaussian root", M.Gaussian, FREE, {}),
    Case("gaussian linear", M.Gaussian, FREE),
    Case("gaussian mlp", M.Gaussian, FREE, options={"hidden": [8]}),
    Case(
        "gaussian known", M.Gaussian, FREE, {"a": cf.Continuous()}, {"weights": {"a": 2.0}, "bias": 1.0, "scale": 0.5}
    ),
    Case("spline root", M.Flow, BETWEEN, {}),
    Case("spline", M.Flow, FREE),
    Case("spline above", M.Flow, ABOVE),
    Case("spline below", M.Flow, cf.Continuous(upper=3.0)),
    Case("spline between", M.Flow, BETWEEN),
    Case("affine flow", M.Flow, BETWEEN, options={"transform": "affine"}),
    Case("categorical root", M.Categorical, cf.Categorical(4), {}),
    Case("categorical", M.Categorical, cf.Categorical(4)),
    Case("categorical known", M.Categorical, cf.Categorical(2), {}, {"probabilities": [0.3, 0.7]}),
    Case("binary", M.Binary, cf.Binary()),
    Case("functional", M.Functional, FREE, options=EQUATION),
    *(
        Case(
            f"spatial diffusion {prediction}",
            M.SpatialDiffusion,
            cf.Image(2, 8, 8),
            options={"widths": [8, 8], "steps": 40, "prediction": prediction, "passes": 60},
        )
        for prediction in ("epsilon", "v", "scaled", "x0")
    ),
    *(
        Case(
            f"spatial diffusion {solver}, {'replayed' if replay else 'not replayed'}",
            M.SpatialDiffusion,
            cf.Image(2, 8, 8),
            options={"widths": [8, 8], "steps": 40, "solver": solver, "replay": replay},
        )
        for solver, replay in (
            ("explicit ddim", True),
            ("2m", True),
            ("bidirectional ddim", False),
            ("bidirectional ddim", True),
            ("edict", False),
        )
    ),
    *(
        Case(
            f"semantic diffusion, {encoder} encoded, {dropped} dropped",
            M.SemanticDiffusion,
            cf.Image(2, 8, 8),
            options={"widths": [8, 8], "steps": 40, "passes": 60, "latent": 3}
            | {"encoder": encoder, "hidden": hidden, "dropped": dropped},
        )
        for encoder, hidden, dropped in (("image", 0.0, "all"), ("image and parents", 0.5, "parents"))
    ),
    Case(
        "spatial diffusion bidirectional ddim, mixed",
        M.SpatialDiffusion,
        cf.Image(2, 8, 8),
        options={"widths": [8, 8], "steps": 40, "solver": "bidirectional ddim", "mixing": 0.96},
    ),
    Case(
        "spatial diffusion, edits kept local",
        M.SpatialDiffusion,
        cf.Image(2, 8, 8),
        options={"widths": [8, 8], "steps": 40, "solver": "2m", "edit": 1e-6},
    ),
    Case(
        "semantic diffusion, factual reference",
        M.SemanticDiffusion,
        cf.Image(2, 8, 8),
        options={"widths": [8, 8], "steps": 40, "passes": 60, "latent": 3, "omega": 3.0, "reference": "factual"},
    ),
    *(
        Case(
            f"nscm diffusion, {name}",
            M.NSCMDiffusion,
            cf.Image(2, 8, 8),
            {"a": cf.Continuous(), "b": cf.Binary()},
            {"widths": [8, 8], "projector": [8, 8], "steps": 40, "replay": True} | options,
        )
        for name, options in {
            "structure given": {"structure": {"b": ["a"]}, "size": 0.02, "solver": "2m"},
            "structure learned, empirical": {
                "structure": "learned",
                "scale": "empirical",
                "stop": 0.0,  # equations that were never fitted are hardly missed
                "size": 0.02,
                "solver": "2m",
            },
            "by parents": {"structure": "learned", "by": "parents", "omega": 2.0, "solver": "explicit ddim"},
        }.items()
    ),
    *(
        Case(
            f"diff-scm, {name}",
            M.DiffSCM,
            cf.Image(2, 8, 8),
            options={"widths": [8, 8], "projector": [8, 8], "steps": 40, "solver": "2m", "replay": True} | options,
        )
        for name, options in {"constant": {"size": 0.02}, "empirical": {"scale": "empirical", "size": 0.02}}.items()
    ),
    Case(
        "dynamic diffusion",
        M.DynamicDiffusion,
        cf.Image(2, 8, 8),
        options={"widths": [8, 8], "steps": 15, "passes": 60, "latent": 3, "passes_per_level": 3},
        leads_back=False,
    ),
    Case("vae", M.VAE, cf.Image(2, 8, 8), options={"latent": 3, "widths": [8, 8]}),
    *(
        Case(
            f"causal vae, structure {name}",
            M.CausalVAE,
            cf.Image(2, 8, 8),
            {"a": cf.Continuous(), "b": cf.Binary()},
            {"structure": structure, "width": 2, "widths": [8, 8], "hidden": 8},
        )
        for name, structure in {"given": {"b": ["a"]}, "learned": "learned"}.items()
    ),
    Case("hvae", M.HVAE, cf.Image(2, 8, 8), options={"latent": 2, "widths": [8, 8, 8], "blocks": 2, "finest": 1}),
]
DENSITIES = [case for case in CASES if case.kind.has_density]
SCALARS = [case for case in DENSITIES if isinstance(case.variable, cf.Continuous)]
by_name = {"ids": lambda case: case.name}


def parents_of(case, rows=N):
    generator = torch.Generator().manual_seed(1)
    values = {
        "a": torch.randn(rows, generator=generator, dtype=torch.float64),
        "k": torch.randint(3, (rows,), generator=generator),
        "b": torch.randint(2, (rows,), generator=generator),
    }
    return {name: values[name] for name in case.parents}


def build(case):
    """The mechanism calibrated on some rows and with random weights, so that nothing holds by being zero."""
    mechanism = case.kind(**case.options).build(case.variable, case.parents).double()
    generator = torch.Generator().manual_seed(2)
    rows = 200
    parents = parents_of(case, rows)
    if isinstance(case.variable, cf.variables.Discrete):
        value = torch.randint(case.variable.classes, (rows,), generator=generator)
    else:
        unit = 0.1 + 0.8 * torch.rand(rows, *case.variable.shape, generator=generator, dtype=torch.float64)
        low, high = getattr(case.variable, "lower", 0.0), getattr(case.variable, "upper", 1.0)
        value = low + unit * (high - low) if None not in (low, high) else (3 - unit if high else 1 + unit)
        if (low, high) == (None, None):
            value = value + 0.3 * sum(p.double() for p in parents.values())
    mechanism.calibrate(value, parents)
    size = 0.02 if case.variable.shape else 0.3 if isinstance(case.variable, cf.variables.Discrete) else 0.1
    for parameter in mechanism.parameters():
        parameter.data += size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    if isinstance(mechanism, M.Diffusion):  # an untrained network may be no contraction; a quiet one is
        mechanism.network.unet.conv_out.weight.data *= 0.05
    return mechanism.eval()


def values_of(case, mechanism):
    noise = mechanism.noise(Units(torch.arange(N)), "x")
    return noise, mechanism.predict(noise, parents_of(case)).detach()


@pytest.mark.parametrize("case", CASES, **by_name)
def test_values_lie_in_the_support(case):
    mechanism = build(case)
    _, value = values_of(case, mechanism)
    assert case.variable.check("x", value, rows=N) is value


@pytest.mark.parametrize("case", CASES, **by_name)
def test_noise_belongs_to_the_unit(case):
    mechanism = build(case)
    whole = mechanism.noise(Units(torch.arange(N), seed=3), "x")
    part = mechanism.noise(Units(torch.tensor([5, 2]), seed=3), "x")
    other = mechanism.noise(Units(torch.arange(N), seed=4), "x")
    for site, noise in whole.items():
        assert len(noise) == N
        assert torch.equal(noise[[5, 2]], part[site])
        assert not torch.equal(noise, other[site])


@pytest.mark.parametrize("case", [case for case in CASES if case.leads_back], **by_name)
def test_abduction_and_prediction_are_inverse(case):
    mechanism, parents = build(case), parents_of(case)
    _, value = values_of(case, mechanism)
    noise = mechanism.abduct(value, parents, Units(torch.arange(N)), "x")
    again = mechanism.predict(noise, parents)
    if value.is_floating_point():
        tolerance = 1e-8 if mechanism.exact else 1e-3
        torch.testing.assert_close(again, value, atol=tolerance, rtol=tolerance)
    else:
        assert torch.equal(again, value)


@pytest.mark.parametrize("case", CASES, **by_name)
def test_abduction_recovers_the_noise_or_draws_it(case):
    mechanism, parents = build(case), parents_of(case)
    noise, value = values_of(case, mechanism)
    found = mechanism.abduct(value, parents, Units(torch.arange(N)), "y")
    assert set(found) >= set(noise)
    if mechanism.stochastic_abduction:
        other = mechanism.abduct(value, parents, Units(torch.arange(N)), "z")
        assert any(not torch.equal(found[site], other[site]) for site in found)
    elif mechanism.exact and isinstance(case.variable, cf.Continuous):  # codes of images are many to one
        for site in noise:
            torch.testing.assert_close(found[site], noise[site], atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("case", [case for case in CASES if case.parents], **by_name)
def test_other_parents_give_another_value(case):
    mechanism, parents = build(case), parents_of(case)
    noise, value = values_of(case, mechanism)
    moved = {
        name: v + 40.0 if v.is_floating_point() else (v + 1) % (3 if name == "k" else 2) for name, v in parents.items()
    }
    assert not torch.equal(mechanism.predict(noise, moved), value)


@pytest.mark.parametrize("case", CASES, **by_name)
def test_a_row_does_not_depend_on_its_batch(case):
    mechanism, parents = build(case), parents_of(case)
    _, value = values_of(case, mechanism)
    order = torch.tensor([7, 0, 3])
    whole = mechanism.abduct(value, parents, Units(torch.arange(N)), "x")
    part = mechanism.abduct(value[order], {n: v[order] for n, v in parents.items()}, Units(order), "x")
    for site in whole:
        torch.testing.assert_close(part[site], whole[site][order], atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("case", CASES, **by_name)
def test_training_reaches_every_parameter(case):
    mechanism, parents = build(case).train(), parents_of(case)
    _, value = values_of(case, mechanism)
    generator = torch.Generator().manual_seed(0)
    loss = sum(mechanism.loss(value, parents, generator) for _ in range(12))
    assert loss.shape == (N,)
    if mechanism.learns:
        loss.sum().backward()
        without = [name for name, p in mechanism.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
        assert not without


@pytest.mark.parametrize("case", CASES, **by_name)
def test_the_loss_is_a_function_of_its_generator(case):
    mechanism, parents = build(case), parents_of(case)
    _, value = values_of(case, mechanism)
    first, second = (mechanism.loss(value, parents, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)


@pytest.mark.parametrize("case", [case for case in CASES if case.kind is not M.Functional], **by_name)
def test_options_and_weights_make_the_same_mechanism_again(case):
    mechanism, parents = build(case), parents_of(case)
    noise, value = values_of(case, mechanism)
    again = case.kind(**json.loads(json.dumps(mechanism.config()))).build(case.variable, case.parents).double()
    again.load_state_dict(mechanism.state_dict())
    assert torch.equal(again.eval().predict(noise, parents), value)


@pytest.mark.parametrize("case", CASES, **by_name)
def test_it_can_be_copied(case):
    mechanism, parents = build(case), parents_of(case)
    noise, value = values_of(case, mechanism)
    mechanism.loss(value, parents, torch.Generator().manual_seed(0)).sum()
    assert torch.equal(copy.deepcopy(mechanism).predict(noise, parents), value)


@pytest.mark.parametrize("case", SCALARS, **by_name)
def test_the_density_is_that_of_the_noise_carried_over(case):
    """log p(x) = log p(u) + log |du / dx|, the Jacobian by autograd."""
    mechanism, parents = build(case), parents_of(case)
    _, value = values_of(case, mechanism)
    leaf = value.clone().requires_grad_()
    u = mechanism.abduct(leaf, parents, Units(torch.arange(N)), "x")["u"]
    (slope,) = torch.autograd.grad(u.sum(), leaf)
    expected = torch.distributions.Normal(0.0, 1.0).log_prob(u) + slope.abs().log()
    found = mechanism.log_prob(value, parents)
    torch.testing.assert_close(found, expected, atol=1e-6, rtol=1e-6, check_dtype=False)


@pytest.mark.parametrize("case", DENSITIES, **by_name)
def test_noise_pushed_forward_has_the_stated_distribution(case):
    """The mean of log p over predictions is the same as over draws of the Pyro distribution."""
    mechanism = build(case)
    rows = 4000
    parents = {name: value[:1].expand(rows) for name, value in parents_of(case).items()}
    own = mechanism.predict(mechanism.noise(Units(torch.arange(rows)), "x"), parents)
    with torch.random.fork_rng():
        torch.manual_seed(0)
        theirs = mechanism.distribution(parents).sample()
        theirs = theirs if len(theirs) == rows else mechanism.distribution(parents).sample((rows,))[:, 0]
    first, second = mechanism.log_prob(own, parents), mechanism.log_prob(theirs, parents)
    spread = (first.var() / rows + second.var() / rows).sqrt()
    assert (first.mean() - second.mean()).abs() < 5 * spread + 1e-9


@pytest.mark.parametrize("case", CASES, **by_name)
def test_a_variable_it_cannot_model_is_refused(case):
    wrong = cf.Image(1, 8, 8) if not case.variable.shape else cf.Continuous()
    with pytest.raises(TypeError, match="models"):
        case.kind(**case.options).build(wrong, {})


@pytest.mark.parametrize("case", CASES, **by_name)
def test_it_is_built_once(case):
    with pytest.raises(ValueError, match="built already"):
        build(case).build(case.variable, case.parents)


NAN = float("nan")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: M.Gaussian(weights={"bias": NAN}), "Gaussian: expected a finite weight of bias, got nan"),
        (lambda: M.Gaussian(weights={}, bias=NAN), "Gaussian: expected a finite bias, got nan"),
        (lambda: M.Gaussian(weights={}, scale=float("inf")), "Gaussian: expected a finite scale > 0, got inf"),
        (lambda: M.Categorical(probabilities=[NAN, NAN]), "Categorical: expected probabilities .* sum to 1, got .nan"),
        (lambda: M.Binary(probabilities=[]), "Binary: expected probabilities .* sum to 1"),
        (lambda: M.Binary(probabilities=[-0.5, 1.5]), "Binary: expected probabilities that are not negative"),
    ],
)
def test_numbers_that_are_known_are_numbers(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("made", [np.array, torch.tensor, tuple])
def test_probabilities_may_be_arrays(made):
    assert M.Binary(probabilities=made([0.25, 0.75])).config()["probabilities"] == [0.25, 0.75]


def test_weights_of_numpy_are_saved(tmp_path):
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    known = {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": np.float32(2.0)}, scale=np.float32(0.5))}
    cf.SCM(graph, known).save(tmp_path / "m")
    assert (
        cf.SCM.load(tmp_path / "m").do(a=1.0).sample(1)["b"]
        == cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 2.0}, scale=0.5)})
        .do(a=1.0)
        .sample(1)["b"]
    )
