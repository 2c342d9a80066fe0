"""A penalty for saying the same again: the share of an answer's n-grams that it has had before (after arXiv:2502.03373, 3.2)."""

import re
from collections.abc import Sequence
from typing import Literal

from pydantic import Field

from danlu.train.rewards import REWARDS
from danlu.train.rewards.base import Asked, Reward

_HAN = r"\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff"
_PIECE = re.compile(rf"[{_HAN}]|[^\W{_HAN}]+|[^\w\s]")
"""A Han character or kana, a word, or a mark."""


@REWARDS.register
class Repetition(Reward):
    """Between -1 and 0; words are compared without case, Han characters and marks one by one."""

    class Config(Reward.Config):
        name: Literal["repetition"] = "repetition"
        words: int = Field(4, ge=1)
        """Length of the stretches that are compared."""
        allowed: float = Field(0.0, ge=0, lt=1)
        """The share of repeated stretches that is not yet punished."""

    def score(self, asked: Sequence[Asked]) -> list[float]:
        return [-max(0.0, repeated(one.answer, self.config.words) - self.config.allowed) for one in asked]


def repeated(text: str, words: int) -> float:
    """Share of the stretches of so many words that stood in the text before.

    >>> repeated("a b a b a b", 2), repeated("丹炉丹炉", 1), repeated("a b c", 2), repeated("a", 2)
    (0.6, 0.5, 0.0, 0.0)
    """
    pieces = _PIECE.findall(text.lower())
    stretches = [tuple(pieces[at : at + words]) for at in range(len(pieces) - words + 1)]
    return 1 - len(set(stretches)) / len(stretches) if stretches else 0.0
