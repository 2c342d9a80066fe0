"""Few bits: what is lost is bounded, searching never loses more, and exact things stay exact."""

import pytest
import torch

from danlu.nn import kernels
from danlu.nn.quant import (
    dequantised,
    pack_nibbles,
    quantise_int4,
    quantise_int8,
    quantise_rows,
    unpack_nibbles,
)


def weight(outputs=7, inputs=70, seed=0):
    drawn = torch.randn(outputs, inputs, generator=torch.Generator().manual_seed(seed))
    drawn[2] = 0  # a dead output
    drawn[3, 5] = 12  # one weight far from the others
    return drawn


@pytest.mark.parametrize("group", [None, 32])
def test_eight_bits_lose_half_a_step_at_most(group):
    exact = weight()
    small = quantise_int8(exact, group)
    step = small.scales.float().repeat_interleave(small.group, 1)[:, : exact.size(1)]
    assert ((dequantised(small) - exact).abs() <= 0.51 * step).all()  # the scale's own rounding may clip by a quarter step
    assert small.codes.min() >= -127 and torch.equal(dequantised(small)[2], exact[2])


@pytest.mark.parametrize("symmetric", [True, False])
def test_four_bits_without_search_lose_a_step_at_most(symmetric):
    exact = weight()
    small = quantise_int4(exact, 32, symmetric, search=False)
    step = small.scales.float().abs().repeat_interleave(32, 1)[:, : exact.size(1)]
    assert ((dequantised(small) - exact).abs() <= 1.05 * step).all()
    assert torch.equal(dequantised(small)[2], exact[2])


@pytest.mark.parametrize("symmetric", [True, False])
def test_search_never_loses_more(symmetric):
    exact = weight(20, 130)
    lost = [(dequantised(quantise_int4(exact, 64, symmetric, search)) - exact).square().sum(-1) for search in (False, True)]
    assert (lost[1] <= lost[0] * 1.0001).all() and lost[1].sum() < 0.95 * lost[0].sum()


def test_importance_moves_the_loss_where_it_matters_less():
    exact = weight(20, 64)
    matters = torch.ones(64)
    matters[::2] = 100
    small = [quantise_int4(exact, 64, importance_I=share) for share in (None, matters)]
    lost = [((dequantised(one) - exact).square() * matters).sum() for one in small]
    assert lost[1] < lost[0]


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("search", [True, False])
def test_the_compiled_search_loses_no_more_than_its_definition(symmetric, search, monkeypatch):
    if kernels.library(torch.float32) is None:
        pytest.skip("needs a C compiler, and DANLU_KERNELS not 0")
    exact, matters = weight(40, 150), torch.linspace(0.5, 2, 150)
    fast = quantise_int4(exact, 32, symmetric, search, matters)
    monkeypatch.setattr(kernels, "usable", lambda *_: False)
    monkeypatch.setattr("danlu.nn.quant._PART", 7)
    plain = quantise_int4(exact, 32, symmetric, search, matters)
    assert (fast.codes == plain.codes).float().mean() > 0.995  # two trials may lose equally; ties go either way
    lost = [((dequantised(one) - exact).square() * matters).sum(1) for one in (fast, plain)]
    torch.testing.assert_close(*lost, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("bits", [8, 4])
def test_quantising_twice_changes_nothing(bits):
    once = quantise_int8(weight(), 32) if bits == 8 else quantise_int4(weight(), 32)
    exact = dequantised(once)
    again = quantise_int8(exact, 32) if bits == 8 else quantise_int4(exact, 32)
    torch.testing.assert_close(dequantised(again), exact, rtol=0.004, atol=1e-6)  # a scale may move by its own rounding


def test_an_affine_group_of_sixteen_values_is_exact():
    exact = (torch.arange(16.0) - 3).mul(0.5).repeat(3, 1)
    small = quantise_int4(exact, 16, symmetric=False, search=False)
    assert torch.equal(dequantised(small), exact) and small.zeros.tolist() == [[3]] * 3


def test_rows_keep_their_largest_exactly():
    x = weight(5, 70, seed=1)
    codes, scales = quantise_rows(x, 32)
    back = codes.float() * scales.repeat_interleave(32, 1)[:, :70]
    assert ((back - x).abs() <= 0.5001 * scales.repeat_interleave(32, 1)[:, :70]).all()
    assert codes.abs().amax() == 127 and torch.equal(back[2], x[2])


@pytest.mark.parametrize("signed", [True, False])
def test_nibbles_come_back(signed):
    low, high = (-8, 8) if signed else (0, 16)
    codes = torch.randint(low, high, (3, 7), dtype=torch.int8, generator=torch.Generator().manual_seed(0))
    assert torch.equal(unpack_nibbles(pack_nibbles(codes), 7, signed), codes)


def test_bits_per_weight_counts_scales():
    assert quantise_int4(torch.ones(4, 64), 32).bits_per_weight == 4.5
    assert quantise_int8(torch.ones(4, 64)).bits_per_weight == 8.25
