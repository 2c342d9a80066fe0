"""Odd sizes for Phi-3, windows shorter than the text, and positions on a share of each head."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "sliding_window": 4, "num_hidden_layers": 3, "rms_norm_eps": 0.01},
    {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": None, "hidden_size": 42, "partial_rotary_factor": 0.7},
    {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": 18, "partial_rotary_factor": 0.25, "hidden_size": 36},
    {"rope_scaling": {"rope_type": "longrope", "short_factor": [1.0, 1.1, 1.7], "long_factor": [1.0, 3.0, 7.0],
                      "original_max_position_embeddings": 9}, "rope_theta": 40.0, "partial_rotary_factor": 0.75,
     "head_dim": 8, "hidden_size": 48},
]  # fmt: skip
