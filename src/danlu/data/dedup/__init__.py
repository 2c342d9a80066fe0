"""Copies and near copies: which documents belong together, and which one of them survives."""

from typing import Any

from danlu.core.registry import Registry

DEDUPS: Registry[Any] = Registry("deduplicator", __name__)
