"""Places as waves: the table that Marian models were trained with, and the law that makes it useful."""

import pytest
import torch

from danlu.nn.sinusoid import waves


@pytest.mark.parametrize("width", [24, 35])
def test_the_table_equals_transformers(width):
    from transformers.models.marian.modeling_marian import MarianSinusoidalPositionalEmbedding

    wanted = MarianSinusoidalPositionalEmbedding(50, width).create_weight()
    torch.testing.assert_close(waves(torch.arange(50), width), wanted, rtol=0, atol=1e-7)


def test_moving_by_some_places_is_one_rotation_wherever_one_stands():
    """Section 3.5 of the paper: the vector of place p + k is a linear function of that of p, the same for all p."""
    here, there = waves(torch.arange(40), 12), waves(torch.arange(5, 45), 12)
    turn = torch.linalg.lstsq(here[:20].double(), there[:20].double()).solution
    torch.testing.assert_close(here[20:].double() @ turn, there[20:].double(), rtol=0, atol=2e-3)
