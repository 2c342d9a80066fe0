"""The memory holds what was appended, grows when it must and forgets only what is asked."""

import pytest
import torch

from danlu.nn.mask import Sight
from danlu.nn.state import RecurrentState, State, WindowState


def filled(capacity):
    state, pieces = State.full(1, 2, 3, 5, capacity=capacity), []
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
    assert state.layers[0].capacity >= state.length == 7


def test_room_enough_means_no_copy():
    state = State.full(1, 2, 3, 5, capacity=7)
    before, bytes_before = state.layers[0].keys.data_ptr(), state.bytes
    for place in range(7):
        state.layers[0].append(place, torch.zeros(2, 3, 1, 5), torch.zeros(2, 3, 1, 5))
    assert state.layers[0].keys.data_ptr() == before and state.bytes == bytes_before == 2 * 2 * 3 * 7 * 5 * 4


@pytest.mark.parametrize("length", [-1, 8])
def test_cropping_to_what_is_not_there_is_an_error(length):
    state = filled(9)[0]
    with pytest.raises(ValueError, match=f"crop to {length} tokens: 7 are held"):
        state.crop(length)


@pytest.mark.parametrize("sinks", [0, 2])
@pytest.mark.parametrize("steps", [[1] * 17, [3, 1, 5, 1, 7], [17], [4, 13]])
def test_a_window_returns_exactly_what_its_tokens_see(sinks, steps):
    window, keys = 5, torch.randn(2, 3, 17, 7)
    layer, length = WindowState(2, 3, window, 7, torch.float32, "cpu", sinks=sinks), 0
    for new in steps:
        piece = keys[:, :, length : length + new]
        found, values = layer.append(length, piece, -piece)
        assert torch.equal(values, -found)
        length += new
        sight = Sight(new, length - new, window=window, sinks=sinks)
        seen = sight.reach(found.size(2))
        assert found.size(2) <= sinks + window - 1 + new
        places = torch.arange(length)[sight.table.any(0)]
        assert torch.equal(found[:, :, seen.any(0)], keys[:, :, places])
        assert torch.equal(seen.sum(1), sight.table.sum(1))


def test_a_window_goes_back_while_it_reaches_and_no_further():
    layer = WindowState(1, 1, 4, 2, torch.float32, "cpu")
    keys = torch.randn(1, 1, 8, 2)
    layer.append(0, keys, keys)
    layer.crop(6, 8)
    found, _ = layer.append(6, keys[:, :, 7:], keys[:, :, 7:])
    assert torch.equal(found, keys[:, :, [3, 4, 5, 7]])
    slid = WindowState(1, 1, 4, 2, torch.float32, "cpu")
    for place in range(8):
        slid.append(place, keys[:, :, :1], keys[:, :, :1])
    slid.append(8, keys[:, :, :1], keys[:, :, :1])
    with pytest.raises(ValueError, match="no longer reaches"):
        slid.crop(4, 9)


def test_a_recurrent_state_reorders_rows_and_cannot_go_back():
    state = State([RecurrentState(carry=torch.arange(6.0).view(3, 2))])
    state.length = 4
    state.reorder(torch.tensor([2, 0]))
    assert state.layers[0].carry.tolist() == [[4.0, 5.0], [0.0, 1.0]] and state.bytes == 16
    state.crop(4)
    with pytest.raises(ValueError, match="keeps no history"):
        state.crop(3)


def test_all_layers_go_back_or_none():
    state = State([WindowState(1, 1, 4, 2, torch.float32, "cpu"), RecurrentState(carry=torch.zeros(1, 3))])
    state.layers[0].append(0, torch.zeros(1, 1, 6, 2), torch.zeros(1, 1, 6, 2))
    state.length = 6
    with pytest.raises(ValueError, match="keeps no history"):
        state.crop(5)
    assert state.length == state.layers[0].filled == 6
