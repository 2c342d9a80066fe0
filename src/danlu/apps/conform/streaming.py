"""Chat completions, streamed: C30 to C43.

The order that every strict client accepts: one chunk with the role for each choice, in order of index; content and tool deltas;
one chunk for each choice with an empty delta and the reason; the usage, if asked for, with no choices; `[DONE]`.
"""

import asyncio
import contextlib
import json
import re
import socket
import time

from danlu.apps.conform.ask import CHAT, chat, chunks, message, openai_client, steady, texts, wrong
from danlu.apps.conform.chat import TOOL, stop_inside
from danlu.apps.conform.check import Failed, NeedsMore, check, every, expect
from danlu.apps.conform.target import QUESTION, Target

_DELTA = {"role", "content", "refusal", "tool_calls", "function_call", "reasoning_content", "reasoning"}
_TRIES = 3
_LONG_WAIT_S = 35
_HARD = "Repeat exactly: 你好，世界。👩‍👩‍👧‍👦 é à̂ नमस्ते 😀😀 — done."
_RUNNING = re.compile(r"^\S*(?:num_requests_running|requests_processing)(?:\{[^}]*\})?\s+([\d.eE+-]+)", re.MULTILINE)
_WRITTEN = re.compile(r"^\S*(?:generation_tokens(?:_total)?|tokens_predicted_total)(?:\{[^}]*\})?\s+([\d.eE+-]+)", re.MULTILINE)


@check("C30a")
def stream_headers(target: Target) -> None:
    """A stream is text/event-stream, not cached, not buffered by proxies."""
    chunks(target)
    headers = target.streams[-1].headers
    expect(headers.get("content-type", "").startswith("text/event-stream"), "text/event-stream", headers.get("content-type"))
    expect("no-cache" in headers.get("cache-control", "").lower(), "Cache-Control: no-cache", headers.get("cache-control"))
    expect(headers.get("x-accel-buffering") == "no", "X-Accel-Buffering: no", headers.get("x-accel-buffering"))


@check("C30b")
def same_head(target: Target) -> None:
    """Id, created, model and object are the same in all chunks."""
    parts = chunks(target)
    heads = {(part["id"], part["created"], part["model"], part["object"]) for part in parts}
    expect(len(heads) == 1, "one id, created, model, object", sorted(map(str, heads)))
    expect(parts[0]["object"] == "chat.completion.chunk", "chat.completion.chunk", parts[0]["object"])


@check("C31")
def role_once(target: Target) -> None:
    """The role comes once for each choice, first, with empty content."""
    parts = chunks(target)
    first = parts[0]["choices"][0]["delta"]
    expect(first.get("role") == "assistant" and first.get("content") == "", "role assistant with content ''", first)
    roles = [one["delta"]["role"] for part in parts for one in part["choices"] if one["delta"].get("role") is not None]
    expect(len(roles) == 1, "one delta with a role", roles)


@check("C32")
def tool_deltas(target: Target) -> None:
    """A tool call begins with index, id, type and name; later deltas carry index and arguments only."""
    choice = {"type": "function", "function": {"name": "look_up"}}
    parts = chunks(target, "tools", tools=[TOOL], tool_choice=choice, max_tokens=200)
    deltas = [call for part in parts for one in part["choices"] for call in one["delta"].get("tool_calls") or ()]
    expect(bool(deltas), "deltas with tool_calls", parts[:3])
    begun: dict[int, str] = {}
    for delta in deltas:
        place, function = delta["index"], delta["function"]
        if place not in begun:
            good = delta.get("id") and delta.get("type") == "function" and function.get("name") and place == len(begun)
            expect(bool(good) and isinstance(function.get("arguments"), str), "a beginning with id, type, name, arguments", delta)
            begun[place] = ""
        else:
            expect(not delta.get("id") and not delta.get("type") and not function.get("name"), "index and arguments only", delta)
        begun[place] += function.get("arguments") or ""
    whole = message(target, "tools", tools=[TOOL], tool_choice=choice, max_tokens=200)["message"]["tool_calls"]
    expect([*begun.values()] == [call["function"]["arguments"] for call in whole], f"the arguments {whole}", begun)


@check("C33")
def roles_first(target: Target) -> None:
    """With n answers all role chunks come first, in order of index."""
    parts = chunks(target, "n", n=3, temperature=1, max_tokens=4)
    order = [
        (one["index"], "role" in one["delta"] and one["delta"]["role"] is not None) for part in parts for one in part["choices"]
    ]
    expect(order[:3] == [(0, True), (1, True), (2, True)], "the roles of 0, 1, 2 first", order[:6])


@check("C34a")
def usage_last(target: Target) -> None:
    """With include_usage the usage comes last, without choices; before it usage is null."""
    parts = chunks(target, "stream_options", stream_options={"include_usage": True})
    expect(parts[-1].get("choices") == [] and bool(parts[-1].get("usage")), "a last chunk with usage only", parts[-1])
    expect(all("usage" in part and part["usage"] is None for part in parts[:-1]), "usage null in all chunks before", parts[:2])
    used, wanted = parts[-1]["usage"]["completion_tokens"], chat(target)["usage"]["completion_tokens"]
    expect(used == wanted, f"{wanted} completion tokens, as in one piece", used)


@check("C34b")
def no_usage(target: Target) -> None:
    """Without include_usage there is no usage chunk."""
    parts = chunks(target)
    expect(all(part["choices"] and not part.get("usage") for part in parts), "choices in every chunk and no usage", parts[-1])


@check("C34c")
def stream_options_alone(target: Target) -> None:
    """The field stream_options without stream is refused by name."""
    every(filter(None, [wrong(target, CHAT, target.chat(stream_options={"include_usage": True}), "stream_options")]))


@check("C35")
def known_deltas(target: Target) -> None:
    """Deltas hold nothing that accumulating clients would add up or choke on."""
    parts = chunks(target)
    keys = {key for part in parts for one in part["choices"] for key in one["delta"]}
    expect(keys <= _DELTA, f"only {', '.join(sorted(_DELTA))}", sorted(keys))


@check("C36")
def errors_inside(target: Target) -> None:
    """An error inside a stream is an object with message and code."""
    errors = [part["error"] for stream in target.streams for part in stream.chunks() if "error" in part]
    if not errors:
        raise NeedsMore("a stream that fails on its way: none did in this run")
    every(
        f"{error!r} is no error object" for error in errors if not isinstance(error, dict) or not {"message", "code"} <= {*error}
    )


@check("C37")
def ends(target: Target) -> None:
    """Every choice ends with one chunk of an empty delta and its reason."""
    for count in (1, 2):
        parts = chunks(target, "n", n=count, max_tokens=4) if count > 1 else chunks(target)
        for index in range(count):
            mine = [one for part in parts for one in part["choices"] if one["index"] == index]
            reasons = [one["finish_reason"] for one in mine if one["finish_reason"] is not None]
            expect(len(reasons) == 1 and mine[-1]["finish_reason"] == reasons[0], "one reason, in the last chunk", reasons)
            expect(mine[-1]["delta"] == {}, "an empty delta beside the reason", mine[-1])


@check("C38a")
def canonical(target: Target) -> None:
    """Events are written `data: {json}` with an empty line after each, and end with `data: [DONE]`."""
    chunks(target)
    raw = target.streams[-1].raw.decode("utf-8")
    expect(raw.endswith("data: [DONE]\n\n"), "`data: [DONE]` and an empty line at the end", raw[-40:])
    odd = [block for block in raw.removesuffix("\n\n").split("\n\n") if not re.fullmatch(r"(?:data: \S.*|:.*)", block)]
    expect(not odd, "one `data: ` line an event", odd[:2])


@check("C39a")
def same_text(target: Target) -> None:
    """Deltas put together are the answer in one piece, to the character."""
    for content in (QUESTION[0]["content"], _HARD):
        fields = {"messages": [{"role": "user", "content": content}], "max_tokens": 64}
        whole = steady(target, **fields)
        parts = chunks(target, **fields)
        expect(texts(parts) == whole["message"]["content"], repr(whole["message"]["content"]), repr(texts(parts)))
        reason = [one["finish_reason"] for part in parts for one in part["choices"]][-1]
        expect(reason == whole["finish_reason"], whole["finish_reason"], reason)


@check("C39b")
def whole_characters(target: Target) -> None:
    """No delta holds half a character."""
    fields = {"messages": [{"role": "user", "content": _HARD}], "max_tokens": 64}
    whole = steady(target, **fields)["message"]["content"]
    for part in chunks(target, **fields):
        for one in part["choices"]:
            text = one["delta"].get("content") or ""
            expect(not any("\ud800" <= letter <= "\udfff" for letter in text), "no lone surrogate", ascii(text))
            expect("\ufffd" not in text or "\ufffd" in whole, "no U+FFFD that the whole answer lacks", ascii(text))


@check("C39c")
def stop_held_back(target: Target) -> None:
    """A stop text that lies across deltas is held back and never shown."""
    whole = steady(target, max_tokens=32)["message"]["content"]
    stop = stop_inside(whole)
    parts = chunks(target, "stop", max_tokens=32, stop=[stop])
    expect(texts(parts) == whole[: whole.index(stop)], f"{whole[: whole.index(stop)]!r} with stop {stop!r}", repr(texts(parts)))
    expect(parts[-1]["choices"][0]["finish_reason"] == "stop", "stop", parts[-1])


@check("C40")
def same_logprobs(target: Target) -> None:
    """Streamed logprobs put together are those of the answer in one piece."""
    fields = {"logprobs": True, "top_logprobs": 2, "max_tokens": 24}
    whole = steady(target, "logprobs", **fields)["logprobs"]["content"]
    parts = chunks(target, "logprobs", **fields)
    entries = [entry for part in parts for one in part["choices"] for entry in (one.get("logprobs") or {}).get("content") or ()]
    expect(
        [entry["token"] for entry in entries] == [entry["token"] for entry in whole],
        f"{len(whole)} tokens in order",
        len(entries),
    )
    every(f"{one} streamed, {other} in one piece" for one, other in zip(entries, whole, strict=True)
          if abs(one["logprob"] - other["logprob"]) > 1e-3 or one["bytes"] != other["bytes"])  # fmt: skip


@check("C41a")
def hang_up_streaming(target: Target) -> None:
    """The work ends when a streaming client hangs up."""
    _hang_up(target, stream=True)


@check("C41b")
def hang_up_waiting(target: Target) -> None:
    """The work ends when a client that waits for one piece hangs up."""
    _hang_up(target, stream=False)


@check("C42")
def pings(target: Target) -> None:
    """No stream is silent for more than half a minute."""
    waits = [max(stream.waits_s, default=0.0) for stream in target.streams]
    expect(max(waits, default=0.0) <= _LONG_WAIT_S, f"a sign of life every {_LONG_WAIT_S} s", waits)
    if max(waits, default=0.0) < _LONG_WAIT_S - 10:
        raise NeedsMore("a prompt that reads for half a minute: no stream of this run was silent so long")


@check("C43")
def refused_before_streaming(target: Target) -> None:
    """A request that must be refused is refused in plain JSON, also with stream."""
    chunks(target)
    for changes in ({"temperature": 9}, {"messages": []}, {"model": "no-such-model"}, {"n": 0}):
        reply = target.post(CHAT, target.chat(**changes, stream=True))
        kind = reply.headers.get("content-type", "")
        expect(400 <= reply.status < 500 and kind.startswith("application/json"), f"4xx JSON for {changes}", (reply.status, kind))
        expect(bool(reply.error()), f"an error body for {changes}", reply)


@check("C38b")
def accumulated(target: Target) -> None:
    """The openai client's own accumulator ends with the answer in one piece."""
    client = openai_client(target)
    body = target.chat(max_tokens=24)
    whole = steady(target, max_tokens=24)
    with client.chat.completions.stream(**body) as events:
        for _ in events:
            pass
        found = events.current_completion_snapshot.choices[0]
    expect((found.message.content, found.message.role) == (whole["message"]["content"], "assistant"), repr(whole), repr(found))
    expect(found.finish_reason == whole["finish_reason"], whole["finish_reason"], found.finish_reason)


@check("C38c")
def accumulated_together(target: Target) -> None:
    """The openai client's asynchronous side reads many streams at a time, each to its reason."""
    client = openai_client(target, "AsyncOpenAI")
    body = target.chat(max_tokens=24)
    chat(target)

    async def one() -> tuple[str, list[str]]:
        stream = await client.chat.completions.create(**body, stream=True)
        choices = [part.choices[0] async for part in stream if part.choices]
        return "".join(one.delta.content or "" for one in choices), [one.finish_reason for one in choices if one.finish_reason]

    async def together() -> list[tuple[str, list[str]]]:
        async with client:
            return await asyncio.gather(*(one() for _ in range(8)))

    found = asyncio.run(together())
    every(f"{text!r} ended with {reasons}" for text, reasons in found if not text or len(reasons) != 1)


def _hang_up(target: Target, stream: bool) -> None:
    """Ask for a long answer, leave, and look in /metrics whether work goes on; again where an answer may just have been quick."""
    chat(target)
    most = _longest(target)
    for _ in range(_TRIES):
        written = _left(target, stream, most)
        if written < most:
            return
    raise Failed(f"fewer than {most} tokens written", f"{written:.0f} tokens, {_TRIES} times")


def _left(target: Target, stream: bool, most: int) -> float:
    """Tokens that were written of an answer whose client has left."""
    before = _idle(target)
    expect(before[0] == 0, "no request running before this check", before)
    body = json.dumps(target.chat(max_tokens=most, stream=stream)).encode()
    with target.connect() as connection:
        connection.sendall(target.head("POST", CHAT, Content_Type="application/json", Content_Length=str(len(body))) + body)
        connection.settimeout(5 if stream else 0.15)
        with contextlib.suppress(TimeoutError):
            connection.recv(1024)
        if not _figures(target)[0]:
            raise NeedsMore(f"a longer answer: one of {most} tokens had ended before the client left")
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RDWR)
    now = _idle(target)
    expect(now[0] == 0, f"no request running {target.patience_s} s later", f"{now[0]} running")
    return now[1] - before[1]


def _longest(target: Target) -> int:
    """The longest answer that the server will begin, up to 8,192 tokens."""
    for most in (8192, 4096, 2048, 1024, 512, 256):
        if _fits(target, most):
            return most
    raise NeedsMore("room for an answer of 256 tokens")


def _fits(target: Target, most: int) -> bool:
    """Whether an answer of so many tokens is begun: looked at by its head, then left."""
    body = json.dumps(target.chat(max_tokens=most, stream=True)).encode()
    with target.connect() as connection:
        connection.sendall(target.head("POST", CHAT, Content_Type="application/json", Content_Length=str(len(body))) + body)
        status = connection.recv(64).split(b" ")[1:2]
    _idle(target)
    return status == [b"200"]


def _idle(target: Target) -> tuple[float, float]:
    """The figures once nothing runs, or once patience is over. An answer may be here a moment before its row is free."""
    deadline = time.monotonic() + target.patience_s
    while (now := _figures(target))[0] and time.monotonic() < deadline:
        time.sleep(0.05)
    return now


def _figures(target: Target) -> tuple[float, float]:
    """Requests running and tokens written so far, from /metrics in the names of vLLM, llama.cpp or Danlu."""
    reply = target.get("/metrics")
    text = reply.body.decode("utf-8", "replace") if reply.status == 200 else ""
    running, written = _RUNNING.findall(text), _WRITTEN.findall(text)
    if not running or not written:
        raise NeedsMore("/metrics with the requests running and the tokens generated")
    return sum(map(float, running)), sum(map(float, written))
