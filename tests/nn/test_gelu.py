"""GELU by its names equals transformers' function of that name."""

import pytest
import torch

from danlu.nn.gelu import EXACT, TANH, gelu


@pytest.mark.parametrize("name", [*EXACT, *TANH])
def test_each_name_is_what_transformers_computes(name):
    from transformers.activations import ACT2FN

    x = torch.linspace(-6, 6, 101)
    torch.testing.assert_close(gelu(x, name), ACT2FN[name](x), rtol=1e-5, atol=1e-6)


def test_the_two_forms_differ_by_a_thousandth_at_most():
    x = torch.linspace(-6, 6, 101)
    assert 1e-5 < (gelu(x) - gelu(x, "gelu_new")).abs().max() < 1e-3


def test_another_name_is_an_error():
    with pytest.raises(KeyError, match="swish"):
        gelu(torch.zeros(1), "swish")
