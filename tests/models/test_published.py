"""Settings as published checkpoints state them, early spellings included: read here as transformers reads them."""

import json

import pytest

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS

COMMON = {"initializer_range": 0.02, "torch_dtype": "float16", "transformers_version": "4.24.0", "use_cache": True}
PYTHIA = {
    **COMMON, "architectures": ["GPTNeoXForCausalLM"], "model_type": "gpt_neox", "bos_token_id": 0, "eos_token_id": 0,
    "hidden_act": "gelu", "hidden_size": 512, "intermediate_size": 2048, "layer_norm_eps": 1e-05,
    "max_position_embeddings": 2048, "num_attention_heads": 8, "num_hidden_layers": 6, "rotary_emb_base": 10000,
    "rotary_pct": 0.25, "tie_word_embeddings": False, "use_parallel_residual": True, "vocab_size": 50304,
}  # fmt: skip
BLOOM = {
    **COMMON, "architectures": ["BloomForCausalLM"], "model_type": "bloom", "apply_residual_connection_post_layernorm": False,
    "attention_dropout": 0.0, "attention_softmax_in_fp32": True, "bias_dropout_fusion": True, "bos_token_id": 1,
    "eos_token_id": 2, "pad_token_id": 3, "unk_token_id": 0, "hidden_dropout": 0.0, "layer_norm_epsilon": 1e-05,
    "masked_softmax_fusion": True, "n_embed": 1024, "n_inner": None, "n_layer": 24, "num_attention_heads": 16,
    "offset_alibi": 100, "pretraining_tp": 1, "skip_bias_add": True, "skip_bias_add_qkv": False, "vocab_size": 250880,
}  # fmt: skip
MISTRAL = {
    **COMMON, "architectures": ["MistralForCausalLM"], "model_type": "mistral", "bos_token_id": 1, "eos_token_id": 2,
    "hidden_act": "silu", "hidden_size": 4096, "intermediate_size": 14336, "max_position_embeddings": 32768,
    "num_attention_heads": 32, "num_hidden_layers": 32, "num_key_value_heads": 8, "rms_norm_eps": 1e-05,
    "rope_theta": 10000.0, "sliding_window": 4096, "tie_word_embeddings": False, "vocab_size": 32000,
}  # fmt: skip
QWEN = {
    **COMMON, "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "attention_dropout": 0.0, "bos_token_id": 151643,
    "eos_token_id": 151643, "hidden_act": "silu", "hidden_size": 896, "intermediate_size": 4864,
    "max_position_embeddings": 32768, "max_window_layers": 24, "num_attention_heads": 14, "num_hidden_layers": 24,
    "num_key_value_heads": 2, "rms_norm_eps": 1e-06, "rope_theta": 1000000.0, "sliding_window": 32768,
    "tie_word_embeddings": True, "use_mrope": False, "use_sliding_window": False, "vocab_size": 151936,
}  # fmt: skip
PHI = {
    **COMMON, "architectures": ["Phi3ForCausalLM"], "model_type": "phi3", "attention_bias": False, "attention_dropout": 0.0,
    "bos_token_id": 1, "embd_pdrop": 0.0, "eos_token_id": 199999, "full_attn_mod": 1, "hidden_act": "silu",
    "hidden_size": 3072, "interpolate_factor": 1, "intermediate_size": 8192, "lm_head_bias": False,
    "max_position_embeddings": 131072, "mlp_bias": False, "num_attention_heads": 24, "num_hidden_layers": 32,
    "num_key_value_heads": 8, "original_max_position_embeddings": 4096, "pad_token_id": 199999, "partial_rotary_factor": 0.75,
    "resid_pdrop": 0.0, "rms_norm_eps": 1e-05, "rope_scaling": {"type": "longrope", "long_factor": [2.0] * 48,
    "short_factor": [1.0] * 48}, "rope_theta": 10000.0, "sliding_window": 262144, "tie_word_embeddings": True,
    "vocab_size": 200064,
}  # fmt: skip
ALL = [PYTHIA, BLOOM, MISTRAL, QWEN, PHI]


@pytest.mark.parametrize("published", ALL, ids=lambda config: config["model_type"])
def test_what_we_write_of_it_means_the_same_to_transformers(published, tmp_path):
    import transformers

    config = MODELS[published["model_type"]].from_hf(published)
    found = []
    for name, content in (("theirs", published), ("ours", config.to_hf())):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
        found.append(transformers.AutoConfig.from_pretrained(tmp_path / f"{name}.json").to_dict())
    theirs, ours = (flat(part) for part in found)
    beside = {"transformers_version", "dtype", "n_embed", "unk_token_id", "_name_or_path", "rope_parameters.type"}
    explained = beside | set(MODELS[published["model_type"]].Config.harmless)
    different = {key for key, value in theirs.items() if value and ours.get(key) != value}
    assert different <= explained


def flat(config):
    """Fields of dictionaries beside the others."""
    inner = {f"{key}.{part}": one for key, value in config.items() if isinstance(value, dict) for part, one in value.items()}
    return {key: value for key, value in config.items() if not isinstance(value, dict)} | inner


def test_sizes_and_windows_of_published_settings():
    assert MODELS["gpt_neox"].from_hf(PYTHIA).rotary_width == 16
    assert MODELS["bloom"].from_hf(BLOOM).n_head == 16 and MODELS["bloom"].from_hf(BLOOM).hidden_size == 1024
    assert set(MODELS["mistral"].from_hf(MISTRAL).windows) == {4096}
    assert set(MODELS["qwen2"].from_hf(QWEN).windows) == {None}
    assert MODELS["phi3"].from_hf(PHI).rotary_width == 96


@pytest.mark.parametrize(
    ("published", "change", "named"),
    [
        (PYTHIA, {"rope_scaling": {"type": "linear", "factor": 2.0}}, "linear"),
        (PYTHIA, {"hidden_act": "relu"}, "hidden_act"),
        (PYTHIA, {"rotary_pct": 0.3}, "19 channels"),
        (PYTHIA, {"num_attention_heads": 7}, "7 heads"),
        (BLOOM, {"n_inner": 77}, "n_inner"),
        (BLOOM, {"vocab_size": None}, "vocab_size: missing"),
        (MISTRAL, {"sliding_window": 0}, "sliding_window"),
        (QWEN, {"use_mrope": True}, "use_mrope"),
        (PHI, {"lm_head_bias": True}, "lm_head_bias"),
        (PHI, {"partial_rotary_factor": 0.9}, "115"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(published, change, named):
    with pytest.raises(UnsupportedModel, match=named):
        MODELS[published["model_type"]].from_hf({**published, **change})
