"""What a model makes of held-out text at this moment, for people who watch it learn: it goes on with openings, or fills gaps."""

from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

from danlu.data.tokens import TokenSet
from danlu.data.word_begins import codes_of, word_begins
from danlu.engine.model import Model
from danlu.models.base import MaskedLM
from danlu.tokenizer.tokenizer import Tokenizer

_OPENING, _PASSAGE, _GAP = 13, 40, 6  # tokens shown of either, and one word hidden in so many

Writer = Callable[[str, int, int], str]
"""(prompt, most tokens, seed) -> what the model makes of it."""


def writer(model: Any, tokenizer: Tokenizer) -> Writer:
    """A function that lets the model, as it is at the moment of the call, go on with a text or fill its gaps."""
    ends = frozenset() if tokenizer.eos_id is None else frozenset({tokenizer.eos_id})

    def live() -> Model:
        return Model(model, tokenizer, Path(), ends)  # made anew: what it prepares from the weights is old after a step

    def go_on(prompt: str, tokens: int, seed: int) -> str:
        opened = live()
        room = opened.context - len(opened.encode(prompt))
        return opened.generate(prompt, max_tokens=min(tokens, max(room, 1)), temperature=0.8, seed=seed)

    def fill(prompt: str, tokens: int, seed: int) -> str:
        return f"\n-> {live().fill(prompt).text}"

    return fill if isinstance(model, MaskedLM) else go_on


def prompts(model: Any, tokenizer: Tokenizer, heldout: TokenSet, row_tokens: int, most: int = 2) -> tuple[str, ...]:
    """Openings of held-out documents that leave most of the context to the answer; for a masked model, with gaps."""
    special = set(tokenizer.special_tokens.values())
    found = []
    for index in range(min(most, len(heldout))):
        length = min(_PASSAGE, row_tokens) - 1 if isinstance(model, MaskedLM) else min(_OPENING, row_tokens // 4)
        text = tokenizer.decode([number for number in heldout.document(index, 0, length).tolist() if number not in special])
        found.append(_gapped(tokenizer, text.rstrip("\ufffd")) if isinstance(model, MaskedLM) else text)
    return tuple(prompt for prompt in found if prompt)


def _gapped(tokenizer: Tokenizer, text: str) -> str:
    """The text with every sixth word hidden, one mask token for each of its tokens; empty where there are too few words."""
    begins = word_begins(codes_of(text.encode())).nonzero()[0].tolist()
    words = [text[start:end] for start, end in pairwise([*begins, len(text)])]
    if len(words) < _GAP:
        return ""
    mask = str(tokenizer.mask_token)
    return "".join(mask * len(tokenizer.encode(word)) if at % _GAP == _GAP - 1 else word for at, word in enumerate(words))
