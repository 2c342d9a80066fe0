"""Skip-gram with negative sampling (Mikolov et al. 2013, arXiv:1310.4546): a word's vector tells its neighbours from strangers.

The arithmetic is gensim's (extra: vectors), whose inner loop is compiled; what goes in and comes out is ours.
"""

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np
from pydantic import Field

from danlu.core import log
from danlu.core.errors import MissingExtra
from danlu.data.word_vectors import WordVectors
from danlu.train.vectors import VECTORS
from danlu.train.vectors.base import Method, Texts, VectorSettings, Vocabulary

_MOST_WORDS = 10_000
"""Words of a sentence that gensim takes; what is longer goes in as several."""


@VECTORS.register
class SkipGram(Method):
    """word2vec."""

    class Config(VectorSettings):
        name: Literal["skipgram"] = "skipgram"  # type: ignore[assignment]  # narrows
        negative: int = Field(5, gt=0)
        """Strangers drawn for each neighbour."""
        sample: float = Field(1e-3, ge=0)
        """Words above this share of the text are skipped at times, the more the more frequent; 0: never."""
        learning_rate: float = Field(0.025, gt=0)
        """Rate at the start; it falls to zero."""
        threads: int = Field(1, gt=0)
        """Threads; with more than one the vectors differ a little from run to run."""

    def learn(self, texts: Texts, vocabulary: Vocabulary, seed: int) -> tuple[WordVectors, dict[str, Any]]:
        model = _word2vec()(
            vector_size=self.config.dimensions, window=self.config.window, negative=self.config.negative,
            sample=self.config.sample, alpha=self.config.learning_rate, epochs=self.config.epochs, seed=seed % 2**31,
            workers=self.config.threads, sg=1, min_count=1, sorted_vocab=0,
        )  # fmt: skip
        counts = dict(zip(vocabulary.words, vocabulary.counts, strict=True))
        model.build_vocab_from_freq(counts, corpus_count=sum(1 for _ in _pieces(texts)))
        with log.progress("learn vectors", total=self.config.epochs, unit="epochs") as bar:
            read = _Again(texts, bar)
            trained, _ = model.train(read, total_words=vocabulary.total, epochs=self.config.epochs)
            bar.advance(1)
        rows = [model.wv.key_to_index[word] for word in vocabulary.words]
        found = WordVectors(vocabulary.words, vocabulary.counts, np.array(model.wv.vectors[rows]))
        return found, {"words_trained": int(trained)}


class _Again:
    """What gensim reads once an epoch."""

    def __init__(self, texts: Texts, bar: log.Progress):
        self.texts, self.bar, self.done = texts, bar, 0

    def __iter__(self) -> Iterator[list[str]]:
        if self.done:
            self.bar.advance(1)
        self.done += 1
        yield from _pieces(self.texts)


def _pieces(texts: Texts) -> Iterator[list[str]]:
    for text in texts():
        for start in range(0, len(text), _MOST_WORDS):
            yield text[start : start + _MOST_WORDS]


def _word2vec() -> Any:
    try:
        from gensim.models import Word2Vec
    except ModuleNotFoundError:
        raise MissingExtra("vectors", needed_for="skip-gram vectors") from None
    return Word2Vec
