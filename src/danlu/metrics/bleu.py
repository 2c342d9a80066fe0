"""BLEU of translations, by sacrebleu: how many runs of one to four words they share with the references (Papineni et al. 2002).

A score over the whole set, 0 to 100, from sums over sentences: `parts` gives what each sentence adds, so that samples can be
redrawn without counting again. Chinese is cut into characters (tokenize="zh"). Extra: evaluate.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from danlu.core.errors import MissingExtra
from danlu.metrics import METRICS

References = Sequence[str] | Sequence[Sequence[str]]
_HAN = re.compile(r"[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff]")


@METRICS.register
def bleu(said: Sequence[str], true: References, tokenize: str = "auto") -> float:
    """said: a translation a sentence; true: its reference, or several. tokenize: one of sacrebleu's (13a, zh, char, intl, ...);
    auto: zh where a third of the references' characters are Han, else 13a. Raises MissingExtra, ValueError.

    >>> round(bleu(["the old furnace was lit"], ["the old furnace was lit at dawn"]), 2)
    67.03
    """
    return float(finish(parts(said, true, tokenize).sum(0, keepdims=True))[0])


def parts(said: Sequence[str], true: References, tokenize: str = "auto") -> npt.NDArray[np.float64]:
    """What each sentence adds: lengths of both sides, n-grams that match, n-grams in all; (N, 10)."""
    metric = _metric(which(true) if tokenize == "auto" else tokenize)
    return np.array(metric._extract_corpus_statistics(list(said), streams(said, true)), np.float64)


def finish(sums_DS: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Scores of sums, (D, 10) to (D,)."""
    metric = _metric("none")
    return np.array([metric._compute_score_from_stats([int(one) for one in sums]).score for sums in sums_DS])


def which(true: References) -> str:
    """The tokenizer for these references.

    >>> which(["丹炉已经点燃。"]), which(["the furnace is lit"])
    ('zh', '13a')
    """
    text = "".join(one if isinstance(one, str) else "".join(one) for one in true)
    return "zh" if 3 * len(_HAN.findall(text)) > len(text.replace(" ", "")) else "13a"


def streams(said: Sequence[str], true: References) -> list[list[str | None]]:
    """References as sacrebleu takes them: the first of every sentence, the second of every sentence, ... Raises ValueError."""
    each = [[one] if isinstance(one, str) else list(one) for one in true]
    if len(each) != len(said) or not each or not all(each):
        raise ValueError(f"{len(said)} translations and {len(each)} references: each needs one, and there must be some")
    most = max(map(len, each))
    return [[one[at] if at < len(one) else None for one in each] for at in range(most)]


def _metric(tokenize: str) -> Any:
    return scorer().BLEU(tokenize=tokenize, force=True)


def scorer() -> Any:
    """sacrebleu's metrics. Raises MissingExtra."""
    try:
        from sacrebleu import metrics
    except ModuleNotFoundError:
        raise MissingExtra("evaluate", needed_for="BLEU and chrF") from None
    return metrics
