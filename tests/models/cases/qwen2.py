"""Odd sizes for Qwen2, and windows shorter than the text."""

CHANGES = [
    {"tie_word_embeddings": True},
    {
        "tie_word_embeddings": False,
        "use_sliding_window": True,
        "sliding_window": 4,
        "max_window_layers": 1,
        "num_hidden_layers": 3,
    },
    {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": None, "hidden_size": 42, "intermediate_size": 10},
    {"use_sliding_window": True, "sliding_window": 3, "layer_types": ["sliding_attention", "full_attention"]},
]
