"""What a labelled sample looks like: one file a form. Plain text needs none."""

from typing import Any

from danlu.core.registry import Registry

FORMS: Registry[Any] = Registry("form of sample", __name__)
