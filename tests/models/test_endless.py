"""Endless text through attention sinks: constant memory, the same in any steps, and no place beyond those of training."""

import pytest
import torch

from danlu.models import MODELS
from tests.models.reference import ours, tokens

ROTARY = ["llama", "qwen2", "qwen3", "mistral", "phi3", "gemma3", "mixtral"]
WINDOW, SINKS = 6, 3


@pytest.mark.parametrize("steps", [[1] * 47, [5, 1, 1, 17, 2, 21], [47]])
@pytest.mark.parametrize("family", ROTARY)
def test_any_steps_give_the_same(family, steps):
    model, ids = ours(family, {}), tokens(2, 47)
    found = []
    for split in (steps, [1] * 47):
        state = model.endless_state(2, WINDOW, SINKS)
        found.append(torch.cat([model(part, state=state) for part in ids.split(split, dim=1)], 1))
        assert state.length == 47
    torch.testing.assert_close(*found, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ROTARY)
def test_a_text_that_fits_is_read_as_ever(family):
    model, ids = ours(family, {}), tokens(2, WINDOW)
    torch.testing.assert_close(model(ids, state=model.endless_state(2, WINDOW, SINKS)), model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("family", ["llama", "qwen3", "phi3"])
def test_one_layer_says_what_it_would_say_of_the_kept_tokens_alone(family):
    """Places are counted in what is kept: the text between sinks and window might never have been."""
    model, ids = ours(family, {"num_hidden_layers": 1}), tokens(2, 40)
    state = model.endless_state(2, WINDOW, SINKS)
    found = model(ids, state=state)
    for end in (WINDOW + SINKS, 17, 40):
        kept = torch.cat([ids[:, :SINKS], ids[:, end - WINDOW : end]], 1)
        torch.testing.assert_close(found[:, end - 1], model(kept)[:, -1], rtol=1e-4, atol=1e-5)


def test_memory_stays_far_beyond_the_context_and_so_does_the_answer():
    """What was read long ago no longer matters: two texts that end alike are told apart by their sinks only."""
    model, ids = ours("qwen3", {"max_position_embeddings": 16}), tokens(1, 300)
    other = ids.clone()
    other[:, SINKS:260] = (other[:, SINKS:260] + 1) % 31
    state, twin = model.endless_state(1, WINDOW, SINKS), model.endless_state(1, WINDOW, SINKS)
    before = state.bytes
    found, same = model(ids, state=state), model(other, state=twin)
    assert state.bytes == before and state.length == 300
    torch.testing.assert_close(found[:, -1], same[:, -1], rtol=1e-4, atol=1e-5)
    other[:, 0] = (other[:, 0] + 1) % 31
    assert (model(other, state=model.endless_state(1, WINDOW, SINKS))[:, -1] - found[:, -1]).abs().max() > 1e-3


def test_sizes_and_families_that_cannot_are_refused():
    model = ours("llama", {})
    for window, sinks in [(0, 4), (61, 4), (5, -1)]:
        with pytest.raises(ValueError, match="must fit the model's context, 64, together"):
            model.endless_state(1, window, sinks)
    with pytest.raises(ValueError, match="endless text is not computed"):
        ours("sprint", {}).endless_state(1, 4)
    with pytest.raises(ValueError, match="not both"):
        model(tokens(1, 4), documents_BT=torch.tensor([[0, 0, 1, 1]]), state=model.endless_state(1, 4))
    assert not hasattr(MODELS["gpt2"], "endless_state")
