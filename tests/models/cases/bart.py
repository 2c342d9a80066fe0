"""Odd sizes for BART."""

CHANGES = [
    {"activation_function": "gelu"},
    {"scale_embedding": True, "encoder_layers": 1, "activation_function": "relu"},
    {"d_model": 35, "encoder_attention_heads": 5, "decoder_attention_heads": 7, "decoder_ffn_dim": None, "decoder_layers": 1},
]
