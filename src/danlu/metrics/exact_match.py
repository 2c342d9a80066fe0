"""Exact match: whether an answer is one of the references once what carries no meaning is taken away.

Width is not told apart (full-width ＡＢＣ，１２ is ABC,12), nor, by default, case; a blank counts between two words, but not
beside Han characters or marks. Punctuation counts unless it is said not to. For SQuAD's own rule see span_f1.py.
"""

import re
import unicodedata
from collections.abc import Sequence

from danlu.metrics import METRICS

_IDLE_BLANKS = re.compile(
    r"(?:(?<=[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])|(?<!\w)) "  # behind Han, kana, or what is no word
    r"| (?:(?=[\u2e80-\u9fff\uf900-\ufaff\U00020000-\U0003ffff])|(?!\w))"
)
_ALIKE = str.maketrans({
    "。": ".", "、": ",", "《": "<", "》": ">", "〈": "<", "〉": ">", "【": "[", "】": "]", "「": '"', "」": '"', "『": '"',
    "』": '"', "“": '"', "”": '"', "„": '"', "‘": "'", "’": "'", "–": "-", "—": "-", "−": "-", "‐": "-", "‑": "-", "﹣": "-",
    "\u200b": None, "\ufeff": None, "\u00ad": None,
})  # fmt: skip


@METRICS.register
def exact_match(said: str, true: Sequence[str], *, case: bool = False, punctuation: bool = True) -> float:
    """1 where a reference is matched, else 0. case, punctuation: whether these are told apart.

    >>> exact_match(" Ａ，  b", ["x", "a, B"]), exact_match("丹 炉。", ["丹炉."]), exact_match("oven", ["furnace"])
    (1.0, 1.0, 0.0)
    >>> exact_match("Yes!", ["yes"]), exact_match("Yes!", ["yes"], punctuation=False)
    (0.0, 1.0)
    """
    bare = plain(said, case=case, punctuation=punctuation)
    return float(any(bare == plain(one, case=case, punctuation=punctuation) for one in true))


def plain(text: str, *, case: bool = False, punctuation: bool = True) -> str:
    """What is compared: one width, one kind of each mark, single blanks, none beside Han.

    >>> plain("《红楼梦》 共１２０回 ！"), plain("It’s  “so”", punctuation=False)
    ('<红楼梦>共120回!', 'its so')
    """
    text = unicodedata.normalize("NFKC", text.translate(_ALIKE)).translate(_ALIKE)
    if not case:
        text = text.casefold()
    if not punctuation:
        text = "".join(letter for letter in text if unicodedata.category(letter)[0] not in "PS")
    return _IDLE_BLANKS.sub("", " ".join(text.split()))
