"""Prompts and pairs of texts as the ids of a folder's own tokenizer: the same for every engine that takes ids."""

from collections.abc import Sequence

from danlu.core.errors import BadInput, PromptTooLong
from danlu.engine.backends import Prompt
from danlu.tokenizer.chat import encode_chat
from danlu.tokenizer.tokenizer import Tokenizer


def prompt_ids(tokenizer: Tokenizer, prompt: Prompt) -> list[int]:
    """A text after the token that begins a document, or a conversation through the chat template. Raises BadInput."""
    if isinstance(prompt, str):
        ids = [*_begin(tokenizer), *tokenizer.encode(prompt)]
        if not ids:
            raise BadInput("the prompt is empty and the tokenizer has no token to begin with. Give at least one character.")
        return ids
    if not tokenizer.chat_template:
        raise BadInput("this model has no chat template, so it answers no messages. Give the prompt as one text.")
    return encode_chat(tokenizer, tokenizer.chat_template, prompt)


def pair_ids(tokenizer: Tokenizer, first: str, second: str) -> tuple[list[int], int]:
    """Ids of both texts as one, and the index of the first token that reaches into the second."""
    check_pair(first, second)
    begin, ids = _begin(tokenizer), tokenizer.encode(first + second)
    return [*begin, *ids], len(begin) + _boundary(tokenizer, ids, first)


def check_pair(first: str, second: str) -> None:
    """Raise BadInput unless both texts hold something."""
    if not first or not second:
        raise BadInput("a pair of texts to score has an empty one: the first token of a text has nothing to be foreseen by.")


def check_fits(ids: Sequence[int], context: int) -> None:
    """Raise PromptTooLong for a text that the model cannot read at once."""
    if len(ids) > context:
        raise PromptTooLong(
            f"the texts have {len(ids)} tokens together, and the model reads {context} at most. Shorten the first."
        )


def _begin(tokenizer: Tokenizer) -> list[int]:
    return [] if tokenizer.bos_id is None else [tokenizer.bos_id]


def _boundary(tokenizer: Tokenizer, ids: Sequence[int], first: str) -> int:
    if not tokenizer.joins_bytes:  # tokens are no stretches of the text: what both readings agree on belongs to the first
        alone = tokenizer.encode(first)
        return next(
            (at for at, (one, other) in enumerate(zip(ids, alone, strict=False)) if one != other), min(len(ids), len(alone))
        )
    left = len(first.encode())
    for at, token in enumerate(ids):
        left -= len(tokenizer.token_bytes(token))
        if left < 0:
            return at
    raise AssertionError("a second text without tokens")
