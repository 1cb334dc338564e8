"""The judge of realism reads every factor of a scene."""

import json

import pytest
import torch

from experiments.scenes.judge import fit_judge, load_judge, save_judge


def test_it_learns_all_factors_and_is_kept(tmp_path):
    generator = torch.Generator().manual_seed(0)
    factors = torch.rand(128, 2, generator=generator)
    image = torch.zeros(128, 3, 16, 16)
    image[:, 0], image[:, 2, :4] = factors[:, 0, None, None], factors[:, 1, None, None]
    judge = fit_judge(image, 10 * factors, steps=120, batch=32)
    z = (factors - factors.mean(0)) / factors.std(0)
    assert (judge(image) - z).abs().mean(0).max() < 0.3
    save_judge(judge, tmp_path / "judge")
    again = load_judge(tmp_path / "judge")
    assert torch.equal(again.embedding(image), judge.embedding(image))


def test_a_reader_of_one_factor_is_refused(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"type": "Regressor", "options": {}}))
    with pytest.raises(ValueError, match="holds a Regressor, which reads one factor; train the judge again"):
        load_judge(tmp_path)
