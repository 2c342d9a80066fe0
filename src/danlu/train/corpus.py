"""Facts about a dataset that the budget dial needs: how much text, and how many bytes a token of each vocabulary stands for.

Byte-level BPE learns its merges in order, so the vocabulary of size v is a prefix of every larger one: one training on a
sample gives the whole curve, measured on text that was not learned from.
"""

import json
from collections.abc import Iterable
from pathlib import Path

from danlu.core.errors import VocabularyTooLarge
from danlu.data.shards import count, read_texts
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.train.plan import Corpus

VOCABULARIES = (384, 512, 1024, 2048, 4096, 8192, 16384, 32768)
"""Sizes that the dial considers, as far as the text supports them."""
_BYTES_AN_ENTRY = 200
"""Training text for each entry of a vocabulary, at least: rarer entries are hardly learned."""
_PIECE = 4096  # characters: a book in one document still gives learned and measured pieces
_MEASURED_BYTES = 80_000


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
    return Corpus(
        train_bytes=train_bytes,
        documents=documents,
        bytes_per_token={size: _bytes_per_token(one, measured) for size, one in tokenizers.items()},
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
