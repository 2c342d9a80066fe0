"""F1 of an answer's words against the reference's, as in SQuAD (arXiv:1606.05250); Han characters are words, as in CMRC 2018.

Case, punctuation and the English articles do not count.
"""

import re
import unicodedata
from collections import Counter
from collections.abc import Sequence

from danlu.metrics import METRICS

_ARTICLES = {"a", "an", "the"}
_HAN = re.compile(r"([\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff])")


@METRICS.register
def span_f1(said: str, true: Sequence[str]) -> float:
    """The best over the references; with no reference, right is to say nothing.

    >>> span_f1("in the old furnace", ["old furnace"]), span_f1("丹炉里", ["丹炉"]), span_f1("", [])
    (0.8, 0.8, 1.0)
    """
    return max((_f1(bare_words(said), bare_words(one)) for one in true), default=float(not bare_words(said)))


def exact_match(said: str, true: Sequence[str]) -> float:
    """Whether the answer's words are a reference's, 0 or 1.

    >>> exact_match("The Furnace!", ["furnace"]), exact_match("oven", ["furnace"])
    (1.0, 0.0)
    """
    return max((float(bare_words(said) == bare_words(one)) for one in true), default=float(not bare_words(said)))


def bare_words(text: str) -> list[str]:
    """What is compared."""
    bare = "".join(letter for letter in text.lower() if unicodedata.category(letter)[0] != "P")
    return [word for word in _HAN.sub(r" \1 ", bare).split() if word not in _ARTICLES]


def _f1(said: list[str], true: list[str]) -> float:
    if not said or not true:
        return float(said == true)
    shared = sum((Counter(said) & Counter(true)).values())
    return 2 * shared / (len(said) + len(true))
