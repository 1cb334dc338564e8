"""An autoencoder with a causal layer: what an intervention reaches, and what the labels teach."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import Pendulum
from causalcf.units import Units

N = 6
PARENTS = {name: cf.Continuous() for name in ("d", "c", "b", "a")}  # against the order of the causes
D, C, B, A = range(4)
CHAIN = {"b": ["a"], "c": ["b"], "d": ["c"]}
FORK = {"c": ["a", "b"], "d": ["b"]}
UNITS = Units(torch.arange(N))


def built(structure=CHAIN, parents=PARENTS, **options):
    """A mechanism with random weights, whose equations are no constants."""
    torch.manual_seed(0)
    options = {"width": 3, "widths": (8, 8), "hidden": 8, **options}
    made = M.CausalVAE(structure, **options).build(cf.Image(1, 8, 8), parents).double().eval()
    generator = torch.Generator().manual_seed(0)
    for name, parameter in made.named_parameters():
        size = 0.5 if name.startswith("equations.") else 0.1
        parameter.data += size * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    image = 0.1 + 0.8 * torch.rand(N, 1, 8, 8, generator=generator, dtype=torch.float64)
    return image, {name: torch.randn(N, generator=generator, dtype=torch.float64) for name in PARENTS}


def counterfactual(mechanism, parents, **values):
    """Parents under an intervention, the others by the mechanism's own equations with their own noise."""
    y = mechanism.features(parents, N)
    own, names = y - mechanism.equations(y), list(parents)
    fixed = torch.tensor([name in values for name in names])
    target = torch.stack([values.get(name, torch.zeros(())).expand(N) for name in names], 1)
    for _ in names:
        y = torch.where(fixed, target, mechanism.equations(y) + own)
    return dict(zip(names, y.detach().unbind(1), strict=True))


@pytest.mark.parametrize("structure", [CHAIN, {}, "learned"])
def test_doing_nothing_gives_the_image_back(structure, rows):
    image, parents = rows
    mechanism = built(structure)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    assert set(noise) == {"e", "f", "u"}
    torch.testing.assert_close(mechanism.predict(noise, parents), image, atol=1e-12, rtol=0)
    other = {**parents, "a": parents["a"] + 1}
    assert (mechanism.predict(noise, other) - image).abs().mean() > 1e-3


def test_abduction_reads_the_image_alone(rows):
    image, parents = rows
    mechanism = built()
    other = {name: value + 1 for name, value in parents.items()}
    first, second = (mechanism.abduct(image, given, UNITS, "x") for given in (parents, other))
    assert torch.equal(first["e"], second["e"])
    assert torch.equal(first["u"], second["u"])
    torch.testing.assert_close(first["f"], torch.stack(list(parents.values()), 1))


def test_concepts_solve_their_equations(rows):
    """In a chain, whatever the order in which the factors are declared."""
    image, parents = rows
    mechanism = built()
    noise = mechanism.abduct(image, parents, UNITS, "x")
    z = mechanism.concepts(noise, parents)
    torch.testing.assert_close(z[..., 0], mechanism.equations(z[..., 0]) + noise["e"][..., 0], atol=1e-12, rtol=0)
    assert torch.equal(z[..., 1:], noise["e"][..., 1:])
    assert (mechanism.equations(z[..., 0])[:, [D, C, B]].std(0) > 0.01).all()


@pytest.mark.parametrize(
    ("structure", "name", "reached"),
    [
        (CHAIN, "a", {A, B, C, D}),
        (CHAIN, "c", {C, D}),
        (CHAIN, "d", {D}),
        (FORK, "a", {A, C}),
        (FORK, "b", {B, C, D}),
        (FORK, "c", {C}),
        ({}, "a", {A}),
    ],
)
def test_an_intervention_moves_the_labelled_entries_of_its_descendants_alone(structure, name, reached, rows):
    image, parents = rows
    mechanism = built(structure)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    other = counterfactual(mechanism, parents, **{name: parents[name] + 2})
    moved = (mechanism.concepts(noise, other) - mechanism.concepts(noise, parents)).abs() > 1e-6
    expected = torch.zeros(4, 3, dtype=torch.bool)
    expected[list(reached), 0] = True
    assert torch.equal(moved, expected.expand(N, 4, 3))
    fixed = mechanism.equations.intervened(noise["f"], mechanism.features(other, N))
    assert torch.equal(fixed, torch.tensor([factor == name for factor in PARENTS]).expand(N, 4))


def test_what_is_intervened_on_takes_its_value_and_the_rest_follows_with_its_own_code(rows):
    image, parents = rows
    mechanism = built(FORK)
    mechanism.features.mean += 0.5
    mechanism.features.std *= 2
    noise = mechanism.abduct(image, parents, UNITS, "x")
    other = counterfactual(mechanism, parents, a=torch.tensor(2.0).double(), d=torch.tensor(-1.0).double())
    given = {**{name: 2 * value + 0.5 for name, value in other.items()}, "b": parents["b"]}
    z, before = mechanism.concepts(noise, given)[..., 0], mechanism.concepts(noise, parents)[..., 0]
    torch.testing.assert_close(z[:, A], torch.full((N,), 2.0).double())
    torch.testing.assert_close(z[:, D], torch.full((N,), -1.0).double())
    assert torch.equal(z[:, B], before[:, B])
    torch.testing.assert_close(z[:, C], (mechanism.equations(z) + noise["e"][..., 0])[:, C])
    assert not torch.allclose(z[:, C], before[:, C])


def test_known_interventions_are_not_guessed(rows):
    image, parents = rows
    mechanism = built(CHAIN)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    before = mechanism.concepts(noise, parents)[..., 0]
    far = {**parents, "c": parents["c"] + 3}
    followed = mechanism.concepts(mechanism.act(noise, []), far)[..., 0]
    torch.testing.assert_close(followed, before)
    for other in (far, {**parents, "c": parents["c"] + 1e-5}):
        value = mechanism.features(other, N)
        done = mechanism.concepts(mechanism.act(noise, ["c"]), other)[..., 0]
        torch.testing.assert_close(done[:, C], value[:, C])


def test_an_intervention_within_the_noise_of_its_equation_is_not_overlooked(rows):
    image, parents = rows
    mechanism = built()
    noise = mechanism.abduct(image, parents, UNITS, "x")
    assert mechanism.equations.spread()[B] > 0.3
    alone = {**parents, "b": parents["b"] + 0.01}
    other = counterfactual(mechanism, parents, a=parents["a"] + 1)
    together = {**other, "b": other["b"] + 0.2}
    for given in (alone, together):
        torch.testing.assert_close(mechanism.concepts(noise, given)[:, B, 0], given["b"])


def test_drawn_noise_shows_the_parents(rows):
    _, parents = rows
    mechanism = built()
    noise = mechanism.noise(UNITS, "x")
    assert set(noise) == {"e"}
    z = mechanism.concepts(noise, parents)
    torch.testing.assert_close(z[..., 0], torch.stack(list(parents.values()), 1))
    assert torch.equal(z[..., 1:], noise["e"][..., 1:])


def test_the_loss_is_the_bound_and_the_price_of_labels_and_edges(rows):
    image, parents = rows

    def loss(structure=CHAIN, **options):
        mechanism = built(structure, fresh=0.0, **options)
        return mechanism, mechanism.loss(image, parents, torch.Generator().manual_seed(0))

    mechanism, whole = loss()
    y = mechanism.features(parents, N)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    z, mean = mechanism.concepts(noise, parents)[..., 0], noise["e"].flatten(1)
    spread = (0.5 * mechanism.encoder(2 * image - 1, y)[1]).exp()
    spread[:, ::3] = 0.03
    codes, labelled = torch.distributions.Normal(mean, spread), torch.distributions.Normal(z, spread[:, ::3])
    kl = torch.distributions.kl_divergence
    cost = kl(codes, torch.distributions.Normal(0.0, 1.0)).sum(1)
    cost = cost + kl(labelled, torch.distributions.Normal(y, torch.ones_like(y))).sum(1)
    torch.testing.assert_close(whole - loss(beta=0.0)[1], cost / 64, check_dtype=False)
    torch.testing.assert_close(loss(supervision=3.0)[1] - whole, (z - y).square().mean(1))
    torch.testing.assert_close(loss(sparsity=1.0)[1], whole)
    learned, first = loss("learned")
    _, second = loss("learned", sparsity=1.01)
    torch.testing.assert_close(second - first, learned.equations.adjacency().sum().expand(N))


def test_some_training_rows_have_the_other_entries_drawn_anew():
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(400, 1, 8, 8, generator=generator, dtype=torch.float64)
    parents = {name: torch.randn(400, generator=generator, dtype=torch.float64) for name in PARENTS}
    seen = []
    for fresh in (0.0, 0.3):
        mechanism = built(fresh=fresh)
        mechanism.decoder.register_forward_pre_hook(lambda _, given: seen.append(given[0].unflatten(1, (4, 3))))
        mechanism.loss(image, parents, torch.Generator().manual_seed(0))
    changed = seen[0] != seen[1]
    share = changed[..., 1:].double().mean()
    assert 0.2 < share < 0.4
    assert not changed[..., 0].any()
    assert torch.equal(changed[..., 1:].all(2).all(1), changed.any(2).any(1))
    anew = seen[1][..., 1:][changed[..., 1:]]
    assert abs(anew.mean()) < 0.15
    assert abs(anew.std() - 1) < 0.1


def test_labels_teach_their_entries():
    """On pendulums: the codes are read from images that were not trained on."""
    torch.manual_seed(0)
    data, names = Pendulum(rows=256, size=32), ["angle", "sun", "length", "position"]
    shadow = {"length": ["angle", "sun"], "position": ["angle", "sun"]}
    rows, others = data[:], Pendulum("test", rows=64, size=32)[:]
    parents = {name: rows[name] for name in names}
    mechanism = M.CausalVAE(shadow, widths=(8, 16)).build(
        data.graph["image"], {name: data.graph[name] for name in names}
    )
    mechanism.calibrate(rows["image"], parents)

    def correlations():
        given = {name: others[name] for name in names}
        with torch.no_grad():
            noise = mechanism.abduct(others["image"], given, Units(others["id"]), "image")
            read, y = mechanism.concepts(noise, given)[..., 0], mechanism.features(given, 64)
        return torch.stack([torch.corrcoef(torch.stack(pair))[0, 1] for pair in zip(read.T, y.T, strict=True)])

    assert (correlations().abs() < 0.8).all()
    optimiser = torch.optim.Adam(mechanism.parameters(), 2e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(60):
        chosen = torch.randint(256, (32,), generator=generator)
        optimiser.zero_grad()
        loss = mechanism.loss(
            rows["image"][chosen], {name: value[chosen] for name, value in parents.items()}, generator
        )
        loss.mean().backward()
        optimiser.step()
    found = correlations()
    assert (found > 0.9).all(), found


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"structure": {"b": ["sun"]}},
            "names 'sun', which is no parent of this image; take it out, or name one of d,",
        ),
        ({"structure": {"sun": ["b"]}}, "names 'sun'"),
        ({"structure": {"a": ["b"], "b": ["a"]}}, "a cycle, b -> a -> b; take one of these edges out"),
        ({"structure": {"a": ["a"]}}, "a cycle, a -> a; take"),
        ({"width": 0}, "expected a whole number width >= 1"),
        ({"beta": -1.0}, "expected a finite beta >= 0"),
        ({"supervision": -1.0}, "supervision >= 0"),
        ({"fresh": 1.0}, "expected 0 <= fresh < 1, got 1.0"),
        ({"parents": {}}, r"has no parents, so there are no concepts; use VAE\(\)"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built(**options)


def test_a_class_is_no_concept():
    with pytest.raises(TypeError, match=r"k is categorical, and concepts are numbers; declare it as Continuous\(\)"):
        built(parents={"a": cf.Continuous(), "k": cf.Categorical(3)})
