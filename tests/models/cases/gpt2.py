"""Odd sizes for GPT-2."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "n_inner": 58, "n_layer": 3},
    {"n_embd": 35, "n_head": 5, "n_inner": None, "layer_norm_epsilon": 0.01},
]
