"""What the benchmarks count and measure, on models small enough to know what it should be."""

import json
from pathlib import Path

import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf.data import MorphoDigits
from experiments.benchmarks import evaluations, memory, trajectory

LEVELS = 25
READ = {"reading": 11, "omega": 13}  # levels at which signal outweighs noise twice, or at all


def made(kind, **options):
    """A model of MorphoDigits with a small, untrained network."""
    scm = cf.SCM(MorphoDigits.graph, {"image": kind(widths=(8, 8), schedule="cosine", prediction="v", **options)})
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = True
    return scm


@pytest.fixture(scope="module")
def rows():
    return MorphoDigits("test", rows=2)[:]


@pytest.fixture(scope="module")
def counted(rows):
    asked = evaluations.variants(made(M.SpatialDiffusion))
    return {name: evaluations.evaluations(scm, rows) for name, scm in asked.items()}


def test_rows_of_the_denoiser_are_counted(counted):
    denoiser = {name: (ways["forward"], ways["backward"]) for name, ways in counted.items()}
    fixed, _ = denoiser.pop("DDIM with fixed point, 50")
    assert 100 < fixed <= 50 + 8 * 50
    assert denoiser == {
        "explicit DDIM, 50": (100, 0),
        "2M, 25": (2 * LEVELS, 0),
        "2M with replay, 25": (2 * LEVELS + 1, 0),
        "bidirectional DDIM, 25": (2 * LEVELS - 1, 0),
        "BELM, 25": (2 * LEVELS - 1, 0),
        "EDICT, 25": (4 * LEVELS, 0),
        "2M, 25, omega 2": (3 * LEVELS, 0),
        "2M with replay, 25, omega 2": (4 * LEVELS + 1, 0),
        "2M, 25, omega 2, factual reference": (3 * LEVELS, 0),
        "2M, 25, omega 2, guided inversion": (4 * LEVELS, 0),
        "2M, 25, steered by a reader": (2 * LEVELS, 0),
        "2M with replay, 25, steered by a reader": (2 * LEVELS + 1, 0),
        "2M, 25, calibrated omega": (3 * LEVELS, 0),
        "2M with replay, 25, calibrated omega": (4 * LEVELS + 1, 0),
    }


def test_passes_of_readers_are_counted_both_ways(counted):
    once = READ["reading"]
    expected = {
        "2M, 25, steered by a reader": {"reader forward": 1 + once, "reader backward": once},
        "2M with replay, 25, steered by a reader": {"reader forward": 1 + 2 * once, "reader backward": 2 * once},
        "2M, 25, calibrated omega": {"reader forward": 5 * READ["omega"]},
        "2M with replay, 25, calibrated omega": {"reader forward": 10 * READ["omega"]},
    }
    for name, ways in counted.items():
        others = {way: count for way, count in ways.items() if way not in ("forward", "backward")}
        assert others == expected.get(name, {})


def test_codes_are_encoded_once_and_tokens_are_found_by_passes_both_ways(rows):
    asked = evaluations.variants(made(M.SemanticDiffusion))
    found = {name: evaluations.evaluations(asked[name], rows) for name in ("2M, 25", "CTA, 25, 10 passes")}
    assert found == {
        "2M, 25": {"forward": 2 * LEVELS, "backward": 0, "encoder forward": 1},
        "CTA, 25, 10 passes": {"forward": 15 * LEVELS, "backward": 10 * LEVELS, "encoder forward": 1},
    }


def test_autoencoders_encode_once_and_decode_twice(rows):
    for scm in evaluations.autoencoders(made(M.SpatialDiffusion)).values():
        found = evaluations.evaluations(scm, rows)
        assert found == {"forward": 0, "backward": 0, "encoder forward": 1, "decoder forward": 2}


def test_nothing_is_watched_after_it_is_counted(rows):
    scm = made(M.SpatialDiffusion, solver="2m", steps=2)
    with evaluations.Asked(scm.mechanism("image")) as asked:
        evaluations.ask(scm, rows)
    before = list(asked.rows["forward"])
    evaluations.ask(scm, rows)
    assert asked.rows["forward"] == before == [2] * 4


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="needs Linux")
def test_replay_alone_holds_an_image_of_every_level(tmp_path, rows):
    """Replay keeps a path, its residuals and their stack; a trajectory that kept its images would grow alike."""
    made(M.SpatialDiffusion, patch=2).save(tmp_path / "model")
    count, few, many = 128, 5, 25
    repeated = {name: values[torch.arange(count) % len(values)] for name, values in rows.items() if name != "id"}
    asked = [(few, False), (many, False), (many, True)]
    short, long, kept = memory.growths(str(tmp_path / "model"), repeated, asked)
    image = repeated["image"].numel() * torch.float64.itemsize / 2**20
    assert short > image
    assert long - short < 0.5 * (many - few) * image
    assert kept - long > 1.5 * many * image


def test_everything_is_timed_against_something(tmp_path, monkeypatch):
    timed = []

    def ratio(first, second):
        second()
        timed.append(first)
        return 2.0

    monkeypatch.setattr(trajectory, "ratio", ratio)
    trajectory.main(rows=1, batches=[3], out=tmp_path / "found.json")
    timed[0]()  # rows of the other batch size, of which twice the time means 3 / 2 of the rows
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["rows per second over those of batch 1"] == {"3": 1.5}
    assert found["calls of 25 guided steps"] == 25
    assert found["rows of the calls of 25 guided steps"] == [2]
    assert found["composition, grey levels"]["float32"] < found["composition, grey levels"]["bfloat16"]
    assert found["time of a reader, both ways, over a denoiser"] == 2.0
    assert found["time of 8 fine levels with two readers over bare forwards"] == 2.0
    assert len(timed) == 7


def test_what_is_bare_is_what_the_model_asks_of_its_denoiser(rows):
    steered = trajectory.sparing(cf.load_pretrained("morphomnist-spatial"))
    plainer = {name: values for name, values in rows.items() if name != "slant"}
    act = trajectory.bare(steered, plainer)
    with evaluations.Asked(steered.mechanism("image")) as asked:
        act()
    assert sum(asked.rows["forward"]) == 33 * len(plainer["id"])
    assert asked.rows["backward"] == []
    assert evaluations.evaluations(steered, plainer) == {
        "forward": 33,
        "backward": 0,
        "reader forward": 9,
        "reader backward": 8,
    }


def test_a_reader_passes_both_ways():
    read = []

    def reader(image):
        image.register_hook(read.append)
        return image.flatten(1).mean(1)

    trajectory.both_ways(reader, torch.ones(2, 1, 4, 4), 3)
    assert [tuple(slope.shape) for slope in read] == 3 * [(2, 1, 4, 4)]
