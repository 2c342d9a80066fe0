"""The memory holds what was appended, grows when it must and forgets only what is asked."""

import pytest
import torch

from danlu.nn.state import State


def filled(capacity):
    state, pieces = State(1, 2, 3, 5, capacity=capacity), []
    for tokens in (4, 1, 2):
        piece = torch.randn(2, 3, tokens, 5)
        keys, values = state.layers[0].append(state.length, piece, -piece)
        state.length += tokens
        pieces.append(piece)
    return state, keys, values, torch.cat(pieces, dim=2)


@pytest.mark.parametrize("capacity", [1, 4, 5, 50])
def test_all_that_was_appended_is_there(capacity):
    state, keys, values, wanted = filled(capacity)
    assert torch.equal(keys, wanted) and torch.equal(values, -wanted)
    assert state.capacity >= state.length == 7


def test_room_enough_means_no_copy():
    state = State(1, 2, 3, 5, capacity=7)
    before, bytes_before = state.layers[0].keys.data_ptr(), state.bytes
    for place in range(7):
        state.layers[0].append(place, torch.zeros(2, 3, 1, 5), torch.zeros(2, 3, 1, 5))
    assert state.layers[0].keys.data_ptr() == before and state.bytes == bytes_before == 2 * 2 * 3 * 7 * 5 * 4


@pytest.mark.parametrize("length", [-1, 8])
def test_cropping_to_what_is_not_there_is_an_error(length):
    state = filled(9)[0]
    with pytest.raises(ValueError, match=f"crop to {length} tokens: 7 are held"):
        state.crop(length)
