"""A chat from request to typed deltas: template, tools, tokens, job, and the answer taken apart; formats.py makes JSON of it.

run = await run_chat(service, request, caller)          # the engine has accepted it; ApiError where not
try:
    await run.first(seconds)                            # for streams: errors before headers
    async for delta in run.deltas(): ...                # deltas.py
finally:
    run.close()                                         # cancels what nobody will read
"""

import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from danlu.core.errors import DanluError
from danlu.engine.answer import Delta as Piece
from danlu.engine.answer import PromptRead, Scored
from danlu.server.asking import Asked, check_writes, job_of, room_of, understand
from danlu.server.chance import fresh_id
from danlu.server.deltas import Delta, Finished, Plan, Splitter, Text, Usage
from danlu.server.errors import ApiError, from_exception
from danlu.server.fields import Chat
from danlu.server.generation import Generation, finish_of
from danlu.server.models import Served
from danlu.server.planning import plan as plan_tools
from danlu.server.scores import matched
from danlu.server.service import Caller, Service
from danlu.tokenizer.chat import encode_chat


@dataclass(frozen=True)
class Prompt:
    """A conversation as the model reads it."""

    served: Served
    plan: Plan
    ids: list[int]


async def prompt_of(service: Service, plan: Plan, served: Served, opened: bool = True) -> Prompt:
    """Ids of a planned conversation. Raises ApiError: refused by the template, or too slow."""
    seconds = service.limits.prepare_s
    ids = await service.workers.run(seconds, "Preparing the messages", _encoded, served, plan, opened)
    return Prompt(served, plan, ids)


def _encoded(served: Served, plan: Plan, opened: bool) -> list[int]:
    assert served.template is not None
    try:
        ids = encode_chat(served.tokenizer, served.template, plan.messages, plan.tools, opened, variables=plan.variables)
    except DanluError as error:
        told = from_exception(error)
        raise ApiError(told.status, told.message, param="messages", code=told.code or "chat_template_refused") from None
    return ids + served.tokenizer.encode(plan.prefill, allow_special=served.tokenizer.special_tokens) if plan.prefill else ids


def check_size(served: Served, tree: Any) -> None:
    """Raise ApiError for messages that cannot fit the context, before anything is done with them."""
    size = sum(len(text.encode("utf-8")) for text in _texts(tree))
    if size > served.longest_token * served.context:
        fewest = -(-size // served.longest_token)
        raise ApiError(
            400,
            f"This model's context is {served.context} tokens. The messages have {size} bytes, which is at least {fewest} "
            f"tokens. Shorten them; nothing is cut silently here.",
            param="messages", code="context_length_exceeded",
        )  # fmt: skip


def _texts(tree: Any) -> Any:
    if isinstance(tree, str):
        yield tree
    elif isinstance(tree, Mapping):
        for part in tree.values():
            yield from _texts(part)
    elif isinstance(tree, list | tuple):
        for part in tree:
            yield from _texts(part)


async def plan_of(service: Service, request: Chat) -> tuple[Served, Plan]:
    """The model of a chat, and how the chat is put to it."""
    served, _ = service.models.find(request.model, request.adapter)
    check_writes(served)
    check_converses(served)
    check_size(served, [message.model_dump(exclude_none=True) for message in request.messages])

    def work() -> Plan:
        return plan_tools(request, served.template, served.tokenizer.special_tokens)

    try:
        return served, await service.workers.run(service.limits.prepare_s, "Preparing the messages", work)
    except DanluError as error:
        raise from_exception(error, {str(served.path): served.id}) from None


def check_converses(served: Served) -> None:
    """Raise ApiError for a model without a chat template."""
    if served.template_fault is not None:
        raise ApiError(400, served.template_fault, param="model", code="chat_template_refused")
    if served.template is None:
        raise ApiError(
            400,
            f"The model '{served.id}' has no chat template: it goes on with a text and holds no conversation. Use "
            f"/v1/completions with a prompt, or start the server with --chat_template FILE if you know how this model was "
            f"taught to converse.",
            param="model", code="no_chat_template",
        )  # fmt: skip


async def count_chat(service: Service, request: Chat) -> int:
    """Tokens of a chat's prompt."""
    served, plan = await plan_of(service, request)
    return len((await prompt_of(service, plan, served)).ids)


async def run_chat(service: Service, request: Chat, caller: Caller) -> "ChatRun":
    """Prepare a chat and hand it to the engine. Raises ApiError."""
    service.check_open()
    served, plan = await plan_of(service, request)
    asked = await understand(service, request, plan.constraint, chat=True)
    prompt = await prompt_of(service, plan, served)
    wanted = "max_completion_tokens" if request.max_completion_tokens is not None else "max_tokens"
    choices = request.given("n")
    room = room_of(service, served, len(prompt.ids), getattr(request, wanted), choices, param="messages", wanted=wanted,
                   sampling=asked.sampling)  # fmt: skip
    logprobs = request.given("top_logprobs") if request.logprobs else None
    job = job_of(service, asked, prompt.ids, room, caller=caller, choices=choices, logprobs=logprobs)
    generation = Generation(service, served, job, asked.stops, plan.special)
    generation.start()
    return ChatRun(request, asked, plan, generation)


class ChatRun:
    """A chat that is being answered."""

    def __init__(self, request: Chat, asked: Asked, plan: Plan, generation: Generation):
        self.request, self.asked, self.plan, self.generation = request, asked, plan, generation
        self.id, self.created = fresh_id("chatcmpl-"), int(time.time())
        self.usage = Usage(prompt_tokens=len(generation.job.ids))
        self._splitters: list[Splitter | None] = [
            plan.splitter(choice) if plan.splitter else None for choice in range(generation.job.choices)
        ]
        self._ends: list[dict[str, Any]] = [{} for _ in self._splitters]
        self._used = [0 for _ in self._splitters]
        self._held: list[tuple[Scored, ...]] = [() for _ in self._splitters]

    @property
    def model(self) -> str:
        """The name that was asked for."""
        return self.request.model

    @property
    def fingerprint(self) -> str:
        return self.asked.served.fingerprint

    async def first(self, seconds: float) -> None:
        """Wait for a first sign of the engine, so that a failure still has a status."""
        await self.generation.first(seconds)

    async def deltas(self) -> AsyncIterator[Delta]:
        """The answer as it comes. Raises ApiError where it fails."""
        if self.plan.prefill:
            for choice, splitter in enumerate(self._splitters):
                for delta in splitter.push(self.plan.prefill) if splitter else (Text(choice, self.plan.prefill),):
                    yield delta
        async for part in self.generation.parts():
            if isinstance(part, PromptRead):
                self.usage.prompt_tokens, self.usage.cached_tokens = part.prompt_tokens, part.cached_tokens
                continue
            for delta in self._taken(part):
                yield delta

    def _taken(self, part: Piece) -> Sequence[Delta]:
        """Deltas that a piece of text gives."""
        fresh = max(0, part.used - self._used[part.choice])
        self._used[part.choice] += fresh
        self.usage.completion_tokens += fresh
        scores = part.tokens if self.request.logprobs else ()
        splitter = self._splitters[part.choice]
        made: list[Delta] = []
        if splitter is None:
            made += [Text(part.choice, part.text, scores)] if part.text or scores else []
        else:
            self.usage.reasoning_tokens += fresh if splitter.thinking else 0
            made += self._scored(part.choice, splitter.push(part.text) if part.text else (), scores)
        if part.reason is not None:
            self._ends[part.choice] = {"reason": part.reason, "stop": part.stop}
            reason = "length" if finish_of(part.reason) == "length" else "stop"
            if splitter is None:
                made.append(Finished(part.choice, reason, part.stop))
            else:
                *rest, last = splitter.finish(reason)
                assert isinstance(last, Finished)
                made += [*self._scored(part.choice, rest, ()), Finished(last.choice, last.reason, part.stop)]
        return made

    def _scored(self, choice: int, parts: Sequence[Delta], scores: tuple[Scored, ...]) -> Sequence[Delta]:
        """Give each text among the parts the log-probabilities of its tokens; others wait, and are dropped once passed over."""
        waiting = self._held[choice] + scores
        made: list[Delta] = []
        for part in parts:
            if isinstance(part, Text) and waiting:
                own, waiting = matched(part.text, waiting)
                part = Text(part.choice, part.text, own)
            made.append(part)
        self._held[choice] = waiting
        return made

    def applied(self) -> dict[str, Any]:
        """What was done with the request; complete once all choices have finished."""
        return applied(self.asked, self.generation, self.usage, self._ends, template=True)

    def close(self) -> None:
        """Nobody reads on."""
        self.generation.close()


def applied(
    asked: Asked, generation: Generation, usage: Usage, ends: Sequence[Mapping[str, Any]], template: bool
) -> dict[str, Any]:
    """The block `danlu.applied`: effective settings, what was read and cached, and why each answer ended."""
    job, served = generation.job, asked.served
    settings = asked.sampling.model_dump(exclude={"stop", "max_tokens"})
    bos = served.tokenizer.bos_id
    return {
        "model": served.id, "adapter": asked.adapter, "fingerprint": served.fingerprint, "kernel": served.kernel,
        "sampling": {**settings, "stop": list(asked.stops)}, "max_tokens": job.room, "form": asked.form,
        "prompt_tokens": usage.prompt_tokens, "cached_tokens": usage.cached_tokens, "dropped_tokens": 0,
        "begin_tokens": sum(token == bos for token in job.ids[:2]) if bos is not None else 0,
        "chat_template": served.template_id if template else None, "ignored_fields": [],
        "finished": [{"choice": choice, "reason": end.get("reason"), "stop": end.get("stop")} for choice, end in enumerate(ends)],
    }  # fmt: skip
