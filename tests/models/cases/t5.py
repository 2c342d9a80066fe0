"""Odd sizes for T5."""

CHANGES = [
    {"tie_word_embeddings": True, "feed_forward_proj": "relu"},
    {"tie_word_embeddings": False, "feed_forward_proj": "gated-gelu", "num_decoder_layers": 1, "layer_norm_epsilon": 0.01},
    {"d_model": 22, "d_kv": 7, "num_heads": 5, "d_ff": 33, "num_layers": 3, "num_decoder_layers": None},
    {"relative_attention_num_buckets": 6, "relative_attention_max_distance": 9, "num_heads": 1, "tie_word_embeddings": True,
     "scale_decoder_outputs": False},
]  # fmt: skip
