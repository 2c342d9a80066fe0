"""What looks on while a run goes: progress, held-out evaluation, samples, checkpoints, profile."""

from typing import Any

from danlu.core.registry import Registry

WATCHERS: Registry[Any] = Registry("watcher", __name__)
