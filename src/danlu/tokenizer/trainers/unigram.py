"""Unigram language model (Kudo 2018, arXiv:1804.10959), on bytes so that every text can be written and read back exactly.

Starts from many candidate pieces and drops those the text needs least; encoding takes the most probable cut. Learned by the
`tokenizers` library, whose sums depend on the order of a random hash: two runs may differ in a few pieces. Slow on Chinese.
"""

from collections.abc import Iterable, Sequence
from typing import Any, Literal

from pydantic import Field

from danlu.core.settings import Named
from danlu.tokenizer import patterns
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, assemble, byte_characters, byte_level
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.tokenizer.trainers.base import BYTES, Counted, learn, room_for_merges, too_large

_RARE = 10.0
"""How much less likely than the least likely learned piece a byte is that the text lacks, in nats."""


@TRAINERS.register
class Unigram:
    """Pieces with log-probabilities."""

    class Config(Named):
        name: Literal["unigram"] = "unigram"
        pattern: str = "danlu"
        """Where text is cut first: danlu, gpt2, gpt4, or a regular expression of your own."""
        piece_bytes: int = Field(24, ge=2)
        """Longest piece to consider, in bytes; a Chinese character has three."""

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
        from tokenizers import models, trainers

        wanted = room_for_merges(vocab_size, len(special_tokens))
        pattern = patterns.resolve(self.config.pattern)
        counted = Counted(texts)
        trainer = trainers.UnigramTrainer(
            vocab_size=wanted + BYTES, initial_alphabet=list(byte_characters()), show_progress=False, special_tokens=[],
            max_piece_length=self.config.piece_bytes,
        )  # fmt: skip
        found = learn(models.Unigram(), trainer, counted, pattern)["model"]["vocab"]
        counted.require_text()
        pieces = _with_all_bytes(found)
        if len(pieces) < wanted + BYTES and not shrink:
            raise too_large(vocab_size, len(pieces) + len(special_tokens), counted.bytes)
        vocab = [*([token, 0.0] for token in special_tokens), *pieces[: wanted + BYTES]]
        model = {"type": "Unigram", "unk_id": None, "vocab": vocab, "byte_fallback": False}
        return Tokenizer.build(assemble(model, special_tokens, **byte_level(pattern)), special_tokens)


def _with_all_bytes(pieces: Sequence[Sequence[Any]]) -> list[list[Any]]:
    """The 256 bytes first, then the learned pieces from the likeliest; bytes the text lacks are made unlikely."""
    scores: dict[str, float] = dict(map(tuple, pieces))
    least = min(scores.values(), default=0.0) - _RARE
    longer = sorted(
        ((piece, score) for piece, score in scores.items() if len(piece) > 1), key=lambda entry: (-entry[1], entry[0])
    )
    return [*([byte, scores.get(byte, least)] for byte in byte_characters()), *map(list, longer)]
