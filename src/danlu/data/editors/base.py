"""What an editor is: text in, text out, before anything is measured."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

from danlu.core.settings import Named


class Editor(ABC):
    """A pure function on text, with settings."""

    version: ClassVar[int] = 1
    """Raise it when the outcome changes: documents edited before are then edited again."""

    class Config(Named):
        """Nothing to set."""

    def __init__(self, config: Any):
        self.config = config

    @abstractmethod
    def edit(self, text: str) -> str:
        """The edited text; the same text when there is nothing to do. Editing twice changes no more than editing once."""
