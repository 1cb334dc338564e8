"""Proposed graphs are compared with the truth, and what is found is written."""

import json

import torch

from experiments.scenes import graphs


def test_both_ways_are_compared_and_written(tmp_path, monkeypatch):
    truth = graphs.PENDULUM.structure

    class Found:
        structure, runner_up = {**truth, "sun": ["angle"]}, 0.5

    monkeypatch.setattr(graphs, "discover", lambda columns, **options: Found)
    graphs.main(rows=60, steps=2, seeds=2, confounding=[0.0], out=tmp_path)
    found = json.loads((tmp_path / "graphs.json").read_text())["found"]
    assert len(found) == 2 * 2 * 3
    searched = [line for line in found if (line["scene"], line["method"]) == ("pendulum", "search")]
    assert [line["distance"] for line in searched] == [1, 1]
    assert "angle -> sun" in searched[0]["edges"]
    rows = [line.split(" | ") for line in (tmp_path / "graphs.md").read_text().splitlines() if "| search |" in line]
    assert rows[0][3] == "1, 1"
    gates = [line for line in found if line["method"] == "gates"]
    assert all(0 < line["least gate"] <= line["most gate"] < 1 and line["cycles"] > 0 for line in gates)
    assert "| drawn gates, augmented |" in (tmp_path / "graphs.md").read_text()


def test_gates_are_read_where_they_are_open(monkeypatch):
    data = graphs.FLOW.data("train", rows=64)
    columns = {name: column.float() for name, column in data.columns(list(graphs.FLOW.ranges)).items()}
    monkeypatch.setattr(graphs.Equations, "penalty", lambda self, sparsity: -self.adjacency().sum())
    every = graphs.gated(columns, graphs.FLOW, seed=0, steps=30)
    assert {len(causes) for causes in every.structure.values()} == {3}
    assert every.most > 0.5


def test_a_growing_multiplier_leaves_no_cycle_and_keeps_edges():
    data = graphs.FLOW.data("train", rows=256)
    columns = {name: column.float() for name, column in data.columns(list(graphs.FLOW.ranges)).items()}
    found = graphs.gated(columns, graphs.FLOW, seed=0, steps=1200, augmented=True)
    assert found.cycles < 1e-3
    assert "ball" in found.structure["water"]
    fixed = graphs.gated(columns, graphs.FLOW, seed=0, steps=300)
    assert fixed.cycles > found.cycles


def test_a_multiplier_grows_until_cycles_are_gone():
    multiplier = graphs.Multiplier()
    assert multiplier.price(torch.tensor(2.0)) == 2.0
    for _ in range(3):
        multiplier.grow(0.5)
    assert multiplier.rho == 9.0
    assert multiplier.alpha == 0.5 + 0.5 + 1.5
    multiplier.grow(0.01)
    assert multiplier.rho == 9.0
