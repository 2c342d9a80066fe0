"""A server that says what a test wants said: the studio's files as they are, answers from a script, no model.

A prompt that is a key of `script` gets its text, any other gets `ANSWER`. Tokens are words with the blank before them; Han
characters are halved into bytes, as byte-level vocabularies do.
"""

import asyncio
import contextlib
import json
import math
import re
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import uvicorn
from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from danlu.server import studio

ANSWER = "The furnace glows. **Cinnabar** turns to silver, and silver to cinnabar."
KEY = "a-key-for-tests"


class Fake:
    """What was asked of the server, and how it behaves."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Be as at first."""
        self.script: dict[str, str] = {}
        self.bodies: list[dict[str, Any]] = []
        self.left: list[str] = []
        """Models whose reader went away in the middle."""
        self.pause_s = 0.0
        self.end: str | None = "stop"
        """The finish reason; None: the stream just ends. "error": an error object in the stream."""
        self.key: str | None = None
        self.models: list[dict[str, Any]] = [
            {"id": "sage-134m", "object": "model", "created": 0, "owned_by": "danlu",
             "danlu": {"kind": "causal", "chat": True, "context": 2048, "parameters": 134_100_000}},
            {"id": "scribe-7m", "object": "model", "created": 0, "owned_by": "danlu",
             "danlu": {"kind": "causal", "chat": False, "context": 512, "parameters": 7_340_000}},
        ]  # fmt: skip
        self.engine: dict[str, Any] = {"object": "danlu.engine", "time": 0.0, "models": []}
        self.runs: list[dict[str, Any]] = []
        self.artefacts: list[dict[str, Any]] = []

    def app(self) -> FastAPI:
        app = FastAPI(openapi_url=None)
        app.include_router(studio.router)

        @app.middleware("http")
        async def gate(request: Request, go_on: Any) -> Response:
            if (
                self.key
                and not studio.is_public(request.url.path)
                and request.headers.get("authorization") != f"Bearer {self.key}"
            ):
                return JSONResponse(
                    {"error": {"message": "An API key is needed.", "type": "x", "param": None, "code": "invalid_api_key"}}, 401
                )
            answer: Response = await go_on(request)
            return answer

        @app.get("/v1/models")
        def models() -> dict[str, Any]:
            return {"object": "list", "data": self.models}

        @app.get("/v1/danlu/engine")
        def engine() -> dict[str, Any]:
            return {**self.engine, "time": time.time()}

        @app.get("/v1/danlu/runs")
        def runs() -> dict[str, Any]:
            return {"object": "list", "data": self.runs}

        @app.get("/v1/danlu/runs/{name:path}")
        def run(name: str) -> dict[str, Any]:
            return next(one for one in self.runs if one["name"] == name)

        @app.get("/v1/danlu/artefacts")
        def artefacts() -> dict[str, Any]:
            return {"object": "list", "data": self.artefacts}

        @app.get("/v1/danlu/feedback")
        def feedback() -> dict[str, Any]:
            return {"object": "danlu.feedback", "name": None, "progress": None, "question": None}

        @app.post("/v1/chat/completions")
        async def chat(request: Request) -> Response:
            body = await request.json()
            self.bodies.append(body)
            if body["messages"][-1]["content"] == "refuse":
                message = "The prompt has 9,000 tokens and the context 2,048."
                return JSONResponse(
                    {"error": {"message": message, "type": "invalid_request_error", "param": None, "code": "x"}}, 400
                )
            return StreamingResponse(
                self.stream(body, body["messages"][-1]["content"], chat=True), media_type="text/event-stream"
            )

        @app.post("/tokenize")
        async def tokenize(request: Request) -> dict[str, Any]:
            return {"count": len(tokens((await request.json())["prompt"])), "max_model_len": 100}

        @app.post("/v1/completions")
        async def completions(request: Request) -> Response:
            body = await request.json()
            self.bodies.append(body)
            return StreamingResponse(self.stream(body, body["prompt"], chat=False), media_type="text/event-stream")

        return app

    async def stream(self, body: dict[str, Any], prompt: str, chat: bool) -> AsyncIterator[str]:
        parts = tokens(self.script.get(prompt, ANSWER))
        frame = {
            "id": "x-1",
            "object": "chat.completion.chunk" if chat else "text_completion",
            "created": 0,
            "model": body["model"],
        }

        def event(choice: dict[str, Any] | None, usage: dict[str, Any] | None = None) -> str:
            choices = [] if choice is None else [{"index": 0, "logprobs": None, "finish_reason": None, **choice}]
            return f"data: {json.dumps({**frame, 'choices': choices, 'usage': usage})}\n\n"

        wants = body.get("logprobs")
        held = b""
        try:
            if chat:
                yield event({"delta": {"role": "assistant", "content": ""}})
            for at, part in enumerate(parts):
                await asyncio.sleep(self.pause_s)
                held += part
                text = held.decode() if whole(held) else ""
                held = held if not text else b""
                delta: dict[str, Any] = {"delta": {"content": text}} if chat else {"text": text}
                yield event({**delta, "logprobs": logprobs(part, at, chat) if wants else None})
            if self.end == "error":
                yield f"data: {json.dumps({'error': {'message': 'The engine was shut down.', 'code': 'shutdown'}})}\n\n"
                return
            if self.end is None:
                return
            yield event({**({"delta": {}} if chat else {"text": ""}), "finish_reason": self.end})
            count = {"prompt_tokens": 9, "completion_tokens": len(parts), "total_tokens": 9 + len(parts)}
            yield event(None, {**count, "prompt_tokens_details": {"cached_tokens": 4}})
            yield "data: [DONE]\n\n"
        except (asyncio.CancelledError, GeneratorExit):
            self.left.append(body["model"])
            raise


def tokens(text: str) -> list[bytes]:
    """Words with their blanks; each Han character as two and one bytes."""
    found: list[bytes] = []
    for part in re.findall(r"[\u4e00-\u9fff]|\s?[^\s\u4e00-\u9fff]+|\s", text):
        data = part.encode()
        found += [data[:2], data[2:]] if re.fullmatch(r"[\u4e00-\u9fff]", part) else [data]
    return found


def whole(data: bytes) -> bool:
    with contextlib.suppress(UnicodeDecodeError):
        data.decode()
        return True
    return False


def logprobs(part: bytes, at: int, chat: bool) -> dict[str, Any]:
    """The token holds a probability that falls with its place; three others share most of the rest."""
    p = (0.95, 0.6, 0.3, 0.1, 0.02)[at % 5]
    others = [(b" gold", 0.5 * (1 - p)), (b" lead", 0.3 * (1 - p)), ("丹".encode()[:2], 0.1 * (1 - p))]
    listed = sorted([(part, p), *others], key=lambda one: -one[1])
    rows = [{"token": data.decode(errors="replace"), "logprob": math.log(share), "bytes": list(data)} for data, share in listed]
    mine = {"token": part.decode(errors="replace"), "logprob": math.log(p), "bytes": list(part)}
    if chat:
        return {"content": [{**mine, "top_logprobs": rows}], "refusal": None}
    return {"tokens": [mine["token"]], "token_logprobs": [mine["logprob"]], "text_offset": [0],
            "top_logprobs": [{row["token"]: row["logprob"] for row in rows}]}  # fmt: skip


@contextlib.contextmanager
def serving(app: Any) -> Iterator[str]:
    """The address of an app that runs in a thread."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join(5)
