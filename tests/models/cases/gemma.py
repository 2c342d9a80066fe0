"""Odd sizes for Gemma."""

CHANGES = [
    {"tie_word_embeddings": True, "attention_bias": True},
    {"tie_word_embeddings": False, "num_hidden_layers": 3, "num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 6},
    {"rope_scaling": {"rope_type": "linear", "factor": 2.0}, "head_dim": None, "hidden_size": 36, "rms_norm_eps": 0.01},
]
