"""POST /v1/responses: a chat in the shape of OpenAI's newer API, stateless, whole or as typed events in their order.

response.created, response.in_progress,
for each item   output_item.added, [content_part.added,] deltas, done, [content_part.done,] output_item.done
response.completed | response.incomplete | response.failed
"""

import secrets
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

from fastapi import APIRouter, Request, Response

from danlu.engine.answer import Scored
from danlu.server.chat import ChatRun, run_chat
from danlu.server.deltas import Delta, Finished, Reasoning, Text, ToolArguments, ToolBegin
from danlu.server.errors import ApiError
from danlu.server.formats import scores_of
from danlu.server.generation import until_gone
from danlu.server.responses_fields import Responses, chat_of, renamed
from danlu.server.stream import EventStream, event
from danlu.server.strict import Json, StrictRoute, caller_of, disconnected, service_of

router = APIRouter(route_class=StrictRoute)


@router.post("/v1/responses", tags=["text"])
async def create_response(body: Responses, request: Request) -> Response:
    """An answer to an input; nothing is stored."""
    service, caller = service_of(request), caller_of(request)
    try:
        run = await run_chat(service, chat_of(body), caller)
        try:
            if body.stream:
                await run.first(service.limits.first_s)
        except BaseException:
            run.close()
            raise
    except ApiError as error:
        raise renamed(error) from None
    writing = Writing(body, run, caller.applied or bool(body.danlu and body.danlu.applied))
    if body.stream:
        return EventStream(writing.stream(), close=run.close, ping_s=service.limits.ping_s, tell=writing.failure)
    try:
        return Json(await until_gone(lambda: disconnected(request), writing.whole()))
    finally:
        run.close()


class Writing:
    """A response while it is written: takes deltas, keeps the output, gives events."""

    def __init__(self, request: Responses, run: ChatRun, applied: bool):
        self._request, self._run, self._applied = request, run, applied
        self._id = f"resp_{secrets.token_hex(16)}"
        self._output: list[dict[str, Any]] = []
        self._open: dict[str, Any] | None = None
        """The item that is being written: the last of the output."""
        self._number = 0
        self._reason = "stop"

    async def whole(self) -> dict[str, Any]:
        """The body of an answer that is not streamed."""
        async for delta in self._run.deltas():
            for _ in self._take(delta):
                pass
        return self._body(self._status())

    async def stream(self) -> AsyncIterator[bytes]:
        """All events."""
        yield self._event("response.created", response=self._body("in_progress"))
        yield self._event("response.in_progress", response=self._body("in_progress"))
        async for delta in self._run.deltas():
            for made in self._take(delta):
                yield made
        status = self._status()
        yield self._event(f"response.{status}", response=self._body(status))

    def failure(self, error: ApiError) -> bytes:
        """The last event of a stream that fails."""
        told = {"code": "server_error", "message": error.message}
        return self._event("response.failed", response={**self._body("failed"), "error": told})

    def _event(self, type: str, **content: Any) -> bytes:
        made = event({"type": type, "sequence_number": self._number, **content}, type)
        self._number += 1
        return made

    def _take(self, delta: Delta) -> Iterator[bytes]:
        match delta:
            case Reasoning():
                yield from self._into("reasoning")
                yield from self._text(delta.text, "response.reasoning_text.delta")
            case Text():
                yield from self._into("message")
                yield from self._text(delta.text, "response.output_text.delta", delta.scores)
            case ToolBegin():
                yield from self._close()
                yield from self._begin({"id": f"fc_{secrets.token_hex(16)}", "type": "function_call", "status": "in_progress",
                                        "call_id": delta.id, "name": delta.name, "arguments": ""})  # fmt: skip
            case ToolArguments() if self._open is not None:
                self._open["arguments"] += delta.text
                yield self._event("response.function_call_arguments.delta", **self._place(), delta=delta.text)
            case Finished():
                if not any(item["type"] in ("message", "function_call") for item in self._output):
                    yield from self._into("message")
                self._reason = delta.reason
                yield from self._close("incomplete" if delta.reason == "length" else "completed")

    def _into(self, type: str) -> Iterator[bytes]:
        """Open an item of text unless it is the one that is open."""
        if self._open is not None and self._open["type"] == type:
            return
        yield from self._close()
        if type == "message":
            part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": [], "logprobs": []}
            yield from self._begin({"id": f"msg_{secrets.token_hex(16)}", "type": "message", "status": "in_progress",
                                    "role": "assistant", "content": []})  # fmt: skip
        else:
            part = {"type": "reasoning_text", "text": ""}
            yield from self._begin({"id": f"rs_{secrets.token_hex(16)}", "type": "reasoning", "status": "in_progress",
                                    "summary": [], "content": []})  # fmt: skip
        yield self._event("response.content_part.added", **self._place(), content_index=0, part=part)
        assert self._open is not None
        self._open["content"].append(part)

    def _begin(self, item: dict[str, Any]) -> Iterator[bytes]:
        self._output.append(item)
        self._open = item
        yield self._event("response.output_item.added", output_index=len(self._output) - 1, item=item)

    def _place(self) -> dict[str, Any]:
        assert self._open is not None
        return {"item_id": self._open["id"], "output_index": len(self._output) - 1}

    def _text(self, text: str, type: str, scores: tuple[Scored, ...] = ()) -> Iterator[bytes]:
        assert self._open is not None
        part = self._open["content"][0]
        part["text"] += text
        more: dict[str, Any] = {}
        if part["type"] == "output_text":
            more["logprobs"] = scores_of(scores)
            part["logprobs"] += more["logprobs"]
        if text or scores:
            yield self._event(type, **self._place(), content_index=0, delta=text, **more)

    def _close(self, status: str = "completed") -> Iterator[bytes]:
        """The open item is complete."""
        if self._open is None:
            return
        item, self._open["status"] = self._open, status
        if item["type"] == "function_call":
            yield self._event("response.function_call_arguments.done", **self._place(), name=item["name"],
                              arguments=item["arguments"])  # fmt: skip
        else:
            part = item["content"][0]
            kind = part["type"]
            more = {"logprobs": part["logprobs"]} if kind == "output_text" else {}
            yield self._event(f"response.{kind}.done", **self._place(), content_index=0, text=part["text"], **more)
            yield self._event("response.content_part.done", **self._place(), content_index=0, part=part)
        yield self._event("response.output_item.done", output_index=len(self._output) - 1, item=item)
        self._open = None

    def _status(self) -> str:
        return "incomplete" if self._reason in ("length", "content_filter") else "completed"

    def _body(self, status: str) -> dict[str, Any]:
        """The response object as it stands."""
        request, ended = self._request, status in ("completed", "incomplete")
        why = {"length": "max_output_tokens", "content_filter": "content_filter"}
        text = request.text.model_dump(by_alias=True, exclude_none=True) if request.text else {}
        body: dict[str, Any] = {
            "id": self._id, "object": "response", "created_at": self._run.created, "status": status,
            "completed_at": int(time.time()) if status == "completed" else None, "background": False, "error": None,
            "incomplete_details": {"reason": why[self._reason]} if status == "incomplete" else None,
            "instructions": request.instructions, "max_output_tokens": request.max_output_tokens, "max_tool_calls": None,
            "model": self._run.model, "output": self._output, "parallel_tool_calls": request.given("parallel_tool_calls"),
            "previous_response_id": None, "prompt_cache_key": request.prompt_cache_key,
            "reasoning": {"effort": request.reasoning.effort if request.reasoning else None, "summary": None},
            "safety_identifier": request.safety_identifier, "service_tier": "default", "store": False,
            "temperature": request.given("temperature"), "text": {"format": {"type": "text"}, **text},
            "tool_choice": _plain(request.tool_choice) or "auto", "tools": [tool.model_dump() for tool in request.tools or []],
            "top_logprobs": request.given("top_logprobs"), "top_p": request.given("top_p"), "truncation": "disabled",
            "usage": self._usage() if ended else None, "user": request.user, "metadata": request.metadata or {},
        }  # fmt: skip
        return body | ({"danlu": {"applied": self._run.applied()}} if self._applied and ended else {})

    def _usage(self) -> dict[str, Any]:
        used = self._run.usage
        return {
            "input_tokens": used.prompt_tokens,
            "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
            "output_tokens": used.completion_tokens, "output_tokens_details": {"reasoning_tokens": used.reasoning_tokens},
            "total_tokens": used.prompt_tokens + used.completion_tokens,
        }  # fmt: skip


def _plain(choice: Any) -> Any:
    return choice.model_dump() if hasattr(choice, "model_dump") else choice
