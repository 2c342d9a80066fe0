"""The Gemma families beyond parity on our own folders: published configs, rounding as their authors round, refusals."""

import json

import pytest
import torch

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS
from danlu.models.weights import family_of, load_model, save_model
from tests.models.reference import ours, tokens

GEMMA_7B = {
    "architectures": ["GemmaForCausalLM"], "attention_bias": False, "attention_dropout": 0.0, "bos_token_id": 2,
    "eos_token_id": 1, "head_dim": 256, "hidden_act": "gelu", "hidden_activation": None, "hidden_size": 3072,
    "initializer_range": 0.02, "intermediate_size": 24576, "max_position_embeddings": 8192, "model_type": "gemma",
    "num_attention_heads": 16, "num_hidden_layers": 28, "num_key_value_heads": 16, "pad_token_id": 0, "rms_norm_eps": 1e-06,
    "rope_scaling": None, "rope_theta": 10000.0, "torch_dtype": "bfloat16", "transformers_version": "4.38.0",
    "use_cache": True, "vocab_size": 256000,
}  # fmt: skip
GEMMA_2_2B = {
    **GEMMA_7B, "architectures": ["Gemma2ForCausalLM"], "attn_logit_softcapping": 50.0, "cache_implementation": "hybrid",
    "final_logit_softcapping": 30.0, "hidden_act": "gelu_pytorch_tanh", "hidden_activation": "gelu_pytorch_tanh",
    "hidden_size": 2304, "intermediate_size": 9216, "model_type": "gemma2", "num_attention_heads": 8, "num_hidden_layers": 26,
    "num_key_value_heads": 4, "query_pre_attn_scalar": 256, "sliding_window": 4096,
}  # fmt: skip
GEMMA_3_1B = {
    **GEMMA_2_2B, "architectures": ["Gemma3ForCausalLM"], "attn_logit_softcapping": None, "final_logit_softcapping": None,
    "eos_token_id": [1, 106], "hidden_size": 1152, "intermediate_size": 6912, "max_position_embeddings": 32768,
    "model_type": "gemma3_text", "num_attention_heads": 4, "num_key_value_heads": 1, "rope_local_base_freq": 10000,
    "rope_theta": 1000000, "sliding_window": 512, "sliding_window_pattern": 6, "vocab_size": 262144,
}  # fmt: skip
SHRUNK = {"vocab_size": 31, "hidden_size": 24, "intermediate_size": 40, "num_hidden_layers": 7, "num_attention_heads": 4,
          "num_key_value_heads": 2, "head_dim": 10, "eos_token_id": 3}  # fmt: skip


@pytest.mark.parametrize(("published", "parameters"), [(GEMMA_7B, 8.54e9), (GEMMA_2_2B, 2.61e9), (GEMMA_3_1B, 1.00e9)])
def test_published_configs_are_read_whole_and_count_the_published_parameters(published, parameters):
    family = family_of(published, "here")
    with torch.device("meta"):
        model = family(family.from_hf(published))
    assert sum(part.numel() for part in model.parameters()) == pytest.approx(parameters, rel=0.005)


@pytest.mark.parametrize("published", [GEMMA_7B, GEMMA_2_2B, GEMMA_3_1B])
def test_a_config_as_published_computes_what_transformers_computes_from_it(published, tmp_path):
    import transformers

    shrunk = {**published, **SHRUNK, **({"sliding_window": 6} if "sliding_window" in published else {})}
    family = family_of(shrunk, tmp_path)
    model = ours(family.Config.model_fields["name"].default, family.from_hf(shrunk).model_dump(exclude={"name"}))
    save_model(model, tmp_path)
    (tmp_path / "config.json").write_text(json.dumps(shrunk))  # as its authors wrote it, not as we would
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    ids = tokens(2, 23)
    torch.testing.assert_close(load_model(tmp_path)(ids), reference(ids).logits, rtol=1e-4, atol=1e-4)


def test_layers_alternate_as_published():
    wide, short = (None,), (4096,)
    assert MODELS["gemma2"].from_hf(GEMMA_2_2B).windows == (short + wide) * 13
    assert MODELS["gemma3"].from_hf(GEMMA_3_1B).windows == ((512,) * 5 + wide) * 4 + (512,) * 2


def test_embeddings_are_scaled_in_the_type_of_the_weights():
    """sqrt(3072) is 55.4256 in float32 and 55.5 in bfloat16; published weights were made with the latter."""
    model = MODELS["gemma"].tiny(hidden_size=3072, num_hidden_layers=1)
    row = model.embedding[5]
    torch.testing.assert_close(model.model.embed(torch.tensor([[5]]))[0, 0], row * 3072**0.5)
    model.bfloat16()
    torch.testing.assert_close(model.model.embed(torch.tensor([[5]]))[0, 0], model.embedding[5] * 55.5, rtol=0, atol=0)


@pytest.mark.parametrize(
    ("family", "changes", "named"),
    [
        ("gemma", {"hidden_act": "relu"}, "relu"),
        ("gemma2", {"layer_types": ["full_attention"]}, "names 1 layers of 3"),
        ("gemma2", {"use_bidirectional_attention": True}, "use_bidirectional_attention"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "attn_logit_softcapping"),
        ("gemma3", {"rope_parameters": {"full_attention": {"rope_type": "default"},
                                        "sliding_attention": {"rope_type": "linear", "factor": 2.0}}}, "sliding_attention"),
        ("gemma3", {"model_type": "gemma3"}, "gemma3"),
    ],
)  # fmt: skip
def test_what_is_not_computed_is_refused(family, changes, named, tmp_path):
    save_model(MODELS[family].tiny(), tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    with pytest.raises(UnsupportedModel, match=named):
        load_model(tmp_path)


def test_windowed_layers_remember_no_more_than_their_windows():
    model = MODELS["gemma3"].tiny(num_hidden_layers=6, sliding_window_pattern=6, sliding_window=4)
    state = model.new_state(batch=1, capacity=8)
    small = state.bytes
    for _ in range(40):
        model(tokens(1, 1), state=state)
    grown = [layer.keys.size(2) for layer in state.layers]
    assert max(grown[:5]) <= 8 and grown[5] >= 40 and state.bytes < 6 * small
