"""Many documents as one array of code points, and what filters and deduplication ask about it: words, lines, hashes, repeats.

Everything is computed once, when first asked for, over the whole batch: no Python loop over words. The plain meaning of each
part stands in plain.py; tests hold them equal.

Legend: N code points of the batch, D documents, W words, L lines.
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np

from danlu.data.letters import APOSTROPHES, LETTER, LINE_END, UNIT, WORD, Array, kinds_of, mix, values_of

_BASE = np.uint64(0x9E3779B97F4A7C15)
_BASE_INVERSE = np.uint64(pow(0x9E3779B97F4A7C15, -1, 1 << 64))
_JOIN = np.uint64(0xD6E8FEB86659FD93)
SEPARATOR = "\x00"


class Spans:
    """Stretches of the batch in order: where each starts and ends (exclusive), and which are whose."""

    def __init__(self, starts: Array, ends: Array, document_starts: Array, hashes: Array):
        self.starts, self.ends, self.hashes = starts, ends, hashes
        self.offsets = np.append(np.searchsorted(starts, document_starts), len(starts))
        """(D + 1,): the spans of document d are offsets[d] : offsets[d + 1]."""

    @property
    def lengths(self) -> Array:
        return self.ends - self.starts

    @cached_property
    def counts(self) -> Array:
        """Spans of each document, (D,)."""
        return np.diff(self.offsets)

    @cached_property
    def owner(self) -> Array:
        """The document of each span."""
        return np.repeat(np.arange(len(self.counts)), self.counts)

    def total(self, values: Array) -> Array:
        """Sum of a value a span, by document, (D,) float64."""
        total = np.zeros(len(self.counts))
        full = self.counts > 0
        if len(values):
            total[full] = np.add.reduceat(values, self.offsets[:-1][full], dtype=np.float64)
        return total


class Texts:
    """A batch of documents; at most a few million characters."""

    def __init__(self, texts: Sequence[str]):
        self.texts = list(texts)
        joined = SEPARATOR.join([*self.texts, ""])
        self.codes = np.frombuffer(joined.encode("utf-32-le", "surrogatepass"), np.uint32)
        self.lengths = np.fromiter(map(len, self.texts), np.int64, len(self.texts))
        """Characters of each document, (D,)."""
        self.ends = np.cumsum(self.lengths + 1) - 1
        self.starts = self.ends - self.lengths

    def __len__(self) -> int:
        return len(self.texts)

    @cached_property
    def kinds(self) -> Array:
        """(N,) uint8, see letters.py; the separators between documents count as line ends."""
        kinds = kinds_of(self.codes)
        kinds[self.ends] = LINE_END
        return kinds

    @cached_property
    def in_word(self) -> Array:
        """(N,) bool: characters of words of letters and digits; an apostrophe between two of them belongs to the word."""
        inside: Array = (self.kinds == LETTER) | (self.kinds == WORD)
        for mark in APOSTROPHES:
            between = np.flatnonzero(self.codes[1:-1] == ord(mark)) + 1
            inside[between] = inside[between - 1] & inside[between + 1]
        return inside

    @cached_property
    def _sums(self) -> Array:
        """(N + 1,): running sum of value x base^place, modulo 2^64; any stretch's hash is a difference of two."""
        return np.append(np.uint64(0), np.cumsum(values_of(self.codes) * powers(len(self.codes), _BASE), dtype=np.uint64))

    def hash(self, starts: Array, ends: Array) -> Array:
        """64-bit hashes of stretches of lower-cased text; equal text, equal hash, wherever it stands."""
        inverse = powers(len(self.codes), _BASE_INVERSE)
        return mix((self._sums[ends] - self._sums[starts]) * inverse[starts])

    @cached_property
    def words(self) -> Spans:
        """Runs of letters and digits, and each Han or kana character by itself."""
        inside, unit = self.in_word, self.kinds == UNIT
        before, after = np.append(False, inside[:-1]), np.append(inside[1:], False)
        starts = np.flatnonzero((inside & ~before) | unit)
        ends = np.flatnonzero((inside & ~after) | unit) + 1
        return Spans(starts, ends, self.starts, self.hash(starts, ends))

    @cached_property
    def lines(self) -> Spans:
        """Lines that are not blank, without the white space around them."""
        return self._trimmed(*self._line_bounds)

    @cached_property
    def newlines_and_ends(self) -> Array:
        """Places where a line ends: every newline, and the end of every document."""
        return np.flatnonzero(self.kinds == LINE_END)

    @cached_property
    def _line_bounds(self) -> tuple[Array, Array]:
        ends = self.newlines_and_ends
        return np.append(0, ends[:-1] + 1), ends

    @cached_property
    def paragraphs(self) -> Spans:
        """Runs of lines that are not blank."""
        starts, ends = self._line_bounds
        full = self._full(starts, ends)
        last_of_document = np.isin(ends, self.ends, assume_unique=True)
        before = np.append(False, (full & ~last_of_document)[:-1])
        first = np.flatnonzero(full & ~before)
        goes_on = np.append(full[1:], False) & ~last_of_document
        last = np.flatnonzero(full & ~goes_on)
        return self._trimmed(starts[first], ends[last])

    @cached_property
    def solid(self) -> Array:
        """Places of all characters that are not white space."""
        return np.flatnonzero(self.kinds > LINE_END)

    def _full(self, starts: Array, ends: Array) -> Array:
        return np.searchsorted(self.solid, starts) < np.searchsorted(self.solid, ends)

    def _trimmed(self, starts: Array, ends: Array) -> Spans:
        first, after = np.searchsorted(self.solid, starts), np.searchsorted(self.solid, ends)
        full = first < after
        starts, ends = self.solid[first[full]], self.solid[after[full] - 1] + 1
        return Spans(starts, ends, self.starts, self.hash(starts, ends))

    @cached_property
    def word_characters(self) -> Array:
        """Characters that stand in words, (D,) float64."""
        return self.words.total(self.words.lengths)

    def count(self, mask: Array) -> Array:
        """True entries of an (N,) mask by document, (D,) int64."""
        return self.count_places(np.flatnonzero(mask))

    def count_places(self, places: Array) -> Array:
        """How many of the places, which are in order, lie in each document, (D,) int64."""
        counts: Array = np.searchsorted(places, self.ends) - np.searchsorted(places, self.starts)
        return counts

    def shingles(self, n: int) -> tuple[Array, Array]:
        """Hashes of every n words in a row, and (D + 1,) offsets; a document of fewer words gives one shingle of them all."""
        words = self.words
        folded = words.hashes.copy()
        for ahead in range(1, n):
            folded = folded[:-1] if len(folded) else folded
            folded = folded * _JOIN + words.hashes[ahead : ahead + len(folded)]
        counts = np.where(words.counts == 0, 0, np.maximum(words.counts - n + 1, 1))
        offsets = np.append(0, np.cumsum(counts))
        shingles = np.empty(offsets[-1], np.uint64)
        long = words.counts >= n
        starts = np.repeat(words.offsets[:-1][long] - offsets[:-1][long], counts[long])
        places = np.flatnonzero(np.repeat(long, counts))
        shingles[places] = folded[places + starts]
        for size in range(1, n):
            which = np.flatnonzero(words.counts == size)
            value = words.hashes[words.offsets[which]]
            for ahead in range(1, size):
                value = value * _JOIN + words.hashes[words.offsets[which] + ahead]
            shingles[offsets[which]] = value
        return mix(shingles), offsets


def powers(count: int, base: np.uint64) -> Array:
    """base^0 ... base^(count - 1) modulo 2^64, kept and grown."""
    found = _POWERS.get(int(base))
    if found is None or len(found) < count:
        found = np.cumprod(np.append(np.uint64(1), np.full(max(count, 1 << 16) * 5 // 4, base)), dtype=np.uint64)
        _POWERS[int(base)] = found
    return found[:count]


_POWERS: dict[int, Array] = {}


class Repeats:
    """Which items of a document are equal.

    hashes, owner: (M,), M below 2^22. Items are told apart by at least 42 bits of their hashes.
    """

    def __init__(self, hashes: Array, owner: Array):
        count = len(hashes)
        self.early, self.shared = np.zeros(count, bool), np.zeros(count, bool)
        """(M,): an equal item stands before this one; an equal item stands anywhere in the document."""
        self.first = self.times = np.zeros(0, np.int64)
        """(G,): for each item that occurs more than once, where it stands first, and how often it stands."""
        if count > 1:
            self._sort(mix(hashes + owner.astype(np.uint64) * _BASE), np.uint64((count - 1).bit_length()))

    def _sort(self, keys: Array, bits: np.uint64) -> None:
        """One sort of values that carry their place in the low bits is far faster than sorting places by value."""
        keys >>= bits
        keys <<= bits
        keys |= np.arange(len(keys), dtype=np.uint64)
        keys.sort()
        groups = keys >> bits
        same = groups[1:] == groups[:-1]
        keys &= (np.uint64(1) << bits) - np.uint64(1)
        edge = np.diff(np.concatenate([[0], same.view(np.int8), [0]]))
        begin, end = np.flatnonzero(edge == 1), np.flatnonzero(edge == -1)
        self.first, self.times = keys[begin].astype(np.int64), end - begin + 1
        again = keys[1:][same].astype(np.int64)
        self.early[again] = True
        self.shared[again] = True
        self.shared[self.first] = True
