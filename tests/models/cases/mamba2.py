"""Odd sizes for Mamba-2."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "use_bias": True, "use_conv_bias": False, "num_hidden_layers": 3, "n_groups": 3},
    {"hidden_size": 35, "expand": 3, "head_dim": 7, "state_size": 11, "n_groups": 1, "conv_kernel": 3, "chunk_size": 256},
    {"time_step_limit": (0.3, 0.9), "chunk_size": 5, "n_groups": 6, "layer_norm_epsilon": 0.01},
]
