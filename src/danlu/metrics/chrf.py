"""chrF of translations, by sacrebleu: F-score of runs of one to six characters, recall twice as heavy (Popović 2015).

Needs no words, so it judges Chinese as it judges English. A score over the whole set, 0 to 100, from sums over sentences as in
bleu.py. word_order=2 is chrF++. Extra: evaluate.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from danlu.metrics import METRICS
from danlu.metrics.bleu import References, scorer, streams

Array = npt.NDArray[np.float64]


@METRICS.register
def chrf(said: Sequence[str], true: References, word_order: int = 0) -> float:
    """said: a translation a sentence; true: its reference, or several. Raises MissingExtra, ValueError.

    >>> round(chrf(["丹炉点燃了"], ["丹炉已经点燃了"]), 2)
    30.23
    """
    return float(finish(word_order)(parts(said, true, word_order).sum(0, keepdims=True))[0])


def parts(said: Sequence[str], true: References, word_order: int = 0) -> Array:
    """What each sentence adds: n-grams said, true and shared, of each length; (N, S)."""
    return np.array(_metric(word_order)._extract_corpus_statistics(list(said), streams(said, true)), np.float64)


def finish(word_order: int = 0) -> Callable[[Array], Array]:
    """What makes scores of sums, (D, S) to (D,)."""
    metric = _metric(word_order)
    return lambda sums_DS: np.array([metric._compute_score_from_stats(list(sums)).score for sums in sums_DS])


def _metric(word_order: int) -> Any:
    return scorer().CHRF(word_order=word_order)
