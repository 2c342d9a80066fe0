"""Odd sizes for Mistral, and windows shorter than the text."""

CHANGES = [
    {"tie_word_embeddings": True},
    {"tie_word_embeddings": False, "sliding_window": 5, "num_hidden_layers": 3, "rope_theta": 500.0},
    {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 26, "sliding_window": 1},
    {"num_attention_heads": 2, "num_key_value_heads": 2, "head_dim": None, "hidden_size": 36, "sliding_window": 64},
]
