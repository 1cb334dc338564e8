import pytest
import torch

import causalcf as cf
from causalcf import mechanisms as M
from causalcf import pretrained
from causalcf.pretrained import load_pretrained, predictor_names, pretrained_names


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder with one model, one folder that is none, and a file."""
    graph = cf.CausalGraph("a -> b", a=cf.Continuous(), b=cf.Continuous())
    known = {"a": M.Gaussian(weights={}), "b": M.Gaussian(weights={"a": 3.0})}
    cf.SCM(graph, known).save(tmp_path / "digits-spatial")
    (tmp_path / "digits-classifier").mkdir()
    (tmp_path / "digits-classifier" / "weights.safetensors").touch()
    (tmp_path / "notes.txt").touch()
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)


@pytest.mark.parametrize("name", pretrained_names())
def test_every_model_that_ships_loads_samples_and_has_a_card(name):
    scm = load_pretrained(name)
    rows = scm.sample(2, seed=0)
    assert set(scm.graph.check_rows(rows)) == {*scm.graph, "id"}
    assert len((pretrained.ROOT / name / "README.md").read_text()) > 200


@pytest.mark.parametrize("name", predictor_names())
def test_every_predictor_that_ships_reads_what_its_name_says_and_has_a_card(name):
    predictor = pretrained.load_judge(name)
    assert name.split("-")[1] == predictor.reads
    assert predictor.predict(torch.rand(2, 1, 28, 28)).shape == (2,)
    assert len((pretrained.ROOT / name / "README.md").read_text()) > 200


@pytest.mark.usefixtures("shelf")
def test_an_unknown_predictor_is_answered_with_what_ships(tmp_path):
    (tmp_path / "digits-thickness").mkdir()
    (tmp_path / "digits-thickness" / "config.json").touch()
    with pytest.raises(ValueError, match=r"no predictor 'digits-thicknes' ships.*only digits-thickness; did you mean"):
        pretrained.load_judge("digits-thicknes")


@pytest.mark.usefixtures("shelf")
def test_a_model_is_loaded_by_its_name():
    assert pretrained_names() == ("digits-spatial",)
    assert cf.load_pretrained("digits-spatial").mechanisms["b"].weights == {"a": 3.0}


@pytest.mark.usefixtures("shelf")
@pytest.mark.parametrize("name", ["digits-spatail", "digits-classifier", "digits"])
def test_an_unknown_name_is_answered_with_what_ships(name):
    with pytest.raises(ValueError, match=r"only digits-spatial; did you mean 'digits-spatial'\?.*SCM.load"):
        load_pretrained(name)


@pytest.mark.usefixtures("shelf")
def test_no_suggestion_where_nothing_is_close():
    with pytest.raises(ValueError, match="no model 'xyz' ships") as caught:
        load_pretrained("xyz")
    assert "did you mean" not in str(caught.value)


def test_without_any_model_the_answer_is_as_clear(tmp_path, monkeypatch):
    monkeypatch.setattr(pretrained, "ROOT", tmp_path)
    assert pretrained_names() == ()
    with pytest.raises(ValueError, match="no other does here; a model of your own"):
        load_pretrained("digits-spatial")


def test_a_predictor_is_no_model_and_a_model_no_predictor():
    with pytest.raises(
        ValueError, match=r"is a predictor; write causalcf.pretrained.load_judge\('morphodigits-digit'\)"
    ):
        load_pretrained("morphodigits-digit")
    with pytest.raises(ValueError, match=r"is a model; write causalcf.load_pretrained\('morphodigits-spatial'\)"):
        pretrained.load_judge("morphodigits-spatial")
