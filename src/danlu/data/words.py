"""The words of a text in small letters: runs of letters and digits; Chinese and Japanese by a segmenter, or by characters."""

from collections.abc import Callable, Sequence
from typing import Literal

import numpy as np

from danlu.core.errors import MissingExtra
from danlu.data.letters import APOSTROPHES, LETTER, UNIT, WORD, kinds_of

Cut = Callable[[str], Sequence[str]]
"""A run of Han characters or kana to words."""
Han = Literal["auto", "words", "characters"]


def words(text: str, cut: Cut = list) -> list[str]:
    """Every word in order; what is neither letter, digit nor character of its own only parts them.

    >>> words("Don't panic, 丹炉 has 42 keys!")
    ["don't", 'panic', '丹', '炉', 'has', '42', 'keys']
    """
    text = text.lower()
    codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), np.uint32)
    kinds = kinds_of(codes)
    inside = (kinds == LETTER) | (kinds == WORD)
    for mark in APOSTROPHES:  # one between two letters belongs to the word
        at = np.flatnonzero(codes[1:-1] == ord(mark)) + 1
        inside[at[inside[at - 1] & inside[at + 1]]] = True
    run = np.where(inside, 1, np.where(kinds == UNIT, 2, 0))
    edges = np.flatnonzero(np.diff(run, prepend=0, append=0))
    found: list[str] = []
    for start, end in zip(edges[:-1].tolist(), edges[1:].tolist(), strict=True):
        if run[start] == 1:
            found.append(text[start:end])
        elif run[start] == 2:
            found.extend(cut(text[start:end]))
    return found


def cutter(han: Han) -> tuple[Cut, str]:
    """How runs of Han are cut, and its name. Raises MissingExtra where words are asked for and the segmenter is not there."""
    if han == "characters":
        return list, "characters"
    try:
        import rjieba
    except ModuleNotFoundError:
        if han == "words":
            raise MissingExtra("zh", needed_for="words of Chinese text") from None
        return list, "characters (the zh extra would bring words)"
    return rjieba.cut, "words by rjieba"
