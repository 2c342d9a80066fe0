"""Every quantiser: what it writes loads, is smaller, computes nearly the same, and says how many weights went where."""

import pytest
import torch
from tests.tiny import tiny_tokenizer, write_tiny

from danlu.compress import QUANTISERS
from danlu.compress.speed import measured
from danlu.engine.model import load
from danlu.models import MODELS
from danlu.models.base import CausalLM
from danlu.models.weights import load_model, read_packed

SIZES = {"hidden_size": 64, "intermediate_size": 96, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 32}
WRITERS = [name for name in MODELS.names() if issubclass(MODELS[name], CausalLM) and not MODELS[name].counted]


@pytest.mark.parametrize("method", QUANTISERS.names())
def test_what_is_written_loads_and_is_counted(tmp_path, method):
    write_tiny(tmp_path / "model", "qwen3", **SIZES, tie_word_embeddings=False)
    model = load_model(tmp_path / "model")
    (tmp_path / "out").mkdir()
    done = QUANTISERS.build(QUANTISERS[method].Config()).write(model, tmp_path / "out")
    again = load_model(tmp_path / "out")
    ids = torch.arange(14)[None] * 5 % 31
    away = (again(ids) - model(ids)).std() / model(ids).std()
    assert 0 < away < {"bf16": 0.02, "int8": 0.03, "int4": 0.4}[method]
    matrices = sum(part.numel() for part in model.parameters() if part.dim() > 1)
    assert done["packed_weights"] + done["whole_weights"] == (
        matrices if done["packed"] else sum(p.numel() for p in model.parameters())
    )
    assert done["packed"] == len(read_packed(tmp_path / "out"))


@pytest.mark.parametrize("family", WRITERS)
def test_every_family_that_writes_is_packed_or_refused_with_a_reason(tmp_path, family):
    from danlu.core.errors import UnsupportedModel

    write_tiny(tmp_path / "model", family)
    model = load_model(tmp_path / "model")
    (tmp_path / "out").mkdir()
    try:
        QUANTISERS.build(QUANTISERS["int8"].Config()).write(model, tmp_path / "out")
    except UnsupportedModel as refused:
        assert "--method.name bf16" in str(refused)
        return
    again = load_model(tmp_path / "out")
    assert sum(not torch.equal(one, two) for one, two in zip(model.parameters(), again.parameters(), strict=True)) > 0
    ids = torch.arange(14)[None] * 5 % 31
    assert (again(ids) - model(ids)).std() < 0.2 * model(ids).std()


def test_rates_of_both_models_are_measured_in_turn(tmp_path):
    write_tiny(tmp_path / "model", "qwen3", **SIZES)
    model = load(tmp_path / "model", device="cpu")
    found = measured(model, model, repeats=2)
    assert set(found) == {"before", "after"}
    assert all(part["n"] == 2 and 0 < part["min"] <= part["median"] <= part["max"] for part in found.values())
    assert found["before"]["kernel"] == found["after"]["kernel"]


def test_a_context_of_a_few_tokens_is_enough(tmp_path):
    write_tiny(tmp_path / "model", "qwen3", max_position_embeddings=6)
    model = load(tmp_path / "model", device="cpu")
    assert measured(model, model, repeats=1)["after"]["median"] > 0
    assert tiny_tokenizer().vocab_size >= 6
