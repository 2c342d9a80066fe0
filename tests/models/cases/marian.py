"""Odd sizes for the original Transformer."""

CHANGES = [
    {"activation_function": "relu"},
    {"scale_embedding": False, "encoder_layers": 1, "activation_function": "swish"},
    {"d_model": 35, "encoder_attention_heads": 5, "decoder_attention_heads": 7, "decoder_ffn_dim": None, "decoder_layers": 1},
]
