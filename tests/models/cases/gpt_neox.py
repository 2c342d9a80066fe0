"""Odd sizes for GPT-NeoX, with little and much of a head turned."""

CHANGES = [
    {"use_parallel_residual": True, "rotary_pct": 0.25},
    {"use_parallel_residual": False, "rotary_pct": 0.8, "hidden_act": "gelu_fast", "num_hidden_layers": 3},
    {"attention_bias": False, "rotary_pct": 1.0, "rope_theta": 500.0, "hidden_act": "gelu_new"},
    {"tie_word_embeddings": True, "hidden_size": 35, "num_attention_heads": 5, "rotary_pct": 0.6, "layer_norm_eps": 0.01},
]
