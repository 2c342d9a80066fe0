"""POST /v1/completions: texts that go on; with echo, log-probabilities of the prompt as lm-evaluation-harness reads them.

With P prompts and n answers each, answer i of prompt p has the index p * n + i.
"""

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from danlu.core.errors import BadInput, DanluError
from danlu.engine.answer import Alternative, Delta, PromptRead, Scored
from danlu.engine.job import Job
from danlu.engine.source import around_ids, source_ids
from danlu.server.asking import Asked, check_bytes, check_ids, job_of, room_of, tokenised, understand
from danlu.server.beams import BeamGeneration
from danlu.server.chance import fresh_id
from danlu.server.chat import applied
from danlu.server.deltas import Usage
from danlu.server.errors import ApiError, from_exception, invalid, unsupported
from danlu.server.fields import Completion
from danlu.server.formats import clipped, usage_of
from danlu.server.generation import Generation, finish_of
from danlu.server.models import Served
from danlu.server.service import Caller, Service
from danlu.server.stream import DONE, event


@dataclass
class _Written:
    """One answer so far."""

    text: str = ""
    scores: list[Scored] = field(default_factory=list)
    reason: str | None = None
    stop: str | None = None

    @property
    def merit(self) -> float:
        """Mean log-probability of its tokens."""
        known = [one.logprob for one in self.scores if one.logprob is not None]
        return sum(known) / len(known) if known else float("-inf")


class CompletionRun:
    """A request whose jobs the engine has accepted."""

    def __init__(self, request: Completion, asked: Asked, prompts: Sequence[str],
                 generations: Sequence[Generation | BeamGeneration]):  # fmt: skip
        self.request, self.asked, self._prompts, self.generations = request, asked, prompts, generations
        self.id, self.created = fresh_id("cmpl-"), int(time.time())
        self.n = request.given("n")
        self.written = [[_Written() for _ in range(one.job.choices)] for one in generations]
        self.prompt_scores: list[tuple[Scored, ...]] = [() for _ in generations]
        bos = asked.served.tokenizer.bos_id
        self._begins = [int(isinstance(prompt, str) and bos is not None) for prompt in request.prompts]
        """First tokens of prompts that are no part of their text."""
        self.echo, self.logprobs = bool(request.echo), request.logprobs is not None

    async def first(self, seconds: float) -> None:
        """Wait for a first sign of the engine."""
        await self.generations[0].first(seconds)

    def close(self) -> None:
        """Nobody reads on."""
        for generation in self.generations:
            generation.close()

    @property
    def usage(self) -> Usage:
        return Usage(
            sum(one.prompt_tokens for one in self.generations), sum(one.cached_tokens for one in self.generations),
            sum(sum(one.used) for one in self.generations),
        )  # fmt: skip

    def head(self) -> dict[str, Any]:
        return {"id": self.id, "object": "text_completion", "created": self.created, "model": self.request.model,
                "system_fingerprint": self.asked.served.fingerprint}  # fmt: skip

    def applied(self) -> dict[str, Any]:
        """What was done with the request; the settings are those of every prompt."""
        ends = [{"reason": one.reason, "stop": one.stop} for answers in self.written for one in answers]
        return applied(self.asked, self.generations[0], self.usage, ends, template=False)

    # ---- all at once

    async def gather(self) -> None:
        """Wait for every answer."""
        async for prompt, part in merged(self.generations):
            self._take(prompt, part)

    def _take(self, prompt: int, part: Delta | PromptRead) -> None:
        if isinstance(part, PromptRead):
            self.prompt_scores[prompt] = part.tokens or ()
            return
        answer = self.written[prompt][part.choice]
        answer.text += part.text
        answer.scores += part.tokens
        if part.reason is not None:
            answer.reason, answer.stop = part.reason, part.stop
            answer.scores += self._unseen(prompt, part.choice, answer)

    def _unseen(self, prompt: int, choice: int, answer: _Written) -> list[Scored]:
        """The token that ended an answer without text, or all of it where it has none (a special token, half a character): the
        harness takes the last one listed for the answer's and leaves it out; only with echo."""
        event, bare = self.generations[prompt].last[choice], answer.reason == "length" and not answer.scores
        if not (self.echo and self.logprobs and (answer.reason == "eos" or bare)) or event is None or event.logprob is None:
            return []
        table = self.asked.served.tokenizer.token_bytes
        top = tuple(Alternative(token, _name(table(token)), table(token), logprob) for token, logprob in event.top)
        own = table(event.token)
        return [Scored(event.token, _name(own), own, event.logprob, top)]

    def choices(self) -> list[dict[str, Any]]:
        """The answers asked for, the best of each prompt where more were written."""
        found = []
        for prompt, answers in enumerate(self.written):
            best = sorted(answers, key=lambda one: -one.merit)[: self.n] if len(answers) > self.n else answers
            for index, answer in enumerate(best):
                text = (self._prompts[prompt] if self.echo else "") + answer.text
                logprobs = self._logprobs(prompt, answer.scores, 0) if self.logprobs else None
                found.append({"text": text, "index": prompt * self.n + index, "logprobs": logprobs,
                              "finish_reason": finish_of(answer.reason or "length")})  # fmt: skip
        return found

    def _logprobs(self, prompt: int, scores: Sequence[Scored], offset: int, echo: bool = True) -> dict[str, Any]:
        told = [*(self.prompt_scores[prompt] if self.echo and echo else ()), *scores]
        return listed(told, offset, self._begins[prompt] if self.echo and echo else 0)

    # ---- as it comes

    async def chunks(self, counted: bool, more: Any) -> AsyncIterator[bytes]:
        """The events of a stream. more: what to add to the last chunk, asked when all have ended."""
        head = self.head() | ({"usage": None} if counted else {})
        offsets: dict[tuple[int, int], int] = {}
        last = None
        async for prompt, part in merged(self.generations):
            self._take(prompt, part)
            if isinstance(part, PromptRead):
                for choice in range(self.n) if self.echo else ():
                    scores = self._logprobs(prompt, (), 0) if self.logprobs else None
                    offsets[prompt, choice] = len(self._prompts[prompt])
                    yield event(head | {"choices": [self._chunk(prompt, choice, self._prompts[prompt], scores)]})
                continue
            offset = offsets.get((prompt, part.choice), 0)
            scores = self._logprobs(prompt, part.tokens, offset, echo=False) if self.logprobs and part.tokens else None
            offsets[prompt, part.choice] = offset + len(part.text)
            if part.text or scores:
                yield event(head | {"choices": [self._chunk(prompt, part.choice, part.text, scores)]})
            if part.reason is not None:
                if last is not None:
                    yield event(last)
                last = head | {"choices": [self._chunk(prompt, part.choice, "", None, finish_of(part.reason))]}
        added = more()
        if last is not None:
            yield event(last if counted else last | added)
        if counted:
            yield event(head | {"choices": [], "usage": usage_of(self.usage)} | added)
        yield DONE

    def _chunk(self, prompt: int, choice: int, text: str, logprobs: Any, reason: str | None = None) -> dict[str, Any]:
        return {"text": text, "index": prompt * self.n + choice, "logprobs": logprobs, "finish_reason": reason}


async def run_completion(service: Service, request: Completion, caller: Caller) -> CompletionRun:
    """Prepare all prompts and hand them to the engine. Raises ApiError."""
    service.check_open()
    asked = await understand(service, request)
    served = asked.served
    if request.echo and served.kind == "seq2seq":
        raise invalid("echo", f"'{served.id}' reads one text and writes another: there is nothing to echo.")
    if request.echo and request.suffix is not None:
        raise invalid("echo", "'echo' and 'suffix' do not go together.")
    read = [await _read(service, served, request, prompt) for prompt in request.prompts]
    answers = request.best_of or request.given("n")
    asked_room = request.given("max_tokens")
    logprobs = request.logprobs if request.logprobs is not None else 0 if answers > request.given("n") else None
    generations = []
    for _, ids, source in read:
        room = asked_room if asked_room == 0 else room_of(
            service, served, len(ids), asked_room, answers * len(read), param="prompt", sampling=asked.sampling
        )  # fmt: skip
        if asked_room == 0 and len(ids) > served.context:
            raise too_long_prompt(len(ids), served.context)
        job = job_of(service, asked, ids, room, caller=caller, choices=answers, logprobs=logprobs, source=source,
                     prompt_logprobs=request.logprobs if request.echo else None)  # fmt: skip
        generations.append(_generation(service, served, request, job, asked))
    run = CompletionRun(request, asked, [text for text, _, _ in read], generations)
    try:
        for generation in generations:
            generation.start()
    except ApiError:
        run.close()
        raise
    return run


def _generation(service: Service, served: Served, request: Completion, job: Job, asked: Asked) -> Generation | BeamGeneration:
    if request.beams is None:
        return Generation(service, served, job, asked.stops)
    how = request.given("length_penalty"), request.given("early_stopping")
    return BeamGeneration(service, served, job, request.beams, *how)


def too_long_prompt(tokens: int, context: int) -> ApiError:
    """400 for a prompt by itself."""
    return ApiError(400, f"This model's context is {context} tokens. The prompt has {tokens} tokens. Shorten it; nothing is cut "
                         f"silently here.", param="prompt", code="context_length_exceeded")  # fmt: skip


async def _read(service: Service, served: Served, request: Completion, prompt: str | list[int]
                ) -> tuple[str, list[int], list[int] | None]:  # fmt: skip
    """Text, ids and source of one prompt."""
    if isinstance(prompt, list):
        check_ids(served, prompt, "prompt")
        text = served.tokenizer.decode(prompt) if request.echo or served.kind == "seq2seq" else ""
        if served.kind == "causal" and request.suffix is None:
            return text, prompt, None
        prompt = text
    if served.kind == "seq2seq" or request.suffix is not None:
        check_bytes(served, prompt + (request.suffix or ""), "prompt")
        try:
            work = _source if served.kind == "seq2seq" else _around
            return await service.workers.run(service.limits.prepare_s, "Tokenising the prompt", work, served, request, prompt)
        except DanluError as error:
            raise from_exception(error, {str(served.path): served.id}) from None
    ids = await tokenised(service, served, prompt, "prompt")
    check_ids(served, ids, "prompt")
    return prompt, ids, None


def _source(served: Served, request: Completion, prompt: str) -> tuple[str, list[int], list[int]]:
    if request.suffix is not None:
        raise invalid("suffix", f"'{served.id}' is an encoder-decoder and takes no suffix.")
    start = served.model.model.config.decoder_start_token_id
    begin = [served.tokenizer.start_id if start is None else start]
    return prompt, begin, source_ids(served.tokenizer, prompt, served.context)


def _around(served: Served, request: Completion, prompt: str) -> tuple[str, list[int], None]:
    try:
        return prompt, around_ids(served.tokenizer, prompt, request.suffix or ""), None
    except BadInput as error:
        raise unsupported("suffix", str(error.args[0])) from None


def listed(scores: Sequence[Scored], offset: int = 0, skipped: int = 0) -> dict[str, Any]:
    """The older API's four lists. skipped: first tokens that are no part of the text."""
    tokens, logprobs, tops, offsets = [], [], [], []
    rest = b""
    for number, one in enumerate(scores):
        offsets.append(offset)
        tokens.append(_name(one.bytes))
        logprobs.append(None if one.logprob is None else clipped(one.logprob))
        tops.append(
            {_name(other.bytes): clipped(other.logprob) for other in reversed(one.top)} if one.logprob is not None else None
        )
        if number >= skipped:
            rest += one.bytes
            whole = rest.decode("utf-8", "ignore")
            offset += len(whole)
            rest = rest[len(whole.encode()) :]
    return {"tokens": tokens, "token_logprobs": logprobs, "top_logprobs": tops, "text_offset": offsets}


def _name(own: bytes) -> str:
    """A token as text; one that is no whole characters by its bytes, as OpenAI writes it."""
    try:
        return own.decode("utf-8")
    except UnicodeDecodeError:
        return "bytes:" + "".join(f"\\x{byte:02x}" for byte in own)


async def merged(generations: Sequence[Generation | BeamGeneration]) -> AsyncIterator[tuple[int, Delta | PromptRead]]:
    """The parts of several generations as they come, each with its number. The first failure is raised."""
    came: asyncio.Queue[tuple[int, Any]] = asyncio.Queue()

    async def pump(number: int) -> None:
        try:
            async for part in generations[number].parts():
                came.put_nowait((number, part))
            came.put_nowait((number, None))
        except Exception as error:
            came.put_nowait((number, error))

    tasks = [asyncio.ensure_future(pump(number)) for number in range(len(generations))]
    try:
        left = len(tasks)
        while left:
            number, part = await came.get()
            if isinstance(part, Exception):
                raise part
            if part is None:
                left -= 1
            else:
                yield number, part
    finally:
        for task in tasks:
            task.cancel()
        with suppress(asyncio.CancelledError):
            await asyncio.gather(*tasks, return_exceptions=True)
