"""Events to text: ids become characters, stop texts end answers, log-probabilities find the text that they belong to.

Runs where the request came from, never on the engine's thread. What is shown is whole characters, nothing that may still turn
out to be the beginning of a stop text, and tokens are told together with the last of their text, so that the pieces of a stream
joined are the answer in one piece, bytes and log-probabilities included.
"""

import asyncio
import queue
from collections.abc import AsyncIterator, Collection, Iterator, Sequence
from dataclasses import dataclass, field

from danlu.core.errors import AnswerFault
from danlu.engine.engine import Engine
from danlu.engine.events import EndEvent, Event, FaultEvent, PromptEvent, Reason, TokenEvent
from danlu.engine.job import Job, Ticket
from danlu.engine.stop import StopWatch
from danlu.tokenizer.tokenizer import Tokenizer

_BROKEN = "\ufffd"
"""Half a character at the end of an answer that was cut off: it is left out, streamed or not."""


@dataclass(frozen=True)
class Alternative:
    """A token that could have stood there."""

    token: int
    text: str
    bytes: bytes
    logprob: float


@dataclass(frozen=True)
class Scored:
    """A token of an answer or prompt. The bytes of an answer's tokens joined are its text in UTF-8."""

    token: int
    text: str
    """The token by itself; characters that it holds only part of are U+FFFD."""
    bytes: bytes
    logprob: float | None
    top: tuple[Alternative, ...] = ()


@dataclass(frozen=True)
class Delta:
    """What is new of one choice: text, the tokens it ends, and, at the end, why."""

    choice: int
    text: str = ""
    tokens: tuple[Scored, ...] = ()
    reason: Reason | None = None
    stop: str | None = None
    """The stop text that ended it."""
    used: int = 0
    """Tokens of the choice so far, also those without text and those of a stop text."""


@dataclass(frozen=True)
class PromptRead:
    """The prompt has been read."""

    prompt_tokens: int
    cached_tokens: int
    tokens: tuple[Scored, ...] | None = None


@dataclass
class _Choice:
    decoder: object
    watch: StopWatch
    groups: list[tuple[str, list[tuple[TokenEvent, bytes]]]] = field(default_factory=list)
    """Text with the tokens that made it, until all of it is shown; the last group may still wait for its character."""
    shown: int = 0
    """Characters of the groups that are shown already."""
    ended: bool = False
    tokens: int = 0
    """Tokens taken, those of a stop text included."""


class Reader:
    """Turns one request's events into deltas; `push` returns what can be shown now.

    shown: names of special tokens that are text for this request; others have none.
    """

    def __init__(self, tokenizer: Tokenizer, stops: Sequence[str] = (), choices: int = 1, ends: frozenset[int] = frozenset(),
                 prompt: Sequence[int] = (), shown: Collection[str] = ()):  # fmt: skip
        self._tokenizer, self._ends, self._prompt = tokenizer, ends, prompt
        self._hidden = frozenset(number for name, number in tokenizer.special_tokens.items() if name not in shown)
        self.choices = [_Choice(tokenizer.decoder(), StopWatch(stops)) for _ in range(choices)]

    @property
    def done(self) -> bool:
        """Whether every choice has ended."""
        return all(choice.ended for choice in self.choices)

    def push(self, event: Event) -> list[Delta | PromptRead]:
        """Raises AnswerFault for a FaultEvent."""
        if isinstance(event, FaultEvent):
            raise AnswerFault(event.kind, event.message)
        if isinstance(event, PromptEvent):
            scores = event.logprobs
            told = None if scores is None else tuple(
                self._scored(TokenEvent(0, token, *found), self._bytes(token)) for token, found in zip(self._prompt, scores)
            )  # fmt: skip
            return [PromptRead(event.prompt_tokens, event.cached_tokens, told)]
        choice = self.choices[event.choice]
        if choice.ended:
            return []
        made = self._token(choice, event) if isinstance(event, TokenEvent) else self._end(choice, event)
        return [made] if made else []

    def _token(self, choice: _Choice, event: TokenEvent) -> Delta | None:
        choice.tokens += 1
        if event.token in self._ends or event.token in self._hidden:
            return None  # it has no text; where it ends the answer, the end comes next
        text = choice.decoder.push(event.token)  # type: ignore[attr-defined]
        if choice.groups and not choice.groups[-1][0]:
            choice.groups[-1] = (text, [*choice.groups[-1][1], (event, self._bytes(event.token))])
        else:
            choice.groups.append((text, [(event, self._bytes(event.token))]))
        return self._shown(choice, event.choice, choice.watch.push(text))

    def _end(self, choice: _Choice, event: EndEvent) -> Delta:
        rest = choice.decoder.flush().rstrip(_BROKEN)  # type: ignore[attr-defined]
        if rest:
            tokens = choice.groups.pop()[1] if choice.groups and not choice.groups[-1][0] else []
            choice.groups.append((rest, tokens))
        shown = choice.watch.push(rest)
        if choice.watch.found is None:
            shown += choice.watch.flush()
        made = self._shown(choice, event.choice, shown)
        choice.ended = True
        if made and made.reason:
            return made
        return Delta(event.choice, made.text if made else "", made.tokens if made else (), event.reason, used=choice.tokens)

    def _shown(self, choice: _Choice, index: int, text: str) -> Delta | None:
        """Text that may be shown, with the tokens whose text ends in it."""
        tokens: list[Scored] = []
        choice.shown += len(text)
        while choice.groups and choice.groups[0][0] and len(choice.groups[0][0]) <= choice.shown:
            whole, parts = choice.groups.pop(0)
            choice.shown -= len(whole)
            tokens += self._exact(parts, whole)
        if (found := choice.watch.found) is None:
            return Delta(index, text, tuple(tokens), used=choice.tokens) if text or tokens else None
        if choice.shown:  # the stop text begins in the middle of a token
            whole, parts = choice.groups[0]
            tokens += self._exact(parts, whole[: choice.shown])
        choice.ended = True
        return Delta(index, text, tuple(tokens), "stop", found, choice.tokens)

    def _exact(self, parts: list[tuple[TokenEvent, bytes]], text: str) -> list[Scored]:
        """Tokens whose bytes join to the text: their own where these do, else the text's, cut as the tokens are."""
        own = b"".join(part for _, part in parts)
        wanted = text.encode()
        if own == wanted:
            return [self._scored(event, part) for event, part in parts]
        cut: list[Scored] = []
        for index, (event, part) in enumerate(parts):
            piece = wanted if index == len(parts) - 1 else wanted[: len(part)]
            wanted = wanted[len(piece) :]
            cut.append(self._scored(event, piece))
        return cut

    def _bytes(self, token: int) -> bytes:
        return self._tokenizer.token_bytes(token)

    def _scored(self, event: TokenEvent, own: bytes) -> Scored:
        top = tuple(
            Alternative(token, part.decode(errors="replace"), part, logprob)
            for token, logprob in event.top
            for part in [self._bytes(token)]
        )
        return Scored(event.token, own.decode(errors="replace"), own, event.logprob, top)


def answered(engine: Engine, job: Job, tokenizer: Tokenizer, stops: Sequence[str] = ()) -> Iterator[Delta | PromptRead]:
    """A request for callers that wait. Leaving the iteration early cancels it. Raises AnswerFault, QueueFull, EngineClosed."""
    came: queue.SimpleQueue[Event] = queue.SimpleQueue()
    ticket = engine.submit(job, came.put)
    reader = Reader(tokenizer, stops, job.choices, job.ends, job.ids)
    try:
        while not reader.done:
            yield from _followed(reader, reader.push(came.get()), ticket)
    finally:
        _leave(engine, ticket, reader)


async def answering(engine: Engine, job: Job, tokenizer: Tokenizer, stops: Sequence[str] = (), shown: Collection[str] = ()
                    ) -> AsyncIterator[Delta | PromptRead]:  # fmt: skip
    """The same for asyncio: the engine's events come over to the running loop."""
    loop = asyncio.get_running_loop()
    came: asyncio.Queue[Event] = asyncio.Queue()
    ticket = engine.submit(job, lambda event: _hand_over(loop, came, event))
    reader = Reader(tokenizer, stops, job.choices, job.ends, job.ids, shown)
    try:
        while not reader.done:
            for made in _followed(reader, reader.push(await came.get()), ticket):
                yield made
    finally:
        _leave(engine, ticket, reader)


def _hand_over(loop: asyncio.AbstractEventLoop, came: asyncio.Queue[Event], event: Event) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(came.put_nowait, event)


def _followed(reader: Reader, made: list[Delta | PromptRead], ticket: Ticket) -> list[Delta | PromptRead]:
    """Choices that a stop text ended need no more tokens."""
    for one in made:
        if isinstance(one, Delta) and one.stop is not None:
            ticket.cancel(one.choice)
    return made


def _leave(engine: Engine, ticket: Ticket, reader: Reader) -> None:
    if not reader.done:
        ticket.cancel()
    engine.wake()
