"""What each character is, in tables: blank, line end, letter, other word character, a word of its own (Han, kana), symbol."""

import functools
import unicodedata
from typing import Any

import numpy as np

Array = np.ndarray[Any, Any]

BLANK, LINE_END, LETTER, WORD, UNIT, SYMBOL = range(6)
_TABLE = 0x20000
"""Characters below stand in the tables; above are Han (one word each, up to 0x323AF) and rarities (symbols)."""
_LAST_HAN = 0x323AF
_UNITS = ((0x3005, 0x3007), (0x3041, 0x3096), (0x309D, 0x309F), (0x30A1, 0x30FA), (0x30FC, 0x312F), (0x31A0, 0x31BF),
          (0x31F0, 0x31FF), (0x3400, 0x4DBF), (0x4E00, 0x9FFF), (0xF900, 0xFAFF), (0xFF66, 0xFF9F))  # fmt: skip
APOSTROPHES = "'’"
_MAJORS = np.full(128, SYMBOL, np.uint8)
"""The kind of a character by the first letter of its Unicode category."""
_MAJORS[[ord(major) for major in "LNM"]] = LETTER, WORD, WORD


def kind(letter: str) -> int:
    """Which of the six kinds a character is; the definition behind the tables."""
    code = ord(letter)
    if letter == "\n":
        return LINE_END
    if letter.isspace():
        return BLANK
    if any(low <= code <= high for low, high in _UNITS) or _TABLE <= code <= _LAST_HAN:
        return UNIT
    if code > _LAST_HAN:
        return SYMBOL
    category = unicodedata.category(letter)
    if category[0] == "L":
        return LETTER
    return WORD if category[0] in "NM" or letter == "_" else SYMBOL


def lower(letter: str) -> str:
    """The lower-case form where that is one character, else the character itself."""
    small = letter.lower()
    return small if len(small) == 1 and ord(letter) < _TABLE else letter


@functools.cache
def _tables() -> tuple[Array, Array]:
    kinds = np.empty(_TABLE + 2, np.uint8)
    mixed = np.empty(_TABLE + 2, np.uint64)
    mixed[:] = np.arange(_TABLE + 2)
    for low, high in _UNITS:
        kinds[low : high + 1] = UNIT
    kinds[0xAC00:0xD7A4], kinds[0xD800:0xF900] = LETTER, SYMBOL  # Korean syllables; surrogates and private use
    rest = np.ones(_TABLE, bool)
    for low, high in (*_UNITS, (0xAC00, 0xD7A3), (0xD800, 0xF8FF)):
        rest[low : high + 1] = False
    codes = np.flatnonzero(rest)
    letters = [chr(code) for code in codes.tolist()]
    kinds[codes] = _MAJORS[np.frombuffer("".join([unicodedata.category(letter)[0] for letter in letters]).encode(), np.uint8)]
    kinds[[code for code, letter in zip(codes.tolist(), letters, strict=True) if letter.isspace()]] = BLANK
    kinds[ord("_")], kinds[ord("\n")] = WORD, LINE_END
    mixed[codes] = [ord(lower(letter)) for letter in letters]
    kinds[_TABLE], kinds[_TABLE + 1] = UNIT, SYMBOL
    return kinds, mix(mixed + np.uint64(1))


def kinds_of(codes: Array) -> Array:
    """Kinds of code points, uint32 (N,) to uint8 (N,)."""
    return _tables()[0][_within(codes)]


def values_of(codes: Array) -> Array:
    """A random-looking 64-bit value for the lower-case form of each code point."""
    values = _tables()[1][_within(codes)]
    beyond = codes >= _TABLE
    if beyond.any():
        values[beyond] = mix(codes[beyond].astype(np.uint64) + np.uint64(1))
    return values


def _within(codes: Array) -> Array:
    if len(codes) and codes.max() >= _TABLE:
        return np.where(codes < _TABLE, codes, np.where(codes <= _LAST_HAN, _TABLE, _TABLE + 1))
    return codes


def mix(values: Array) -> Array:
    """Spread 64-bit values over all bits (the finaliser of SplitMix64, Steele et al. 2014). A new array."""
    values = values ^ (values >> np.uint64(30))
    values *= np.uint64(0xBF58476D1CE4E5B9)
    values ^= values >> np.uint64(27)
    values *= np.uint64(0x94D049BB133111EB)
    values ^= values >> np.uint64(31)
    return values
