"""Token F1: how much of the words two texts share, in any order; each Han character is a word.

Width, case and punctuation do not count (exact_match.py: plain). Every other word does, articles too: span_f1.py has SQuAD's
own rule, which leaves out English articles.
"""

import re
from collections import Counter
from collections.abc import Sequence

from danlu.metrics import METRICS
from danlu.metrics.exact_match import plain

_HAN = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003134f"
_WORD = re.compile(rf"[{_HAN}]|[^\s{_HAN}]+")


@METRICS.register
def f1(said: str, true: Sequence[str]) -> float:
    """The best over the references, 0 to 1. Raises ValueError without a reference.

    >>> f1("the old furnace", ["Old furnace!"]), f1("丹炉里", ["丹炉"]), f1("", ["furnace"])
    (0.8, 0.8, 0.0)
    """
    if not true:
        raise ValueError("f1 compares with at least one reference")
    return max(_f1(words(said), words(one)) for one in true)


def words(text: str) -> list[str]:
    """What is compared.

    >>> words("Lead, 铅 and gold!")
    ['lead', '铅', 'and', 'gold']
    """
    return _WORD.findall(plain(text, punctuation=False))


def _f1(said: list[str], true: list[str]) -> float:
    if not said or not true:
        return float(said == true)
    return 2 * sum((Counter(said) & Counter(true)).values()) / (len(said) + len(true))
