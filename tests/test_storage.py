"""Models on disk."""

import json
import pickle
import shutil
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

import causalcf as cf
from causalcf import do
from causalcf import mechanisms as M
from tests.test_scm import tiny


@pytest.fixture
def saved(tmp_path):
    scm = tiny()
    scm.save(tmp_path / "m")
    return scm, tmp_path / "m"


def test_a_saved_model_answers_the_same(saved):
    scm, folder = saved
    rows = scm.sample(3)
    loaded = cf.SCM.load(folder, graph=scm.graph)
    again, first = (asked.counterfactual(rows, do(t=1.0)) for asked in (loaded, scm))
    for name in scm.graph:
        assert torch.equal(again[name], first[name])


def test_three_files_and_none_is_a_pickle(saved):
    _, folder = saved
    assert sorted(path.name for path in folder.iterdir()) == ["config.json", "graph.json", "weights.safetensors"]
    for path in folder.iterdir():
        with pytest.raises((pickle.UnpicklingError, ValueError, KeyError, EOFError)):
            pickle.loads(path.read_bytes())


def test_half_precision_halves_the_size(saved, tmp_path):
    scm, folder = saved
    scm.save(tmp_path / "h", half=True)
    sizes = [(f / "weights.safetensors").stat().st_size for f in (folder, tmp_path / "h")]
    assert sizes[1] < 0.7 * sizes[0]
    rows = scm.sample(3)
    torch.testing.assert_close(
        cf.SCM.load(tmp_path / "h").observe(rows).do(t=1.0)["i"], scm.observe(rows).do(t=1.0)["i"], atol=1e-2, rtol=1e-2
    )


def test_half_precision_keeps_scales_that_it_cannot_hold(tmp_path):
    incomes = {f"income {place}": cf.Continuous(unit="euro") for place in range(20)}
    graph = cf.CausalGraph([(name, "y") for name in incomes], {**incomes, "y": cf.Continuous()})
    scm = cf.SCM(graph, {name: M.Gaussian(weights={}, bias=2e5) for name in incomes})
    flow = scm.mechanisms["y"]
    flow.calibrate(torch.randn(50), {name: 2e5 + torch.randn(50) for name in incomes})
    flow.fitted = True
    scm.save(tmp_path / "h", half=True)
    kept = cf.SCM.load(tmp_path / "h").mechanisms["y"]
    assert isinstance(flow, M.Flow) and isinstance(kept, M.Flow)
    assert torch.equal(kept.features.mean, flow.features.mean)
    assert torch.equal(kept.features.std, flow.features.std)


def test_nothing_is_written_over(saved, tmp_path):
    scm, folder = saved
    before = (folder / "weights.safetensors").read_bytes()
    with pytest.raises(FileExistsError, match="overwrite=True"):
        scm.save(folder)
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis/chapter.txt").write_text("years of work")
    with pytest.raises(FileExistsError, match="choose an empty or new folder"):
        scm.save(tmp_path / "thesis", overwrite=True)
    (tmp_path / "file").write_text("x")
    with pytest.raises(FileExistsError):
        scm.save(tmp_path / "file", overwrite=True)
    assert (folder / "weights.safetensors").read_bytes() == before
    assert (tmp_path / "thesis/chapter.txt").read_text() == "years of work"
    scm.save(folder, overwrite=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file", "m", "thesis"]


def test_an_unfitted_or_intervened_model_is_not_saved(saved, tmp_path):
    scm, _ = saved
    with pytest.raises(ValueError, match="not fitted yet"):
        tiny(fitted=False).save(tmp_path / "n")
    with pytest.raises(ValueError, match=r"save the model you called .do\(\) on"):
        scm.do(t=1.0).save(tmp_path / "n")
    assert not (tmp_path / "n").exists()


def test_the_wrong_graph_is_named(saved):
    _, folder = saved
    other = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    with pytest.raises(ValueError, match="model of another graph"):
        cf.SCM.load(folder, graph=other)


def test_a_missing_or_incomplete_folder_is_named(saved, tmp_path):
    _, folder = saved
    with pytest.raises(FileNotFoundError, match="no folder"):
        cf.SCM.load(tmp_path / "nowhere")
    (folder / "config.json").unlink()
    with pytest.raises(FileNotFoundError, match=r"lacks config.json"):
        cf.SCM.load(folder)


@pytest.mark.parametrize("file", ["graph.json", "config.json", "weights.safetensors"])
@pytest.mark.parametrize("share", [0.0, 0.5, 0.98])
def test_truncated_files_are_named(saved, file, share):
    _, folder = saved
    content = (folder / file).read_bytes()
    (folder / file).write_bytes(content[: int(share * len(content))])
    with pytest.raises(ValueError, match=r"load: .*(damaged|truncated)"):
        cf.SCM.load(folder)


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 1}', "null", '{"format": 99, "mechanisms": {}}'])
def test_foreign_json_is_refused(saved, text):
    _, folder = saved
    (folder / "config.json").write_text(text)
    with pytest.raises(ValueError, match="load: "):
        cf.SCM.load(folder)


def test_foreign_weights_are_refused(saved, tmp_path):
    scm, folder = saved
    path = folder / "weights.safetensors"
    good = load_file(path)
    key = next(key for key in good if key.startswith("x:") and good[key].ndim > 1)
    for bad, message in [
        ({**good, key: torch.zeros(3)}, "x in .* does not fit its SpatialDiffusion"),
        ({k: v for k, v in good.items() if k != key}, "found nothing"),
        ({**good, "x:more": torch.zeros(3)}, "expected nothing"),
        ({**good, "y:w": torch.zeros(3)}, "weights of y, which the graph does not have"),
        ({**good, key: torch.full_like(good[key], float("nan"))}, "not finite"),
    ]:
        save_file(bad, path)
        with pytest.raises(ValueError, match=message):
            cf.SCM.load(folder)
    path.write_bytes(pickle.dumps(scm.state_dict()))
    with pytest.raises(ValueError, match="not a safetensors file"):
        cf.SCM.load(folder)


@pytest.mark.parametrize("kind", [M.VAE, M.SemanticDiffusion])
def test_a_code_of_another_size_is_named(kind, tmp_path):
    graph = cf.CausalGraph("a -> x", a=cf.Continuous(), x=cf.Image(1, 8, 8))
    options: dict[str, Any] = {"widths": (8,)} if kind is M.VAE else {"widths": (8, 8), "steps": 3}
    for latent in (3, 5):
        scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "x": kind(latent=latent, **options)})
        for mechanism in scm.mechanisms.values():
            mechanism.fitted = True
        scm.save(tmp_path / str(latent))
    (tmp_path / "5" / "weights.safetensors").write_bytes((tmp_path / "3" / "weights.safetensors").read_bytes())
    with pytest.raises(ValueError, match="its code has 3 numbers: give latent=3 to load it"):
        cf.SCM.load(tmp_path / "5")


def test_files_of_different_models_are_refused(saved, tmp_path):
    _, folder = saved
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 1.0})}).save(tmp_path / "o")
    shutil.copy(tmp_path / "o/graph.json", folder / "graph.json")
    with pytest.raises(ValueError, match="different models"):
        cf.SCM.load(folder)


def test_unknown_mechanisms_and_options_are_refused(saved):
    _, folder = saved
    config = json.loads((folder / "config.json").read_text())
    for change, message in [
        ({"type": "Oracle", "options": {}}, "mechanism 'Oracle' that causalcf does not have"),
        ({"type": "Mechanism", "options": {}}, "does not have"),
        ({"type": "Flow", "options": {"wings": 2}}, "options of t .* damaged"),
        ({"type": "Flow", "options": {"bins": -3}}, "options of t .* damaged"),
    ]:
        changed = {**config, "mechanisms": {**config["mechanisms"], "t": change}}
        (folder / "config.json").write_text(json.dumps(changed))
        with pytest.raises(ValueError, match=message):
            cf.SCM.load(folder)


def test_code_is_given_again(tmp_path):
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    known = lambda: M.Functional(lambda u, pa: pa["a"] + u, lambda x, pa: x - pa["a"])  # noqa: E731
    scm = cf.SCM(graph, {"a": M.Gaussian(weights={}), "b": known()})
    scm.save(tmp_path / "f")
    with pytest.raises(ValueError, match="b is Functional, and code is not read from files"):
        cf.SCM.load(tmp_path / "f")
    rows = scm.sample(4)
    loaded = cf.SCM.load(tmp_path / "f", mechanisms={"b": known()})
    assert torch.equal(loaded.observe(rows).do(a=1.0)["b"], scm.observe(rows).do(a=1.0)["b"])


def test_code_for_a_variable_that_is_not_there_is_refused(saved):
    with pytest.raises(ValueError, match="unknown variable 'tt'"):
        cf.SCM.load(saved[1], mechanisms={"tt": M.Gaussian(weights={})})


def test_names_may_have_a_colon(tmp_path):
    graph = cf.CausalGraph([("a:b", "c")], **{"a:b": cf.Continuous(), "c": cf.Continuous()})
    scm = cf.SCM(graph, {"a:b": M.Gaussian(weights={}), "c": M.Gaussian(weights={"a:b": 2.0})})
    scm.save(tmp_path / "m")
    assert cf.SCM.load(tmp_path / "m").graph == graph
