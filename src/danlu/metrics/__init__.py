"""What is measured about text and models: plain functions on numbers and strings. No torch here."""

from collections.abc import Callable
from typing import Any

from danlu.core.registry import Registry

METRICS: Registry[Callable[..., Any]] = Registry("metric", __name__)
