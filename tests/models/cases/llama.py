"""Odd sizes for Llama."""

CHANGES = [
    {"tie_word_embeddings": True, "attention_bias": True, "mlp_bias": True},
    {"tie_word_embeddings": False, "mlp_bias": True, "num_hidden_layers": 3},
    {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 28, "intermediate_size": 10},
    {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": None, "hidden_size": 36, "rms_norm_eps": 0.01},
]
