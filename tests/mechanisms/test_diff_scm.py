"""Diff-SCM: what its classifier says, and where it pulls."""

import pytest
import torch
from torch import distributions

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.gradient import Likely
from causalcf.diffusion.guidance import Step
from causalcf.units import Units

N = 5
PARENTS = {"a": cf.Continuous(), "k": cf.Categorical(3), "b": cf.Binary()}
UNITS = Units(torch.arange(N))


def built(**options):
    torch.manual_seed(0)
    options = {"widths": (8, 8), "projector": (8, 8), "steps": 12, "solver": "2m", **options}
    made = M.DiffSCM(**options).build(cf.Image(1, 8, 8), PARENTS).double().eval()
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data += 0.03 * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
    return made


@pytest.fixture
def rows():
    generator = torch.Generator().manual_seed(1)
    image = 0.1 + 0.8 * torch.rand(N, 1, 8, 8, generator=generator, dtype=torch.float64)
    number = torch.randn(N, generator=generator, dtype=torch.float64)
    return image, {"a": number, "k": torch.tensor([0, 1, 2, 0, 1]), "b": torch.tensor([0, 1, 0, 1, 1])}


def test_log_likelihood_is_that_of_the_distributions(rows):
    _, parents = rows
    mechanism = built()
    x, timestep = torch.randn(N, 1, 8, 8, dtype=torch.float64), torch.tensor([0, 100, 400, 700, 999])
    read, spread = mechanism.projector(x, timestep), mechanism.projector.spread(timestep)
    expected = (
        distributions.Normal(read[:, 0], spread[:, 0]).log_prob(parents["a"])
        + distributions.Categorical(logits=read[:, 1:4]).log_prob(parents["k"])
        + distributions.Bernoulli(logits=read[:, 4]).log_prob(parents["b"].double())
        + 0.5 * torch.tensor(2 * torch.pi).log()
    )
    found = mechanism.log_likelihood(x, timestep, mechanism.features(parents, N))
    torch.testing.assert_close(found, expected)


def test_it_pulls_towards_the_class_asked_for(rows):
    image, parents = rows
    mechanism = built()
    noise = mechanism.abduct(image, parents, UNITS, "x")
    other = {**parents, "k": (parents["k"] + 1) % 3}
    target, clean = mechanism.features(other, N), torch.zeros(N, dtype=torch.int64)
    reached = []
    for size in (0.0, 1.0, 3.0):
        asked = mechanism.but(size=size)
        found = asked.predict(noise, other)
        reached.append(mechanism.log_likelihood(2 * found - 1, clean, target).mean().item())
    assert reached[0] < reached[1] < reached[2]


def test_the_pull_is_the_published_one(rows):
    image, parents = rows
    mechanism = built(size=0.7, limit=1e9)
    noise = mechanism.abduct(image, parents, UNITS, "x")
    pull = mechanism._guidance(noise, parents).parts[1]
    assert isinstance(pull, Likely)
    levels, x = mechanism._denoiser().levels, torch.randn(N, 1, 8, 8, dtype=torch.float64, requires_grad=True)
    k = 7
    timestep = levels.timestep[k].expand(N)
    (gradient,) = torch.autograd.grad(pull.log_likelihood(x, timestep).sum(), x)
    with torch.no_grad():
        change = pull(Step(x.detach(), k, levels, torch.zeros_like(x)), ())
    torch.testing.assert_close(change, -0.7 * float(levels.sigma[k]) * gradient)


def test_abduction_reads_no_parents(rows):
    image, parents = rows
    mechanism = built()
    other = {**parents, "a": parents["a"] + 1}
    first, second = (mechanism.abduct(image, given, UNITS, "x") for given in (parents, other))
    assert torch.equal(first["u"], second["u"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"scale": "balanced"}, r"DiffSCM: expected scale in \['constant', 'empirical', 'ancestral'\], got 'balanced'"),
        ({"by": "nscm"}, "DiffSCM: expected by='classifier' or 'parents' or 'both', got 'nscm'"),
        ({"limit": 0.0}, "expected limit > 0, math.inf for none, got 0.0"),
        ({"size": float("nan")}, "expected a finite size >= 0, got nan"),
        (
            {"inversion": "guided"},
            "inversion='guided' is of a generator .* by='classifier' tells it nothing; take inversion='condition'",
        ),
        ({"reference": "factual"}, "reference='factual' is of a generator that is told .* take reference='null'"),
        ({"omega": 2.0}, "omega=2.0 is of by='parents'; the classifier is scaled by size"),
    ],
)
def test_what_cannot_work_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        built(**options)
