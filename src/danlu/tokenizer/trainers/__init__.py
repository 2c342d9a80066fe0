"""Ways to learn a vocabulary."""

from typing import Any

from danlu.core.registry import Registry

TRAINERS: Registry[Any] = Registry("tokenizer trainer", __name__)
