"""The places of the largest scores, and what stands out of a difference."""

import pytest
import torch

from causalcf.diffusion.masks import largest, outstanding


def test_equal_scores_are_told_apart_by_lots():
    random = torch.Generator().manual_seed(0)
    score = torch.randint(0, 4, (5, 1, 6, 6), generator=random).double()
    lots = torch.randn(score.shape, generator=random, dtype=torch.float64)
    found = {share: largest(score, share, lots) for share in (0.1, 0.4, 0.9)}
    for share, where in found.items():
        for row in range(5):
            pairs = [(-s, lot) for s, lot in zip(score[row].flatten(), lots[row].flatten(), strict=True)]
            expected = sorted(range(36), key=pairs.__getitem__)[: int(36 * share)]
            assert where[row].flatten().nonzero()[:, 0].tolist() == sorted(expected)
    assert (found[0.1] <= found[0.4]).all()
    assert (found[0.4] <= found[0.9]).all()
    first = largest(torch.zeros(1, 1, 6, 6), 0.1)
    assert first.flatten().nonzero()[:, 0].tolist() == [0, 1, 2]


def test_what_stands_out_is_a_share_of_the_largest_difference():
    factual = torch.rand(2, 3, 9, 9, generator=torch.Generator().manual_seed(0))
    other = factual.clone()
    other[0, :, 4, 4] += 0.1
    sigma, near = 2.0, outstanding(other, factual, 0.05, 5)
    assert not near[1].any()  # nothing differs there
    bell = torch.tensor([(-((i - 2) ** 2) / (2 * sigma**2)) for i in range(5)]).exp()
    peak = (bell[2] / bell.sum()) ** 2
    assert outstanding(other, factual, peak.item() - 1e-4, 5)[0].nonzero().tolist() == [[0, 4, 4]]
    assert not outstanding(other, factual, peak.item() + 1e-4, 5).any()
    assert torch.equal(near, outstanding(factual + 7 * (other - factual), factual, 0.05, 5))
    with pytest.raises(ValueError, match="expected an odd number of pixels, got 4; write 5"):
        outstanding(other, factual, 0.5, 4)
