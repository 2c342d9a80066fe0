"""Odd sizes for Qwen3."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "attention_bias": True, "rope_theta": 500.0},
    {"num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 14, "intermediate_size": 34},
    {"num_attention_heads": 3, "num_key_value_heads": 3, "head_dim": 22, "num_hidden_layers": 3, "rms_norm_eps": 0.001},
]
