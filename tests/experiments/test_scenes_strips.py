"""Sequences in pictures."""

import torch

from experiments.scenes.strips import strip


def test_each_answer_stands_beside_its_truth_with_its_error():
    observed = torch.rand(3, 3, 16, 16)
    truth = {"step 1": observed.clamp(0.2, 0.6), "step 2": observed.clamp(0.3, 0.5)}
    answers = {"step 1": truth["step 1"] + torch.tensor([0.012, 0.02, 0.03]).reshape(3, 1, 1, 1), "step 2": observed}
    figure = strip(observed, answers, truth, ["1. do(a)", "2. do(b)"], units=2)
    axes = {ax.get_gid(): ax for ax in figure.axes}
    assert axes.keys() == {
        f"{kind}:{line}"
        for kind in ("observed", "step 1", "truth of step 1", "step 2", "truth of step 2")
        for line in range(2)
    }
    said = {text.get_text() for text in figure.texts}
    assert {"3.1", "5.1", "1. do(a)", "2. do(b)", "model", "truth"} <= said
    shown = torch.as_tensor(axes["truth of step 2:1"].images[0].get_array()).float()
    torch.testing.assert_close(shown, truth["step 2"][1].permute(1, 2, 0), atol=1e-5, rtol=0)
