"""Small parts that learn beside a frozen model: one file a kind."""

from typing import Any

from danlu.core.registry import Registry

ADAPTERS: Registry[Any] = Registry("adapter", __name__)
