"""Odd sizes for BLOOM, with head counts that are no power of two."""

CHANGES = [
    {"n_head": 4},
    {"n_head": 6, "tie_word_embeddings": False, "n_layer": 3},
    {"n_head": 5, "hidden_size": 35, "apply_residual_connection_post_layernorm": True, "layer_norm_epsilon": 0.01},
    {"n_head": 12, "hidden_size": 36},
    {"n_head": 1, "hidden_size": 7},
]
