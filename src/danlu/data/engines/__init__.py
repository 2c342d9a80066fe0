"""Who measures the shards: this process, several processes, or daft; all write the same bytes."""

from typing import Any

from danlu.core.registry import Registry

ENGINES: Registry[Any] = Registry("data engine", __name__)
