"""Discovery: the search is exact, the densities are densities, and known graphs are found."""

import itertools

import pytest
import torch

from causalcf.training.discovery import Conditionals, best_graph, discover, hamming


def scores(count, seed):
    generator = torch.Generator().manual_seed(seed)
    sets = [frozenset(s) for size in range(count) for s in itertools.combinations(range(count), size)]
    pairs = [(k, causes) for k in range(count) for causes in sets if k not in causes]
    return {pair: torch.randn((), generator=generator).item() for pair in pairs}


@pytest.mark.parametrize("seed", range(5))
def test_the_search_finds_what_trying_all_orders_finds(seed):
    found = scores(4, seed)
    best = -float("inf")
    for order in itertools.permutations(range(4)):
        total = 0.0
        for place, k in enumerate(order):
            total += max(value for (name, causes), value in found.items() if name == k and causes <= set(order[:place]))
        best = max(best, total)
    causes, score = best_graph(found, 4)
    assert score == pytest.approx(best)
    assert sum(found[k, own] for k, own in enumerate(causes)) == pytest.approx(score)
    placed = set()
    for _ in range(4):
        placed |= {k for k in range(4) if causes[k] <= placed}
    assert placed == set(range(4))


def test_conditionals_are_densities_and_listen_to_what_is_given_alone():
    torch.manual_seed(0)
    conditionals = Conditionals(3, hidden=16)
    for parameter in conditionals.parameters():
        parameter.data *= 3
    x = torch.randn(4, 3)
    given = torch.tensor([False, True, False]).expand(4, 3)
    grid = torch.linspace(-80, 80, 40_001)
    for row in range(4):
        line = x[row].repeat(len(grid), 1)
        line[:, 0] = grid
        density = conditionals(line, 0, given[:1].expand(len(grid), 3)).exp()
        assert torch.trapezoid(density, grid).item() == pytest.approx(1.0, abs=1e-3)
    moved = x + torch.tensor([0.0, 0.0, 5.0])
    assert torch.equal(conditionals(x, 0, given), conditionals(moved, 0, given))
    assert not torch.equal(conditionals(x, 0, given), conditionals(x + torch.tensor([0.0, 1.0, 0.0]), 0, given))


def drawn(rows=1500):
    """Two uniform causes and an effect of both without noise, which would be told from any two of the three."""
    generator = torch.Generator().manual_seed(0)
    a, b = (2 * torch.rand(rows, generator=generator) - 1 for _ in range(2))
    return {"c": torch.sin(2 * a) + b + 0.5 * a * b, "a": a, "b": b, "id": torch.arange(rows)}


def test_an_equation_without_noise_is_found_and_its_direction():
    found = discover(drawn(), steps=700)
    assert found.structure == {"c": ["a", "b"], "a": [], "b": []}
    assert found.runner_up > 0.05
    again = discover(drawn(), steps=700)
    assert again == found


def test_independent_numbers_have_no_edges():
    rows = drawn()
    found = discover(rows, ["a", "b"], steps=300)
    assert found.structure == {"a": [], "b": []}


def test_an_offset_that_float32_does_not_hold_changes_nothing():
    rows = {name: column.double() for name, column in drawn(300).items() if name != "id"}
    late = {**rows, "a": rows["a"] + 1.7e9}  # seconds since 1970
    assert discover(late, steps=20).score == pytest.approx(discover(rows, steps=20).score, abs=1e-3)


def test_a_column_that_is_no_tensor_is_refused():
    with pytest.raises(TypeError, match=r"discover: b: expected a tensor, got ndarray; write torch.as_tensor"):
        discover({**drawn(), "b": drawn()["b"].numpy()})


def test_nothing_global_is_touched():
    state = torch.get_rng_state()
    discover(drawn(100), steps=2)
    assert torch.equal(torch.get_rng_state(), state)


def test_hamming_counts_pairs():
    true = {"c": ["a", "b"]}
    assert hamming(true, true) == 0
    assert hamming({"c": ["a"], "b": []}, true) == 1  # missing
    assert hamming({"c": ["a", "b"], "b": ["a"]}, true) == 1  # too much
    assert hamming({"c": ["a"], "b": ["c"]}, true) == 1  # turned round
    assert hamming({"a": ["b"]}, true) == 3


@pytest.mark.parametrize(
    ("rows", "options", "message"),
    [
        ({}, {"names": ["a", "q"]}, "no column 'q'; the rows have c, a, b, id"),
        ({}, {"names": ["a"]}, "expected 2 to 10 numbers, got 1"),
        ({"b": torch.ones(1500)}, {}, "b is 1 in every row"),
        ({"b": torch.full((1500,), 0.1)}, {}, "b is 0.1 in every row"),  # whose spread is a rounding
        ({"b": torch.randn(1400)}, {}, "b has 1400 rows, c has 1500"),
        ({}, {"names": ["a", "b", "a"]}, "'a' is named twice"),
        ({"b": torch.zeros(1500).long()}, {}, "b: expected at least 50 finite floats"),
        ({"b": torch.full((1500,), float("nan"))}, {}, "b: expected at least 50 finite floats"),
        ({}, {"noise": 1.5}, "expected 0 <= noise < 1"),
        ({}, {"steps": 0}, "steps >= 1"),
    ],
)
def test_what_cannot_be_searched_is_refused(rows, options, message):
    with pytest.raises(ValueError, match=message):
        discover({**drawn(), **rows}, **options)
