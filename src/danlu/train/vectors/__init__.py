"""How words become vectors: one file a method."""

from typing import Any

from danlu.core.registry import Registry

VECTORS: Registry[Any] = Registry("word-vector method", __name__)
