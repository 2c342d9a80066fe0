"""Perplexity: among how many equally likely choices a model hesitates, on average; lower is better.

By token it depends on the tokenizer and compares only models that share one; by word (white space in between, a Han character
is a word of its own) it does not.
"""

import math
import re
from collections.abc import Iterator

import numpy as np

from danlu.metrics import METRICS
from danlu.metrics.interval import Numbers, ratio_error

_WORD = re.compile(r"[㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f]|[^\s㐀-䶿一-鿿豈-﫿\U00020000-\U0003134f]+")


@METRICS.register
def perplexity(nats: float, count: int) -> float:
    """exp(nats / count), where count is the number of tokens or of words. Raises ValueError for a count of zero.

    >>> round(perplexity(nats=6.931471805599453, count=5), 3)
    4.0
    """
    if count <= 0:
        raise ValueError(f"perplexity over {count} units is not defined; give a text with at least one")
    return math.exp(min(nats / count, 700.0))  # beyond this a double overflows


def perplexity_error(nats: Numbers, counts: Numbers) -> float:
    """Standard error of the perplexity of C clusters together, (C,) each, by the delta method; nan for a single cluster.

    d exp(x) = exp(x) dx, where x is nats over counts and its error that of a ratio over clusters.
    """
    value: float = perplexity(float(np.sum(nats)), int(np.sum(counts)))
    return value * ratio_error(nats, counts)


def word_count(text: str) -> int:
    """Words of a text: runs between white space, each Han character by itself.

    >>> word_count("To be, or not"), word_count("丹炉 v2 很好")
    (4, 5)
    """
    return sum(1 for _ in word_starts(text))


def word_starts(text: str) -> Iterator[int]:
    """Where each word begins, in characters.

    >>> list(word_starts("To be 丹炉"))
    [0, 3, 6, 7]
    """
    return (word.start() for word in _WORD.finditer(text))
