"""Anthropic's POST /v1/messages and /v1/messages/count_tokens: a chat as blocks, whole or as events in their order.

message_start, ping, for each block content_block_start, deltas, content_block_stop; message_delta, message_stop
"""

import json
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.exceptions import RequestValidationError

from danlu.core.errors import DanluError
from danlu.server.chat import ChatRun, count_chat, run_chat
from danlu.server.deltas import Delta, Finished, Reasoning, Text, ToolArguments, ToolBegin
from danlu.server.errors import ApiError, from_exception, from_validation
from danlu.server.generation import until_gone
from danlu.server.messages_fields import CountTokens, Messages, chat_of, renamed
from danlu.server.shapes import anthropic_body
from danlu.server.stream import EventStream, event
from danlu.server.strict import Json, StrictRoute, caller_of, disconnected, service_of


class MessagesRoute(StrictRoute):
    """Tells errors as Anthropic's clients read them."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        handle = super().get_route_handler()

        async def told(request: Request) -> Response:
            try:
                return await handle(request)
            except RequestValidationError as error:
                found = from_validation(error.errors(), error.body, self._fields())
            except ApiError as error:
                found = renamed(error)
            except DanluError as error:
                models = service_of(request).models
                found = renamed(from_exception(error, {str(one.path): one.id for one in models.all}))
            body = anthropic_body(found, caller_of(request).request_id)
            return Json(body, status_code=found.status, headers=found.headers)

        return told

    def _fields(self) -> list[str]:
        kind = getattr(getattr(self.body_field, "field_info", None), "annotation", None)
        return list(getattr(kind, "model_fields", ()))


router = APIRouter(route_class=MessagesRoute)


@router.post("/v1/messages", tags=["text"])
async def create_message(body: Messages, request: Request) -> Response:
    """The next turn of a conversation, in Anthropic's shape."""
    service, caller = service_of(request), caller_of(request)
    run = await run_chat(service, chat_of(body), caller)
    writing = Writing(run, caller.request_id, caller.applied or bool(body.danlu and body.danlu.applied))
    if body.stream:
        try:
            await run.first(service.limits.first_s)
        except BaseException:
            run.close()
            raise
        return EventStream(writing.stream(), close=run.close, ping_s=service.limits.ping_s, tell=writing.failure)
    try:
        return Json(await until_gone(lambda: disconnected(request), writing.whole()))
    finally:
        run.close()


@router.post("/v1/messages/count_tokens", tags=["tokens"])
async def count_tokens(body: CountTokens, request: Request) -> Response:
    """How many tokens the prompt of a message has; nothing is written."""
    return Json({"input_tokens": await count_chat(service_of(request), chat_of(body))})


class Writing:
    """A message while it is written: takes deltas, keeps the blocks, gives events."""

    def __init__(self, run: ChatRun, request_id: str, applied: bool):
        self._run, self._request_id, self._applied = run, request_id, applied
        self._blocks: list[dict[str, Any]] = []
        self._open = False
        self._arguments = ""
        self._reason = "stop"

    async def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        async for delta in self._run.deltas():
            for _ in self._take(delta):
                pass
        return {**self._message(), "content": self._blocks, **self._ended(), "usage": self._usage(), **self._more()}

    async def stream(self) -> AsyncIterator[bytes]:
        """All events."""
        usage = {**self._usage(), "output_tokens": 0}
        start = {**self._message(), "content": [], "stop_reason": None, "stop_sequence": None, "usage": usage}
        yield _event("message_start", message=start)
        yield _event("ping")
        async for delta in self._run.deltas():
            for made in self._take(delta):
                yield made
        yield _event("message_delta", delta=self._ended(), usage=self._usage(), **self._more())
        yield _event("message_stop")

    def failure(self, error: ApiError) -> bytes:
        """The last event of a stream that fails."""
        return event(anthropic_body(error, self._request_id), "error")

    def _take(self, delta: Delta) -> Iterator[bytes]:
        match delta:
            case Reasoning():
                yield from self._into({"type": "thinking", "thinking": "", "signature": ""})
                self._blocks[-1]["thinking"] += delta.text
                yield self._delta(type="thinking_delta", thinking=delta.text)
            case Text():
                if delta.text:
                    yield from self._into({"type": "text", "text": ""})
                    self._blocks[-1]["text"] += delta.text
                    yield self._delta(type="text_delta", text=delta.text)
            case ToolBegin():
                yield from self._close()
                yield from self._into({"type": "tool_use", "id": delta.id, "name": delta.name, "input": {}})
                self._arguments = ""
            case ToolArguments():
                self._arguments += delta.text
                yield self._delta(type="input_json_delta", partial_json=delta.text)
            case Finished():
                self._reason = delta.reason
                yield from self._close()

    def _into(self, block: dict[str, Any]) -> Iterator[bytes]:
        """Open a block unless one of its type is open."""
        if self._open and self._blocks[-1]["type"] == block["type"]:
            return
        yield from self._close()
        self._blocks.append(block)
        self._open = True
        yield _event("content_block_start", index=len(self._blocks) - 1, content_block=block)

    def _delta(self, **delta: Any) -> bytes:
        return _event("content_block_delta", index=len(self._blocks) - 1, delta=delta)

    def _close(self) -> Iterator[bytes]:
        if self._open:
            self._open = False
            if self._blocks[-1]["type"] == "tool_use":
                self._blocks[-1]["input"] = _input(self._arguments)
            yield _event("content_block_stop", index=len(self._blocks) - 1)

    def _message(self) -> dict[str, Any]:
        return {"id": f"msg_{self._run.id.removeprefix('chatcmpl-')}", "type": "message", "role": "assistant",
                "model": self._run.model}  # fmt: skip

    def _ended(self) -> dict[str, Any]:
        """Why the answer ended, once it has."""
        stop = self._run.applied()["finished"][0]["stop"]
        reasons = {"length": "max_tokens", "tool_calls": "tool_use", "content_filter": "refusal"}
        told = reasons.get(self._reason) or ("stop_sequence" if stop is not None else "end_turn")
        return {"stop_reason": told, "stop_sequence": stop if told == "stop_sequence" else None}

    def _usage(self) -> dict[str, Any]:
        """Tokens so far; what was found in the cache is counted by itself, as Anthropic does."""
        used = self._run.usage
        return {"input_tokens": used.prompt_tokens - used.cached_tokens, "cache_creation_input_tokens": 0,
                "cache_read_input_tokens": used.cached_tokens, "output_tokens": used.completion_tokens}  # fmt: skip

    def _more(self) -> dict[str, Any]:
        return {"danlu": {"applied": self._run.applied()}} if self._applied else {}


def _event(type: str, **content: Any) -> bytes:
    return event({"type": type, **content}, type)


def _input(arguments: str) -> dict[str, Any]:
    """Arguments as an object; what is no JSON (an answer that was cut off, or a model that wrote it wrong) is told as such."""
    try:
        found = json.loads(arguments or "{}", parse_constant=_refuse)
    except (ValueError, RecursionError):
        found = None
    return found if isinstance(found, dict) else {"INVALID_JSON": arguments}


def _refuse(word: str) -> Any:
    raise ValueError(f"{word} is no JSON")
