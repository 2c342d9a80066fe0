"""Odd sizes for Bamba."""

CHANGES = [
    {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    {"tie_word_embeddings": False, "mamba_proj_bias": True, "mamba_conv_bias": False, "num_hidden_layers": 4,
     "attn_layer_indices": (0, 3)},
    {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 4, "hidden_size": 35, "mamba_n_heads": 10,
     "mamba_n_groups": 1, "mamba_d_conv": 3},
    {"mamba_expand": 3, "mamba_n_heads": 9, "mamba_n_groups": 3, "time_step_limit": (0.3, 0.9), "rms_norm_eps": 0.01,
     "rope_theta": 500.0},
]  # fmt: skip
