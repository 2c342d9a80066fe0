"""Odd sizes for Llama, and rotary scaling: plain lengths beyond those of training among the 13 tokens compared."""

CHANGES = [
    {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    {"tie_word_embeddings": False, "mlp_bias": True, "num_hidden_layers": 3},
    {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 28, "intermediate_size": 10},
    {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": None, "hidden_size": 36, "rms_norm_eps": 0.01},
    {"rope_scaling": {"rope_type": "linear", "factor": 3.0}},
    {"rope_scaling": {"rope_type": "dynamic", "factor": 2.5}, "max_position_embeddings": 6, "rope_theta": 50.0},
    {"rope_scaling": {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
                      "original_max_position_embeddings": 11}, "rope_theta": 30.0},
]  # fmt: skip
