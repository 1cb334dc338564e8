"""MorphoDigits: what it draws is what it says, and its counterfactuals are true."""

import pytest
import torch
from sklearn.datasets import load_digits

from causalcf import do, scale, shift
from causalcf.data import MorphoDigits
from causalcf.data.centre_lines import centre_line, skeleton, sources
from graphs.morphodigits import graph


@pytest.fixture(scope="module")
def data():
    return MorphoDigits("test", rows=600)


@pytest.fixture(scope="module")
def rows(data):
    return data[:200]


def test_rows_fit_the_graph(data, rows):
    assert data.graph == graph
    checked = graph.check_rows(rows)
    assert set(checked) == {*graph, "id"}
    assert rows["image"].dtype == torch.float32


def test_a_row_is_the_same_however_it_is_read(data, rows):
    for index in ([7, 3], torch.tensor([7, 3]), slice(7, 2, -4)):
        part = data[index]
        for name in rows:
            assert torch.equal(part[name], rows[name][[7, 3]])
    assert torch.equal(data[7]["image"], rows["image"][7:8])
    assert torch.equal(data[-1]["id"], data[599]["id"])
    assert torch.equal(MorphoDigits("test", rows=10_000)[:5]["image"], rows["image"][:5])
    assert torch.equal(data.columns(["slant"])["slant"][:200], rows["slant"])


def test_the_seed_changes_attributes_and_not_the_handwriting(data):
    other = MorphoDigits("test", rows=600, seed=1)[:200]
    rows = data[:200]
    assert torch.equal(other["digit"], rows["digit"])
    assert (other["thickness"] != rows["thickness"]).all()


def test_no_handwriting_is_in_two_splits():
    sources = {
        split: set(
            MorphoDigits(split, rows=5000)
            ._source(MorphoDigits(split, rows=5000)._attributes(torch.arange(5000))["id"])
            .tolist()
        )
        for split in ("train", "val", "test")
    }
    assert [len(sources[split]) for split in ("train", "val", "test")] == [1197, 200, 400]
    assert not sources["train"] & sources["test"]
    assert not sources["train"] & sources["val"]
    assert not sources["val"] & sources["test"]


def test_ids_differ_between_splits():
    ids = torch.cat([MorphoDigits(split, rows=100).columns(["id"])["id"] for split in ("train", "val", "test")])
    assert len(ids.unique()) == 300


def test_attributes_follow_their_equations():
    columns = MorphoDigits("train", rows=40_000).columns(["thickness", "intensity", "slant", "digit"])
    t, i, s, d = (columns[name].double() for name in ("thickness", "intensity", "slant", "digit"))
    assert abs(t.mean() - 2.5) < 0.01
    assert abs(t.std() - 10**0.5 / 5) < 0.01
    noise = (torch.logit((i - 64) / 191) - (2 * t - 5)) / 0.5
    assert abs(noise.mean()) < 0.02
    assert abs(noise.std() - 1) < 0.02
    lean = (torch.atanh(s / 0.6) - 0.07 * (d - 4.5)) / 0.3
    assert abs(lean.mean()) < 0.02
    assert abs(lean.std() - 1) < 0.02
    independent = torch.corrcoef(torch.stack([t, noise, lean, d])) - torch.eye(4)
    assert independent.abs().max() < 0.02


def test_measurements_agree_with_the_attributes(rows):
    oracles = MorphoDigits.oracles()
    for name, mean_error in (("thickness", 0.2), ("intensity", 1.0), ("slant", 0.04)):
        error = oracles[name](rows["image"]) - rows[name]
        assert error.abs().mean() < mean_error, name
        assert torch.corrcoef(torch.stack([oracles[name](rows["image"]), rows[name]]))[0, 1] > 0.95, name


def test_ink_stays_inside_the_frame(rows):
    ring = torch.ones(28, 28, dtype=torch.bool)
    ring[1:-1, 1:-1] = False
    assert (rows["image"][:, 0, ring] > 0.05).any(1).double().mean() < 0.02


def test_doing_what_is_changes_nothing(data, rows):
    for name in ("thickness", "intensity", "slant"):
        same = data.true_counterfactual(rows, do(**{name: rows[name]}))
        for other in ("thickness", "intensity", "slant", "image"):
            torch.testing.assert_close(same[other], rows[other], atol=2e-3, rtol=1e-5)


def test_thickness_moves_intensity_through_its_noise(data, rows):
    thick = data.true_counterfactual(rows, do(thickness=shift(0.5)))
    gain = torch.logit((thick["intensity"] - 64).double() / 191) - torch.logit((rows["intensity"] - 64).double() / 191)
    assert abs(gain.median() - 1.0) < 1e-2
    assert thick["slant"] is rows["slant"]
    oracles = MorphoDigits.oracles()
    read = oracles["thickness"](thick["image"]) - oracles["thickness"](rows["image"])
    assert abs(read.mean() - 0.5) < 0.1


def test_intensity_and_slant_move_the_image_only(data, rows):
    for action, name in ((do(intensity=shift(-20.0, clamp=True)), "intensity"), (do(slant=scale(-1.0)), "slant")):
        truth = data.true_counterfactual(rows, action)
        for other in {"thickness", "intensity", "slant", "digit"} - {name}:
            assert truth[other] is rows[other]
        assert (truth["image"] != rows["image"]).flatten(1).any(1).double().mean() > 0.95
        assert (MorphoDigits.oracles()[name](truth["image"]) - truth[name]).abs().mean() < (
            1.0 if name == "intensity" else 0.04
        )


def test_sequences_compose_and_there_and_back_is_the_row(data, rows):
    away = data.true_counterfactual(rows, do(thickness=shift(0.7), slant=0.2))
    back = data.true_counterfactual({**away, "id": rows["id"]}, do(thickness=rows["thickness"], slant=rows["slant"]))
    torch.testing.assert_close(back["image"], rows["image"], atol=5e-3, rtol=0)


def test_a_pair_of_digits_is_drawn_from_the_same_handwriting():
    pair = MorphoDigits("val", rows=300, seed=1, digits=(3, 8))
    rows, every = pair[:], MorphoDigits("val", rows=200, seed=1)[:]
    assert set(rows["digit"].tolist()) == {3, 8}
    count = int(((every["digit"] == 3) | (every["digit"] == 8)).sum())
    first = {name: value[:count] for name, value in rows.items()}
    drawn = pair.draw(rows["id"][count : 2 * count], first)  # handwriting comes again, with other attributes
    torch.testing.assert_close(drawn, first["image"])
    assert (pair.draw(rows["id"][1 : count + 1], first) - first["image"]).abs().max() > 0.5
    again = pair.true_counterfactual(pair[7:9], do(thickness=3.0))
    torch.testing.assert_close(again["digit"], rows["digit"][7:9])
    with pytest.raises(ValueError, match=r"expected digits from 0 to 9, got \(3, 12\)"):
        MorphoDigits(digits=(3, 12))


def test_what_nobody_knows_is_refused(data, rows):
    assert not data.knows(do(digit=3))
    assert data.knows(do(thickness=3.0))
    with pytest.raises(ValueError, match=r"true counterfactual of do\(digit = 3\) is unknown"):
        data.true_counterfactual(rows, do(digit=3))
    with pytest.raises(ValueError, match="need their 'id'"):
        data.true_counterfactual({name: value for name, value in rows.items() if name != "id"}, do(thickness=3.0))
    with pytest.raises(ValueError, match="no row of the test split"):
        data.true_counterfactual({**rows, "id": rows["id"] - 2_000_000_000}, do(thickness=3.0))
    with pytest.raises(ValueError, match="unknown variable 'thick'"):
        data.true_counterfactual(rows, do(thick=3.0))


def test_bad_arguments_are_refused(data):
    with pytest.raises(ValueError, match="'train', 'val' or 'test'"):
        MorphoDigits("dev")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rows"):
        MorphoDigits("test", rows=0)
    with pytest.raises(IndexError, match="600 rows"):
        data[[600]]


def test_the_image_is_as_bright_as_it_says(data, rows):
    read = data.oracles()["intensity"]
    assert (read(rows["image"]) - rows["intensity"]).abs().max() < 1e-3
    faint = data.true_counterfactual(rows, do(intensity=80.0, thickness=1.5))
    assert (read(faint["image"]) - 80.0).abs().max() < 1e-3


def test_the_centre_lines_kept_are_those_of_the_scans():
    lines, labels = sources()
    digits = load_digits()
    assert len(lines) == len(digits.images) == 1797
    assert labels.tolist() == digits.target.tolist()
    for place in range(0, 1797, 150):
        line = torch.from_numpy(centre_line(skeleton(digits.images[place]))).float()
        assert torch.equal(lines[place][: len(line)], line)
        assert (lines[place][len(line) :] == line[0]).all()


def test_rows_of_other_digits_are_not_drawn_with_another_handwriting(data):
    rows = MorphoDigits("test", rows=8, digits=(3, 8))[:]
    with pytest.raises(ValueError, match=r"row \d is a [38], its id that of a \d here; use the data set"):
        data.true_counterfactual(rows, do(thickness=2.0))
    with pytest.raises(ValueError, match="MorphoDigits: id 2000000600 is no row of the test split"):
        data.true_counterfactual(MorphoDigits("test", rows=601)[599:], do(thickness=2.0))


def test_one_digit_or_a_tensor_of_them_may_be_wanted():
    for digits in (3, torch.tensor([3]), [3]):
        assert set(MorphoDigits("test", rows=5, digits=digits).columns(["digit"])["digit"].tolist()) == {3}


@pytest.mark.parametrize("digits", ["3", [True, False], [10], [], [1.5]])
def test_what_is_no_digit_is_refused(digits):
    with pytest.raises(ValueError, match=r"digits from 0 to 9, got .*; write digits=\(3, 8\)"):
        MorphoDigits("test", rows=5, digits=digits)
