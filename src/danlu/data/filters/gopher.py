"""Gopher's quality rules (Rae et al. 2021, arXiv:2112.11446, table A1), with counts that are fair to Chinese and Japanese.

A Han or kana character counts as a word, the length of words is judged only where words are runs of letters, and common words
of a dozen languages stand beside the English ones.
"""

import functools
from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.data import plain
from danlu.data.filters import FILTERS
from danlu.data.filters.base import Filter, Rule, share
from danlu.data.languages import STOP_WORDS, distinct_stop_words
from danlu.data.letters import LETTER, UNIT, Array, kind
from danlu.data.texts import Texts

_BULLETS = "•‣▶◀◦■□▪▫–-*"
_OTHER_LENGTHS = ((0xAC00, 0xD7A3), (0x0E00, 0x109F), (0x1780, 0x17FF))
"""Korean syllables are short words; Thai, Lao, Tibetan, Burmese and Khmer put no spaces between words."""
_DOT, _ELLIPSIS, _HASH = ord("."), ord("…"), ord("#")


@FILTERS.register
class Gopher(Filter):
    """What separates running text from lists, menus, tables and noise."""

    class Config(Named):
        name: Literal["gopher"] = "gopher"
        min_words: int = Field(10, ge=0)
        """Fewest words (a Han character is one). Gopher took 50 for web pages; text that people own may be short."""
        max_words: int | None = None
        """Most words. Gopher took 100000 for web pages; a book has more."""
        min_mean_word_length: float = Field(3, ge=0)
        """Shortest mean length of words, in characters, where most words are runs of letters."""
        max_mean_word_length: float = Field(10, gt=0)
        """Longest mean length of words, in characters, where most words are runs of letters."""
        max_symbol_ratio: float = Field(0.1, ge=0)
        """Most hash signs, and most ellipses, a word."""
        max_bullet_lines: float = Field(0.9, ge=0, le=1)
        """Largest share of lines that begin with a bullet."""
        max_ellipsis_lines: float = Field(0.3, ge=0, le=1)
        """Largest share of lines that end with an ellipsis."""
        min_alphabetic_words: float = Field(0.8, ge=0, le=1)
        """Smallest share of words with a letter in them."""
        min_stop_words: int = Field(2, ge=0)
        """Fewest different common words (the, of, 的, 是, und, ...); 0 for languages not among those known."""

    def measure(self, texts: Texts) -> dict[str, Array]:
        words = texts.words
        count = words.counts.astype(np.float64)
        unit = texts.kinds[words.starts] == UNIT
        for low, high in _OTHER_LENGTHS:
            unit |= (texts.codes[words.starts] >= low) & (texts.codes[words.starts] <= high)
        runs, run_characters = words.total(~unit), words.total(np.where(unit, 0, words.lengths))
        with np.errstate(invalid="ignore", divide="ignore"):
            mean = np.where(runs * 2 > count, run_characters / runs, np.nan)
        lines = texts.lines
        line_count = lines.counts.astype(np.float64)
        letters = (texts.kinds == LETTER) | (texts.kinds == UNIT)
        alphabetic = letters[words.starts]
        if len(rest := np.flatnonzero(~alphabetic)):  # the few words that begin with another sign
            alphabetic[rest] = np.logical_or.reduceat(letters, np.stack([words.starts[rest], words.ends[rest]], 1).ravel())[::2]
        last = texts.codes[lines.ends - 1]
        three = (last == _DOT) & (lines.lengths >= 3)
        three &= (texts.codes[lines.ends - 2] == _DOT) & (texts.codes[lines.ends - 3] == _DOT)
        bullets = np.isin(texts.codes[lines.starts], [ord(mark) for mark in _BULLETS])
        return {
            "words": count,
            "mean_word_length": mean,
            "hash_ratio": share(texts.count(texts.codes == _HASH), count),
            "ellipsis_ratio": share(texts.count(texts.codes == _ELLIPSIS) + _dots(texts), count),
            "bullet_lines": share(lines.total(bullets), line_count),
            "ellipsis_lines": share(lines.total((last == _ELLIPSIS) | three), line_count),
            "alphabetic_words": share(words.total(alphabetic), count),
            "stop_words": distinct_stop_words(texts),
        }

    def measure_plain(self, text: str) -> dict[str, float]:
        words, lines = plain.words(text), plain.lines(text)
        runs = [w for w in words if not plain.is_unit(w) and not any(low <= ord(w[0]) <= high for low, high in _OTHER_LENGTHS)]
        dots = text.count("...") + text.count("…")
        return {
            "words": float(len(words)),
            "mean_word_length": sum(map(len, runs)) / len(runs) if 2 * len(runs) > len(words) else float("nan"),
            "hash_ratio": text.count("#") / len(words) if words else 0.0,
            "ellipsis_ratio": dots / len(words) if words else 0.0,
            "bullet_lines": sum(line[0] in _BULLETS for line in lines) / len(lines) if lines else 0.0,
            "ellipsis_lines": sum(line.endswith(("...", "…")) for line in lines) / len(lines) if lines else 0.0,
            "alphabetic_words": sum(any(kind(x) in (LETTER, UNIT) for x in word) for word in words) / len(words)
            if words
            else 0.0,
            "stop_words": float(len(set(words) & _all_stop_words())),
        }

    def rules(self) -> list[Rule]:
        c = self.config
        return [
            Rule("words", "words", c.min_words, c.max_words),
            Rule("mean_word_length", "mean_word_length", c.min_mean_word_length, c.max_mean_word_length),
            Rule("hash_ratio", "hash_ratio", most=c.max_symbol_ratio),
            Rule("ellipsis_ratio", "ellipsis_ratio", most=c.max_symbol_ratio),
            Rule("bullet_lines", "bullet_lines", most=c.max_bullet_lines),
            Rule("ellipsis_lines", "ellipsis_lines", most=c.max_ellipsis_lines),
            Rule("alphabetic_words", "alphabetic_words", least=c.min_alphabetic_words),
            Rule("stop_words", "stop_words", least=c.min_stop_words),
        ]


@functools.cache
def _all_stop_words() -> frozenset[str]:
    return frozenset(word for words in STOP_WORDS.values() for word in words)


def _dots(texts: Texts) -> Array:
    """How often "..." stands in each document, counted without overlap."""
    dots = np.flatnonzero(texts.codes == _DOT)
    apart = np.diff(dots) > 1
    starts, ends = dots[np.append(True, apart)[: len(dots)]], dots[np.append(apart, True)[: len(dots)]] + 1
    owner = np.searchsorted(texts.ends, starts)
    return np.bincount(owner, weights=(ends - starts) // 3, minlength=len(texts))
