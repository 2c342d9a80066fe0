"""Byte-level byte-pair encoding (Sennrich et al. 2016, arXiv:1508.07909; on bytes as in GPT-2). The default.

Every text can be written and read back exactly, since the 256 bytes are always in the vocabulary.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain
from typing import Literal

from danlu.core.settings import Named
from danlu.tokenizer import patterns, plain, proof
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, byte_characters, byte_level_bpe, from_characters
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.tokenizer.trainers.base import BYTES, Counted, learn, room_for_merges, too_large

Merges = list[tuple[bytes, bytes]]
_BUFFER_BYTES = 32 << 20
"""Text that waits in memory while the trainer counts pieces."""


@TRAINERS.register
class ByteLevelBPE:
    """Merges the most frequent neighbours; equal counts go to the pair with the smaller ids."""

    class Config(Named):
        name: Literal["bpe"] = "bpe"
        pattern: str = "danlu"
        """Where text is cut before merging: danlu, gpt2, gpt4, or a regular expression of your own."""
        engine: Literal["rustbpe", "tokenizers", "plain"] = "rustbpe"
        """Who counts and merges. rustbpe is fastest; plain is the readable reference, for small text."""

    sized = True

    def __init__(self, config: Config):
        self.config = config

    def train(
        self,
        texts: Iterable[str],
        special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
        vocab_size: int = 16384,
        shrink: bool = False,
    ) -> Tokenizer:
        """Learn a vocabulary of `vocab_size` tokens, all included; `shrink`: of fewer where the text supports fewer.

        Raises VocabularyTooLarge, BadInput, NoUsableText.
        """
        wanted = room_for_merges(vocab_size, len(special_tokens))
        pattern = patterns.resolve(self.config.pattern)
        counted = Counted(texts)
        merges = _ENGINES[self.config.engine](counted, wanted, pattern)
        counted.require_text()
        if len(merges) < wanted and not shrink:
            raise too_large(vocab_size, len(merges) + BYTES + len(special_tokens), counted.bytes)
        return Tokenizer.build(byte_level_bpe(merges, pattern, special_tokens), special_tokens)


def _rustbpe(texts: Iterable[str], wanted: int, pattern: str) -> Merges:
    """rustbpe gives tokens in merge order; which two parts made each follows from their order."""
    import rustbpe

    trainer = rustbpe.Tokenizer()
    buffer, texts = _buffer_texts(iter(texts))
    trainer.train_from_iterator(texts, wanted + BYTES, buffer_size=buffer, pattern=pattern)
    tokens = [bytes(token) for token, _ in sorted(trainer.get_mergeable_ranks(), key=lambda entry: entry[1])]
    return proof.recover_merges(tokens[BYTES:])


def _buffer_texts(texts: Iterator[str], probe: int = 512) -> tuple[int, Iterator[str]]:
    """How many texts to hold at once so that about `_BUFFER_BYTES` wait, judged by the first; and all texts."""
    head: list[str] = []
    characters = 0
    for text in texts:
        head.append(text)
        characters += len(text)
        if len(head) == probe or characters >= _BUFFER_BYTES:
            break
    mean = max(characters / max(len(head), 1), 1.0)
    return max(16, min(65536, int(_BUFFER_BYTES / mean))), chain(head, texts)


def _tokenizers(texts: Iterable[str], wanted: int, pattern: str) -> Merges:
    """The trainer of the `tokenizers` library; it breaks ties by another order of the bytes (see plain.py)."""
    from tokenizers import models, trainers

    alphabet = list(byte_characters())
    trainer = trainers.BpeTrainer(vocab_size=wanted + BYTES, initial_alphabet=alphabet, show_progress=False, special_tokens=[])
    pairs = learn(models.BPE(), trainer, texts, pattern)["model"]["merges"]
    split = [pair.split(" ") if isinstance(pair, str) else pair for pair in pairs]
    return [(from_characters(left) or b"", from_characters(right) or b"") for left, right in split]


_ENGINES: dict[str, Callable[[Iterable[str], int, str], Merges]] = {
    "rustbpe": _rustbpe, "tokenizers": _tokenizers, "plain": plain.train,
}  # fmt: skip
