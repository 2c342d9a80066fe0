"""The life cycle, one file a stage: settings -> library calls -> one artefact."""

import typing
from collections.abc import Callable
from typing import Any

from danlu.core.registry import Registry

STAGES: Registry[Callable[[Any], Any]] = Registry("stage", __name__)


def settings_of(name: str) -> type:
    """The settings type of a stage: the annotation of its only parameter."""
    return next(kind for key, kind in typing.get_type_hints(STAGES[name]).items() if key != "return")
