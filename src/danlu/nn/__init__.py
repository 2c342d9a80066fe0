"""Layers and functions that model families share. B batch, T tokens, S tokens seen, D width, H heads, K head width."""
