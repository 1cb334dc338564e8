"""What any structural causal model must satisfy, whatever its mechanisms."""

import pytest
import torch

from causalcf import decompose, do, scale, shift

TIGHT = {"atol": 1e-6, "rtol": 1e-6}


def close(first, second):
    torch.testing.assert_close(first, second, **TIGHT)


def test_observing_returns_the_evidence_itself(scm, rows):
    world = scm.observe(rows)
    assert all(world[name] is rows[name] for name in scm.graph)


def test_composition_holds_under_a_forced_round_trip(scm, rows):
    again = scm.observe(rows).do(recompute=True)
    for name in scm.graph:
        assert again[name] is not rows[name]
        close(again[name], rows[name])


def test_composition_predicts_from_the_noise(scm, rows):
    world = scm.observe(rows)
    world.noise["c"]["u"].add_(1.0)
    moved = world.do(recompute=True)
    assert ((moved["c"] - rows["c"]).abs() > 1e-3).double().mean() > 0.9


def test_effectiveness_the_intervened_variable_takes_the_value(scm, rows):
    assert (scm.observe(rows).do(c=0.5)["c"] == 0.5).all()


def test_intervening_with_the_factual_value_still_cuts_the_incoming_edges(scm, rows):
    held = scm.observe(rows).do(c=rows["c"]).do(a=shift(1.0))
    torch.testing.assert_close(held["c"], rows["c"], atol=0, rtol=0)
    assert (held["b"] != rows["b"]).all()


def test_reversibility_abducting_the_counterfactual_leads_back(scm, rows):
    away = scm.observe(rows).do(a=shift(0.5))
    back = scm.observe(away.values()).do(a=rows["a"])
    for name in scm.graph:
        close(back[name], rows[name])


def test_joint_and_sequential_interventions_on_distinct_variables_agree_bitwise(scm, rows):
    world = scm.observe(rows)
    joint, forth, other = world.do(a=1.0, c=0.2), world.do(a=1.0).do(c=0.2), world.do(c=0.2).do(a=1.0)
    for name in scm.graph:
        assert torch.equal(joint[name], forth[name])
        assert torch.equal(joint[name], other[name])


def test_locality_what_is_not_reached_is_the_same_tensor(scm, rows):
    world = scm.observe(rows)
    first = world.do(c=0.2)
    second = first.do(e=1.0)
    for name in ("a", "b", "e"):
        assert first[name] is rows[name]
    for name in ("a", "b", "c"):
        assert second[name] is first[name]
    assert not torch.equal(first["d"], rows["d"])


def test_two_shifts_add_up(scm, rows):
    world = scm.observe(rows)
    close(world.do(d=shift(0.5)).do(d=shift(0.25))["d"], rows["d"] + 0.75)


def test_shift_and_scale_do_not_commute(scm, rows):
    world = scm.observe(rows)
    close(world.do(d=[shift(1.0), scale(2.0)])["d"], 2 * (rows["d"] + 1))
    close(world.do(d=[scale(2.0), shift(1.0)])["d"], 2 * rows["d"] + 1)


def test_a_shift_moves_the_value_of_this_world_not_the_factual_one(scm, rows):
    world = scm.observe(rows)
    upstream = world.do(a=shift(0.5))
    close(upstream.do(d=shift(1.0))["d"], upstream["d"] + 1)


def test_a_value_overrides_what_came_before_and_a_later_shift_acts_on_it(scm, rows):
    world = scm.observe(rows)
    assert (world.do(d=shift(3.0)).do(d=2.0)["d"] == 2.0).all()
    assert (world.do(d=2.0).do(d=shift(3.0))["d"] == 5.0).all()


def test_a_policy_sees_the_parents_of_its_own_world(scm, rows):
    world = scm.observe(rows).do(e=1.5, c=0.25)
    close(world.do(d=lambda pa: pa["c"] + pa["e"])["d"], torch.full_like(rows["d"], 1.75))


def test_noise_is_shared_by_all_worlds_of_an_observation(scm, rows):
    world = scm.observe(rows)
    assert world.do(a=1.0).do(c=0.0).noise is world.noise


def test_prediction_is_lazy(scm, rows, monkeypatch):
    asked = []
    for name, mechanism in scm.mechanisms.items():
        real = mechanism.predict
        monkeypatch.setattr(mechanism, "predict", lambda *a, real=real, name=name: asked.append(name) or real(*a))
    worlds = [scm.observe(rows)]
    worlds += [worlds[0].do(a=value) for value in (0.5, 1.0, 1.5)]
    for world in worlds:
        world["b"], world["b"]
    assert asked == ["b"] * 3


def test_abduction_happens_once_for_all_worlds(scm, rows, monkeypatch):
    asked = []
    for name, mechanism in scm.mechanisms.items():
        real = mechanism.abduct
        monkeypatch.setattr(mechanism, "abduct", lambda *a, real=real, name=name: asked.append(name) or real(*a))
    world = scm.observe(rows)
    for value in (0.5, 1.0, 1.5):
        world.do(a=value)["d"]
    assert sorted(asked) == ["b", "c", "d"]


def test_a_nested_counterfactual_takes_the_value_from_another_world(scm, rows):
    world = scm.observe(rows)
    other = world.do(a=1.0)
    close(world.do(c=other)["d"], world.do(c=other["c"])["d"])
    assert world.do(c=other)["b"] is rows["b"]


@pytest.mark.parametrize("on", ["c", "d"])
def test_effects_total_is_direct_plus_reverse_indirect(scm, rows, on):
    effects = decompose(scm.observe(rows), do(a=shift(0.5)), on=on)
    close(effects.total, effects.direct + effects.reverse_indirect)
    close(effects.total, effects.indirect + effects.reverse_direct)
    close(effects.interaction, effects.total - effects.direct - effects.indirect)
    close(effects.total, scm.observe(rows).do(a=shift(0.5))[on] - rows[on])


def test_an_effect_without_a_direct_edge_has_no_direct_part(scm, rows):
    effects = decompose(scm.observe(rows), do(a=shift(0.5)), on="d")
    assert effects.mediators == ("b", "c")
    close(effects.direct, torch.zeros_like(effects.direct))
    close(effects.indirect, effects.total)


def test_doing_on_the_model_and_on_its_samples_agree(scm, rows):
    """Rung 2 as a twin of rung 3: the same prior noise, intervened on before or after it is drawn."""
    doing = scm.do(a=1.0, d=shift(2.0)).sample(64, seed=3)
    imagined = scm.observe(rows).do(a=1.0, d=shift(2.0))
    for name in scm.graph:
        close(doing[name], imagined[name])
