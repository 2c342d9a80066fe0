"""What every method of word vectors shares: its settings, and the vocabulary of a text."""

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import Field

from danlu.core.errors import NoUsableText
from danlu.core.settings import Named
from danlu.data.word_vectors import WordVectors

Texts = Callable[[], Iterable[list[str]]]
"""Gives the words of each document, again at each call, always in the same order."""


class VectorSettings(Named):
    """Settings that all methods have."""

    dimensions: int = Field(100, gt=0)
    """Numbers of a word's vector."""
    window: int = Field(5, gt=0)
    """Words on each side that count as near."""
    min_count: int = Field(5, gt=0)
    """Rarer words get no vector: too little is known about them."""
    epochs: int = Field(10, gt=0)
    """Passes over what is learned from."""


@dataclass(frozen=True)
class Vocabulary:
    """The words that get vectors, most frequent first (equal ones by their letters)."""

    words: list[str]
    counts: list[int]
    total: int
    """Words of the text, rare ones included."""

    @classmethod
    def of(cls, texts: Iterable[Sequence[str]], min_count: int) -> "Vocabulary":
        """Raises NoUsableText where no word is frequent enough."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text)
        kept = sorted((word for word, count in counts.items() if count >= min_count), key=lambda word: (-counts[word], word))
        if len(kept) < 2:
            raise NoUsableText(
                f"of {len(counts):,} different words, {len(kept)} stand in the text {min_count} times or more. Give more text, "
                f"or a smaller --method.min_count."
            )
        return cls(kept, [counts[word] for word in kept], counts.total())


class Method(ABC):
    """Base of the methods; built by `VECTORS.build(config)`."""

    Config: ClassVar[type[VectorSettings]]

    def __init__(self, config: VectorSettings):
        self.config: Any = config

    @abstractmethod
    def learn(self, texts: Texts, vocabulary: Vocabulary, seed: int) -> tuple[WordVectors, dict[str, Any]]:
        """Vectors of the vocabulary's words, in its order, and figures of how learning went."""
