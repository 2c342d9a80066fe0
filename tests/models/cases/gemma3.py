"""Odd sizes for Gemma 3: windows shorter than the 13 tokens compared, both rotary bases, scaling beyond the windows only."""

CHANGES = [
    {"rope_theta": 300.0, "rope_local_base_freq": 20.0},
    {"rope_theta": 90.0, "rope_scaling": {"rope_type": "linear", "factor": 4.0}, "tie_word_embeddings": False,
     "attention_bias": True, "sliding_window": 2, "query_pre_attn_scalar": 7},
    {"final_logit_softcapping": 2.0, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 35,
     "intermediate_size": 34, "num_hidden_layers": 4, "layer_types": ["full_attention"] + 3 * ["sliding_attention"]},
    {"num_key_value_heads": 6, "head_dim": None, "hidden_size": 60, "rms_norm_eps": 0.01, "sliding_window": 12,
     "sliding_window_pattern": 2, "num_hidden_layers": 5},
]  # fmt: skip
