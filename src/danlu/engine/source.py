"""What an encoder reads of a text, and what a decoder that fills a middle is told: frames of tokens around texts."""

from typing import NamedTuple

from danlu.core.errors import BadInput, PromptTooLong
from danlu.tokenizer.frame import frame
from danlu.tokenizer.tokenizer import Tokenizer

_MARKS = ("<|extra_", "<extra_id_")
"""How names of tokens begin that stand for hidden stretches: ours and T5's. They may be written in a source."""


class Around(NamedTuple):
    """Names of the tokens that tell a text around a gap."""

    prefix: str
    middle: str
    suffix: str


AROUND = (
    Around("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>"),
    Around("<fim_prefix>", "<fim_middle>", "<fim_suffix>"),
)
"""Ours, which Qwen's coders share, and StarCoder's."""


def source_ids(tokenizer: Tokenizer, text: str, context: int) -> list[int]:
    """A text as the encoder was trained to see it: framed as tokenizer.json says, else with the token after a document.

    Marks of hidden stretches count as such; other special tokens stay text. Raises BadInput for no text, PromptTooLong.
    """
    marks = [name for name in tokenizer.special_tokens if name.startswith(_MARKS)]
    before, after = frame(tokenizer)
    inner = tokenizer.encode(text, allow_special=marks)
    if not inner:
        raise BadInput("the text is empty, so there is nothing to read. Give at least one character.")
    ids = [*before, *inner, *after]
    if len(ids) > context:
        raise PromptTooLong(
            f"the text has {len(ids)} tokens, and the model reads {context} at most. Shorten the text, or give it in parts."
        )
    return ids


def around_ids(tokenizer: Tokenizer, prefix: str, suffix: str) -> list[int]:
    """A prompt that asks for what stands between two texts: prefix, suffix, then the middle (arXiv:2207.14255, PSM).

    Raises BadInput where the tokenizer has no tokens for it.
    """
    known = next((names for names in AROUND if set(names) <= tokenizer.special_tokens.keys()), None)
    if known is None:
        raise BadInput(
            f"this model cannot fill a middle: its tokenizer has none of the tokens for it ({', '.join(AROUND[0])}). Train one "
            f"with --objective.name fim, or leave the suffix out and let the model go on."
        )
    ids = tokenizer.special_tokens
    begin = [] if tokenizer.bos_id is None else [tokenizer.bos_id]
    return [
        *begin, ids[known.prefix], *tokenizer.encode(prefix), ids[known.suffix], *tokenizer.encode(suffix), ids[known.middle],
    ]  # fmt: skip
