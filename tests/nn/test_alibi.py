"""Linear biases: slopes as transformers computes them, and scores that fall with distance alone."""

import pytest
import torch

from danlu.nn.alibi import alibi, slopes
from danlu.nn.mask import Sight


@pytest.mark.parametrize("heads", [1, 2, 3, 5, 7, 8, 12, 13, 16, 112])
def test_slopes_equal_transformers(heads):
    from transformers.models.bloom.modeling_bloom import build_alibi_tensor

    wanted = build_alibi_tensor(torch.ones(1, 2), heads, torch.float32)[:, 0, 1]
    torch.testing.assert_close(slopes(heads), wanted, rtol=1e-6, atol=0)


def test_slopes_of_a_power_of_two_are_the_papers():
    assert slopes(8).tolist() == [2.0**-power for power in range(1, 9)]


def test_a_score_falls_by_the_slope_for_each_place():
    bias_HTS = alibi(torch.tensor([0.5, 2.0]), Sight(3, start=2))
    assert bias_HTS.shape == (2, 3, 5)
    assert bias_HTS[0, 0].tolist() == [-1.0, -0.5, 0.0, 0.0, 0.0]
    assert bias_HTS[1, 2].tolist() == [-8.0, -6.0, -4.0, -2.0, 0.0]
