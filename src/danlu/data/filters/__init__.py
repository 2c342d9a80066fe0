"""Rules that drop documents: each measures signals once and judges them by thresholds that may change later."""

from typing import Any

from danlu.core.registry import Registry

FILTERS: Registry[Any] = Registry("filter", __name__)
