"""Noise that belongs to the unit."""

import torch

from causalcf.units import Units, unit_ids


def test_draws_have_the_stated_distributions():
    units = Units(torch.arange(200_000), seed=1)
    uniform, normal, gumbel = units.uniform("a"), units.normal("b"), units.gumbel("c")
    assert 0 < uniform.min() < 1e-4
    assert 1 - 1e-4 < uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.003
    assert abs(uniform.var() - 1 / 12) < 0.001
    assert abs(normal.mean()) < 0.01
    assert abs(normal.std() - 1) < 0.01
    assert abs((normal**4).mean() - 3) < 0.1
    assert abs(gumbel.mean() - 0.5772) < 0.015


def test_streams_of_neighbouring_units_names_seeds_and_places_are_unrelated():
    first = Units(torch.arange(50_000), seed=0)
    grid = first.normal("a", (3,))
    others = [grid[:, 1], first.normal("b"), Units(torch.arange(50_000), seed=1).normal("a"), grid[:, 0].roll(1)]
    for other in others:
        assert abs(torch.corrcoef(torch.stack([grid[:, 0], other]))[0, 1]) < 0.02


def test_a_unit_keeps_its_noise_in_any_batch():
    whole = Units(torch.arange(100), seed=5).normal("u", (2, 3))
    part = Units(torch.tensor([40, 3]), seed=5).normal("u", (2, 3))
    assert torch.equal(part, whole[[40, 3]])


def test_integers_cover_their_range():
    drawn = Units(torch.arange(10_000)).integers("k", 7)
    assert drawn.unique().tolist() == list(range(7))
    assert (torch.bincount(drawn) > 1200).all()


def test_rows_without_ids_are_told_apart_by_content():
    rows = {"a": torch.tensor([1.0, 2.0, 3.0]), "k": torch.tensor([0, 1, 0])}
    ids = unit_ids(rows)
    order = torch.tensor([2, 0])
    assert len(ids.unique()) == 3
    assert torch.equal(unit_ids({name: value[order] for name, value in rows.items()}), ids[order])


def test_equal_rows_of_a_batch_do_not_share_noise():
    ids = unit_ids({"k": torch.tensor([1, 1, 1, 0])})
    assert len(ids.unique()) == 4


def test_own_ids_are_used():
    own = torch.tensor([5, 6])
    assert unit_ids({"a": torch.zeros(2), "id": own}) is own


def test_nothing_global_is_touched():
    state = torch.random.get_rng_state()
    Units(torch.arange(5)).gumbel("a", (4,))
    assert torch.equal(torch.random.get_rng_state(), state)
