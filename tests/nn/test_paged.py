"""Paged attention equals its definition: any blocks, any mix of pieces, windows, caps and biases."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from danlu.nn.alibi import alibi, slopes
from danlu.nn.paged import PagedMemory, PagedSight, PagedState, Span, attend_paged, attend_paged_plain
from danlu.nn.state import LayerState, State

HEADS, KEY_HEADS, WIDTH = 6, 3, 5


def normal(*shape, seed):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def spans(pieces, block_tokens, blocks, seed=0):
    """Pieces (tokens, start), their blocks scattered over a pool."""
    free = np.random.default_rng(seed).permutation(blocks)
    found, begin = [], 0
    for tokens, start in pieces:
        need = -(-(tokens + start) // block_tokens)
        found.append(Span(begin, tokens, start, free[:need]))
        free, begin = free[need:], begin + tokens
    return found


def filled(block_tokens, blocks, dtype=torch.float32):
    """A pool in which every slot holds something."""
    memory = PagedMemory(blocks, block_tokens, KEY_HEADS, WIDTH, WIDTH, dtype, "cpu")
    memory.keys.copy_(normal(*memory.keys.shape, seed=1))
    memory.values.copy_(normal(*memory.values.shape, seed=2))
    return memory


PIECES = st.lists(st.tuples(st.sampled_from([1, 1, 1, 2, 3, 17]), st.integers(0, 40)), min_size=1, max_size=7)


@settings(deadline=None, max_examples=60)
@given(PIECES, st.sampled_from([1, 4, 16]), st.sampled_from([None, 1, 3, 20]), st.sampled_from(["plain", "cap", "bias"]))
def test_it_equals_the_definition(pieces, block_tokens, window, kind):
    blocks = sum(-(-(tokens + start) // block_tokens) for tokens, start in pieces) + 2
    sight = PagedSight.of(spans(pieces, block_tokens, blocks), block_tokens)
    bias = alibi(slopes(HEADS), sight) if kind == "bias" else None
    how = {"scale": 0.7, "softcap": 2.0 if kind == "cap" else None, "bias": bias}
    seen = sight if kind == "bias" else sight.within(window)
    q, k, v = (normal(1, heads, sight.tokens, WIDTH, seed=3 + heads) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    memory, twin = filled(block_tokens, blocks), filled(block_tokens, blocks)
    found, wanted = attend_paged(q, k, v, seen, memory, **how), attend_paged_plain(q, k, v, seen, twin, **how)
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
    assert torch.equal(memory.keys, twin.keys) and torch.equal(memory.values, twin.values)


def test_places_and_what_stands_before():
    sight = PagedSight.of([Span(0, 3, 0, np.array([4])), Span(3, 2, 2, np.array([1, 0])), Span(5, 1, 4, np.array([2, 3]))], 3)
    assert sight.at(torch.device("cpu")).tolist() == [0, 1, 2, 2, 3, 4] and sight.end == 5
    assert sight.slots_N.tolist() == [12, 13, 14, 5, 0, 10]
    assert sight.slots_before_N.tolist() == [-1, 12, 13, 4, 5, 9]
    assert sight.within(5) is sight and sight.within(4).window == 4


def test_pieces_alike_share_a_call_and_very_different_ones_do_not():
    pieces = [(1, 30), (1, 25), (1, 300), (17, 3), (2, 20), (1, 29)]
    sight = PagedSight.of(spans(pieces, 4, 200), 4)
    assert sorted((group.pieces, group.tokens) for group in sight.groups) == [(1, 1), (1, 2), (1, 17), (3, 1)]
    windowed = sight.within(6).groups
    assert sorted((group.pieces, group.tokens) for group in windowed) == [(1, 2), (1, 17), (4, 1)]
    assert max(group.reach for group in windowed if group.tokens == 1) <= 6 + 3


def test_half_precision_blocks_serve_wider_queries():
    sight = PagedSight.of(spans([(1, 9), (1, 5)], 4, 10), 4)
    q, k, v = (normal(1, heads, 2, WIDTH, seed=heads) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    found = attend_paged(q, k, v, sight, filled(4, 10, torch.bfloat16))
    torch.testing.assert_close(found, attend_paged(q, k, v, sight, filled(4, 10)), rtol=0.05, atol=0.05)


def test_a_pool_refuses_what_only_rows_can_do():
    state = PagedState(State([LayerState(1, KEY_HEADS, 1, WIDTH, torch.float32, "cpu")]), blocks=3, block_tokens=4)
    assert state.layers[0].keys.shape == (3, 4, KEY_HEADS, WIDTH) and not state.layers[0].keys.any()
    for refused in (lambda: state.crop(0), lambda: state.reorder(torch.tensor([0])), lambda: state.view(2, torch.zeros(1, 2))):
        with pytest.raises(ValueError, match=r"sequences in blocks|no rows"):
            refused()
