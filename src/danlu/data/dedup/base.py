"""What a deduplicator is: keys of documents, such that documents which share a key belong together."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

from danlu.core.settings import Named
from danlu.data.letters import Array
from danlu.data.texts import Texts


class Dedup(ABC):
    """Gives keys; clusters.py joins documents by them, and decide.py chooses the survivor."""

    version: ClassVar[int] = 1
    """Raise it when the keys change: documents measured before are then measured again."""
    kind: ClassVar[str] = "near"
    """The ledger's row: exact or near."""

    class Config(Named):
        """Nothing to set."""

    def __init__(self, config: Any):
        self.config = config

    @abstractmethod
    def keys(self, texts: Texts) -> Mapping[str, Array]:
        """Columns of uint64 (D,); 0 says the document has no key there and matches nothing."""

    @abstractmethod
    def columns(self) -> list[str]:
        """The names of those columns."""

    @abstractmethod
    def similarity(self, shared: int) -> float:
        """How alike two documents are that share so many keys, from 0 to 1."""
