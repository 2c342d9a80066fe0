"""Text in, text out: normalisation and repair, applied in order before anything is measured."""

from typing import Any

from danlu.core.registry import Registry

EDITORS: Registry[Any] = Registry("editor", __name__)
