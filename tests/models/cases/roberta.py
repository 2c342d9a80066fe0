"""Odd sizes for RoBERTa."""

CHANGES = [
    {},
    {"hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 58, "num_hidden_layers": 3, "type_vocab_size": 2},
    {"pad_token_id": 5, "max_position_embeddings": 41, "layer_norm_eps": 0.01},
]
