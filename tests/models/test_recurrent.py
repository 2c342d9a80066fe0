"""What recurrent families promise beyond the laws of every family: constant memory, one direction, first values, refusals."""

import math

import pytest
import torch

from danlu.core.errors import UnsupportedModel
from danlu.models import MODELS
from danlu.models.recurrent import RecurrentLM
from danlu.nn.state import LayerState, RecurrentState
from danlu.train.optimisers.roles import roles

RECURRENT = sorted(name for name in MODELS.names() if issubclass(MODELS[name], RecurrentLM))
SCANNING = [*RECURRENT, "bamba"]


def ids(tokens, seed=0):
    return torch.randint(31, (2, tokens), generator=torch.Generator().manual_seed(seed))


def test_the_families_are_there():
    assert {"mamba", "mamba2", "rwkv", "rwkv7"} <= set(RECURRENT)


@pytest.mark.parametrize("family", RECURRENT)
def test_memory_does_not_grow_with_the_text_or_the_room_asked_for(family):
    model = MODELS[family].tiny().eval()
    state, roomy = model.new_state(2, 4), model.new_state(2, 4000)
    assert state.bytes == roomy.bytes > 0
    for tokens in (1, 40, 3):
        with torch.no_grad():
            model(ids(tokens), state=state)
        assert state.bytes == roomy.bytes
        assert {part.dtype for layer in state.layers for part in layer.tensors().values()} == {torch.float32}
    assert state.length == 44


def test_a_hybrid_keeps_keys_where_it_attends_and_states_where_it_scans():
    model = MODELS["bamba"].tiny(num_hidden_layers=4, attn_layer_indices=(1, 3))
    state = model.new_state(2, 8)
    assert [type(layer) for layer in state.layers] == [RecurrentState, LayerState, RecurrentState, LayerState]
    with pytest.raises(ValueError, match="does not attend as sinks need it"):
        model.endless_state(2, 8)


@pytest.mark.parametrize("family", SCANNING)
def test_a_prefix_seen_both_ways_is_refused(family):
    with pytest.raises(ValueError, match="one direction only"):
        MODELS[family].tiny().hidden(ids(3), prefix_BT=torch.ones(2, 3, dtype=torch.bool))


@pytest.mark.parametrize("family", RECURRENT)
def test_a_token_costs_the_same_in_rows_of_any_length(family):
    model = MODELS[family].tiny()
    assert model.flops_per_token(8) == model.flops_per_token(8000) > 6 * model.matmul_parameters()


@pytest.mark.parametrize("family", SCANNING)
def test_numbers_of_single_channels_are_no_matrices_to_the_optimiser(family):
    model = MODELS[family].tiny()
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    found = roles(model.named_parameters())
    matrices, vectors = ({names[id(part)] for part in parts} for parts in (found.matrices, found.vectors))
    assert all(name.endswith("weight") and "conv1d" not in name for name in matrices)
    own = ("A_log", ".D", "dt_bias", "conv1d.weight", "r_k", "x_r", "k_k", "time_decay", "time_first", "time_mix_key")
    assert {name for name in names.values() if name.endswith(own)} <= vectors
    assert matrices and len(found.tables) == (1 if model.config.tie_word_embeddings else 2)


@pytest.mark.parametrize("family", ["mamba", "mamba2"])
def test_time_steps_begin_where_the_paper_lets_them(family):
    model = MODELS[family].tiny(time_step_min=0.02, time_step_max=0.3, time_step_floor=0.05)
    biases = [part for name, part in model.named_parameters() if name.endswith(("dt_proj.bias", "dt_bias"))]
    steps = torch.cat([torch.nn.functional.softplus(bias) for bias in biases])
    assert steps.min() >= 0.0499 and steps.max() <= 0.3001 and steps.std() > 0.01
    decays = {name: part.exp() for name, part in model.named_parameters() if name.endswith("A_log")}
    for decay in decays.values():
        assert decay.min() >= 0.999 and decay.max() <= 16
        assert family == "mamba2" or torch.allclose(decay, torch.arange(1.0, 6).expand_as(decay))


@pytest.mark.parametrize("family", ["rwkv", "rwkv7"])
def test_a_new_rwkv_passes_its_normed_embedding_through(family):
    """What writes to the stream starts at zero, so that every layer is the identity at first."""
    model = MODELS.build(MODELS[family].tiny(num_hidden_layers=3).config, 3)
    trunk = model.rwkv if family == "rwkv" else model.model
    begun = trunk.blocks[0].pre_ln if family == "rwkv" else trunk.layers[0].pre_norm
    last = trunk.ln_out if family == "rwkv" else trunk.norm
    torch.testing.assert_close(model.hidden(ids(5)), last(begun(trunk.embeddings(ids(5)))))


@pytest.mark.parametrize("family", SCANNING)
def test_the_dial_makes_sizes_that_fit(family):
    for width in (32, 96, 160, 512):
        sizes = MODELS[family].Config.sized(width=width, inner=3 * width, layers=2, heads=2, context=128)
        config = MODELS[family].Config(**sizes, vocab_size=64)
        assert (config.width, config.context) == (width, 128)
        assert config.depth == (4 if family in ("mamba", "mamba2") else 2)


PUBLISHED = {
    "mamba": {
        "architectures": ["MambaForCausalLM"], "bos_token_id": 0, "conv_kernel": 4, "d_inner": 1536, "d_model": 768,
        "eos_token_id": 0, "expand": 2, "fused_add_norm": True, "hidden_act": "silu", "hidden_size": 768,
        "initializer_range": 0.1, "intermediate_size": 1536, "layer_norm_epsilon": 1e-05, "model_type": "mamba", "n_layer": 24,
        "num_hidden_layers": 24, "pad_token_id": 0, "pad_vocab_size_multiple": 8, "rescale_prenorm_residual": False,
        "residual_in_fp32": True, "rms_norm": True, "ssm_cfg": {}, "state_size": 16, "time_step_floor": 0.0001,
        "time_step_init_scheme": "random", "time_step_max": 0.1, "time_step_min": 0.001, "time_step_rank": 48,
        "time_step_scale": 1.0, "torch_dtype": "float32", "use_bias": False, "use_cache": True, "use_conv_bias": True,
        "vocab_size": 50280,
    },
    "mamba2": {
        "model_type": "mamba2", "chunk_size": 256, "conv_kernel": 4, "expand": 2, "head_dim": 64, "hidden_act": "silu",
        "hidden_size": 4096, "n_groups": 8, "norm_before_gate": False, "num_heads": 128, "num_hidden_layers": 64,
        "residual_in_fp32": True, "rms_norm": True, "state_size": 128, "tie_word_embeddings": False,
        "time_step_limit": [0.0, math.inf], "time_step_rank": 256, "use_bias": False, "use_conv_bias": True, "vocab_size": 32768,
    },
    "rwkv": {
        "model_type": "rwkv", "attention_hidden_size": 768, "context_length": 1024, "hidden_size": 768,
        "intermediate_size": 3072, "layer_norm_epsilon": 1e-05, "num_hidden_layers": 12, "rescale_every": 6,
        "tie_word_embeddings": False, "use_cache": True, "vocab_size": 50277,
    },
    "rwkv7": {
        "model_type": "rwkv7", "a_low_rank_dim": 64, "attn": None, "attn_mode": "chunk", "decay_low_rank_dim": 64,
        "fuse_cross_entropy": True, "fuse_norm": True, "gate_low_rank_dim": 128, "head_dim": 64, "hidden_act": "sqrelu",
        "hidden_ratio": 4.0, "hidden_size": 768, "initializer_range": 0.006, "intermediate_size": 3072,
        "max_position_embeddings": 2048, "norm_bias": True, "norm_eps": 1e-05, "norm_first": True, "num_heads": 32,
        "num_hidden_layers": 12, "tie_word_embeddings": False, "v_low_rank_dim": 32, "value_dim": [768] * 12,
        "vocab_size": 65536,
    },
}  # fmt: skip
"""Settings as published conversions have them; the last one's 32 heads are a leftover that head_dim overrules."""


@pytest.mark.parametrize("family", sorted(PUBLISHED))
def test_settings_of_published_checkpoints_are_understood(family):
    found = dict(PUBLISHED[family])
    config = MODELS[family].from_hf(found)
    assert (config.width, config.depth) == (found["hidden_size"], found["num_hidden_layers"])
    assert MODELS[family].from_hf(config.to_hf()) == config


@pytest.mark.parametrize(
    ("family", "changes", "told"),
    [
        ("mamba", {"hidden_act": "gelu"}, "hidden_act: 'gelu'"),
        ("mamba", {"d_inner": 999}, "d_inner: 999"),
        ("mamba2", {"norm_before_gate": True}, "norm_before_gate: True"),
        ("mamba2", {"num_heads": 100}, r"8192 channels are not num_heads \* head_dim = 100 \* 64"),
        ("mamba2", {"n_groups": 7}, "128 heads do not divide among 7 groups"),
        ("rwkv", {"attention_hidden_size": 1024}, "attention_hidden_size: 1024"),
        ("rwkv", {"num_hidden_layers": 1}, "num_hidden_layers"),
        ("rwkv7", {"value_dim": [1536] * 12}, "value_dim"),
        ("rwkv7", {"num_attention_heads": 24}, "num_attention_heads: 24"),
    ],
)
def test_what_is_not_computed_is_refused_by_name(family, changes, told):
    with pytest.raises(UnsupportedModel, match=told):
        MODELS[family].from_hf({**PUBLISHED[family], **changes})


def test_time_step_limits_are_read_as_any_version_writes_them():
    base = PUBLISHED["mamba2"]
    for written in ([0.1, {"__float__": "Infinity"}], (0.1, math.inf)):
        assert MODELS["mamba2"].from_hf({**base, "time_step_limit": written}).time_step_limit == (0.1, math.inf)
    free = MODELS["mamba2"].from_hf({**base, "time_step_limit": None})
    assert free.time_step_limit == (0.0, math.inf) and "time_step_limit" not in free.to_hf()
