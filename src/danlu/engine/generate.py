"""One answer: read the prompt, then pick, show and read a token at a time until something ends it."""

from collections.abc import Collection, Iterator
from typing import Literal

import numpy as np

from danlu.core.errors import BadInput, PromptTooLong
from danlu.engine.choose import Ask, Chosen, choose
from danlu.engine.constraint import Constraint
from danlu.engine.decode import Decoder
from danlu.engine.request import MOST_TOKENS, Sampling
from danlu.engine.stop import StopWatch
from danlu.tokenizer.tokenizer import Tokenizer

Reason = Literal["eos", "stop", "length"]


def answer_room(prompt_tokens: int, asked: int | None, context: int) -> int:
    """How many tokens the answer may have. Raises PromptTooLong when prompt and answer do not fit the context.

    >>> answer_room(5, None, 12), answer_room(5, 3, 12)
    (7, 3)
    """
    left = context - prompt_tokens
    if left < (asked or 1):
        wanted = f"{asked} of the answer" if asked else "at least one of the answer"
        cure = f"Ask for --max_tokens {left} or fewer, or shorten the prompt." if left > 0 else "Shorten the prompt."
        raise PromptTooLong(f"the prompt has {prompt_tokens} tokens and with {wanted} needs more than the model's "
                            f"context of {context}. {cure}")  # fmt: skip
    return asked if asked is not None else min(MOST_TOKENS, left)


class Writing:
    """An answer being written: iterate for pieces of text; when they end, `reason` says why and `ids` holds every token."""

    def __init__(self, decoder: Decoder, prompt: list[int], room: int, sampling: Sampling, tokenizer: Tokenizer,
                 ends: Collection[int], source_tokens: int | None = None, constraint: Constraint | None = None):  # fmt: skip
        """constraint: what the answer is held to (constrain/); it is used up."""
        if not prompt:
            raise BadInput("the prompt is empty and the tokenizer has no token to begin with. Give at least one character.")
        sampling.check_tokens(tokenizer.vocab_size)
        self.prompt_tokens = len(prompt) if source_tokens is None else source_tokens
        self.ids: list[int] = []
        self.reason: Reason = "length"
        self.stop: str | None = None
        self._decoder, self._room, self._sampling, self._tokenizer = decoder, room, sampling, tokenizer
        self._ends, self._constraint = frozenset(ends), constraint
        self._begin, self._seen = len(prompt), np.empty(len(prompt) + room, np.int64)
        self._seen[: len(prompt)] = prompt

    def __iter__(self) -> Iterator[str]:
        text, watch = self._tokenizer.decoder(), StopWatch(self._sampling.stop)
        for token in self.tokens():
            if shown := watch.push(text.push(token)):
                yield shown
            if watch.found is not None:
                self.reason, self.stop = "stop", watch.found
                return
        if rest := watch.push(text.flush()) + watch.flush():
            yield rest
        if watch.found is not None:
            self.reason, self.stop = "stop", watch.found

    def tokens(self) -> Iterator[int]:
        """The ids of the answer without the token that ends it; `ids` includes that token."""
        known, at = self._tokenizer.vocab_size, self._begin
        logits_V = self._decoder.read(self._seen[:at])
        for step in range(self._room):
            allowed = self._constraint.mask() if self._constraint else None
            ask = Ask(self._sampling, self._sampling.seed, step, self._seen[:at], self._begin, self._ends, allowed)
            (chosen,) = choose(logits_V[None], [ask], known)
            if not isinstance(chosen, Chosen):
                raise BadInput(f"token {step} of the answer: {chosen}. Loosen the settings, or check the model.") from chosen
            token = chosen.token
            self.ids.append(token)
            if token in self._ends:
                self.reason = "eos"
                return
            yield token
            if self._constraint and self._constraint.accept(token):
                self.reason = "stop"
                return
            self._seen[at] = token
            at += 1
            if step + 1 < self._room:
                logits_V = self._decoder.read(self._seen[at - 1 : at])
