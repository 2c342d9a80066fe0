"""Where words begin in a text of any script: runs of letters and digits, single symbols, and words of Han and kana.

Nothing is left out: every character belongs to a word. Han is written without blanks: its words come from a dictionary
(rjieba, extra `zh`), or each two neighbouring characters count as one. N characters.
"""

import functools
from collections.abc import Callable
from typing import Any, Literal

import numpy as np

from danlu.core.errors import MissingExtra
from danlu.data.letters import BLANK, LETTER, LINE_END, SYMBOL, UNIT, WORD, Array, kinds_of

Han = Literal["words", "bigrams", "characters"]
_ESCAPES = (0xDC80, 0xDCFF)  # what Python puts in place of bytes that form no character (errors="surrogateescape")


def codes_of(data: bytes) -> Array:
    """Code points of UTF-8, uint32 (N,); each byte that belongs to no whole character becomes a lone surrogate."""
    return np.frombuffer(data.decode("utf-8", "surrogateescape").encode("utf-32-le", "surrogatepass"), np.uint32)


def widths_of(codes: Array) -> Array:
    """Bytes of each character in the UTF-8 that the codes come from, int64 (N,)."""
    widths: Array = 1 + (codes > 0x7F).astype(np.int64) + (codes > 0x7FF) + (codes > 0xFFFF)
    widths[_escaped(codes)] = 1
    return widths


def word_begins(codes: Array, han: Han = "bigrams", phase: int = 0) -> Array:
    """Which characters begin a word, booleans (N,).

    A blank right before another character belongs to that character's word, other blanks are words of their own. With bigrams,
    `phase` 0 or 1 says which neighbours pair up.

    >>> text = "To be, 丹炉火"
    >>> "".join("|" * int(begins) + letter for begins, letter in zip(word_begins(codes_of(text.encode())), text))
    '|To| be|,| 丹炉|火'
    """
    kinds = kinds_of(codes)
    kinds = np.where(kinds == WORD, LETTER, kinds)
    kinds[_escaped(codes)] = LINE_END  # a cut character at an edge: its bytes stay together
    begins = np.ones(len(codes), bool)
    begins[1:] = (kinds[1:] != kinds[:-1]) | (kinds[1:] == SYMBOL) | (kinds[1:] == UNIT)
    _join_han(begins, codes, kinds, han, phase)
    leads = np.zeros(len(codes), bool)
    leads[:-1] = (kinds[:-1] == BLANK) & (kinds[1:] != BLANK) & (kinds[1:] != LINE_END)
    begins[leads] = True
    begins[1:] &= ~leads[:-1]
    return begins


def _escaped(codes: Array) -> Array:
    found: Array = (codes >= _ESCAPES[0]) & (codes <= _ESCAPES[1])
    return found


def _join_han(begins: Array, codes: Array, kinds: Array, han: Han, phase: int) -> None:
    """Take back the beginnings inside words of Han, in place."""
    if han == "characters":
        return
    unit = np.concatenate([[False], kinds == UNIT, [False]])
    edges = np.flatnonzero(unit[1:] != unit[:-1]).reshape(-1, 2)
    for start, end in edges.tolist():
        if han == "bigrams":
            begins[start + 1 + phase : end : 2] = False
        else:
            begins[start:end] = False
            lengths = [len(word) for word in cutter()(codes[start:end].tobytes().decode("utf-32-le"))]
            begins[start + np.cumsum([0, *lengths[:-1]])] = True


@functools.cache
def cutter() -> Callable[[str], list[str]]:
    """Cuts Han text into words. Raises MissingExtra."""
    try:
        import rjieba
    except ModuleNotFoundError:
        raise MissingExtra("zh", needed_for="cutting Chinese text into words") from None
    cut: Any = rjieba.cut
    return lambda text: cut(text, False)
