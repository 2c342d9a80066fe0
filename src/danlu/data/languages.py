"""A rough guess at a document's language from its script and its commonest words: free, offline, and said to be rough.

`--language langid` asks py3langid instead, at a cost in time.
"""

import functools

import numpy as np

from danlu.data.letters import Array
from danlu.data.texts import Texts

STOP_WORDS: dict[str, tuple[str, ...]] = {
    "en": ("the", "be", "to", "of", "and", "that", "have", "with", "in", "is", "it", "for", "was", "this", "are", "not"),
    "zh": tuple("的了是在不我有和这這就也他她们們你为為与與而之以其于於上中个個人一"),
    "ja": tuple("のはをがでもとにたしてれる"),
    "de": ("der", "die", "und", "das", "ist", "nicht", "ein", "eine", "mit", "den", "von", "zu", "auf", "sich"),
    "fr": ("le", "la", "les", "et", "des", "est", "une", "un", "du", "que", "pour", "dans", "pas", "qui"),
    "es": ("el", "la", "los", "las", "que", "y", "en", "un", "una", "por", "con", "para", "es", "del", "no"),
    "it": ("il", "che", "di", "la", "e", "non", "per", "una", "un", "con", "sono", "del", "gli", "della"),
    "pt": ("o", "que", "de", "e", "os", "um", "uma", "para", "com", "não", "do", "da", "em", "se"),
    "nl": ("de", "het", "een", "en", "van", "is", "niet", "dat", "op", "te", "met", "zijn", "voor"),
    "sv": ("och", "att", "det", "som", "en", "på", "är", "av", "för", "med", "inte", "den"),
    "pl": ("nie", "się", "na", "jest", "do", "to", "że", "z", "w", "i", "jak", "ale"),
    "tr": ("ve", "bir", "bu", "için", "de", "da", "ile", "çok", "ne", "olarak"),
    "id": ("yang", "dan", "di", "itu", "dengan", "untuk", "tidak", "ini", "dari", "dalam"),
    "vi": ("và", "của", "là", "có", "không", "được", "cho", "một", "các", "trong"),
    "ru": ("и", "в", "не", "на", "что", "с", "он", "как", "это", "по", "но", "из"),
    "uk": ("і", "в", "не", "на", "що", "та", "з", "як", "це", "до", "є"),
    "ar": ("في", "من", "على", "إلى", "أن", "هذا", "التي", "عن", "مع", "لا"),
    "ko": ("이", "그", "것", "수", "있는", "있다", "한", "및", "등", "를", "하는", "그리고"),
    "hi": ("के", "में", "है", "की", "से", "और", "का", "को", "पर", "यह"),
}


@functools.cache
def _table() -> tuple[Array, Array]:
    """Sorted hashes of all stop words, and which languages (columns) have each, (words, languages)."""
    every = sorted({word for words in STOP_WORDS.values() for word in words})
    texts = Texts(every)
    hashes = texts.hash(texts.starts, texts.ends)
    order = np.argsort(hashes)
    return hashes[order], np.array([[every[place] in words for words in STOP_WORDS.values()] for place in order], np.int64)


@functools.cache
def _sieve() -> Array:
    """Whether any stop word's hash has these last 16 bits: rules out most words at once."""
    sieve = np.zeros(1 << 16, bool)
    sieve[(_table()[0] & np.uint64(0xFFFF)).astype(np.int64)] = True
    return sieve


def stop_words(texts: Texts) -> Array:
    """How often each stop word of the table stands in each document, int64 (D, words)."""
    hashes = _table()[0]
    words = texts.words.hashes
    likely = np.flatnonzero(_sieve()[(words & np.uint64(0xFFFF)).astype(np.int64)])
    place = np.minimum(np.searchsorted(hashes, words[likely]), len(hashes) - 1)
    true = hashes[place] == words[likely]
    pairs = texts.words.owner[likely[true]] * len(hashes) + place[true]
    return np.bincount(pairs, minlength=len(texts) * len(hashes)).reshape(len(texts), len(hashes))


def distinct_stop_words(texts: Texts) -> Array:
    """Different stop words of any language in each document, float64 (D,)."""
    distinct: Array = (stop_words(texts) > 0).sum(1).astype(np.float64)
    return distinct


def guess(texts: Texts) -> list[str]:
    """A language code for each document, `und` where nothing speaks for any."""
    votes = stop_words(texts) @ _table()[1]
    kana = texts.count((texts.codes >= 0x3041) & (texts.codes <= 0x30FF))
    han = texts.count((texts.codes >= 0x3400) & (texts.codes <= 0x9FFF))
    solid = texts.count_places(texts.solid)
    east, japanese = kana + han > 0.2 * solid, kana > 0.1 * (kana + han)
    names = np.array(list(STOP_WORDS))
    votes[:, np.isin(names, ("zh", "ja"))] = 0
    rough = np.where(votes.max(1, initial=0) > 0, names[votes.argmax(1)], "und")
    found: list[str] = np.where(east, np.where(japanese, "ja", "zh"), rough).tolist()
    return found
