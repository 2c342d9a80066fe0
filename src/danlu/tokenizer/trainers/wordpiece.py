"""WordPiece (Schuster and Nakajima 2012), on bytes so that every text can be written and read back exactly.

Encoding takes the longest token that fits, from the left. Tokens inside a word carry a mark; the mark is a character that
no byte is written with, so that a text full of `##` is not damaged as it would be by BERT's. Learned by the `tokenizers`
library, which breaks ties in the order of a random hash: two runs may differ in a few tokens.
"""

from collections.abc import Iterable, Sequence
from typing import Literal

from danlu.core.settings import Named
from danlu.tokenizer import patterns
from danlu.tokenizer.definition import DEFAULT_SPECIAL_TOKENS, assemble, byte_characters, byte_level
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers import TRAINERS
from danlu.tokenizer.trainers.base import BYTES, Counted, learn, room_for_merges, too_large

MARK = "\u2040"
_LONGEST_PIECE = 1 << 20
"""Characters beyond which `tokenizers` would give up on a piece; our patterns cut far earlier."""


@TRAINERS.register
class WordPiece:
    """Whole words first, their rests marked."""

    class Config(Named):
        name: Literal["wordpiece"] = "wordpiece"
        pattern: str = "danlu"
        """Where text is cut first: danlu, gpt2, gpt4, or a regular expression of your own."""

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

        wanted = room_for_merges(vocab_size, len(special_tokens) + BYTES)
        pattern = patterns.resolve(self.config.pattern)
        counted = Counted(texts)
        letters = byte_characters()
        trainer = trainers.WordPieceTrainer(
            vocab_size=wanted + 2 * BYTES, initial_alphabet=list(letters), show_progress=False, special_tokens=[],
            continuing_subword_prefix=MARK,
        )  # fmt: skip
        found = learn(models.WordPiece(unk_token=letters[0], continuing_subword_prefix=MARK), trainer, counted, pattern)
        counted.require_text()
        fixed = [*special_tokens, *letters, *(MARK + letter for letter in letters)]
        learned = [name for name in found["model"]["vocab"] if name not in set(fixed)]
        if len(learned) < wanted and not shrink:
            raise too_large(vocab_size, len(fixed) + len(learned), counted.bytes)
        vocab = {name: number for number, name in enumerate([*fixed, *learned[:wanted]])}
        model = {"type": "WordPiece", "unk_token": letters[0], "continuing_subword_prefix": MARK,
                 "max_input_chars_per_word": _LONGEST_PIECE, "vocab": vocab}  # fmt: skip
        around = byte_level(pattern)
        unmark = {"type": "Replace", "pattern": {"String": MARK}, "content": ""}
        around["decoder"] = {"type": "Sequence", "decoders": [unmark, around["decoder"]]}
        return Tokenizer.build(assemble(model, special_tokens, **around), special_tokens)
