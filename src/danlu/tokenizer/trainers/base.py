"""What the trainers share: their setting types and the texts they accept."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from danlu.core.errors import BadInput, NoUsableText, VocabularyTooLarge

BYTES = 256


class Counted:
    """Texts on their way to a trainer: checked, counted, never held."""

    def __init__(self, texts: Iterable[str]):
        self._texts = texts
        self.documents = self.bytes = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            try:
                self.bytes += len(text.encode())
            except UnicodeEncodeError as error:
                raise BadInput(
                    f"text {self.documents + 1} holds a lone surrogate at character {error.start}, which no Unicode text holds. "
                    f"Prepare the text again (`danlu prepare` repairs or quarantines such text)."
                ) from None
            self.documents += 1
            yield text

    def require_text(self) -> None:
        """Raise NoUsableText when nothing came."""
        if not self.bytes:
            raise NoUsableText("there is no text to train a tokenizer on: all documents are empty or there are none.")


def room_for_merges(vocab_size: int, special_tokens: int) -> int:
    """Tokens that remain for learning. Raises BadInput when the fixed ones do not fit."""
    fixed = BYTES + special_tokens
    if vocab_size < fixed:
        raise BadInput(
            f"vocab_size {vocab_size} is too small: 256 bytes and {special_tokens} special token(s) alone take {fixed}. "
            f"Ask for {fixed} or more; --trainer.name bytes has exactly {fixed}."
        )
    return vocab_size - fixed


def too_large(vocab_size: int, reached: int, text_bytes: int) -> VocabularyTooLarge:
    """The error for a vocabulary that the text cannot fill."""
    return VocabularyTooLarge(
        f"vocab_size {vocab_size} is more than this text allows: its {text_bytes:,} bytes support {reached:,} tokens, then "
        f"nothing is left to merge. Give more text, or --vocab_size {reached} or less (a useful size is far less), or auto."
    )


def learn(model: Any, trainer: Any, texts: Iterable[str], pattern: str) -> dict[str, Any]:
    """Train a model of the `tokenizers` library on byte-level pieces; its tokenizer.json as a tree."""
    from tokenizers import Regex, Tokenizer, pre_tokenizers

    learner = Tokenizer(model)
    learner.pre_tokenizer = pre_tokenizers.Sequence([  # type: ignore[assignment]  # a setter wider than its getter
        pre_tokenizers.Split(Regex(pattern), "isolated"),
        pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])  # fmt: skip
    learner.train_from_iterator(texts, trainer)
    tree: dict[str, Any] = json.loads(learner.to_str())
    return tree
