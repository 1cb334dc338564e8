"""Counterfactuals that keep what other parents leave as it was."""

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.diffusion.edits import edited, looks
from causalcf.diffusion.schedule import Schedule
from causalcf.units import Units

N, S = 6, 12
UNITS = Units(torch.arange(N))
PARENTS = {"a": torch.linspace(-1, 1, N, dtype=torch.float64)}
MOVED = {"a": PARENTS["a"] + 2.0}


class Halves(torch.nn.Module):
    """Knows the image of its parent: the left half is as bright as the parent says, the right one hardly follows."""

    null = torch.zeros(1)

    def clean(self, condition):
        brightness = 0.2 * condition.reshape(-1, 1, 1, 1)
        return torch.cat([brightness.expand(-1, 1, 8, 4), 0.02 * brightness.expand(-1, 1, 8, 4)], 3)

    def forward(self, x, timestep, condition):
        share = Schedule("linear").alpha_bar[timestep].reshape(-1, 1, 1, 1)
        return (x - share.sqrt() * self.clean(condition)) / (1 - share).sqrt()


def built(kind=M.SpatialDiffusion, **options):
    made = kind(widths=(8, 8), steps=S, solver="2m", **options).build(cf.Image(1, 8, 8), {"a": cf.Continuous()})
    made = made.double().eval()
    made.network = Halves()
    return made


def observed(mechanism):
    generator = torch.Generator().manual_seed(1)
    clean = mechanism.network.clean(mechanism.features(PARENTS, N))
    return (clean + 0.1 * torch.randn(clean.shape, generator=generator, dtype=torch.float64) + 1) / 2


def test_what_the_parents_move_changes_and_the_rest_is_as_observed():
    mechanism, everywhere = built(edit=0.1), built()
    image = observed(mechanism)
    found = mechanism.predict(mechanism.abduct(image, PARENTS, UNITS, "x"), MOVED)
    free = everywhere.predict(everywhere.abduct(image, PARENTS, UNITS, "x"), MOVED)
    # the means of the halves move by 0.2 and 0.004; the fifth column lies beside one that changes
    assert torch.equal(found[..., 5:], image[..., 5:])
    assert torch.equal(found[..., :5], free[..., :5])
    assert ((free - image)[..., 5:].abs().flatten(1).amax(1) > 1e-3).all()


def test_nothing_changes_where_nothing_is_done():
    mechanism = built(edit=1e-6)
    image = observed(mechanism)
    noise = mechanism.abduct(image, PARENTS, UNITS, "x")
    assert torch.equal(mechanism.predict(noise, PARENTS), image)
    part = mechanism.predict({site: value[2:3] for site, value in noise.items()}, {"a": MOVED["a"][2:3]})
    torch.testing.assert_close(part, mechanism.predict(noise, MOVED)[2:3], atol=1e-10, rtol=0)


def test_drawn_noise_has_nothing_to_keep():
    mechanism, free = built(edit=0.1), built()
    drawn = mechanism.noise(UNITS, "x")
    assert torch.equal(mechanism.predict(drawn, MOVED), free.predict(drawn, MOVED))


@pytest.mark.parametrize(("replay", "abduct"), [(False, S), (True, S + 1)])
def test_it_costs_three_calls_in_prediction_and_none_where_abduction_was_there(replay, abduct):
    mechanism, asked = built(edit=0.1, replay=replay), []
    mechanism.network.register_forward_hook(lambda _, args, __: asked.append(len(args[2])))
    noise = mechanism.abduct(observed(mechanism), PARENTS, UNITS, "x")
    assert asked == [N] * abduct
    mechanism.predict(noise, MOVED)
    assert asked == [N] * (abduct + S + 3)


def test_large_and_small_things_are_looked_for():
    levels = Schedule("linear").levels(24, "log-snr")
    found = [(levels.alpha[k] / levels.sigma[k]).item() for k in looks(levels)]
    assert found == pytest.approx([1, 1 / 3, 1 / 9], rel=0.25)
    assert looks(Schedule("linear").levels(1, "log-snr"))


def test_a_channel_that_changes_is_enough():
    factual = torch.zeros(2, 3, 3, 8, 8)
    counterfactual = factual.clone()
    counterfactual[1, :, 2, 1, 1] = 0.5  # of 2
    found = edited(factual, counterfactual, 0.25)
    assert not found[0].any()
    assert found[1, 0].nonzero().tolist() == [[y, x] for y in range(3) for x in range(3)]
    assert not edited(factual, counterfactual, 0.26).any()


def test_a_model_kept_with_it_loads_with_it():
    assert built(edit=0.2).config()["edit"] == 0.2
    assert "edit" not in built().config()


@pytest.mark.parametrize("edit", [0.0, 1.0, float("nan"), True, "0.3"])
def test_what_cannot_be_a_threshold_is_refused(edit):
    with pytest.raises(ValueError, match="expected 0 < edit < 1, or None to let all pixels change"):
        M.SpatialDiffusion(edit=edit)


def test_a_generator_that_is_told_nothing_cannot_say_where():
    with pytest.raises(ValueError, match=r"edit=0.3 is of a generator that is told the parents, .*take edit=None"):
        M.NSCMDiffusion(edit=0.3)
    assert M.NSCMDiffusion(edit=0.3, by="both").edit == 0.3
