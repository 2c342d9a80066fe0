"""Odd sizes for BERT."""

CHANGES = [
    {},
    {"hidden_size": 35, "num_attention_heads": 5, "intermediate_size": 58, "num_hidden_layers": 3, "type_vocab_size": 3},
    {"num_attention_heads": 1, "layer_norm_eps": 0.01, "type_vocab_size": 1, "pad_token_id": 4},
]
