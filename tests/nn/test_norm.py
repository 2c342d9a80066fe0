"""Norms equal their definitions in torch."""

import torch
import torch.nn.functional as F

from danlu.nn.norm import rms_norm_plain


def test_rms_norm_equals_torch():
    x, weight = torch.randn(3, 5, 7, generator=torch.Generator().manual_seed(0)), torch.arange(7.0)
    torch.testing.assert_close(rms_norm_plain(x, weight, 1e-5), F.rms_norm(x, (7,), weight, 1e-5))


def test_squares_do_not_overflow_half_precision():
    x = torch.full((1, 3), 300.0, dtype=torch.float16)
    assert rms_norm_plain(x, torch.ones(3), 1e-6).tolist() == [[1.0, 1.0, 1.0]]
