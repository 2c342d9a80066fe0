"""No learning: one token a byte. Every text can be written; sequences are long."""

from collections.abc import Iterable, Sequence
from typing import Literal

from danlu.core.errors import BadInput
from danlu.core.settings import Named
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, byte_level_bpe
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.tokenizer.trainers.base import BYTES


@TRAINERS.register
class Bytes:
    """256 bytes and the special tokens."""

    class Config(Named):
        name: Literal["bytes"] = "bytes"

    sized = False

    def __init__(self, config: Config):
        self.config = config

    def train(
        self,
        texts: Iterable[str] = (),
        special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
        vocab_size: int | None = None,
    ) -> Tokenizer:
        """The vocabulary, which does not depend on the texts. Raises BadInput when another size is asked for."""
        size = BYTES + len(special_tokens)
        if vocab_size not in (None, size):
            raise BadInput(
                f"vocab_size {vocab_size}: one token a byte and {len(special_tokens)} special ones make exactly {size}."
            )
        return Tokenizer.build(byte_level_bpe([], None, special_tokens), special_tokens)
