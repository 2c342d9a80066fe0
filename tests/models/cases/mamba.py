"""Odd sizes for Mamba."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "use_bias": True, "use_conv_bias": False, "num_hidden_layers": 3},
    {"hidden_size": 35, "expand": 3, "state_size": 7, "time_step_rank": "auto", "conv_kernel": 3, "layer_norm_epsilon": 0.01},
]
