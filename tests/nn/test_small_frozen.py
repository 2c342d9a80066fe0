"""A frozen matrix in codes: the float one that they mean, forwards and backwards, in the memory of the codes."""

import pytest
import torch
import torch.nn.functional as F

from danlu.nn.linear import lay_on
from danlu.nn.quant import dequantised, quantise_int4, quantise_int8
from danlu.nn.small_frozen import SmallFrozen, code
from tests.models.adapters.moved import gap

SHAPES = [(7, 24), (5, 13)]


def matrix(shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def made(kind, weight):
    small = {
        "int8": lambda: quantise_int8(weight), "int8 in groups": lambda: quantise_int8(weight, 4),
        "int4": lambda: quantise_int4(weight, 8), "int4, odd groups": lambda: quantise_int4(weight, 3),
        "int4, one group": lambda: quantise_int4(weight, weight.size(1)),
    }[kind]()  # fmt: skip
    return small, SmallFrozen(small)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", ["int8", "int8 in groups", "int4", "int4, odd groups", "int4, one group"])
def test_the_matrix_is_what_the_codes_mean(kind, shape):
    small, layer = made(kind, matrix(shape))
    assert torch.equal(layer.matrix, dequantised(small))
    assert torch.equal(layer.small.codes, small.codes) and layer.small.group == small.group


@pytest.mark.parametrize("kind", ["int8", "int4"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_products_and_the_inputs_gradient_are_those_of_the_float_matrix(kind, dtype):
    small, layer = made(kind, matrix((7, 24)))
    layer.bias = torch.nn.Parameter(torch.arange(7.0), requires_grad=False)
    pair = [matrix((3, 5, 24), 1).to(dtype).requires_grad_(True) for _ in range(2)]
    mine, wanted = layer(pair[0]), F.linear(pair[1], dequantised(small).to(dtype), layer.bias.to(dtype))
    assert torch.equal(mine, wanted)
    mine.square().sum().backward()
    wanted.square().sum().backward()
    assert gap(pair[0].grad.float(), pair[1].grad.float()) < (1e-6 if dtype == torch.float32 else 1e-2)


def test_whatever_lies_on_it_sees_the_input_and_the_product():
    _, layer = made("int4", matrix((7, 24)))
    x = matrix((2, 24), 2)
    alone = layer(x)
    lay_on(layer, lambda given, product: product + given.sum(-1, keepdim=True))
    assert torch.equal(layer(x), alone + x.sum(-1, keepdim=True))


def test_it_takes_the_memory_of_its_codes_and_is_in_no_checkpoint():
    weight = matrix((256, 512))
    int8, int4 = (SmallFrozen(code(weight, form, 64)) for form in ("int8", "int4"))
    assert int8.bytes < 0.26 * weight.nbytes and int4.bytes < 0.14 * weight.nbytes
    assert not int8.state_dict() and not list(int8.parameters())


def test_codes_with_zero_points_are_refused():
    with pytest.raises(ValueError, match="zero points"):
        SmallFrozen(quantise_int4(matrix((7, 24)), 8, symmetric=False))
