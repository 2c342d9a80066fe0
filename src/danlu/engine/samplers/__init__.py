"""Steps from logits to the next token, applied in one documented order."""

from typing import Any

from danlu.core.registry import Registry

SAMPLERS: Registry[Any] = Registry("sampler", __name__)
