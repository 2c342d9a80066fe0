"""Odd sizes for RWKV-4."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "num_hidden_layers": 3, "intermediate_size": 58},
    {"hidden_size": 35, "intermediate_size": None, "layer_norm_epsilon": 0.01},
]
