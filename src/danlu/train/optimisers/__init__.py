"""How weights move: one file an optimiser."""

from typing import Any

from danlu.core.registry import Registry

OPTIMISERS: Registry[Any] = Registry("optimiser", __name__)
