"""Odd sizes for Mixtral."""

CHANGES = [
    {"tie_word_embeddings": True, "num_local_experts": 5, "num_experts_per_tok": 2},
    {"tie_word_embeddings": False, "num_local_experts": 7, "num_experts_per_tok": 3, "intermediate_size": 13,
     "num_hidden_layers": 3},
    {"num_attention_heads": 7, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 28, "num_local_experts": 3,
     "num_experts_per_tok": 1, "sliding_window": 5},
]  # fmt: skip
