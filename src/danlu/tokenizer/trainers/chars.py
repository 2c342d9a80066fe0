"""One token a character of the text. Characters the text did not hold are written as bytes, or refused."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from danlu.core.errors import BadInput
from danlu.core.settings import Named
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, assemble, bpe_model
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.tokenizer.trainers.base import Counted


@TRAINERS.register
class Chars:
    """All characters of the text, in code point order."""

    class Config(Named):
        name: Literal["chars"] = "chars"
        unknown: Literal["bytes", "refuse"] = "bytes"
        """What happens to characters that the training text did not hold: bytes adds 256 tokens and writes any text exactly;
        refuse keeps the vocabulary small and raises an error at such characters."""

    sized = False

    def __init__(self, config: Config):
        self.config = config

    def train(
        self,
        texts: Iterable[str],
        special_tokens: Sequence[str] = DEFAULT_SPECIAL_TOKENS,
        vocab_size: int | None = None,
    ) -> Tokenizer:
        """The vocabulary. vocab_size: the most tokens wanted; None takes every character.

        Raises BadInput when the characters do not fit: leaving some out in silence would lose text.
        """
        counts: Counter[str] = Counter()
        counted = Counted(texts)
        for text in counted:
            counts.update(text)
        counted.require_text()
        spare = [f"<0x{byte:02X}>" for byte in range(256)] if self.config.unknown == "bytes" else []
        names = [*special_tokens, *spare, *sorted(counts)]
        if vocab_size is not None and len(names) > vocab_size:
            raise BadInput(
                f"vocab_size {vocab_size} is too small: {len(counts):,} characters, {len(spare)} bytes and {len(special_tokens)} "
                f"special token(s) make {len(names):,}. Ask for that or more, or use --trainer.name bpe."
            )
        vocab = {name: number for number, name in enumerate(names)}
        fuse = {"type": "Sequence", "decoders": [{"type": "ByteFallback"}, {"type": "Fuse"}]}
        model = bpe_model(vocab, [], byte_fallback=bool(spare))
        return Tokenizer.build(assemble(model, special_tokens, decoder=fuse), special_tokens)
