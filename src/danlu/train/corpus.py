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

VOCABULARIES = (384, 512, 768, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 12288, 16384, 32768)
"""Sizes that the dial considers, as far as the text supports them."""
_PIECE = 4096  # characters: a book in one document still gives learned and measured pieces


def facts(dataset: Path, tokenizer: Tokenizer | None = None, sample_bytes: int = 3_000_000) -> Corpus:
    """Read a dataset's counts and a sample of its text; a given tokenizer leaves one vocabulary to choose from."""
    total = count(dataset, "train")
    curve = bytes_per_token(sample(read_texts(dataset, "train"), total["bytes"], sample_bytes), tokenizer)
    return Corpus(train_bytes=max(total["bytes"], 1), documents=max(total["documents"], 1), bytes_per_token=curve)


def sample(texts: Iterable[str], total_bytes: int, most_bytes: int) -> list[str]:
    """Pieces of the texts, spread evenly, about `most_bytes` in all; everything where there is less."""
    every = max(1, round(total_bytes / most_bytes))
    pieces = (text[start : start + _PIECE] for text in texts for start in range(0, len(text), _PIECE))
    return [piece for number, piece in enumerate(pieces) if number % every == 0]


def bytes_per_token(pieces: list[str], tokenizer: Tokenizer | None = None) -> dict[int, float]:
    """Vocabulary size to mean bytes of a token.

    Sizes that the text cannot fill are left out; the smallest is always there.
    """
    if tokenizer is not None:
        return {tokenizer.vocab_size: _bytes_per_token(tokenizer, pieces)}
    learned, measured = (pieces[1::4] + pieces[2::4] + pieces[3::4], pieces[0::4]) if len(pieces) > 3 else (pieces, pieces)
    largest = _largest(learned)
    sizes = [size for size in VOCABULARIES if size < largest.vocab_size]
    tokenizers = [*(prefix(largest, size) for size in sizes), largest]
    return {one.vocab_size: _bytes_per_token(one, measured) for one in tokenizers}


def prefix(tokenizer: Tokenizer, vocab_size: int) -> Tokenizer:
    """The byte-level BPE that training would have stopped at with `vocab_size` tokens."""
    model = tokenizer.parts["model"]
    vocab = {name: number for name, number in model["vocab"].items() if number < vocab_size}
    merges = model["merges"][: vocab_size - tokenizer.vocab_size + len(model["merges"])]
    return Tokenizer(json.dumps({**tokenizer.parts, "model": {**model, "vocab": vocab, "merges": merges}}), tokenizer.config)


def _largest(pieces: list[str]) -> Tokenizer:
    """The largest vocabulary on offer that the pieces fill."""
    trainer = TRAINERS.build(TRAINERS["bpe"].Config())
    for size in reversed(VOCABULARIES):
        if size * 40 > sum(map(len, pieces)) and size > VOCABULARIES[0]:  # tokens seen less than a few times teach nothing
            continue
        try:
            return trainer.train(pieces, vocab_size=size)
        except VocabularyTooLarge:
            continue
    return TRAINERS.build(TRAINERS["bytes"].Config()).train(pieces)


def _bytes_per_token(tokenizer: Tokenizer, pieces: list[str]) -> float:
    tokens = sum(len(ids) for ids in tokenizer.encode_batch(pieces))
    return sum(len(piece.encode()) for piece in pieces) / max(tokens, 1)
