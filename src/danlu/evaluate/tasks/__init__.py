"""What a model can be asked to show what it knows: questions, how they are put, and how answers are counted."""

from typing import Any

from danlu.core.registry import Registry

TASKS: Registry[Any] = Registry("task", __name__)
