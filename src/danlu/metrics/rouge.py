"""ROUGE of summaries, by rouge-score: shared words (rouge1), pairs of words (rouge2), longest common sequence (rougeL); Lin 2004.

rouge-score's own cutting throws away all that is not a-z or 0-9, so any two Chinese texts score 0. Here a Han character is a word
of its own, letters of every script form words, case does not count, and nothing is stemmed. For plain English text without
accents the scores are rouge-score's own with use_stemmer=False. Extra: evaluate.
"""

import functools
import re
from collections.abc import Sequence
from typing import Any, Literal

from danlu.core.errors import MissingExtra
from danlu.metrics import METRICS

Kind = Literal["rouge1", "rouge2", "rougeL"]
KINDS: tuple[Kind, ...] = ("rouge1", "rouge2", "rougeL")
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_HAN}]|[^\W_{_HAN}]+")


@METRICS.register
def rouge(said: str, true: Sequence[str], kind: Kind = "rougeL") -> float:
    """F-measure of one summary, 0 to 1, the best over the references. Raises MissingExtra; ValueError without a reference.

    >>> rouge("the furnace was lit", ["the old furnace was lit at dawn"]), rouge("丹炉点燃", ["丹炉已点燃"], "rouge2")
    (0.7272727272727273, 0.5714285714285715)
    """
    if not true:
        raise ValueError("rouge compares with at least one reference")
    return float(_scorer(kind).score_multi(list(true), said)[kind].fmeasure)


class Words:
    """Cuts texts for rouge-score."""

    def tokenize(self, text: str) -> list[str]:
        """Words.

        >>> Words().tokenize("Naïve 丹炉-2!")
        ['naïve', '丹', '炉', '2']
        """
        return _WORD.findall(text.lower())


@functools.cache
def _scorer(kind: Kind) -> Any:
    try:
        from rouge_score.rouge_scorer import RougeScorer  # type: ignore[import-untyped]
    except ModuleNotFoundError:
        raise MissingExtra("evaluate", needed_for="ROUGE") from None
    return RougeScorer([kind], tokenizer=Words())
