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
def _table() -> tuple[Array, Array, Array]:
    """Sorted hashes of all stop words, a running number for each word, and which languages (rows) have it."""
    every = sorted({word for words in STOP_WORDS.values() for word in words})
    hashes = Texts(every)
    found = hashes.hash(hashes.starts, hashes.ends)
    order = np.argsort(found)
    member = np.array([[every[place] in STOP_WORDS[language] for place in order] for language in STOP_WORDS])
    return found[order], np.arange(len(every)), member


def _stop_words(texts: Texts) -> tuple[Array, Array]:
    """Which stop word each word of the batch is; two arrays: the word's document and its number in the table."""
    hashes, _, _ = _table()
    words = texts.words.hashes
    likely = np.flatnonzero(_sieve()[(words & np.uint64(0xFFFF)).astype(np.int64)])
    place = np.minimum(np.searchsorted(hashes, words[likely]), len(hashes) - 1)
    true = hashes[place] == words[likely]
    return texts.words.owner[likely[true]], place[true]


@functools.cache
def _sieve() -> Array:
    sieve = np.zeros(1 << 16, bool)
    sieve[(_table()[0] & np.uint64(0xFFFF)).astype(np.int64)] = True
    return sieve


def distinct_stop_words(texts: Texts) -> Array:
    """Different stop words of any language in each document, float64 (D,)."""
    owner, place = _stop_words(texts)
    width = len(_table()[0])
    pairs = np.unique(owner * width + place)
    return np.bincount(pairs // width, minlength=len(texts)).astype(np.float64)


def guess(texts: Texts) -> list[str]:
    """A language code for each document, `und` where nothing speaks for any."""
    owner, place = _stop_words(texts)
    member = _table()[2]
    votes = np.zeros((len(STOP_WORDS), len(texts)))
    for row, has in enumerate(member):
        votes[row] = np.bincount(owner, weights=has[place], minlength=len(texts))
    names = list(STOP_WORDS)
    kana = texts.count((texts.codes >= 0x3041) & (texts.codes <= 0x30FF))
    han = texts.count((texts.codes >= 0x3400) & (texts.codes <= 0x9FFF))
    solid = np.maximum(texts.count(texts.kinds > 1), 1)
    votes[names.index("ja")] = np.where(kana > 0.1 * (han + kana), votes[names.index("ja")], 0)
    best = [names[row] for row in votes.argmax(0)] if len(texts) else []
    for document in range(len(texts)):
        east = kana[document] + han[document]
        if east > 0.2 * solid[document]:
            best[document] = "ja" if kana[document] > 0.1 * east else "zh"
        elif votes[:, document].max() == 0:
            best[document] = "und"
    return best
