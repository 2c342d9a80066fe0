"""One readable file a family; attribute names are the tensor names on disk (Hugging Face's)."""

from typing import Any

from danlu.core.registry import Registry

MODELS: Registry[Any] = Registry("model family", __name__)
