"""The recipes of CONTRIBUTING.md work."""

import re
from pathlib import Path

import pytest
import torch

import causalcf as cf
from causalcf import do, shift
from causalcf import mechanisms as M
from causalcf.diffusion.guidance import Step
from causalcf.diffusion.schedule import Schedule
from causalcf.metrics import evaluate

TEXT = (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text()


@pytest.fixture(scope="module")
def recipes():
    found = {"torch": torch}
    for block in re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL):
        exec(block, found)
    return found


@pytest.fixture
def scm(recipes):
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(lower=-1.0, upper=3.0), b=cf.Continuous())
    return cf.SCM(graph, {"a": recipes["Uniform"](), "b": M.Gaussian(weights={"a": 2.0})})


def test_the_mechanism(scm):
    rows = scm.sample(1000)
    assert rows["a"].mean() == pytest.approx(1.0, abs=0.1)
    rows = {name: value[rows["a"] < 2.0] for name, value in rows.items()}
    world = scm.observe(rows)
    torch.testing.assert_close(world.do(recompute=True)["a"], rows["a"])
    torch.testing.assert_close(world.do(a=shift(0.5))["b"], rows["b"] + 1.0)
    assert scm.log_prob({"a": torch.zeros(2)}, on=["a"])["a"].exp().tolist() == pytest.approx([0.25, 0.25])


def test_the_guidance(recipes):
    levels = Schedule().levels(10)
    x, e, target = torch.randn(3, 2, 1, 4, 4, dtype=torch.float64)

    def clean(noise):
        return (x - levels.sigma[6] * noise) / levels.alpha[6]

    pulled = e + recipes["Towards"](target, 0.25)(Step(x, 6, levels, e), ())
    torch.testing.assert_close(clean(pulled), 0.75 * clean(e) + 0.25 * target)


def test_the_metric(recipes, scm):
    report = evaluate(scm, scm.sample(32), {"up": do(a=0.0)}, [recipes["Movement"]("b")])
    expected = (2 * scm.sample(32)["a"]).abs().mean()
    assert report["movement", "up", "b"].estimate.mean == pytest.approx(float(expected), rel=1e-5)
