"""Attention with sinks equals its definition, written out pair by pair, in any steps."""

import pytest
import torch

from danlu.nn.mask import Sight
from danlu.nn.rope import rotate_plain, turns
from danlu.nn.sinks import Endless, SinkState, attend_endless

HEADS, GROUPS, WIDTH, TEXT = 6, 3, 10, 29


def made(heads, seed):
    return torch.randn(2, heads, TEXT, WIDTH, generator=torch.Generator().manual_seed(seed))


def by_definition(q, k, v, window, sinks):
    """Each query alone: its own place, each key's place in what is kept, one softmax."""
    k, v = (part.repeat_interleave(HEADS // GROUPS, 1) for part in (k, v))
    cos, sin = turns(torch.arange(TEXT), WIDTH, 100.0)

    def turned(x_BHK, place):
        return rotate_plain(x_BHK[:, None], cos[place][None], sin[place][None])[:, 0]

    out = torch.empty_like(q)
    for t in range(TEXT):
        seen = [j for j in range(t + 1) if j < sinks or t - j < window]
        scores = []
        for j in seen:
            ahead = t - j if t - j < window else min(t, sinks + window - 1) - j
            scores.append((turned(q[:, :, t], ahead) * turned(k[:, :, j], 0)).sum(-1))
        weights = (torch.stack(scores, -1) * WIDTH**-0.5).softmax(-1)
        out[:, :, t] = (weights[..., None] * v[:, :, seen]).sum(2)
    return out


@pytest.mark.parametrize("steps", [[1] * TEXT, [TEXT - 9, 9], [3, 1, 5, 1, 7, 2, 2, 8], [13, 1, 1, 14]])
@pytest.mark.parametrize(("window", "sinks"), [(7, 2), (3, 4), (1, 1), (5, 0), (40, 3)])
def test_attention_with_sinks_is_its_definition(window, sinks, steps):
    q, k, v = made(HEADS, 0), made(GROUPS, 1), made(GROUPS, 2)
    state = Endless([SinkState(2, GROUPS, window, WIDTH, torch.float32, "cpu", sinks=sinks)])
    layer, parts = state.layers[0], []
    for new in steps:
        start = state.length
        layer.turns = turns(torch.arange(state.places(new)), WIDTH, 100.0)
        now = slice(start, start + new)
        keys, values = layer.append(start, k[:, :, now], v[:, :, now])
        sight = Sight(new, start).within(window, sinks)
        parts.append(attend_endless(q[:, :, now], keys, values, sight, layer))
        state.length += new
    torch.testing.assert_close(torch.cat(parts, 2), by_definition(q, k, v, window, sinks), rtol=1e-4, atol=1e-5)
