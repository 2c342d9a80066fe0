"""Odd sizes for ModernBERT."""

CHANGES = [
    {},
    {"tie_word_embeddings": False, "decoder_bias": False, "hidden_size": 42, "num_attention_heads": 7, "local_attention": 9},
    {"norm_bias": True, "attention_bias": True, "mlp_bias": True, "classifier_bias": True, "num_hidden_layers": 4,
     "global_attn_every_n_layers": 3, "local_attention": 4, "pad_token_id": 6},
    {"layer_types": ["sliding_attention", "full_attention", "sliding_attention"], "global_rope_theta": 777.0, "norm_eps": 0.01,
     "tie_word_embeddings": False},
]  # fmt: skip
