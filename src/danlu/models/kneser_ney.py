"""Interpolated modified Kneser-Ney smoothing from counts (Kneser and Ney 1995; Chen and Goodman 1999, "An empirical study of
smoothing techniques for language modeling", section 3).

p_k(w | h) = max(a(h w) - D(a(h w)), 0) / a(h .) + backoff(h) p_(k-1)(w | h without its first token)

where a is the number of times at the highest order, and below it the number of different tokens that stand before the
k-gram: a word that follows many different words is likely in a new place, one that follows a single word is not. What is
taken away, D, differs for a = 1, 2 and more; backoff(h) hands it to shorter contexts. The last of these is even chance.

A document's beginning counts as a token of its own each time, since nothing longer than the k-gram is ever known there
(KenLM does the same for sentences). Nothing reaches from one document into another.

K-grams lie in sorted arrays, a trie by levels: the k-gram number i of level k has the key `parent * V + token`, where parent
is the number of its first k - 1 tokens on level k - 1. On level 1 the number is the token itself. V vocabulary, N k-grams.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from danlu.data.tally import Tally

Block = tuple[np.ndarray, np.ndarray]
"""Tokens of whole documents end to end, (N,), and the documents' lengths."""
Discounts = tuple[float, float, float]
"""Taken from counts of 1, 2, and 3 or more."""
_FALLBACK = (0.5, 1.0, 1.5)
"""Discounts where a text has no k-gram of some small count to estimate them from, as KenLM's builder offers."""


@dataclass(frozen=True)
class Level:
    """The k-grams of one order, smoothed."""

    keys: np.ndarray
    """(N,) int64, ascending; empty on level 1, whose numbers are the tokens."""
    probability: np.ndarray
    """(N,) float32: the discounted share of the last token after the first k - 1; on level 1 the whole probability, (V,)."""
    backoff: np.ndarray
    """(N,) float32: as a context, the share that shorter contexts get; 1 for what was never a context."""
    discounts: Discounts
    estimated: bool
    """Whether the discounts come from the text."""


def count(
    blocks: Callable[[], Iterable[Block]], order: int, vocab: int, discounts: Sequence[Discounts | None] | None = None
) -> list[Level]:
    """Levels 1 to `order` of a text that `blocks()` gives again at each call, always in the same order.

    discounts: of each order, in place of those that the text gives. Memory: a block, and some 50 bytes a k-gram of the two
    orders in work.
    """
    keys, counts, starts = [np.empty(0, np.int64)], np.empty(0), [np.zeros(vocab, np.int64)]
    for width in range(2, order + 1):
        found, counts, began = _count_level(blocks(), keys, vocab, width)
        keys.append(found)
        starts.append(began)
    if order == 1:
        counts = sum((np.bincount(tokens[_left(lengths) < np.repeat(lengths, lengths)], minlength=vocab)
                      for tokens, lengths in blocks()), np.zeros(vocab, np.int64))  # fmt: skip
    return _smooth(keys, counts, starts, vocab, discounts)


def _count_level(
    blocks: Iterable[Block], keys: list[np.ndarray], vocab: int, width: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Keys of the k-grams of `width` tokens, how often each stands in the text, and how many documents begin with it."""
    tally, opening = Tally(), Tally()
    for tokens, lengths in blocks:
        left = _left(lengths)
        at = np.flatnonzero(left >= width)
        key = _walk(tokens.astype(np.int64), at, keys, vocab, width)
        tally.add(key)
        opening.add(key[left[at] == np.repeat(lengths, lengths)[at]])
    found, counts = tally.result()
    began, often = opening.result()
    starts = np.zeros(len(found), np.int64)
    starts[np.searchsorted(found, began)] = often
    return found, counts, starts


def _walk(tokens: np.ndarray, at: np.ndarray, keys: list[np.ndarray], vocab: int, width: int) -> np.ndarray:
    """Keys on level `width` of the k-grams that begin at `at`, all of whose beginnings are known."""
    key = tokens[at]
    for step in range(1, width):
        number = key if step == 1 else np.searchsorted(keys[step - 1], key)
        key = number * vocab + tokens[at + step]
    return key


def _left(lengths: np.ndarray) -> np.ndarray:
    """Tokens from each place to the end of its document, itself included."""
    ends = np.cumsum(lengths)
    return np.repeat(ends, lengths) - np.arange(int(ends[-1]) if len(ends) else 0)


def _smooth(
    keys: list[np.ndarray], counts: np.ndarray, starts: list[np.ndarray], vocab: int,
    discounts: Sequence[Discounts | None] | None,
) -> list[Level]:  # fmt: skip
    """From keys by level and the counts of the last to probabilities and backoffs."""
    adjusted = [*_different_before(keys, starts, vocab), counts]
    levels: list[Level] = []
    for index, amount in enumerate(adjusted):
        given = discounts[index] if discounts else None
        taken, estimated = (given, False) if given else discounts_of(amount)
        contexts = len(adjusted[index - 1]) if index else 1
        parent = keys[index] // vocab if index else np.zeros(vocab, np.int64)
        cut = np.array([0.0, *taken])[np.minimum(amount, 3)]
        total = np.bincount(parent, amount, contexts)
        share = (amount - cut) / np.maximum(total, 1)[parent]
        rest = np.where(total > 0, np.bincount(parent, cut, contexts) / np.maximum(total, 1), 1.0)
        if index:
            levels[-1] = Level(**{**vars(levels[-1]), "backoff": rest.astype(np.float32)})
        else:
            share = share + rest[0] / vocab
        nowhere = np.ones(len(share), np.float32)
        levels.append(Level(keys[index], share.astype(np.float32), nowhere, taken, estimated))
    return levels


def _different_before(keys: list[np.ndarray], starts: list[np.ndarray], vocab: int) -> list[np.ndarray]:
    """For each level but the last: how many different tokens stand before each k-gram, and how often it begins a document."""
    found, shorter = [], np.empty(0, np.int64)
    for index in range(1, len(keys)):
        parent, token = keys[index] // vocab, keys[index] % vocab
        shorter = token if index == 1 else np.searchsorted(keys[index - 1], shorter[parent] * vocab + token)
        found.append(np.bincount(shorter, minlength=len(starts[index - 1])) + starts[index - 1])
    return found


def discounts_of(counts: np.ndarray) -> tuple[Discounts, bool]:
    """D for counts of 1, 2, and 3 or more, from how many k-grams have counts of 1 to 4 (Chen and Goodman 1999);
    and whether the text had enough of them, else fixed ones.

    >>> discounts_of(np.array([1] * 8 + [2] * 4 + [3] * 2 + [4]))
    ((0.5, 1.25, 2.0), True)
    """
    one, two, three, four = (int((counts == times).sum()) for times in (1, 2, 3, 4))
    if not (one and two and three):
        return _FALLBACK, False
    ratio = one / (one + 2 * two)
    found = (1 - 2 * ratio * two / one, 2 - 3 * ratio * three / two, 3 - 4 * ratio * four / three)
    return (found, True) if all(0 < value <= most for value, most in zip(found, (1, 2, 3), strict=True)) else (_FALLBACK, False)
