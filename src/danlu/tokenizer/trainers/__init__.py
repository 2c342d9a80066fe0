"""Ways to learn a vocabulary."""

from typing import Any

from danlu.core.registry import Registry

TRAINERS: Registry[Any] = Registry("tokenizer trainer", __name__)
"""`TRAINERS.build(config).train(texts, special_tokens, vocab_size=...)` gives a Tokenizer; `sized` trainers choose how many."""
