"""Odd sizes for DeepSeek-V3."""

CHANGES = [
    {"tie_word_embeddings": False, "q_lora_rank": 17},
    {"tie_word_embeddings": True, "rope_interleave": False, "n_group": 1, "topk_group": 1, "norm_topk_prob": False,
     "v_head_dim": 13},
    {"attention_bias": True, "q_lora_rank": 5, "n_shared_experts": 2, "first_k_dense_replace": 0, "n_routed_experts": 6,
     "n_group": 3, "topk_group": 2, "num_hidden_layers": 3, "rms_norm_eps": 0.001},
    {"num_attention_heads": 3, "hidden_size": 14, "head_dim": 6,
     "rope_scaling": {"rope_type": "yarn", "factor": 4.0, "mscale": 0.7, "mscale_all_dim": 1.3,
     "original_max_position_embeddings": 16}},
]  # fmt: skip
