"""Source code that is data or minified: line lengths and the share of letters (the rules of StarCoder, Li et al. 2023)."""

from typing import Literal

import numpy as np
from pydantic import Field

from danlu.core.settings import Named
from danlu.data.filters import FILTERS
from danlu.data.filters.base import Filter, Rule, share
from danlu.data.letters import LETTER, UNIT, WORD, Array, kind
from danlu.data.texts import Texts


@FILTERS.register
class Code(Filter):
    """Rules for documents read as source code; prose passes them by."""

    profiles = ("code",)

    class Config(Named):
        name: Literal["code"] = "code"
        max_mean_line: float = Field(100, gt=0)
        """Longest mean length of lines, in characters."""
        max_line: int = Field(1000, gt=0)
        """Longest line, in characters."""
        min_alphanumeric: float = Field(0.25, ge=0, le=1)
        """Smallest share of letters and digits among all characters."""

    def measure(self, texts: Texts) -> dict[str, Array]:
        ends = texts.newlines_and_ends
        lengths = np.diff(np.append(-1, ends)) - 1
        owner = np.searchsorted(texts.ends, ends)
        longest = np.zeros(len(texts))
        np.maximum.at(longest, owner, lengths)
        lines = np.bincount(owner, minlength=len(texts))
        letters = (texts.kinds == LETTER) | (texts.kinds == WORD) | (texts.kinds == UNIT)
        return {
            "mean_line": share(texts.lengths - (lines - 1), lines),
            "longest_line": longest,
            "alphanumeric": share(texts.count(letters), texts.lengths),
        }

    def measure_plain(self, text: str) -> dict[str, float]:
        lines = text.split("\n")
        return {
            "mean_line": sum(map(len, lines)) / len(lines),
            "longest_line": float(max(map(len, lines))),
            "alphanumeric": sum(kind(letter) in (LETTER, WORD, UNIT) for letter in text) / len(text) if text else 0.0,
        }

    def rules(self) -> list[Rule]:
        c = self.config
        return [
            Rule("mean_line", "mean_line", most=c.max_mean_line),
            Rule("longest_line", "longest_line", most=c.max_line),
            Rule("alphanumeric", "alphanumeric", least=c.min_alphanumeric),
        ]
