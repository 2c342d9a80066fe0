"""What training minimises: one file an objective, no loop inside."""

from typing import Any

from danlu.core.registry import Registry

OBJECTIVES: Registry[Any] = Registry("objective", __name__)
