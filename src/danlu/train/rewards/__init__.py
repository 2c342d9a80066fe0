"""What answers are worth: one file a reward."""

from typing import Any

from danlu.core.registry import Registry

REWARDS: Registry[Any] = Registry("reward", __name__)
