"""An even sample: whole documents, spread over everything in order, chosen without a second pass or a random number."""

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Protocol, TypeVar


class _HasText(Protocol):
    @property
    def text(self) -> str: ...
    @property
    def source(self) -> str: ...


D = TypeVar("D", bound=_HasText)


@dataclass
class EvenSample:
    """Passes on about `max_bytes` of `total_bytes`, evenly, and keeps the ledger of what it left out, by source.

    >>> sample = EvenSample(total_bytes=10, max_bytes=5)
    >>> [sample.take(size) for size in (2, 2, 2, 2, 2)]
    [True, False, True, False, False]
    """

    total_bytes: int
    max_bytes: int
    used_bytes: int = 0
    ledger: dict[str, dict[str, int]] = field(default_factory=dict)
    _seen_bytes: int = 0

    def take(self, size: int) -> bool:
        """Whether a document of `size` bytes belongs to the sample; the sample never exceeds `max_bytes`."""
        self._seen_bytes += size
        due = self._seen_bytes * min(1.0, self.max_bytes / max(self.total_bytes, 1))
        taken = self.max_bytes >= self.total_bytes or (
            due - self.used_bytes >= size / 2 and self.used_bytes + size <= self.max_bytes
        )
        self.used_bytes += size * taken
        return taken

    def of(self, documents: Iterable[D]) -> Iterator[D]:
        """The documents of the sample, counted by source."""
        for document in documents:
            size = len(document.text.encode("utf-8", "surrogatepass"))
            taken = self.take(size)
            row = self.ledger.setdefault(
                document.source, dict.fromkeys(("documents", "bytes", "used_documents", "used_bytes", "left_out_documents",
                                                "left_out_bytes"), 0)
            )  # fmt: skip
            which = "used" if taken else "left_out"
            for key, amount in (("documents", 1), ("bytes", size), (f"{which}_documents", 1), (f"{which}_bytes", size)):
                row[key] += amount
            if taken:
                yield document


def auto_vocab_size(text_bytes: int) -> int:
    """A vocabulary that suits an amount of text: the power of two next to twice the square root of its bytes, 512 to 131072.

    Vocabularies grow about so with data (Heaps' law); our own measurements are in decision 0022.

    >>> [auto_vocab_size(size) for size in (10_000, 1_000_000, 50_000_000, 10**12)]
    [512, 2048, 16384, 131072]
    """
    return min(131072, max(512, 1 << round(math.log2(2 * math.sqrt(max(text_bytes, 1))))))
