"""Relative places: buckets as T5 counts them, the diagonal form equal to the plain one."""

import pytest
import torch

from danlu.nn.relative import RelativeBias, buckets


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("count", "limit"), [(32, 128), (8, 11), (6, 50)])
def test_buckets_equal_transformers(count, limit, causal):
    from transformers.models.t5.modeling_t5 import T5Attention

    distance = torch.arange(-300, 301)
    wanted = T5Attention._relative_position_bucket(distance, bidirectional=not causal, num_buckets=count, max_distance=limit)
    assert torch.equal(buckets(distance, count, limit, causal=causal), wanted)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize(("tokens", "start"), [(1, 0), (5, 0), (1, 9), (4, 7)])
def test_distances_laid_along_diagonals_equal_every_pair_looked_up(tokens, start, causal):
    generator = torch.Generator().manual_seed(0)
    bias = RelativeBias(8, 3, 11, causal=causal)
    with torch.no_grad():
        bias.weight.normal_(generator=generator)
    found, weight = bias(tokens, start), torch.randn(3, tokens, start + tokens, generator=generator)
    plain = bias.plain(tokens, start)
    assert found.shape == (1, 3, tokens, start + tokens)
    torch.testing.assert_close(found, plain, rtol=0, atol=0)
    gradients = [torch.autograd.grad((one[0] * weight).sum(), bias.weight)[0] for one in (found, plain)]
    torch.testing.assert_close(*gradients)
