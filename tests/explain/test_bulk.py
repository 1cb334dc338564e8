"""Explaining into a folder: however the work was cut, and by whom, the answers are the same to the last bit."""

import csv
import io
import json
import math
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from causalcf.explain import SCE, Agreed, Explanation, FastDiME, SmoothGrad, explain_all, record
from causalcf.explain.generators import Generator

FEW = {"steps": 10, "depth": 3, "scales": (0.1, 50.0)}
IDS = torch.arange(5) + 70


@pytest.fixture
def explainer():
    return FastDiME(**FEW, batch=2)


@pytest.fixture
def rows(images):
    return {"image": images, "id": IDS, "label": torch.zeros(5)}


class Stopped(Exception):
    pass


def stopping(generator, after):
    """A generator whose process is killed after so many evaluations of its network."""

    def network(x, timestep, condition):
        network.left -= 1
        if network.left < 0:
            raise Stopped
        return generator.network(x, timestep, condition)

    network.left = after
    return Generator(network, generator.null, generator.schedule)


def assert_same(one, other):
    for name in ("images", "counterfactuals", "mask", "after", "scale", "forward", "ids", "target", "flipped"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


def asked(explainer, classifier, generator, rows, folder, **options):
    return explain_all(explainer, classifier, generator, rows, folder=folder, **options)


def test_it_is_what_explain_says(explainer, classifier, generator, rows, images, tmp_path):
    whole = asked(explainer, classifier, generator, rows, tmp_path / "runs" / "a")
    assert_same(whole, explainer.explain(classifier, generator, images, ids=IDS))
    assert whole.about["method"] == "FastDiME"


def test_rows_without_ids_have_those_of_explain(explainer, classifier, generator, images, tmp_path):
    twice = torch.cat([images[:3], images[:2]])
    whole = asked(explainer, classifier, generator, {"image": twice}, tmp_path)
    assert_same(whole, explainer.explain(classifier, generator, twice))
    assert len(set(whole.ids.tolist())) == 5


@pytest.mark.parametrize("after", [12, 18, 24])
def test_killed_and_started_again_gives_the_same_bits(explainer, classifier, generator, rows, tmp_path, after):
    whole = asked(explainer, classifier, generator, rows, tmp_path / "whole")
    with pytest.raises(Stopped):
        asked(explainer, classifier, stopping(generator, after), rows, tmp_path / "cut")
    done = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "parts").glob("0*")}
    assert len(done) < 3
    assert_same(asked(explainer, classifier, generator, rows, tmp_path / "cut"), whole)
    kept = {path.name: path.stat().st_mtime_ns for path in (tmp_path / "cut" / "parts").iterdir()}
    assert len(kept) == 3
    assert done.items() <= kept.items()


def test_finished_rows_are_not_explained_again(explainer, classifier, generator, rows, tmp_path, monkeypatch):
    whole = asked(explainer, classifier, generator, rows, tmp_path)
    monkeypatch.setattr(FastDiME, "attempt", lambda *_: pytest.fail("explained again"))
    assert_same(asked(explainer, classifier, generator, rows, tmp_path), whole)


@pytest.mark.parametrize("count", [2, 3])
def test_shards_join_to_the_whole_with_the_same_bits(
    explainer, classifier, generator, rows, tmp_path, monkeypatch, count
):
    whole = asked(explainer, classifier, generator, rows, tmp_path / "whole")
    parts = [
        asked(explainer, classifier, generator, rows, tmp_path / "cut", shard=(number, count))
        for number in reversed(range(count))
    ]
    assert sorted(row for part in parts for row in part.ids.tolist()) == IDS.tolist()
    monkeypatch.setattr(FastDiME, "attempt", lambda *_: pytest.fail("explained again"))
    assert_same(asked(explainer, classifier, generator, rows, tmp_path / "cut"), whole)


def test_with_a_batch_of_one_shards_take_rows_in_turn(classifier, generator, rows, tmp_path):
    one = asked(FastDiME(**FEW, batch=1), classifier, generator, rows, tmp_path, shard=(1, 3))
    assert one.ids.tolist() == [71, 74]


def test_a_data_set_is_read_a_batch_at_a_time(explainer, classifier, generator, rows, tmp_path):
    class Data:
        asked = 0

        def __len__(self):
            return 5

        def __getitem__(self, index):
            found = {name: value[index] for name, value in rows.items()}
            Data.asked = max(Data.asked, len(found["id"]))
            return found

    found = asked(explainer, classifier, generator, Data(), tmp_path / "data")
    assert_same(found, asked(explainer, classifier, generator, rows, tmp_path / "mapping"))
    assert Data.asked == 2


def test_more_rows_may_follow(explainer, classifier, generator, rows, tmp_path):
    few = {name: value[:3] for name, value in rows.items()}
    asked(explainer, classifier, generator, few, tmp_path)
    assert_same(
        asked(explainer, classifier, generator, rows, tmp_path),
        asked(explainer, classifier, generator, rows, tmp_path / "afresh"),
    )


def test_the_folder_of_finished_parts_is_read_once(classifier, generator, rows, tmp_path, monkeypatch):
    few = {name: value[:3] for name, value in rows.items()}
    asked(FastDiME(**FEW, batch=1), classifier, generator, few, tmp_path)
    read, real = [], Path.glob
    monkeypatch.setattr(Path, "glob", lambda self, *given: read.append(self) or real(self, *given))
    assert len(asked(FastDiME(**FEW, batch=1), classifier, generator, rows, tmp_path)) == 5
    assert len(read) == 1


@pytest.mark.parametrize(("first", "done", "second", "again"), [(2, 3, 5, 5), (2, 3, 3, 2), (4, 4, 2, 1), (3, 3, 2, 3)])
def test_another_batch_goes_on_with_what_is_finished(
    classifier, generator, rows, tmp_path, monkeypatch, first, done, second, again
):
    """Batches with a row that is not finished are explained whole."""
    whole = asked(FastDiME(**FEW, batch=second), classifier, generator, rows, tmp_path / "whole")
    few = {name: value[:done] for name, value in rows.items()}
    asked(FastDiME(**FEW, batch=first), classifier, generator, few, tmp_path / "cut")
    seen, real = [], FastDiME.explain

    def spy(self, classifier, generator, images, *given):
        seen.append(len(images))
        return real(self, classifier, generator, images, *given)

    monkeypatch.setattr(FastDiME, "explain", spy)
    found = asked(FastDiME(**FEW, batch=second), classifier, generator, rows, tmp_path / "cut")
    assert sum(seen) == again
    assert torch.equal(found.ids, IDS)
    torch.testing.assert_close(found.counterfactuals, whole.counterfactuals, atol=1e-9, rtol=0)
    seen.clear()
    for batch in (1, 2, 5):
        joined = asked(FastDiME(**FEW, batch=batch), classifier, generator, rows, tmp_path / "cut")
        torch.testing.assert_close(joined.counterfactuals, found.counterfactuals, atol=1e-9, rtol=0)
        assert torch.equal(joined.ids, IDS)
    assert not seen
    brighter = {**rows, "image": rows["image"].clone()}
    brighter["image"][4, 0, 0, 0] += 1e-6
    with pytest.raises(ValueError, match="explains other images, ids or targets"):
        asked(FastDiME(**FEW, batch=1), classifier, generator, brighter, tmp_path / "cut")


def test_a_folder_with_the_answers_to_another_question_is_refused(explainer, classifier, generator, rows, tmp_path):
    asked(explainer, classifier, generator, rows, tmp_path)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    other = Generator(lambda *given: 1.01 * generator.network(*given), generator.null, generator.schedule)
    brighter = {**rows, "image": rows["image"].clone()}
    brighter["image"][4, 0, 0, 0] += 1e-6
    aims = torch.zeros(5, dtype=torch.int64)
    for change, message in [
        ({"explainer": FastDiME(**{**FEW, "depth": 4}, batch=2)}, "depth was 3, is 4"),
        ({"explainer": FastDiME(**FEW, batch=2, seed=1)}, "seed was 0, is 1"),
        ({"explainer": SCE(steps=10, batch=2)}, "method was 'FastDiME', is 'SCE'"),
        ({"explainer": FastDiME(**FEW, batch=2, perceptual=lambda x: x.flatten(1))}, "the perceptual gives other"),
        ({"classifier": lambda images: 1.001 * classifier(images)}, "the classifier gives other answers"),
        ({"classifier": SmoothGrad(classifier_of_squares, samples=2)}, "the classifier gives other answers"),
        ({"generator": other}, "the generator gives other answers"),
        ({"rows": brighter}, "00000004-00000005 explains other images, ids or targets than rows 4 to 4"),
        ({"rows": {**rows, "id": IDS + 1}}, "explains other images, ids or targets than rows 0 to 1"),
        ({"target": 0}, "target was None, is 0"),
        ({"target": aims}, "target was None, is one per row"),
    ]:
        given = {"explainer": explainer, "classifier": classifier, "generator": generator, "rows": rows, **change}
        with pytest.raises(ValueError, match=message):
            explain_all(**given, folder=tmp_path)
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def classifier_of_squares(images):
    return 20 * (images[..., :4].square().mean((1, 2, 3)) - images[..., 4:].square().mean((1, 2, 3)))


def test_a_classifier_is_told_by_its_gradient_too(explainer, generator, rows, tmp_path):
    asked(explainer, classifier_of_squares, generator, rows, tmp_path)
    with pytest.raises(ValueError, match="the classifier gives other answers"):
        asked(explainer, SmoothGrad(classifier_of_squares, samples=2), generator, rows, tmp_path)


def test_other_targets_are_refused(explainer, classifier, generator, rows, tmp_path):
    def three(images):
        return torch.stack([images.amax((1, 2, 3)), images.mean((1, 2, 3)), -images.mean((1, 2, 3))], 1)

    aims = torch.tensor([1, 2, 1, 2, 1])
    found = asked(explainer, three, generator, rows, tmp_path, target=aims)
    assert found.target.tolist() == aims.tolist()
    assert torch.equal(asked(explainer, three, generator, rows, tmp_path, target=aims.tolist()).target, aims)
    with pytest.raises(ValueError, match="one class per row, 5, got 2"):
        asked(explainer, three, generator, rows, tmp_path, target=[1, 2])
    with pytest.raises(ValueError, match="00000002-00000004 explains other images, ids or targets"):
        asked(explainer, three, generator, rows, tmp_path, target=torch.tensor([1, 2, 2, 2, 1]))


def test_options_of_numpy_and_torch_make_the_question_too(classifier, generator, rows, tmp_path):
    few = {**FEW, "scales": np.array([8.0]), "batch": 2}
    found = asked(FastDiME(**few, seed=np.int64(1)), classifier, generator, rows, tmp_path)
    assert (found.about["seed"], found.about["scales"], found.about["warmup"]) == (1, [8.0], 1)
    for change, message in [
        ({"depth": np.int64(4), "seed": 1}, "depth was 3, is 4"),
        ({"seed": torch.tensor(2)}, "seed was 1, is 2"),
        ({"scales": tuple(np.float32([8, 9])), "seed": 1}, r"scales was \[8.0\], is \[8.0, 9.0\]"),
    ]:
        with pytest.raises(ValueError, match=message):
            asked(FastDiME(**few | change), classifier, generator, rows, tmp_path)
    same = FastDiME(**{**few, "scales": (8,)}, seed=1)
    assert_same(asked(same, classifier, generator, rows, tmp_path), found)


@pytest.mark.parametrize("weights", [[0, 9, 0], np.array([0.0, 9.0, 0.0])])
def test_options_in_a_list_make_the_question_too(classifier, generator, rows, tmp_path, weights):
    few = {"steps": 6, "strength": 0.5, "scales": (1.0,), "batch": 2, "looks": 2}
    generator.conditions = lambda classes: generator.null.expand(len(classes), -1)
    asked(Agreed(**few, weights=[1, 2, 0]), classifier, generator, rows, tmp_path)
    with pytest.raises(ValueError, match="weights was"):
        asked(Agreed(**few, weights=weights), classifier, generator, rows, tmp_path)


def test_images_alone_are_rows(explainer, classifier, generator, images, tmp_path):
    found = asked(explainer, classifier, generator, images, tmp_path)
    assert_same(found, explainer.explain(classifier, generator, images))


@pytest.mark.parametrize("zero", [np.int64(0), torch.tensor(0)])
def test_a_class_may_be_a_number_of_any_kind(explainer, classifier, generator, rows, tmp_path, zero):
    found = asked(explainer, classifier, generator, rows, tmp_path, target=zero)
    assert_same(asked(explainer, classifier, generator, rows, tmp_path, target=0), found)


def test_damaged_files_are_named(explainer, classifier, generator, rows, tmp_path):
    asked(explainer, classifier, generator, rows, tmp_path)
    part = tmp_path / "parts" / "00000002-00000004"
    (part / "explanation.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(
        ValueError, match=r"00000002-00000004 is damaged .*; delete it, and its rows are explained again"
    ):
        asked(explainer, classifier, generator, rows, tmp_path)
    shutil.rmtree(part)
    assert len(asked(explainer, classifier, generator, rows, tmp_path)) == 5
    (tmp_path / "plan.json").write_text("{}")
    with pytest.raises(ValueError, match=r"plan\.json is damaged"):
        asked(explainer, classifier, generator, rows, tmp_path)


def test_nothing_is_drawn_if_any_row_is_wrong(explainer, classifier, generator, rows, tmp_path, monkeypatch):
    monkeypatch.setattr(FastDiME, "attempt", lambda *_: pytest.fail("sampled"))
    last = {**rows, "image": rows["image"].clone()}
    last["image"][4] += 1
    other = {**rows, "image": rows["image"].clone()}
    other["image"][3] = other["image"][3].flip(-1)
    for given, options, message in [
        (last, {}, r"values in \[0, 1\]; .* these are from .* to 1\.\d+"),
        ({**rows, "image": list(rows["image"])}, {}, r"got list; write torch.stack\(images\)"),
        (other, {"target": 0}, r"1 of 5 rows are decided for it already \(row 3\)"),
        (rows, {"target": torch.zeros(4, dtype=torch.int64)}, "one class per row, 5, got 4"),
        (rows, {"shard": (3, 3)}, "expected .i, n. with 0 <= i < n"),
        (rows, {"shard": (3, 4)}, "5 rows are 3 batches of 2, and none is left for shard 3 of 4"),
        (rows, {"node": "face"}, "expected face, got id, image, label; write node="),
        ({**rows, "id": IDS[:3]}, {}, "5 images come with 3 ids"),
        ({"image": rows["image"][:0]}, {}, "at least one row"),
    ]:
        with pytest.raises((ValueError, TypeError), match=message):
            asked(explainer, classifier, generator, given, tmp_path / "new", **options)
    with pytest.raises(TypeError, match="expected a Generator, got Tensor"):
        asked(explainer, classifier, generator.null, rows, tmp_path / "new")
    assert not (tmp_path / "new").exists()
    (tmp_path / "file").touch()
    with pytest.raises(ValueError, match="is a file; give explain_all a folder"):
        asked(explainer, classifier, generator, rows, tmp_path / "file")


def test_the_record_has_a_line_per_row(explainer, classifier, generator, rows, tmp_path):
    found = asked(explainer, classifier, generator, rows, tmp_path)
    lines = list(csv.DictReader(io.StringIO(record(found, ["a", "b", "c", "d", 'e, "f"']))))
    assert [line["name"] for line in lines] == ["a", "b", "c", "d", 'e, "f"']
    for row, line in enumerate(lines):
        assert int(line["id"]) == IDS[row]
        assert (int(line["predicted"]), int(line["target"]), int(line["flipped"])) == (1, 0, int(found.flipped[row]))
        change = (found.counterfactuals[row] - found.images[row]).abs().mean().item()
        assert float(line["l1"]) == pytest.approx(change, rel=1e-5)
        assert float(line["mask"]) == pytest.approx(found.mask[row].double().mean().item(), rel=1e-5)
        assert float(line["after"]) == pytest.approx(found.after[row].item(), rel=1e-5)
        assert (float(line["scale"]), float(line["forward"])) == (found.scale[row], found.forward[row])
        assert float(line["seconds"]) > 0
        assert line["memory"] == ""
    found.memory[:] = 2.0**33
    assert record(found).splitlines()[1].endswith(f",{2**33}")
    with pytest.raises(ValueError, match="a name for each of 5 rows, got 1"):
        record(found, ["a"])


def test_the_record_lists_no_pixels(explainer, classifier, generator, images, monkeypatch):
    found, sizes = explainer.explain(classifier, generator, images, ids=IDS), []
    real = torch.Tensor.tolist
    monkeypatch.setattr(torch.Tensor, "tolist", lambda self: sizes.append(self.numel()) or real(self))
    record(found)
    assert set(sizes) == {5}


def test_explanations_of_before_the_memory_was_measured_are_read(explainer, classifier, generator, images, tmp_path):
    found = explainer.explain(classifier, generator, images, ids=IDS)
    tensors = {name: tensor for name, tensor in found._tensors().items() if name != "memory"}
    from safetensors.torch import save_file

    save_file(tensors, tmp_path / "explanation.safetensors")
    (tmp_path / "explanation.json").write_text(json.dumps(found.about))
    assert all(math.isnan(held) for held in Explanation.load(tmp_path).memory.tolist())
