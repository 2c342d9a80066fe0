"""Sliding windows: decoding remembers a window and no more, and says what the full forward says."""

import pytest
import torch

from danlu.models import MODELS
from danlu.models.weights import save_model
from danlu.nn.state import LayerState, WindowState
from tests.models.reference import ours, theirs, tokens

MIXED = {"use_sliding_window": True, "sliding_window": 4, "layer_types": ["sliding_attention", "full_attention"]}
SLIDING = {"use_sliding_window": True, "sliding_window": 3}
WINDOWED = [
    ("mistral", {"sliding_window": 5}),
    ("mistral", {"sliding_window": 1}),
    ("phi3", {"sliding_window": 3}),
    ("qwen2", MIXED),
    ("qwen3", SLIDING),
]


@pytest.mark.parametrize("steps", [[1] * 41, [41], [1, 2, 3, 5, 7, 11, 12], [12, 1, 1, 1, 14, 1, 1, 10], [6] * 6 + [5]])
@pytest.mark.parametrize(("family", "changes"), WINDOWED)
def test_decoding_far_beyond_the_window_equals_all_at_once(family, changes, steps):
    model, ids = ours(family, changes), tokens(2, 41)
    state = model.new_state(2, 3)
    stepwise = torch.cat([model(part, state=state) for part in ids.split(steps, dim=1)], 1)
    torch.testing.assert_close(stepwise, model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(("family", "changes"), [("mistral", {"sliding_window": 2}), *WINDOWED[2:]])
def test_cached_decoding_equals_transformers(family, changes, tmp_path):
    mine, ids = ours(family, changes), tokens(2, 17)
    save_model(mine, tmp_path)
    reference, state, cache = theirs(family, tmp_path), mine.new_state(2, 4), None
    for part in ids.split([6, 1, 1, 9], dim=1):
        found = reference(part, past_key_values=cache, use_cache=True)
        cache = found.past_key_values
        torch.testing.assert_close(mine(part, state=state), found.logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("family", "changes"), WINDOWED)
def test_a_window_hides_what_lies_before_it_and_layers_pass_it_on(family, changes):
    """The first token reaches the tokens that layers x (window - 1) steps can reach, and none behind."""
    model, ids = ours(family, changes), tokens(1, 20)
    if None in model.config.windows:
        return
    other = ids.clone()
    other[0, 0] = (ids[0, 0] + 1) % 31
    moved = (model(ids) - model(other)).abs().amax(-1)[0]
    reach = sum(window - 1 for window in model.config.windows)
    assert (moved[reach + 1 :] == 0).all() and (moved[: reach + 1] > 0).all()


def test_memory_of_a_window_does_not_grow_and_that_of_full_attention_does():
    model, steps = ours("qwen3", MIXED), tokens(1, 300).split(1, dim=1)
    state, held = model.new_state(1, 8), []
    for part in steps:
        model.hidden(part, state=state)
        held.append([sum(part.nbytes for part in layer.tensors().values()) for layer in state.layers])
    assert [type(layer) for layer in state.layers] == [WindowState, LayerState]
    windowed, full = zip(*held, strict=True)
    assert len(set(windowed)) == 1 and windowed[0] <= full[0] < full[99] < full[-1]


def test_after_a_long_prompt_the_memory_is_that_of_a_window_again():
    model = ours("mistral", {"sliding_window": 5})
    state = model.new_state(1, 1)
    before = state.bytes
    model.hidden(tokens(1, 400), state=state)
    model.hidden(tokens(1, 1), state=state)
    assert state.bytes == before


@pytest.mark.parametrize("back", [1, 2])
def test_a_windowed_state_goes_back_a_little_and_says_when_it_cannot(back):
    model, ids = ours("mistral", {"sliding_window": 5}), tokens(2, 9)
    state = model.new_state(2, 4)
    model(ids, state=state)
    state.crop(9 - back)
    state.reorder(torch.tensor([1, 0, 1]))
    rest = tokens(3, 6)
    wanted = model(torch.cat([ids[[1, 0, 1], : 9 - back], rest], 1))[:, 9 - back :]
    torch.testing.assert_close(model(rest, state=state), wanted, rtol=1e-4, atol=1e-5)
    for part in tokens(3, 20).split(1, 1):
        model.hidden(part, state=state)
    with pytest.raises(ValueError, match="no longer reaches"):
        state.crop(3)


def test_a_family_without_windows_keeps_everything():
    assert all(isinstance(layer, LayerState) for layer in MODELS["llama"].tiny().new_state(1, 2).layers)
