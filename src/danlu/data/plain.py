"""The plain meaning of words, lines, paragraphs and repeats: the readable twin of texts.py."""

import re
from collections.abc import Hashable, Sequence

from danlu.data.letters import APOSTROPHES, BLANK, LETTER, LINE_END, UNIT, WORD, kind, lower


def words(text: str) -> list[str]:
    """Runs of letters and digits (an apostrophe between two belongs to them), and each Han or kana character by itself.

    >>> words("Don't panic: 丹炉 2.0!")
    ["don't", 'panic', '丹', '炉', '2', '0']
    """
    found: list[str] = []
    inside = False
    for place, letter in enumerate(text):
        sort = kind(letter)
        if letter in APOSTROPHES and inside and place + 1 < len(text) and kind(text[place + 1]) in (LETTER, WORD):
            sort = WORD
        if sort == UNIT or (sort in (LETTER, WORD) and not inside):
            found.append(lower(letter))
        elif sort in (LETTER, WORD):
            found[-1] += lower(letter)
        inside = sort in (LETTER, WORD)
    return found


def is_unit(word: str) -> bool:
    """Whether a word is a Han or kana character."""
    return len(word) == 1 and kind(word) == UNIT


def trim(text: str) -> str:
    """Text without white space around it."""
    solid = [place for place, letter in enumerate(text) if kind(letter) not in (BLANK, LINE_END)]
    return text[solid[0] : solid[-1] + 1] if solid else ""


def lowered(text: str) -> str:
    """Lower case, letter by letter, so that lengths stay."""
    return "".join(map(lower, text))


def lines(text: str) -> list[str]:
    """Lines that are not blank, trimmed."""
    return [line for line in map(trim, text.split("\n")) if line]


def paragraphs(text: str) -> list[str]:
    """Runs of lines that are not blank, trimmed."""
    blank_out = "\n".join(line if trim(line) else "" for line in text.split("\n"))
    return [part for part in map(trim, re.split(r"\n{2,}", blank_out)) if part]


def repeated(items: Sequence[Hashable]) -> list[bool]:
    """Which items have an equal one before them."""
    seen: set[Hashable] = set()
    early = []
    for item in items:
        early.append(item in seen)
        seen.add(item)
    return early


def grams(found: Sequence[str], n: int) -> list[tuple[str, ...]]:
    """Every n words in a row."""
    return [tuple(found[place : place + n]) for place in range(len(found) - n + 1)]
