"""RWKV-7 equals the readable reference of another package (rwkv7-hf): transformers has no such family."""

import json

import pytest
import torch
import torch.nn.functional as F

from danlu.models.weights import load_model, save_model
from tests.models.reference import assert_close, ours, tokens

reference = pytest.importorskip("rwkv7_hf", reason="pip install 'danlu[test]'")

CHANGES = [
    {"tie_word_embeddings": False},
    {"tie_word_embeddings": False, "num_hidden_layers": 3, "intermediate_size": None, "norm_eps": 0.01},
    {"tie_word_embeddings": False, "hidden_size": 35, "head_dim": 5, "intermediate_size": 58, "v_low_rank_dim": 7},
]


def theirs(folder):
    model, info = reference.RWKV7ForCausalLM.from_pretrained(folder, output_loading_info=True, dtype=torch.float32)
    assert not info["missing_keys"] and not info["unexpected_keys"] and not info["mismatched_keys"], info
    return model.eval()


@pytest.mark.parametrize("changes", CHANGES)
def test_logits_and_gradients_equal_the_reference_on_the_folder_we_wrote(changes, tmp_path):
    mine = ours("rwkv7", changes)
    save_model(mine, tmp_path)
    other, ids = theirs(tmp_path), tokens()
    assert_close(mine(ids), other(ids).logits)
    targets = ids.roll(-1, 1)
    mine.cross_entropy_sum(mine.hidden(ids).flatten(0, 1), targets.flatten()).backward()
    F.cross_entropy(other(ids, use_cache=False).logits.flatten(0, 1), targets.flatten(), reduction="sum").backward()
    wanted = dict(other.named_parameters())
    assert {name for name, _ in mine.named_parameters()} == set(wanted)
    for name, parameter in mine.named_parameters():
        assert_close(parameter.grad, wanted[name].grad)


@pytest.mark.parametrize("changes", CHANGES)
def test_a_folder_that_the_reference_wrote_loads_here_with_the_same_logits(changes, tmp_path):
    first, second = tmp_path / "ours", tmp_path / "theirs"
    first.mkdir()
    save_model(ours("rwkv7", changes), first)
    other = theirs(first)
    other.save_pretrained(second)
    assert "transformers_version" in json.loads((second / "config.json").read_text())
    assert_close(load_model(second)(tokens()), other(tokens()).logits)


@pytest.mark.parametrize("changes", CHANGES)
def test_packed_documents_equal_the_reference_on_each_alone(changes, tmp_path):
    mine = ours("rwkv7", changes)
    save_model(mine, tmp_path)
    other, ids, lengths = theirs(tmp_path), tokens(1, 17), (5, 2, 10)
    documents = torch.repeat_interleave(torch.tensor([3, 4, 9]), torch.tensor(lengths))[None]
    alone = torch.cat([other(part).logits for part in ids.split(lengths, dim=1)], dim=1)
    assert_close(mine(ids, documents_BT=documents), alone)
