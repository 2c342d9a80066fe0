"""Odd sizes for Qwen3 with experts."""

CHANGES = [
    {"tie_word_embeddings": True, "num_experts": 6, "num_experts_per_tok": 2, "moe_intermediate_size": 12},
    {"tie_word_embeddings": False, "attention_bias": True, "num_experts": 9, "num_experts_per_tok": 4, "norm_topk_prob": False,
     "moe_intermediate_size": 7, "rope_theta": 500.0},
    {"num_hidden_layers": 4, "mlp_only_layers": [3], "decoder_sparse_step": 2, "num_experts": 5, "num_experts_per_tok": 3,
     "moe_intermediate_size": 11, "num_attention_heads": 5, "num_key_value_heads": 1, "head_dim": 6, "hidden_size": 14},
    {"num_hidden_layers": 2, "mlp_only_layers": [0], "num_experts": 5, "num_experts_per_tok": 5, "use_sliding_window": True,
     "sliding_window": 4, "moe_intermediate_size": 8},
]  # fmt: skip
