"""Rotary scaling in the Llama lineage: configs of published models, both spellings, and texts decoded step by step."""

import json

import pytest
import torch

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS
from danlu.models.weights import load_model, save_model
from tests.models.reference import ours, theirs, tokens

LLAMA_31_8B = {
    "architectures": ["LlamaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 128000,
    "eos_token_id": [128001, 128008, 128009], "hidden_act": "silu", "hidden_size": 4096, "initializer_range": 0.02,
    "intermediate_size": 14336, "max_position_embeddings": 131072, "mlp_bias": False, "model_type": "llama",
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "pretraining_tp": 1, "rms_norm_eps": 1e-05,
    "rope_scaling": {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192,
                     "rope_type": "llama3"},
    "rope_theta": 500000.0, "tie_word_embeddings": False, "torch_dtype": "bfloat16", "transformers_version": "4.42.3",
    "use_cache": True, "vocab_size": 128256,
}  # fmt: skip
LLAMA_32_1B = {
    **LLAMA_31_8B, "head_dim": 64, "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "rope_scaling": {**LLAMA_31_8B["rope_scaling"], "factor": 32.0}, "tie_word_embeddings": True,
}  # fmt: skip
SHRUNK = {"vocab_size": 31, "hidden_size": 96, "intermediate_size": 40, "num_hidden_layers": 2, "num_attention_heads": 6,
          "num_key_value_heads": 2, "max_position_embeddings": 4096, "bos_token_id": 1, "eos_token_id": [2, 5]}  # fmt: skip


@pytest.mark.parametrize("published", [LLAMA_31_8B, LLAMA_32_1B])
def test_published_llama_configs_mean_here_what_they_mean_to_transformers(published, tmp_path):
    import transformers

    whole = MODELS["llama"].from_hf(published)
    assert whole.rope_scaling.rope_type == "llama3" and whole.rope_theta == 500_000.0 and whole.context == 131_072
    assert whole.eos_token_id == [128001, 128008, 128009]

    shrunk = {**published, **SHRUNK, "rope_scaling": {**published["rope_scaling"], "original_max_position_embeddings": 64}}
    shrunk["head_dim"] = 16
    model = ours("llama", MODELS["llama"].from_hf(shrunk).model_dump(exclude={"name"}))
    save_model(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(shrunk))  # as its authors wrote it, not as we would
    reference = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    ids = tokens(2, 200)
    torch.testing.assert_close(load_model(tmp_path)(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("spelling", ["rope_parameters", "rope_scaling"])
def test_a_scaling_is_written_in_both_spellings_and_either_is_enough(spelling, tmp_path):
    model = ours("qwen3", {"rope_scaling": {"rope_type": "yarn", "factor": 2.0, "beta_slow": 0.5}, "rope_theta": 70.0})
    save_model(model, tmp_path)
    path = tmp_path / "config.json"
    found = json.loads(path.read_text())
    assert found["rope_scaling"] == {"rope_type": "yarn", "factor": 2.0, "beta_slow": 0.5}
    assert found["rope_parameters"] == {**found["rope_scaling"], "rope_theta": 70.0}
    path.write_text(json.dumps({key: value for key, value in found.items() if key not in {"rope_parameters", "rope_scaling"}
                                or key == spelling}))  # fmt: skip
    assert load_model(tmp_path).config.rope_scaling == model.config.rope_scaling
    assert torch.equal(load_model(tmp_path)(tokens()), model(tokens()))


def test_older_names_are_read(tmp_path):
    save_model(MODELS["llama"].tiny(head_dim=10), tmp_path)
    path = tmp_path / "config.json"
    found = {key: value for key, value in json.loads(path.read_text()).items() if key != "rope_parameters"}
    slower = {"short_factor": [1.0] * 5, "long_factor": [2.0] * 5}
    path.write_text(json.dumps({**found, "rope_scaling": {"type": "su", **slower}}))
    assert load_model(tmp_path).config.rope_scaling.rope_type == "longrope"
    path.write_text(json.dumps({**found, "rope_scaling": {"type": "linear", "factor": 2}}))
    assert load_model(tmp_path).config.rope_scaling.factor == 2.0
    path.write_text(json.dumps({**found, "rope_scaling": {"type": "su", "short_factor": [1.0] * 4, "long_factor": [2.0] * 5}}))
    with pytest.raises(UnsupportedModel, match="5 planes"):
        load_model(tmp_path)


BY_LENGTH = [
    {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}, "max_position_embeddings": 8, "rope_theta": 50.0},
    {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0] * 5, "long_factor": [1.0, 2.0, 3.0, 5.0, 7.0],
                      "original_max_position_embeddings": 8}},
]  # fmt: skip


@pytest.mark.parametrize("changes", BY_LENGTH)
@pytest.mark.parametrize("steps", [[1] * 13, [4, 1, 8], [13]])
def test_a_memory_for_the_whole_text_decodes_as_the_whole_text_reads(changes, steps):
    """Frequencies that depend on the length are fixed when the memory is made; keys in it never go stale."""
    model, ids = ours("llama", changes), tokens()
    state = model.new_state(batch=2, capacity=13)
    stepwise = torch.cat([model(part, state=state) for part in ids.split(steps, dim=1)], dim=1)
    torch.testing.assert_close(stepwise, model(ids), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("changes", BY_LENGTH)
def test_a_text_that_outgrows_its_memory_is_refused_beyond_the_trained_length_only(changes):
    model, ids = ours("llama", changes), tokens()
    state = model.new_state(batch=2, capacity=3)
    within = model(ids[:, :8], state=state)
    torch.testing.assert_close(within, model(ids[:, :8]), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"made for 3 .* new_state"):
        model(ids[:, 8:], state=state)


def test_what_a_row_is_made_for_grows_with_dynamic_scaling_alone():
    """Its formula takes max_position_embeddings as the trained length; for the others it is the new one."""
    llama = MODELS["llama"]
    assert llama.tiny(rope_scaling={"rope_type": "dynamic", "factor": 2.5}).config.context == 160
    assert llama.tiny(rope_scaling={"rope_type": "linear", "factor": 2.5}).config.context == 64


def test_a_folder_with_dynamic_scaling_equals_transformers_on_texts_of_each_length(tmp_path):
    model = ours("llama", {"rope_scaling": {"rope_type": "dynamic", "factor": 3.0}, "max_position_embeddings": 8})
    save_model(model, tmp_path)
    for length in (7, 8, 9, 17):
        reference = theirs("llama", tmp_path)  # anew: it remembers the longest text it has seen
        ids = tokens(2, length)
        torch.testing.assert_close(model(ids), reference(ids).logits, rtol=1e-4, atol=1e-5)
