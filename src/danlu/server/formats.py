"""Chats in the shape of OpenAI's API: whole answers and chunks of streams."""

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

from danlu.engine.answer import Scored
from danlu.server.chance import filler
from danlu.server.chat import ChatRun
from danlu.server.deltas import Delta, Finished, Reasoning, Text, ToolArguments, ToolBegin, Usage
from danlu.server.stream import DONE, event

LEAST = -9999.0
"""OpenAI's sign for a probability of zero, whose logarithm JSON cannot write."""
_EVEN = 64


def usage_of(usage: Usage) -> dict[str, Any]:
    """Tokens of a request."""
    return {
        "prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.completion_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens, "audio_tokens": 0},
        "completion_tokens_details": {
            "reasoning_tokens": usage.reasoning_tokens, "audio_tokens": 0, "accepted_prediction_tokens": 0,
            "rejected_prediction_tokens": 0,
        },
    }  # fmt: skip


def scores_of(scores: Sequence[Scored]) -> list[dict[str, Any]]:
    """Log-probabilities; the bytes of all tokens joined are the text."""
    return [
        {**_score(one.text, one.bytes, one.logprob),
         "top_logprobs": [_score(other.text, other.bytes, other.logprob) for other in one.top]}
        for one in scores
    ]  # fmt: skip


def _score(text: str, own: bytes, logprob: float | None) -> dict[str, Any]:
    return {"token": text, "logprob": clipped(logprob), "bytes": list(own)}


def clipped(logprob: float | None) -> float:
    """A logarithm that JSON can write."""
    return LEAST if logprob is None or not logprob > LEAST else logprob


class Answer:
    """Gathers the deltas of one choice."""

    def __init__(self) -> None:
        self.text, self.reasoning = "", ""
        self.calls: list[dict[str, Any]] = []
        self.scores: list[Scored] = []
        self.reason = "stop"
        self._spoke = False

    def take(self, delta: Delta) -> None:
        match delta:
            case Text():
                self.text += delta.text
                self.scores += delta.scores
            case Reasoning():
                self.reasoning += delta.text
            case ToolBegin():
                function = {"name": delta.name, "arguments": ""}
                self.calls.append({"id": delta.id, "type": "function", "function": function})
            case ToolArguments():
                self.calls[delta.index]["function"]["arguments"] += delta.text
            case Finished():
                self.reason = delta.reason

    def message(self) -> dict[str, Any]:
        """The message of a whole answer."""
        message: dict[str, Any] = {"role": "assistant", "content": self.text if self.text or not self.calls else None,
                                   "refusal": None}  # fmt: skip
        message |= {"reasoning_content": self.reasoning} if self.reasoning else {}
        return message | ({"tool_calls": self.calls} if self.calls else {})


async def gather(run: ChatRun) -> list[Answer]:
    """All choices of a chat."""
    answers = [Answer() for _ in range(run.generation.job.choices)]
    async for delta in run.deltas():
        answers[delta.choice].take(delta)
    return answers


def whole(run: ChatRun, answers: Sequence[Answer], more: Mapping[str, Any]) -> dict[str, Any]:
    """The body of an answer that is not streamed."""
    logprobs = bool(run.request.logprobs)
    choices = [
        {"index": index, "message": answer.message(), "finish_reason": answer.reason,
         "logprobs": {"content": scores_of(answer.scores), "refusal": None} if logprobs else None}
        for index, answer in enumerate(answers)
    ]  # fmt: skip
    return {**_head(run, "chat.completion"), "choices": choices, "usage": usage_of(run.usage), **more}


def _head(run: ChatRun, kind: str) -> dict[str, Any]:
    return {"id": run.id, "object": kind, "created": run.created, "model": run.model, "service_tier": "default",
            "system_fingerprint": run.fingerprint}  # fmt: skip


async def chunks(run: ChatRun, finish: Any) -> AsyncIterator[bytes]:
    """The events of a stream: a role for each choice, deltas, finish reasons, the usage if asked for, [DONE].

    finish: (answers) -> what to add at the end, awaited when all choices have ended.
    """
    options = run.request.stream_options
    counted = bool(options and options.include_usage)
    padded = bool(options and options.include_obfuscation)
    head = _head(run, "chat.completion.chunk") | ({"usage": None} if counted else {})
    answers = [Answer() for _ in range(run.generation.job.choices)]

    def chunk(index: int, delta: dict[str, Any], scores: Sequence[Scored] = (), reason: str | None = None) -> dict[str, Any]:
        logprobs = {"content": scores_of(scores), "refusal": None} if scores else None
        made = {**head, "choices": [{"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": reason}]}
        return _even(made) if padded else made

    for index in range(len(answers)):
        yield event(chunk(index, {"role": "assistant", "content": "", "refusal": None}))
    last: dict[str, Any] | None = None
    async for delta in run.deltas():
        answers[delta.choice].take(delta)
        if isinstance(delta, Finished):
            if last is not None:
                yield event(last)
            last = chunk(delta.choice, {}, reason=delta.reason)
        elif (changed := _changed(delta)) is not None:
            yield event(chunk(delta.choice, changed, delta.scores if isinstance(delta, Text) else ()))
    more = await finish(answers)
    if last is not None:
        yield event(last if counted else {**last, **more})
    if counted:
        yield event({**head, "choices": [], "usage": usage_of(run.usage), **more})
    yield DONE


def _changed(delta: Delta) -> dict[str, Any] | None:
    """The delta of a chunk."""
    match delta:
        case Text():
            return {"content": delta.text}
        case Reasoning():
            return {"reasoning_content": delta.text}
        case ToolBegin():
            function = {"name": delta.name, "arguments": ""}
            return {"tool_calls": [{"index": delta.index, "id": delta.id, "type": "function", "function": function}]}
        case ToolArguments():
            return {"tool_calls": [{"index": delta.index, "function": {"arguments": delta.text}}]}
    return None


def _even(chunk: dict[str, Any]) -> dict[str, Any]:
    """A chunk filled up to a multiple of some bytes with a text that means nothing."""
    size = len(json.dumps(chunk, ensure_ascii=False, separators=(",", ":")).encode()) + len(',"obfuscation":""')
    return {**chunk, "obfuscation": filler(-size % _EVEN)}
