"""Odd sizes for Qwen3, windows shorter than the text, and rotary scaling with an attention scale."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "attention_bias": True, "rope_theta": 500.0},
    {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 14, "intermediate_size": 34},
    {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 22, "num_hidden_layers": 3, "rms_norm_eps": 0.001},
    {"rope_scaling": {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16, "beta_fast": 2.0},
     "rope_theta": 40.0},
    {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.3, 1.7, 2.0],
                      "long_factor": [1.0, 2.0, 3.0, 5.0, 7.0], "original_max_position_embeddings": 9}, "rope_theta": 40.0},
    {"use_sliding_window": True, "sliding_window": 4, "max_window_layers": 1, "num_hidden_layers": 3},
    {"use_sliding_window": True, "sliding_window": 6, "layer_types": ["sliding_attention", "full_attention"]},
]  # fmt: skip
