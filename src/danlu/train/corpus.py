"""Facts about a dataset that the budget dial needs: how much text, and how many bytes a token of each vocabulary stands for.

Byte-level BPE learns its merges in order, so the vocabulary of size v is a prefix of every larger one: one training on a
sample gives the whole curve, measured on text that was not learned from. A count model of the same tokens says how much there
is to learn.
"""

import json
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from danlu.core.errors import VocabularyTooLarge
from danlu.data.shards import count, read_texts
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.train.counts import ORDER, bits_per_token
from danlu.train.plan import Corpus

VOCABULARIES = (384, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Sizes that the dial considers, as far as the text supports them."""
_BYTES_AN_ENTRY = 200
"""Training text for each entry of a vocabulary, at least: rarer entries are hardly learned."""
_COUNTED = (512, 2048, 8192, 32768)
"""Sizes for which a count model says what the text allows; between them it is interpolated."""
_PIECE = 4096  # characters: a book in one document still gives learned and measured pieces
_MEASURED_BYTES = 80_000
_COUNTED_TOKENS, _JUDGED_TOKENS = 180_000, 15_000


def facts(dataset: Path, tokenizer: Tokenizer | None = None, sample_bytes: int = 1_500_000) -> Corpus:
    """Read a dataset's counts and a sample of its text; a given tokenizer leaves one vocabulary to choose from."""
    total = count(dataset, "train")
    pieces = sample(read_texts(dataset, "train"), total["bytes"], sample_bytes)
    return describe(pieces, max(total["bytes"], 1), max(total["documents"], 1), tokenizer)


def describe(pieces: list[str], train_bytes: int, documents: int, tokenizer: Tokenizer | None = None) -> Corpus:
    """What a sample says about a text. Sizes that it cannot fill are left out; the smallest is always there."""
    every = max(4, sum(len(piece.encode()) for piece in pieces) // _MEASURED_BYTES)
    measured = pieces[::every]
    learned = [piece for number, piece in enumerate(pieces) if number % every] or pieces
    largest = tokenizer or _largest(learned, train_bytes)
    sizes = [] if tokenizer else [size for size in VOCABULARIES if size < largest.vocab_size]
    tokenizers = {one.vocab_size: one for one in (*(prefix(largest, size) for size in sizes), largest)}
    counted = {size for size in _COUNTED if size in tokenizers} or {largest.vocab_size}
    return Corpus(
        train_bytes=train_bytes,
        documents=documents,
        bytes_per_token={size: _bytes_per_token(one, measured) for size, one in tokenizers.items()},
        text_bits={size: _text_bits(tokenizers[size], learned, measured) for size in sorted(counted)},
    )


def sample(texts: Iterable[str], total_bytes: int, most_bytes: int) -> list[str]:
    """Pieces of the texts, spread evenly, about `most_bytes` in all; everything where there is less."""
    every = max(1, round(total_bytes / most_bytes))
    pieces = (text[start : start + _PIECE] for text in texts for start in range(0, len(text), _PIECE))
    return [piece for number, piece in enumerate(pieces) if number % every == 0]


def prefix(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The byte-level BPE that training would have stopped at with `vocab_size` tokens."""
    model = tokenizer.parts["model"]
    vocab = {name: number for name, number in model["vocab"].items() if number < vocab_size}
    merges = model["merges"][: vocab_size - tokenizer.vocab_size + len(model["merges"])]
    return Tokenizer(json.dumps({**tokenizer.parts, "model": {**model, "vocab": vocab, "merges": merges}}), tokenizer.config)


def _largest(pieces: list[str], train_bytes: int) -> Tokenizer:
    """The largest vocabulary on offer that the text supports and the pieces fill."""
    trainer = TRAINERS.build(TRAINERS["bpe"].Config())
    for size in reversed(VOCABULARIES):
        if size * _BYTES_AN_ENTRY > train_bytes and size > VOCABULARIES[0]:
            continue
        try:
            return trainer.train(pieces, vocab_size=size)
        except VocabularyTooLarge:
            continue
    return TRAINERS.build(TRAINERS["bytes"].Config()).train(pieces)


def _bytes_per_token(tokenizer: Tokenizer, pieces: list[str]) -> float:
    tokens = sum(len(ids) for ids in tokenizer.encode_batch(pieces))
    return sum(len(piece.encode()) for piece in pieces) / max(tokens, 1)


def _text_bits(tokenizer: Tokenizer, learned: list[str], measured: list[str]) -> dict[int, float]:
    """Bits per byte after counting a ninth, a third and all of some learned text; one point where there is little."""
    known, held_out = (
        np.concatenate(tokenizer.encode_batch(_spread(part, 4 * most)))[:most]
        for part, most in ((learned, _COUNTED_TOKENS), (measured, _JUDGED_TOKENS))
    )
    if len(held_out) < ORDER:
        known = held_out = np.resize(known, max(len(known), ORDER))
    sizes = sorted({max(len(known) // part, ORDER) for part in (9, 3, 1)})
    bits_of = {size: bits_per_token(known[:size], held_out, tokenizer.vocab_size) for size in sizes}
    return {size: bits / _bytes_per_token(tokenizer, measured) for size, bits in bits_of.items()}


def _spread(pieces: list[str], most_bytes: int) -> list[str]:
    """Some of the pieces, evenly, that hold about `most_bytes`."""
    return pieces[:: max(1, sum(len(piece.encode()) for piece in pieces) // most_bytes)]
