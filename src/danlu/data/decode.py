"""Which encoding a file has, decided from a sample of its bytes; text that fits none is said to be unreadable.

Byte-order marks are believed. Then UTF-8, then UTF-16 without a mark, then the Chinese encodings, which also fit each
other's bytes by accident: the one whose characters are common ones wins. What is left is asked of charset-normalizer.
"""

import codecs
import re

SAMPLE_BYTES = 1 << 18
_MARKS = ((codecs.BOM_UTF8, "utf-8-sig"), (codecs.BOM_UTF16_LE, "utf-16"), (codecs.BOM_UTF16_BE, "utf-16"))
_COMMON = frozenset(
    "的一是不了在人有我他这这個个们們中来來上大为為和国國地到以说說时時要就出会會可也你对對生能而子那得于於着著下自之年过過发發后後作里裡"
    "用道行所然家种種事成方多经經么麼去法学學如都同现現当當没沒动動面起看定天分还還进進好小部其些主样樣理心她本前开開但因只从從想实實"
)
_CONTROLS = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f\x7f]")


class Unreadable(ValueError):
    """Bytes that are no text in any encoding we know; the message is the reason."""


def detect(sample: bytes, whole: bool = True) -> str:
    """Name of the Python codec for bytes that begin like `sample`.

    whole: whether the sample is the entire file; otherwise its last character may be cut. Raises Unreadable.

    >>> detect("丹炉炼丹，火候为先。".encode("gb18030")), detect("煉丹爐與火候，這是一個例子。".encode("big5"))
    ('gb18030', 'big5')
    """
    for mark, name in _MARKS:
        if sample.startswith(mark):
            return name
    if _fits(sample, "utf-8", whole):
        if len(_CONTROLS.findall(sample)) > 0.02 * len(sample):
            return _utf16_without_mark(sample)
        return "utf-8"
    if b"\x00" in sample:
        return _utf16_without_mark(sample)
    if len(_CONTROLS.findall(sample)) > 0.02 * len(sample):
        raise Unreadable("binary: many control bytes, and no known encoding fits")
    return _chinese(sample, whole) or _other(sample, whole)


def decode(data: bytes) -> str:
    """Text of a whole small file. Raises Unreadable."""
    name = detect(data)
    try:
        return data.decode(name)
    except UnicodeDecodeError as error:
        raise Unreadable(f"looks like {name}, but byte {error.start} does not fit") from None


def _fits(sample: bytes, name: str, whole: bool) -> bool:
    try:
        codecs.getincrementaldecoder(name)().decode(sample, final=whole)
    except UnicodeDecodeError:
        return False
    return True


def _utf16_without_mark(sample: bytes) -> str:
    """Both byte orders are tried: the right one yields ASCII, common Han and punctuation, the wrong one rarities."""
    cut = sample[: len(sample) // 2 * 2]
    best, best_share = "", 0.0
    for name in ("utf-16-le", "utf-16-be"):
        if _fits(cut, name, whole=False):
            text = codecs.getincrementaldecoder(name)().decode(cut)
            usual = sum(
                1
                for letter in text
                if " " <= letter <= "~" or letter in "\t\n\r" or letter in _COMMON or "\u3000" < letter < "\u3100"
            )
            if usual / max(len(text), 1) > best_share:
                best, best_share = name, usual / len(text)
    if best_share < 0.15:
        raise Unreadable("binary: contains zero bytes")
    return best


def _chinese(sample: bytes, whole: bool) -> str | None:
    """GB18030 or Big5 where the bytes decode and the characters are those that people use."""
    best, best_share = None, 0.0
    for name in ("gb18030", "big5", "big5hkscs"):
        if _fits(sample, name, whole):
            text = codecs.getincrementaldecoder(name)().decode(sample)
            han = [letter for letter in text if "\u3400" <= letter <= "\u9fff"]
            strange = sum(1 for letter in text if letter > "\x7f") - len(han) - _punctuation(text)
            share = (sum(letter in _COMMON for letter in han) / len(han) - strange / max(len(text), 1)) if han else 0.0
            if len(han) < 0.5 * strange or _isolated(sample):
                continue
            if best is None or share > best_share:
                best, best_share = name, share
    return best if best and best_share > 0.05 else _rarely(best, sample, whole)


def _rarely(best: str | None, sample: bytes, whole: bool) -> str | None:
    """A short text, a poem or a list of names may hold no very common character: then the standard's first level decides."""
    if best is None:
        return None
    found = {}
    for name, low, high in (("gb18030", 0xB0, 0xD7), ("big5", 0xA4, 0xC6)):
        if _fits(sample, name, whole):
            leads = re.findall(rb"[\x81-\xfe][\x30-\xfe]", sample)
            found[name] = sum(low <= pair[0] <= high for pair in leads) / max(len(leads), 1)
    name = max(found, key=lambda key: found[key], default=best)
    return name if found.get(name, 0.0) > 0.5 else None


def _punctuation(text: str) -> int:
    return sum(
        1 for letter in text if "\u3000" <= letter <= "\u303f" or "\uff00" <= letter <= "\uffef" or "\u2010" <= letter <= "\u2027"
    )


def _isolated(sample: bytes) -> bool:
    """Single high bytes between ASCII letters: accents of a European code page, not halves of Chinese characters."""
    alone = len(re.findall(rb"(?<![\x80-\xff])[\x80-\xff](?=[\x20-\x2f\x3a-\x40a-z]|$)", sample))
    return alone > 0.5 * max(len(re.findall(rb"[\x80-\xff]+", sample)), 1)


def _other(sample: bytes, whole: bool) -> str:
    from charset_normalizer import from_bytes

    if _isolated(sample) and _fits(sample, "cp1252", whole):
        return "cp1252"
    best = from_bytes(sample[: 1 << 16]).best()
    if best is not None and _fits(sample, best.encoding, whole):
        return str(best.encoding)
    raise Unreadable("no known encoding fits (tried UTF-8, UTF-16, GB18030, Big5 and the European code pages)")
