"""File forms that `danlu prepare` reads: one file a form, chosen by file name."""

from typing import Any

from danlu.core.registry import Registry

READERS: Registry[Any] = Registry("reader", __name__)
