"""How the learning rate moves over a run: one file a schedule."""

from typing import Any

from danlu.core.registry import Registry

SCHEDULES: Registry[Any] = Registry("schedule", __name__)
