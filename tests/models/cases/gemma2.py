"""Odd sizes for Gemma 2: windows shorter than the 13 tokens compared, caps small enough to bend, each layer of either kind."""

CHANGES = [
    {"attn_logit_softcapping": 2.0, "final_logit_softcapping": 3.0},
    {"attn_logit_softcapping": 1.5, "final_logit_softcapping": None, "tie_word_embeddings": False, "attention_bias": True,
     "sliding_window": 1, "query_pre_attn_scalar": 3},
    {"attn_logit_softcapping": None, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 35,
     "intermediate_size": 34, "num_hidden_layers": 4, "layer_types": ["full_attention"] + 3 * ["sliding_attention"]},
    {"attn_logit_softcapping": 2.5, "num_key_value_heads": 6, "head_dim": None, "hidden_size": 48, "rms_norm_eps": 0.01,
     "rope_scaling": {"rope_type": "yarn", "factor": 3.0, "beta_fast": 4.0}, "rope_theta": 50.0, "sliding_window": 12},
]  # fmt: skip
