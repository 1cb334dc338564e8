"""The command: from a folder of images to pictures and a report, and what it says of files that are something else."""

import csv
import io
import json
import os
import pickle
import shutil
import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import causalcf as cf
from causalcf import explaining
from causalcf import mechanisms as M
from causalcf.cli import main
from causalcf.explain import Explanation, named
from causalcf.explain.files import FORCE, read_classifier, read_images
from causalcf.networks.classifier import Classifier, Regressor
from causalcf.pretrained import load_judge
from causalcf.training.predictors import save_predictor
from causalcf.training.surrogates import distil

CODE = """
import torch
def halves():
    def logits(images):
        return 20 * (images[..., :4].mean((1, 2, 3)) - images[..., 4:].mean((1, 2, 3)))
    return logits
def column():
    return lambda images: halves()(images)[:, None]
def three():
    return lambda images: 9 * torch.stack([images.mean((1, 2, 3)), images.amax((1, 2, 3)), images.amin((1, 2, 3))], 1)
def flat():
    return lambda images: images.detach().mean((1, 2, 3)) - 0.5
def whole():
    return lambda images: images.mean()[None]
def wild():
    return lambda images: images.mean((1, 2, 3)) / 0
def pair():
    return lambda images: (images, images)
def narrow():
    return torch.nn.Sequential(torch.nn.Conv2d(3, 2, 8), torch.nn.Flatten())
def nothing():
    return None
def broken():
    raise KeyError("weights")
def edges():
    return lambda images: 40 * (images[..., 1:] - images[..., :-1]).flatten(1)
"""
QUICK = ("--option", "steps=6", "--option", "depth=2", "--option", "scales=50")


class Halves(nn.Module):
    def forward(self, images):
        return 20 * (images[..., :4].mean((1, 2, 3)) - images[..., 4:].mean((1, 2, 3)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Four images brighter on the left and one on the right, a model with an untrained network, classifiers."""
    folder = tmp_path_factory.mktemp("explain")
    (folder / "images").mkdir()
    random = np.random.default_rng(0)
    for name in "abcde":
        grey = random.integers(40, 180, (8, 8), dtype=np.uint8)
        grey[:, slice(4, 8) if name == "e" else slice(0, 4)] += 60
        Image.fromarray(grey).save(folder / "images" / f"{name}.png")
    (folder / "images" / "notes.txt").touch()
    (folder / "code.py").write_text(CODE)
    graph = cf.CausalGraph("label -> image", label=cf.Binary(), image=cf.Image(1, 8, 8))
    scm = cf.SCM(graph, {"image": M.SpatialDiffusion(widths=(8, 8), steps=2)})
    torch.manual_seed(0)
    scm.mechanisms["image"].initialise(0)
    scm.mechanisms["image"].network.unet.conv_out.weight.data *= 0.05
    for mechanism in scm.mechanisms.values():
        mechanism.fitted = True
    scm.save(folder / "model")
    return folder


def run(folder, *more, **change):
    given = {
        "--images": folder / "images",
        "--classifier": f"{folder / 'code.py'}:halves",
        "--generator": folder / "model",
        **{f"--{name}": value for name, value in change.items()},
    }
    arguments = [str(part) for pair in given.items() if pair[1] is not None for part in pair]
    return main(["explain", *arguments, *QUICK, *map(str, more)])


def test_it_writes_the_explanation_and_its_pictures(folder, tmp_path, capsys):
    out = tmp_path / "deep" / "out"
    assert run(folder, out=out, method="fastdime", batch=2) == 0
    found = Explanation.load(out)
    album = read_images(folder / "images")
    explainer = cf.explain.FastDiME(steps=6, depth=2, scales=(50,), batch=2)
    draws = cf.explain.generators.from_scm(cf.SCM.load(folder / "model"))
    expected = explainer.explain(Halves(), draws, album.images, ids=album.ids)
    assert torch.equal(found.counterfactuals, expected.counterfactuals)
    assert found.predicted.tolist() == [1, 1, 1, 1, 0]
    for name, became in zip("abcde", found.counterfactuals, strict=True):
        with Image.open(out / "counterfactuals" / f"{name}.png") as image:
            seen = np.asarray(image.convert("L")) / 255
        np.testing.assert_allclose(seen, became[0].numpy(), atol=0.501 / 255)
    lines = list(csv.DictReader((out / "record.csv").read_text().splitlines()))
    assert [line["name"] for line in lines] == list("abcde")
    assert (out / "grid.png").read_bytes().startswith(b"\x89PNG")
    assert (out / "report.html").read_text().count("<tr>") == 6
    assert "FastDiME: 5 rows" in capsys.readouterr().out


def test_files_are_in_one_encoding_whatever_that_of_the_machine(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(io, "text_encoding", lambda encoding, *_: encoding or "ascii")
    (tmp_path / "images").mkdir()
    shutil.copy(folder / "images" / "a.png", tmp_path / "images" / "größe 微.png")
    assert run(folder, out=tmp_path / "out", images=tmp_path / "images") == 0
    assert "\ngröße 微," in (tmp_path / "out" / "record.csv").read_text(encoding="utf-8")
    assert "gr&#246;&#223;e &#24494;" in (tmp_path / "out" / "report.html").read_text()


def test_killed_and_started_again_it_goes_on(folder, tmp_path, monkeypatch, capsys):
    assert run(folder, out=tmp_path / "whole", batch=2) == 0
    monkeypatch.setattr(explaining.library.MaskDiME, "attempt", stops_after(1, explaining.library.MaskDiME.attempt))
    assert run(folder, out=tmp_path / "cut", batch=2) == 130
    assert not (tmp_path / "cut" / "report.html").exists()
    assert "finished" in capsys.readouterr().err
    monkeypatch.setattr(
        explaining.library.MaskDiME, "attempt", stops_after(2, explaining.library.MaskDiME.attempt.kept)
    )
    assert run(folder, out=tmp_path / "cut", batch=2) == 0
    one, other = (Explanation.load(tmp_path / name) for name in ("whole", "cut"))
    assert torch.equal(one.counterfactuals, other.counterfactuals)
    assert run(folder, out=tmp_path / "cut", batch=3) == 0  # everything is there
    assert torch.equal(Explanation.load(tmp_path / "cut").counterfactuals, one.counterfactuals)
    assert run(folder, out=tmp_path / "cut", batch=2, seed=1) == 2
    assert "seed was 0, is 1; choose another folder" in capsys.readouterr().err


def stops_after(count, attempt):
    def counted(self, *given):
        counted.left -= 1
        if counted.left < 0:
            raise KeyboardInterrupt
        return attempt(self, *given)

    counted.left, counted.kept = count, attempt
    return counted


def test_images_that_need_no_explanation_are_left_out_and_named(folder, tmp_path, capsys):
    assert run(folder, out=tmp_path / "out", target=0) == 0
    assert "left out, decided for 0 already: e\n" in capsys.readouterr().out
    assert Explanation.load(tmp_path / "out").predicted.tolist() == [1, 1, 1, 1]
    assert run(folder, out=tmp_path / "none", target=1, rows=4) == 2
    assert "decides all 4 images for 1 already" in capsys.readouterr().err
    assert not (tmp_path / "none").exists()


def distilled(folder, out, *more, **change):
    given = {"images": folder / "images", "classifier": f"{folder / 'code.py'}:halves", "out": out, **change}
    return main(["distil", *[str(part) for name, value in given.items() for part in (f"--{name}", value)], *more])


def test_a_surrogate_is_distilled_and_followed(folder, tmp_path, capsys):
    out = tmp_path / "surrogate"
    assert distilled(folder, out, steps=3, batch=4) == 0
    assert "of the 5 images it learned from" in capsys.readouterr().out
    images = read_images(folder / "images").images
    expected = distil(Halves(), {"image": images}, steps=3, batch=4)
    torch.testing.assert_close(read_classifier(str(out))(images), expected(images), atol=1e-2, rtol=0)
    few = ("--option", "steps=6", "--option", "strength=0.5")
    given = {"--images": folder / "images", "--classifier": f"{folder / 'code.py'}:halves"}
    given |= {"--generator": folder / "model", "--surrogate": out, "--method": "scelitehq", "--out": tmp_path / "why"}
    assert main(["explain", *[str(part) for pair in given.items() for part in pair], *few]) == 0
    album = read_images(folder / "images")
    draws = cf.explain.generators.from_scm(cf.SCM.load(folder / "model"))
    explainer = cf.explain.SCELiteHQ(read_classifier(str(out)), steps=6, strength=0.5)
    ours = explainer.explain(Halves(), draws, album.images, ids=album.ids)
    assert torch.equal(Explanation.load(tmp_path / "why").counterfactuals, ours.counterfactuals)
    own = cf.explain.SCELiteHQ(steps=6, strength=0.5).explain(Halves(), draws, album.images, ids=album.ids)
    assert not torch.allclose(own.counterfactuals, ours.counterfactuals, atol=1e-4)
    given |= {"--method": "maskdime", "--out": tmp_path / "led"}
    few = ("--option", "steps=6", "--option", "depth=3")
    assert main(["explain", *[str(part) for pair in given.items() for part in pair], *few]) == 0
    led = cf.explain.Led(Halves(), read_classifier(str(out)))
    ours = cf.explain.MaskDiME(steps=6, depth=3).explain(led, draws, album.images, ids=album.ids)
    assert torch.equal(Explanation.load(tmp_path / "led").counterfactuals, ours.counterfactuals)
    assert distilled(folder, out, steps=3) == 2
    assert "holds files; choose a new folder, or add --overwrite true" in capsys.readouterr().err
    assert distilled(folder, out, "--overwrite", "true", steps=3, batch=4) == 0


def test_a_classifier_of_colours_may_be_distilled_from_grey_images(folder, tmp_path, capsys):
    narrow = f"{folder / 'code.py'}:narrow"
    assert distilled(folder, tmp_path / "surrogate", classifier=narrow, steps=1, batch=4) == 2
    assert "for a classifier of colours, which none of these has, add --channels 3" in capsys.readouterr().err
    assert distilled(folder, tmp_path / "surrogate", classifier=narrow, steps=1, batch=4, channels=3) == 0
    images = read_images(folder / "images", channels=3).images
    assert read_classifier(str(tmp_path / "surrogate"))(images).shape == (5, 2)


def test_the_share_of_agreement_is_that_of_decisions(folder, tmp_path, capsys):
    assert distilled(folder, tmp_path / "surrogate", classifier=f"{folder / 'code.py'}:column", steps=1, batch=4) == 0
    images = read_images(folder / "images").images
    said = distil(lambda x: Halves()(x)[:, None], {"image": images}, steps=1, batch=4)(images)
    same = int(((said[:, 0] > 0) == (Halves()(images) > 0)).sum())
    assert same < 5
    assert f"for {same} of the 5 images" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"out": "images"}, "is the folder of the images"),
        ({"out": "code.py"}, "is a file; give a folder"),
        ({"classifier": "nowhere.pt"}, "there is no file or folder"),
        ({"classifier": "code.py:narrow"}, "does not take images of shape (5, 1, 8, 8)"),
        ({"classifier": "code.py:wild"}, "its logits are not finite"),
        ({"label": 1}, "without label 1"),
        ({"steps": 0}, "expected steps and batch >= 1"),
    ],
    ids=lambda value: "=".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_what_cannot_be_distilled_is_answered(folder, tmp_path, capsys, change, expected):
    change = {name: folder / value if isinstance(value, str) else value for name, value in change.items()}
    assert distilled(folder, change.pop("out", tmp_path / "new"), **change) == 2
    error = capsys.readouterr().err
    assert expected in error
    assert "Traceback" not in error
    assert not (tmp_path / "new").exists()
    assert not (folder / "images" / "config.json").exists()


def test_pictures_of_fewer_images_are_all_that_is_left(folder, tmp_path):
    out = tmp_path / "out"
    assert run(folder, out=out, rows=4) == 0
    Image.new("L", (8, 8)).save(out / "counterfactuals" / "mine.png")
    assert run(folder, out=out, rows=2) == 0
    assert sorted(path.stem for path in (out / "counterfactuals").iterdir()) == ["a", "b", "mine"]
    assert len((out / "record.csv").read_text().splitlines()) == 3


def test_features_are_kept_near(folder, tmp_path):
    change = {"out": tmp_path / "out", "method": "dime", "perceptual": f"{folder / 'code.py'}:edges"}
    assert run(folder, "--option", "depth=3", **change) == 0  # of two steps the first and the last follow no features
    album = read_images(folder / "images")
    draws = cf.explain.generators.from_scm(cf.SCM.load(folder / "model"))
    edges = read_classifier(f"{folder / 'code.py'}:edges")
    explainer = cf.explain.DiME(steps=6, depth=3, scales=(50,), perceptual=edges)
    expected = explainer.explain(Halves(), draws, album.images, ids=album.ids)
    assert torch.equal(Explanation.load(tmp_path / "out").counterfactuals, expected.counterfactuals)
    free = cf.explain.DiME(steps=6, depth=3, scales=(50,)).explain(Halves(), draws, album.images, ids=album.ids)
    assert not torch.allclose(free.counterfactuals, expected.counterfactuals, atol=1e-4)


def test_ldce_is_told_the_parent(folder, tmp_path, capsys):
    options = {"out": tmp_path / "out", "method": "ldce", "rows": 2}
    few = ("--option", "strength=0.5")
    arguments = ["explain", "--images", folder / "images", "--classifier", f"{folder / 'code.py'}:halves"]
    arguments += ["--generator", folder / "model", "--option", "steps=6", *few]
    arguments += [part for name, value in options.items() for part in (f"--{name}", value)]
    assert main([*map(str, arguments), "--parent", "label"]) == 0
    assert Explanation.load(tmp_path / "out").about["method"] == "LDCE"
    assert main([str(part) for part in arguments[:-6]] + ["--method", "ldce", "--out", str(tmp_path / "b")]) == 2
    assert "cannot be told a class" in capsys.readouterr().err


def test_the_generator_is_told_which_of_its_classes_are_meant(folder, tmp_path):
    given = {"--images": folder / "images", "--classifier": f"{folder / 'code.py'}:halves", "--method": "ldce"}
    given |= {"--generator": folder / "model", "--parent": "label", "--option": "steps=6", "--rows": 2}
    album, found = read_images(folder / "images", 2), {}
    for classes in ("0,1", "1, 0"):
        out = tmp_path / classes
        more = {**given, "--classes": classes, "--out": out}
        assert main(["explain", *[str(part) for pair in more.items() for part in pair]]) == 0
        own = [int(part) for part in classes.split(",")]
        draws = cf.explain.generators.from_scm(cf.SCM.load(folder / "model"), label="label", classes=own)
        expected = cf.explain.LDCE(steps=6).explain(Halves(), draws, album.images, ids=album.ids)
        found[classes] = Explanation.load(out).counterfactuals
        assert torch.equal(found[classes], expected.counterfactuals)
    assert not torch.allclose(*found.values(), atol=1e-6)


def test_the_generator_is_told_what_a_predictor_reads(tmp_path):
    images = torch.rand(2, 1, 28, 28, generator=torch.Generator().manual_seed(0))
    place, judge = torch.device("cpu"), load_judge("morphomnist-thickness")
    save_predictor(judge, tmp_path / "reader")
    for source in ("morphomnist-thickness", str(tmp_path / "reader")):
        readers = [f"thickness={source}"]
        found = explaining.read_generator("morphomnist-spatial", place, parent="digit", readers=readers)
        with torch.no_grad():
            assert torch.equal(found.given(images)["thickness"], judge.predict(images))
    for digit, name in enumerate("ab"):
        Image.fromarray((255 * images[digit, 0]).byte().numpy()).save(tmp_path / f"{name}.png")
    arguments = ["--images", tmp_path, "--classifier", "morphomnist-digit", "--generator", "morphomnist-spatial"]
    arguments += ["--method", "agreed", "--option", "steps=2", "--option", "scales=1", "--parent", "digit"]
    arguments += [f"--reader=thickness={tmp_path / 'reader'}", "--reader=intensity=morphomnist-intensity"]
    with torch.no_grad():
        album = read_images(tmp_path)
        target = int((load_judge("morphomnist-digit")(album.images).argmax(1).max() + 1) % 10)
    assert main(["explain", *map(str, arguments), "--target", str(target), "--out", str(tmp_path / "out")]) == 0
    readers = {name: load_judge(f"morphomnist-{name}") for name in ("thickness", "intensity")}
    draws = cf.explain.generators.from_scm(cf.load_pretrained("morphomnist-spatial"), label="digit", readers=readers)
    how = cf.explain.Agreed(steps=2, scales=(1,))
    expected = how.explain(load_judge("morphomnist-digit"), draws, album.images, target, album.ids)
    assert torch.equal(Explanation.load(tmp_path / "out").counterfactuals, expected.counterfactuals)
    for text, message in (("thickness", "expected parent=folder"), ("thickness=nowhere", "--reader: .*nowhere")):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            explaining.read_generator("morphomnist-spatial", place, parent="digit", readers=[text])


# ---- classifiers


def test_a_classifier_is_the_same_in_every_kind_of_file(folder, tmp_path):
    images = read_images(folder / "images").images
    expected = Halves()(images)
    torch.jit.trace(Halves(), images).save(tmp_path / "traced.pt")
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Halves(), (images,), dynamic_shapes=shapes), tmp_path / "exported.pt2")
    for name in ("traced.pt", "exported.pt2"):
        found = read_classifier(str(tmp_path / name))
        torch.testing.assert_close(found(images[:3]), expected[:3])
        leaf = images.clone().requires_grad_()
        assert torch.autograd.grad(found(leaf).sum(), leaf)[0].abs().min() > 0
    torch.testing.assert_close(read_classifier(f"{folder / 'code.py'}:halves")(images), expected)
    network = Classifier(1, 2, widths=(4, 4)).eval()
    save_predictor(network, tmp_path / "ours")
    ours = read_classifier(str(tmp_path / "ours"))
    torch.testing.assert_close(ours(images), network(images), atol=1e-2, rtol=0)
    assert not ours.training
    assert read_classifier("morphodigits-digit")(torch.rand(1, 1, 28, 28)).shape == (1, 10)


def test_a_classifier_of_every_kind_of_file_is_distilled(folder, tmp_path):
    images = read_images(folder / "images").images
    torch.jit.trace(Halves(), images).save(tmp_path / "traced.pt")
    shapes = ({0: torch.export.Dim("batch")},)
    torch.export.save(torch.export.export(Halves(), (images,), dynamic_shapes=shapes), tmp_path / "exported.pt2")
    for name in ("traced.pt", "exported.pt2"):
        assert distilled(folder, tmp_path / f"of-{name}", classifier=tmp_path / name, steps=2, batch=4) == 0


def test_code_may_import_what_lies_beside_it(folder, tmp_path):
    (tmp_path / "beside_the_classifier.py").write_text(CODE)
    code = "from beside_the_classifier import halves\ndef load():\n    import beside_later\n    return halves()"
    (tmp_path / "classifier.py").write_text(code)
    (tmp_path / "beside_later.py").touch()
    before = list(sys.path)
    images = read_images(folder / "images").images
    torch.testing.assert_close(read_classifier(f"{tmp_path / 'classifier.py'}:load")(images), Halves()(images))
    assert sys.path == before


def test_a_classifier_may_take_one_image_at_a_time(folder, tmp_path, capsys):
    one = torch.export.export(Halves(), (torch.rand(1, 1, 8, 8),))
    torch.export.save(one, tmp_path / "one.pt2")
    assert run(folder, out=tmp_path / "out", classifier=tmp_path / "one.pt2", batch=1, rows=2) == 0
    assert run(folder, out=tmp_path / "same", batch=1, rows=2) == 0
    found, same = (Explanation.load(tmp_path / name).counterfactuals for name in ("out", "same"))
    torch.testing.assert_close(found, same)
    assert run(folder, out=tmp_path / "many", classifier=tmp_path / "one.pt2", rows=2) == 2
    assert "; if that is the number of images, export it with dynamic_shapes, or explain with --batch 1" in (
        capsys.readouterr().err
    )


class Bomb:
    def __reduce__(self):
        return os.mkdir, (Bomb.path,)


def test_no_pickle_is_opened(folder, tmp_path, monkeypatch):
    monkeypatch.setattr(Bomb, "path", str(tmp_path / "ran"), raising=False)
    torch.save(Bomb(), tmp_path / "new.pt")
    torch.save(Bomb(), tmp_path / "old.pth", _use_new_zipfile_serialization=False)
    (tmp_path / "plain.pt").write_bytes(pickle.dumps(Bomb()))
    images = read_images(folder / "images").images
    exported = tmp_path / "whole.pt2"
    torch.export.save(torch.export.export(Halves(), (images,)), exported)
    with zipfile.ZipFile(exported) as source:
        held = {name: source.read(name) for name in source.namelist()}
    torch.save(Bomb(), tmp_path / "bomb")
    for place, (member, content) in enumerate(
        [
            ("/sample_inputs/model.pt", (tmp_path / "bomb").read_bytes()),
            ("/constants/opaque_obj_0", pickle.dumps(Bomb())),
        ]
    ):
        with zipfile.ZipFile(tmp_path / f"export-{place}.pt2", "w") as target:
            replaced = [name for name in held if name.endswith(member)]
            for name, old in held.items():
                target.writestr(name, content if name in replaced else old)
            if not replaced:
                target.writestr(f"whole/data{member}", content)
    for name in ("new.pt", "old.pth", "plain.pt", "export-0.pt2", "export-1.pt2"):
        try:
            read_classifier(str(tmp_path / name))
        except ValueError as error:
            assert "no pickle is opened here" in str(error) or name == "export-0.pt2"
        else:
            assert name == "export-0.pt2"
        assert not (tmp_path / "ran").exists(), name
    assert FORCE not in os.environ
    with pytest.raises(FileExistsError):  # it does go off where pickles are opened
        (tmp_path / "ran").mkdir()
        pickle.loads((tmp_path / "plain.pt").read_bytes())


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("code.py:flat", "no gradient of its logits reaches the image"),
        ("code.py:whole", "expected logits of shape (5,) or (5, classes), got (1,)"),
        ("code.py:wild", "its logits are not finite"),
        ("code.py:pair", "expected logits, a tensor, got tuple"),
        ("code.py:narrow", "does not take images of shape (5, 1, 8, 8)"),
        ("code.py:three", "knows 3 classes; say which one to reach"),
        ("code.py:nothing", "returns NoneType; define def nothing(): return model"),
        ("code.py:broken", "does not run: KeyError: 'weights'"),
        ("code.py:missing", "is not there; define def missing(): return model"),
        ("code.py", "which function of"),
        ("nowhere.py:f", "there is no file"),
        ("nowhere.pt", "there is no file or folder"),
        ("model", "holds no predictor"),
        ("numbers", "reads a number, thickness; give classes"),
        ("cut.pt", "cut short"),
        ("text.zip", "neither TorchScript nor of torch.export"),
        ("fixed.pt2", "does not take images of shape (5, 1, 8, 8)"),
    ],
)
def test_a_classifier_that_does_not_fit_is_answered_before_sampling(
    folder, tmp_path, capsys, monkeypatch, name, expected
):
    save_predictor(Regressor(1, widths=(4,), reads="thickness"), folder / "numbers")
    (folder / "cut.pt").write_bytes(b"PK\x03\x04 and then nothing")
    with zipfile.ZipFile(folder / "text.zip", "w") as archive:
        archive.writestr("a/b.txt", "c")
    if name == "fixed.pt2":
        torch.export.save(torch.export.export(Halves(), (torch.rand(2, 1, 8, 8),)), folder / name)
    answered(folder, tmp_path, capsys, monkeypatch, expected, classifier=folder / name)


def answered(folder, tmp_path, capsys, monkeypatch, expected, *more, **change):
    """The command says so in a line, draws nothing and writes nothing."""
    for kind in named.KINDS:
        monkeypatch.setattr(kind, "attempt", lambda *_: pytest.fail("sampled"))
    assert run(folder, *more, **{"out": tmp_path / "out", **change}) == 2
    error = capsys.readouterr().err
    assert error.startswith("causalcf: ")
    assert expected in error
    assert "Traceback" not in error
    assert not (tmp_path / "out").exists()


# ---- generators, methods and options


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"generator": "morphodigits-spatial"}, "it draws images of 1 by 28 by 28"),
        ({"generator": "morphodigits-semantic"}, "expected a SpatialDiffusion"),
        ({"generator": "nowhere"}, "ships"),
        ({"method": "mask-dim"}, "there is no 'mask-dim'; write one of dime, fastdime, maskdime"),
        ({"target": 2}, "knows the classes 0 to 1, got 2 to 2"),
        ({"label": 1}, "without label 1"),
        ({"parent": "labl"}, "expected a discrete parent of image as label, got 'labl'"),
        ({"classes": "0,1"}, "write label= (--parent) as well"),
        ({"classes": "3;8"}, "--classes: expected numbers, such as 3,8, got '3;8'"),
        ({"null": 2}, "which has its own; leave it out"),
        ({"prompt": "a smile"}, "which reads no text; write --parent"),
        ({"option": "dept=3"}, "MaskDiME has no 'dept'"),
        ({"option": "seed=3"}, "MaskDiME has no 'seed'"),
        ({"option": "depth"}, "expected name=value"),
        ({"option": "depth=few"}, "--option depth: expected a whole number, got 'few'; the default is depth=60"),
        ({"option": "depth=2.5"}, "expected a whole number, got '2.5'"),
        ({"option": "depth=True"}, "expected a whole number, got 'True'"),
        ({"option": "scales=a,b"}, "expected numbers, with commas between them, got 'a,b'; the default is scales=8.0,"),
        ({"option": "loss=square"}, "expected logit or log-probability, got 'square'; the default is loss=logit"),
        ({"option": "parity=1"}, "expected published or None, got '1'; the default is parity=None"),
        ({"option": "depth=9"}, "expected 2 <= depth < steps, got depth=9"),
        ({"rows": 0}, "at least one row, got 0"),
        ({"surrogate": "code.py:narrow"}, "surrogate: it does not take images of shape (1, 1, 8, 8)"),
        ({"perceptual": "code.py:narrow"}, "perceptual: it does not take images of shape (1, 1, 8, 8)"),
        ({"perceptual": "code.py:halves"}, "perceptual: expected features, a tensor with a row"),
        ({"perceptual": "nowhere.pt"}, "--perceptual: classifier: there is no file or folder"),
        ({"surrogate": "nowhere.pt"}, "--surrogate: classifier: there is no file or folder"),
        ({"out": "images"}, "is the folder of the images, which would be read again next time; give another"),
        ({"images": "nowhere"}, "there is no folder nowhere"),
    ],
    ids=lambda value: "=".join(map(str, *value.items())) if isinstance(value, dict) else "",
)
def test_what_does_not_fit_is_answered_before_sampling(folder, tmp_path, capsys, monkeypatch, change, expected):
    if "option" in change:
        more, change = ("--option", change["option"]), {}
    elif "prompt" in change:
        more, change = ("--prompt", change["prompt"]), {}
    else:
        more = ()
    change = {name: folder / value if "code.py" in str(value) else value for name, value in change.items()}
    if "out" in change:
        change = {"out": folder / "images" / ".." / "images"}
    answered(folder, tmp_path, capsys, monkeypatch, expected, *more, **change)


def test_images_are_not_written_over(folder, tmp_path, capsys, monkeypatch):
    kept = tmp_path / "out" / "counterfactuals"
    shutil.copytree(folder / "images", kept)
    before = {file.name: file.read_bytes() for file in kept.iterdir()}
    assert run(folder, out=tmp_path / "out", images=kept) == 2
    assert "is the folder of the images" in capsys.readouterr().err
    assert {file.name: file.read_bytes() for file in kept.iterdir()} == before


@pytest.mark.parametrize("device", ["cud", "cuda:99", "xpu:99"])
def test_a_device_that_is_not_there_is_answered(folder, tmp_path, capsys, monkeypatch, device):
    answered(folder, tmp_path, capsys, monkeypatch, f"--device: '{device}' cannot be used here (", device=device)


def test_a_pipeline_is_read_from_its_folder_without_pickles(folder, tmp_path, monkeypatch):
    import diffusers

    seen = {}

    def from_pretrained(path, **options):
        seen.update(options, path=path)
        blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "norm_num_groups": 4}
        network = diffusers.UNet2DModel(8, 1, 1, block_out_channels=(8,), **blocks)
        return diffusers.DDPMPipeline(network, diffusers.DDPMScheduler())

    monkeypatch.setattr(diffusers, "DiffusionPipeline", SimpleNamespace(from_pretrained=from_pretrained))
    (tmp_path / "model_index.json").write_text("{}")
    assert explaining.read_generator(str(tmp_path), torch.device("cpu")).channels == 1
    assert seen == {
        "path": tmp_path,
        "local_files_only": True,
        "use_safetensors": True,
        "trust_remote_code": False,
    }
    with pytest.raises(ValueError, match="which has none; write --prompt"):
        explaining.read_generator(str(tmp_path), torch.device("cpu"), parent="label")


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        ({"_class_name": "NoSuchPipeline"}, "_class_name, such as StableDiffusionPipeline, got 'NoSuchPipeline'; for"),
        ({"unet": ["diffusers", "UNet2DModel"]}, "_class_name, such as StableDiffusionPipeline, got None; for a newer"),
        ({"_class_name": "UNet2DModel"}, "is a UNet2DModel that diffusers .* does not read: "),
    ],
)
def test_a_pipeline_that_cannot_be_read_is_answered(tmp_path, index, expected):
    (tmp_path / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ValueError, match=f"--generator: .*{expected}"):
        explaining.read_generator(str(tmp_path), torch.device("cpu"))


WITHOUT = """
import sys
import torch
import torchmetrics  # which imports transformers where they are installed
sys.modules.update({name: None for name in [*sys.modules, "transformers"] if name.startswith("transformers")})
from causalcf.explaining import read_generator
for folder in sys.argv[1:]:
    try:
        read_generator(folder, torch.device("cpu"))
    except ValueError as error:
        print(error)
"""


def test_a_pipeline_that_reads_text_says_what_it_needs(tmp_path):
    parts = [{"_class_name": "StableDiffusionPipeline"}, {"_class_name": "DDPMPipeline", "unet": ["transformers", "A"]}]
    for name, index in zip("ab", parts, strict=True):
        (tmp_path / name).mkdir()
        (tmp_path / name / "model_index.json").write_text(json.dumps(index))
    command = [sys.executable, "-c", WITHOUT, str(tmp_path / "a"), str(tmp_path / "b")]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    for name, index, line in zip("ab", parts, done.stdout.splitlines(), strict=True):
        kind = index["_class_name"]
        assert (
            line
            == f"--generator: {tmp_path / name} is a {kind}, which needs transformers; write pip install transformers"
        )


def test_a_pipeline_is_told_its_classes_and_its_null(tmp_path):
    import diffusers

    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "norm_num_groups": 4}
    network = diffusers.UNet2DModel(8, 1, 1, block_out_channels=(8,), num_class_embeds=5, **blocks)
    diffusers.DDPMPipeline(network, diffusers.DDPMScheduler()).save_pretrained(tmp_path)
    found = explaining.read_generator(str(tmp_path), torch.device("cpu"), classes="3,1", null="4")
    assert found.told(torch.tensor([0, 1])).tolist() == [3, 1]
    assert found.null == 4
    with pytest.raises(ValueError, match="5 classes and does not say which of them says nothing; write null=4"):
        explaining.read_generator(str(tmp_path), torch.device("cpu"))
