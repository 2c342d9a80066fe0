"""What can be learned from so much of this text? A model of counts answers in a tenth of a second.

Interpolated absolute discounting (Ney, Essen and Kneser 1994) over the last tokens, up to four of them, without any tuning.
Small language models end within a few per cent of it at the same number of tokens, in English and Chinese and for every
vocabulary tried (LOG.md), which is what makes it a yardstick for vocabularies and amounts of text.
"""

import numpy as np

ORDER = 5
"""Tokens that count at most: the predicted one and those before it."""
DISCOUNT = 0.8
"""Taken from every count and given to shorter contexts."""
_MIX, _SPREAD = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xD6E8FEB86659FD93)


def bits_per_token(learned: np.ndarray, measured: np.ndarray, vocab: int, order: int = ORDER) -> float:
    """Mean bits of a token of `measured` after counting `learned`, both (N,) ids below `vocab`.

    The first `order - 1` tokens of `measured` are context only. Contexts are compared by 64-bit hashes.
    """
    learned, measured = learned.astype(np.int64), measured.astype(np.int64)
    share = _single(learned, vocab)[measured]
    past, past_measured = np.zeros(len(learned), np.uint64), np.zeros(len(measured), np.uint64)
    for back in range(1, order):
        past, past_measured = _longer(past, learned, back), _longer(past_measured, measured, back)
        share = _interpolate(past[back:], learned[back:], past_measured, measured, share)
    return float(-np.log2(share[order - 1 :]).mean())


def _single(learned: np.ndarray, vocab: int) -> np.ndarray:
    """Probability of each token alone, (V,): discounted counts, the rest spread evenly."""
    counts = np.bincount(learned, minlength=vocab)
    kept = np.maximum(counts - DISCOUNT, 0)
    return (kept + (len(learned) - kept.sum()) / vocab) / len(learned)


def _longer(past: np.ndarray, ids: np.ndarray, back: int) -> np.ndarray:
    """Hashes of contexts that reach one token further back; the first `back` are of no use."""
    further = np.zeros(len(ids), np.uint64)
    further[back:] = ids[:-back].astype(np.uint64) + np.uint64(1)
    mixed = (past ^ further * _SPREAD) * _MIX
    return mixed ^ mixed >> np.uint64(29)


def _interpolate(
    past: np.ndarray, after: np.ndarray, past_measured: np.ndarray, after_measured: np.ndarray, shorter: np.ndarray
) -> np.ndarray:
    """Discounted share of each measured token after its context, topped up by the shorter context's share."""
    contexts, which, seen = np.unique(past, return_inverse=True, return_counts=True)
    pairs, first, times = np.unique(
        past ^ (after.astype(np.uint64) + np.uint64(1)) * _SPREAD, return_index=True, return_counts=True
    )
    kinds = np.bincount(which[first], minlength=len(contexts))
    at, known = _find(contexts, past_measured)
    pair, met = _find(pairs, past_measured ^ (after_measured.astype(np.uint64) + np.uint64(1)) * _SPREAD)
    kept = np.where(met, np.maximum(times[pair] - DISCOUNT, 0), 0)
    return np.where(known, (kept + DISCOUNT * kinds[at] * shorter) / seen[at], shorter)


def _find(table: np.ndarray, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where each wanted value would stand in a sorted table, and whether it does."""
    at = np.minimum(np.searchsorted(table, wanted), len(table) - 1)
    return at, table[at] == wanted
