"""Matrices in few bits: torch's kernels compute what the codes mean, few rows and many alike."""

import pytest
import torch
import torch.nn.functional as F

from danlu.nn.quant import dequantised, quantise_int4, quantise_int8
from danlu.nn.small_linear import SmallLinear, unfit


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


WAYS = {
    "int8": quantise_int8, "int4": lambda weight: quantise_int4(weight, 32), "wide": lambda weight: quantise_int4(weight, 128),
    "zeros": lambda weight: quantise_int4(weight, 64, symmetric=False),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("rows", [(1,), (3, 7), (32,), (5, 11)])
def test_it_equals_the_codes_product(way, rows):
    small = WAYS[way](normal(48, 256))
    layer, x = SmallLinear(small, bias=normal(48, seed=2)), normal(*rows, 256, seed=1)
    torch.testing.assert_close(layer.weight, dequantised(small), rtol=0, atol=0)
    wanted = F.linear(x, dequantised(small), layer.bias)
    found = layer(x)
    assert found.dtype == x.dtype and found.shape == (*rows, 48)
    torch.testing.assert_close(found, wanted, rtol=0.02, atol=0.01 * float(wanted.abs().max()))
    assert layer(x.bfloat16()).dtype == torch.bfloat16


@pytest.mark.parametrize("way", WAYS)
def test_a_rows_answer_does_not_depend_on_how_few_others_there_are(way):
    layer, x = SmallLinear(WAYS[way](normal(48, 256))), normal(32, 256, seed=1)
    together = layer(x)
    assert all(torch.equal(layer(x[:few])[0], together[0]) for few in (1, 2, 5, 31))


def test_many_rows_are_multiplied_in_full_precision():
    layer, x = SmallLinear(quantise_int4(normal(48, 256), 32)), normal(33, 256, seed=1)
    torch.testing.assert_close(layer(x), F.linear(x, layer.weight), rtol=1e-5, atol=1e-4)


def test_sizes_that_the_kernels_cannot_take_are_named():
    assert "groups of 16" in unfit(quantise_int4(normal(48, 64), 16))
    assert "40 x 64" in unfit(quantise_int4(normal(40, 64), 32))
    assert "48 x 72" in unfit(quantise_int4(normal(48, 72), 32))
    assert "one scale a row" in unfit(quantise_int8(normal(48, 64), 32))
    assert "24 inputs" in unfit(quantise_int8(normal(48, 24)))
    with pytest.raises(ValueError, match="groups of 16"):
        SmallLinear(quantise_int4(normal(48, 64), 16))
