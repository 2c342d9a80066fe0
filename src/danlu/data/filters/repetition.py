"""Gopher's repetition rules (Rae et al. 2021, arXiv:2112.11446, table A1): lines, paragraphs and word sequences said again.

Shares of n-grams are shares of the characters that stand in words; a Han or kana character is a word.
"""

from collections import Counter
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.data import plain
from danlu.data.filters import FILTERS
from danlu.data.filters.base import Filter, Rule, share
from danlu.data.letters import Array
from danlu.data.texts import Repeats, Spans, Texts

_TOP = (2, 3, 4)
_ALL = (5, 6, 7, 8, 9, 10)
_STEP = np.uint64(0xD6E8FEB86659FD93)


@FILTERS.register
class Repetition(Filter):
    """How much of a document only says again what it has said."""

    class Config(Named):
        name: Literal["repetition"] = "repetition"
        max_repeated_lines: float = Field(0.3, ge=0, le=1)
        """Largest share of lines that stood there before."""
        max_repeated_paragraphs: float = Field(0.3, ge=0, le=1)
        """Largest share of paragraphs that stood there before."""
        max_repeated_line_characters: float = Field(0.2, ge=0, le=1)
        """Largest share of characters in such lines."""
        max_repeated_paragraph_characters: float = Field(0.2, ge=0, le=1)
        """Largest share of characters in such paragraphs."""
        max_top_gram: tuple[float, float, float] = (0.2, 0.18, 0.16)
        """Largest share of characters in the heaviest sequence of 2, 3 and 4 words."""
        max_repeated_grams: tuple[float, float, float, float, float, float] = (0.15, 0.14, 0.13, 0.12, 0.11, 0.10)
        """Largest share of characters in sequences of 5, 6, 7, 8, 9 and 10 words that stood there before."""

    def measure(self, texts: Texts) -> dict[str, Array]:
        return {**_spans("line", texts.lines, texts), **_spans("paragraph", texts.paragraphs, texts), **_grams(texts)}

    def measure_plain(self, text: str) -> dict[str, float]:
        found: dict[str, float] = {}
        for what, items in (("line", plain.lines(text)), ("paragraph", plain.paragraphs(text))):
            again = plain.repeated([plain.lowered(item) for item in items])
            characters = sum(len(item) for item, twice in zip(items, again, strict=True) if twice)
            found[f"repeated_{what}s"] = sum(again) / len(items) if items else 0.0
            found[f"repeated_{what}_characters"] = characters / len(text) if text else 0.0
        words = plain.words(text)
        whole = sum(map(len, words))
        for n in _TOP:
            weights = [times * sum(map(len, gram)) for gram, times in Counter(plain.grams(words, n)).items() if times > 1]
            found[f"top_{n}_gram"] = max(weights, default=0) / whole if whole else 0.0
        for n in _ALL:
            covered: set[int] = set()
            for place, twice in enumerate(plain.repeated(plain.grams(words, n))):
                covered |= set(range(place, place + n)) if twice else set()
            found[f"repeated_{n}_grams"] = sum(len(words[place]) for place in covered) / whole if whole else 0.0
        return found

    def rules(self) -> list[Rule]:
        c = self.config
        names = ("repeated_lines", "repeated_paragraphs", "repeated_line_characters", "repeated_paragraph_characters")
        return [
            *(Rule(name, name, most=getattr(c, f"max_{name}")) for name in names),
            *(Rule(f"top_{n}_gram", f"top_{n}_gram", most=most) for n, most in zip(_TOP, c.max_top_gram, strict=True)),
            *(Rule(f"repeated_{n}_grams", f"repeated_{n}_grams", most=most)
              for n, most in zip(_ALL, c.max_repeated_grams, strict=True)),
        ]  # fmt: skip


def _spans(what: str, spans: Spans, texts: Texts) -> dict[str, Array]:
    early = Repeats(spans.hashes, spans.owner).early
    return {
        f"repeated_{what}s": share(spans.total(early), spans.counts),
        f"repeated_{what}_characters": share(spans.total(np.where(early, spans.lengths, 0)), texts.lengths),
    }


def _grams(texts: Texts) -> dict[str, Array]:
    """n = 2 ... 10 in turn: a sequence can only repeat where its first and its last n - 1 words do."""
    words, whole = texts.words, texts.word_characters
    running = np.append(0, np.cumsum(words.lengths))
    last = words.offsets[1:][words.owner]
    at = np.arange(len(words.starts))
    gram = words.hashes.copy()
    found: dict[str, Array] = {}
    for n in range(2, 11):
        at = at[at + n <= last[at]]
        gram[at] = gram[at] * _STEP + words.hashes[at + n - 1]
        repeats = Repeats(gram[at], words.owner[at])
        if n in _TOP:
            found[f"top_{n}_gram"] = share(_heaviest(at[repeats.first], repeats.times, n, running, words), whole)
        if n in _ALL:
            found[f"repeated_{n}_grams"] = share(_covered(at[repeats.early], n, running, words), whole)
        again = np.zeros(len(words.starts) + 1, bool)
        again[at[repeats.shared]] = True
        at = at[repeats.shared & again[at + 1]]
    return found


def _heaviest(first: Array, times: Array, n: int, running: Array, words: Spans) -> Array:
    """Characters of the sequence that, counted as often as it occurs, weighs most, by document."""
    heaviest = np.zeros(len(words.counts))
    np.maximum.at(heaviest, words.owner[first], times * (running[first + n] - running[first]))
    return heaviest


def _covered(at: Array, n: int, running: Array, words: Spans) -> Array:
    """Characters of words inside any of the sequences that begin at `at`, each once, by document."""
    reach = np.zeros(len(running), np.int64)
    np.add.at(reach, at, 1)
    np.add.at(reach, at + n, -1)
    inside = np.cumsum(reach[:-1]) > 0
    return words.total(np.where(inside, words.lengths, 0))
