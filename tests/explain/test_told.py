"""Told: SCE-LITE-HQ's steps, of a generator that knows where they are to lead."""

import pytest
import torch

from causalcf.explain import Generator, SCELiteHQ, Told

IDS = torch.arange(5)
OPTIONS = {"steps": 20, "strength": 0.3, "scales": (3.0, 9.0), "threshold": 0.01}


def drawing(generator, conditions):
    return Generator(generator.network, generator.null, generator.schedule, conditions=conditions)


def test_rows_do_not_depend_on_their_batch(generator, classifier, images):
    told = drawing(generator, lambda classes: torch.eye(3).double()[classes])
    whole = Told(**OPTIONS, batch=5).explain(classifier, told, images, ids=IDS)
    parts = Told(**OPTIONS, batch=2).explain(classifier, told, images, ids=IDS)
    torch.testing.assert_close(whole.counterfactuals, parts.counterfactuals, atol=1e-9, rtol=0)
    assert whole.after.mean() > whole.before.mean() + 0.02
    silent = SCELiteHQ(**OPTIONS, batch=5).explain(classifier, told, images, ids=IDS)
    assert not torch.allclose(silent.counterfactuals, whole.counterfactuals, atol=1e-3)
    assert whole.about == {**silent.about, "method": "Told"}


def test_of_a_generator_that_says_nothing_of_the_target_it_is_sce_lite_hq(generator, classifier, images):
    mute = drawing(generator, lambda classes: generator.nothing(len(classes)))
    one, other = (kind(**OPTIONS).explain(classifier, mute, images, ids=IDS) for kind in (Told, SCELiteHQ))
    assert torch.equal(one.counterfactuals, other.counterfactuals)
    assert torch.equal(one.forward, other.forward)


def test_the_target_of_the_rows_that_are_left_is_told(images):
    asked = []

    def conditions(classes):
        asked.append(classes.tolist())
        return torch.zeros(len(classes), 3).double()

    told = Generator(lambda x, timestep, condition: 0.1 * x, torch.zeros(3).double(), conditions=conditions)
    bright = lambda x: 9 * (x.mean((1, 2, 3)) - 0.5)  # noqa: E731
    found = Told(**{**OPTIONS, "rate": 0.01}).explain(bright, told, images, ids=IDS)
    again = found.scale == OPTIONS["scales"][1]
    assert 0 < again.sum() < 5
    assert asked[-1] == found.target[again].tolist()


def test_it_needs_classes_and_has_no_published_form(generator, classifier, images):
    with pytest.raises(ValueError, match="cannot be told a class"):
        Told(**OPTIONS).explain(classifier, generator, images)
    with pytest.raises(ValueError, match="Told: there is no published form; leave parity out"):
        Told(parity="published")
    with pytest.raises(ValueError, match="Told: expected strength in"):
        Told(strength=0.0)
