"""Transport, keys and errors: C01 to C09."""

import contextlib
import json
from typing import Any
from urllib.parse import quote

from danlu.apps.conform.ask import CHAT, chat, openai_client, refuse, wrong
from danlu.apps.conform.check import Failed, NeedsMore, NotOffered, check, every, expect
from danlu.apps.conform.target import Reply, Target, receive

_GUARDED = (
    ("GET", "/v1/models"), ("POST", CHAT), ("POST", "/v1/completions"), ("POST", "/v1/embeddings"), ("POST", "/v1/responses"),
    ("GET", "/metrics"), ("GET", "/openapi.json"), ("GET", "/docs"),
)  # fmt: skip
_OVERSIZED = 256 << 20
"""Bytes that a body claims to have; no chat request needs them."""
_PATIENCE = 64 << 20
"""Bytes of an oversized body that are sent before the server should have said no."""


@check("C01")
def unknown_field(target: Target) -> None:
    """A field that the server does not know is refused by name, not ignored."""
    reply = target.post(CHAT, target.chat(temprature=0.5))
    if reply.status in (404, 405, 501):
        refuse(reply, CHAT, "")
    expect(reply.status in (400, 422), "400 for the unknown field 'temprature'", reply)
    said = f"{reply.error().get('param')} {reply.error().get('message')}"
    expect("temprature" in said, "an error that names 'temprature'", reply)


@check("C02a")
def error_body(target: Target) -> None:
    """An error body is {error: {message, type, param, code}}, all there, code and param text or null."""
    every(filter(None, (_misshapen(what, reply) for what, reply in _mistakes(target).items())))


@check("C02b")
def error_body_of_routes(target: Target) -> None:
    """Unknown addresses and wrong methods have the same error body."""
    replies = {"an unknown address": target.post("/v1/nonsense", {}), "GET on POST": target.get(CHAT)}
    every(f"{what} answers {reply.status}" for what, reply in replies.items() if reply.status not in (404, 405))
    every(filter(None, (_misshapen(what, reply) for what, reply in replies.items())))


@check("C03")
def client_exceptions(target: Target) -> None:
    """The openai client raises BadRequestError and NotFoundError, with message and code."""
    client = openai_client(target)
    chat(target)
    for want, fields in (("BadRequestError", {"temperature": 9}), ("NotFoundError", {"model": "no-such-model"})):
        try:
            client.chat.completions.create(**target.chat(**fields))
        except Exception as error:  # whatever the client makes of it is what is looked at
            expect(type(error).__name__ == want, want, error)
            expect(bool(getattr(error, "type", None)), f"{want} with a type", vars(error))
        else:
            raise Failed(want, "an answer")


@check("C04a")
def unknown_model(target: Target) -> None:
    """An unknown model is 404 invalid_request_error, model_not_found."""
    reply = target.post(CHAT, target.chat(model="no-such-model"))
    found = (reply.status, reply.error().get("type"), reply.error().get("code"))
    expect(found == (404, "invalid_request_error", "model_not_found"), "404 invalid_request_error model_not_found", reply)


@check("C04b")
def wrong_key_code(target: Target) -> None:
    """A wrong key is 401 invalid_api_key."""
    _needs_key(target)
    reply = target.get("/v1/models", headers={"Authorization": "Bearer wrong"})
    expect((reply.status, reply.error().get("code")) == (401, "invalid_api_key"), "401 invalid_api_key", reply)


@check("C05")
def no_server_errors(target: Target) -> None:
    """No mistake of a client is answered with 5xx, which clients would send again."""
    every(f"{what} answers {reply}" for what, reply in _mistakes(target).items() if reply.status >= 500)


@check("C06a")
def request_id(target: Target) -> None:
    """Every answer, errors too, has an x-request-id of its own."""
    replies = [target.get("/v1/models"), target.get("/v1/models"), target.post(CHAT, {}), target.get("/v1/nonsense")]
    ids = [reply.headers.get("x-request-id", "") for reply in replies]
    expect(all(ids) and len({*ids}) == len(ids), "four different x-request-id headers", ids)


@check("C06b")
def own_request_id(target: Target) -> None:
    """A client's own x-request-id comes back; one that is too long or odd does not."""
    ids = {"req-2a7f": True, "x" * 5000: False, 'a"><b>': False}
    answers = {own: target.get("/v1/models", headers={"X-Request-ID": own}).headers.get("x-request-id") for own in ids}
    every(
        f"{own[:12]!r} came back as {got and got[:24]!r}"
        for own, got in answers.items()
        if (got == own) is not ids[own] or not got
    )


@check("C07a")
def guarded(target: Target) -> None:
    """Every address but health asks for the key."""
    _needs_key(target)
    for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": f"Basic {target.api_key}"}):
        replies = {path: target.request(method, path, b"{}" if method == "POST" else None, headers=headers, key=False)
                   for method, path in _GUARDED}  # fmt: skip
        every(f"{path} with {headers or 'no key'} answers {reply.status}" for path, reply in replies.items()
              if reply.status not in (401, 403, 404, 405))  # fmt: skip


@check("C07b")
def lower_case_scheme(target: Target) -> None:
    """The word Bearer counts in any case."""
    _needs_key(target)
    reply = target.get("/v1/models", headers={"Authorization": f"bearer {target.api_key}"})
    expect(reply.status == 200, "200 with `bearer KEY`", reply)


@check("C07c")
def options(target: Target) -> None:
    """OPTIONS from another site gets no leave to use a key, and no 5xx."""
    origin = "https://elsewhere.example"
    asked = {"Origin": origin, "Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
    reply = target.request("OPTIONS", CHAT, headers=asked, key=False)
    allowed = reply.headers.get("access-control-allow-origin"), reply.headers.get("access-control-allow-credentials")
    expect(reply.status < 500, "no 5xx", reply)
    expect(not (allowed[1] == "true" and allowed[0] in ("*", origin)), "no leave for any site with credentials", allowed)


@check("C08a")
def models(target: Target) -> None:
    """/v1/models lists models with id, object, created, owned_by."""
    reply = target.get("/v1/models")
    expect(reply.status == 200, "200", reply)
    listed = reply.json()
    expect(listed.get("object") == "list" and bool(listed.get("data")), "object list with data", listed)
    kinds = {"id": str, "object": str, "created": int, "owned_by": str}
    every(f"{one} lacks a good {key}" for one in listed["data"] for key, kind in kinds.items()
          if not isinstance(one.get(key), kind) or (key == "object" and one[key] != "model"))  # fmt: skip


@check("C08b")
def one_model(target: Target) -> None:
    """/v1/models/ID gives one of them, with a slash in the id too."""
    for path in {quote(target.model), quote(target.model, safe="")}:
        reply = target.get(f"/v1/models/{path}")
        expect(reply.status == 200 and reply.json().get("id") == target.model, f"the model at /v1/models/{path}", reply)


@check("C08c")
def no_such_model(target: Target) -> None:
    """/v1/models/UNKNOWN is 404 with an error body."""
    for path in ("/v1/models/no-such-model", "/v1/models/no/such/model"):
        reply = target.get(path)
        expect(reply.status == 404 and bool(reply.error()), f"404 with an error body at {path}", reply)


@check("C09a")
def malformed(target: Target) -> None:
    """A body that is no JSON object is 400."""
    bodies = (b"", b"{", b'{"model": ', b"null", b"[]", b'"text"', b"\xff\xfe", b'{"model": "\xff"}', b"{}{}")
    every(filter(None, (wrong(target, CHAT, body, None, repr(body)) for body in bodies)))


@check("C09b")
def content_type(target: Target) -> None:
    """Another content type than JSON is refused."""
    body = json.dumps(target.chat()).encode()
    for kind in ("text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x"):
        reply = target.request("POST", CHAT, body, headers={"Content-Type": kind})
        expect(reply.status in (400, 415), f"400 or 415 for {kind}", reply)


@check("C09c")
def oversized(target: Target) -> None:
    """A body over the limit is 413 without reading it all."""
    _sent_until_refused(target, target.head("POST", CHAT, Content_Type="application/json", Content_Length=str(_OVERSIZED)), b"")


@check("C09d")
def oversized_in_pieces(target: Target) -> None:
    """So is one that comes in pieces and does not say how long it is."""
    _sent_until_refused(
        target, target.head("POST", CHAT, Content_Type="application/json", Transfer_Encoding="chunked"), b"100000\r\n"
    )


@check("C09e")
def deep(target: Target) -> None:
    """JSON nested too deep is 400."""

    def nested(depth: int) -> bytes:
        return b'{"model": "%s", "messages": ' % target.model.encode() + b"[" * depth + b"]" * depth + b"}"

    every(filter(None, (wrong(target, CHAT, nested(depth), None, f"depth {depth}") for depth in (300, 5_000, 200_000))))


@check("C09f")
def not_numbers(target: Target) -> None:
    """NaN and Infinity in a body are 400."""
    bodies = (json.dumps(target.chat(temperature=value)).encode() for value in (float("nan"), float("inf"), -float("inf")))
    every(filter(None, (wrong(target, CHAT, body, None, "NaN or Infinity") for body in bodies)))


@check("C09g")
def huge_header(target: Target) -> None:
    """A huge header is refused, and the server goes on serving."""
    with target.connect() as connection, contextlib.suppress(ConnectionError):  # hanging up in the middle is a refusal too
        connection.sendall(target.head("GET", "/v1/models", X_Padding="x" * (1 << 20)))
        reply = receive(connection)
        expect(reply.status in (400, 413, 431), "400 or 431", reply)
    expect(target.get("/v1/models").status == 200, "200 afterwards", "another status")


@check("C09h")
def no_http(target: Target) -> None:
    """A request that is no HTTP is answered with 400 or hung up on."""
    for words in (
        b"HELLO\r\n\r\n",
        b"GET / HTTP/9.9\r\n\r\n",
        b"POST " + CHAT.encode() + b" HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
    ):
        with target.connect() as connection:
            connection.sendall(words)
            with contextlib.suppress(ConnectionError):
                reply = receive(connection)
                expect(400 <= reply.status < 500 or reply.status == 505, f"a refusal of {words!r}", reply)


def _mistakes(target: Target) -> dict[str, Reply]:
    """What the server says to mistakes that clients make."""
    bodies: dict[str, Any] = {
        "no messages": {"model": target.model}, "messages as text": target.chat(messages="hi"), "no JSON": b"{",
        "an unknown role": target.chat(messages=[{"role": "wizard", "content": "hi"}]),
        "an unknown model": target.chat(model="none"),
        "temperature 9": target.chat(temperature=9), "n as text": target.chat(n="two"), "a number as model": target.chat(model=7),
    }  # fmt: skip
    replies = {what: target.post(CHAT, body) for what, body in bodies.items()}
    if all(reply.status in (404, 405, 501) for reply in replies.values()):
        raise NotOffered(f"{CHAT} answers 404")
    return replies


def _misshapen(what: str, reply: Reply) -> str | None:
    """What is wrong with an error body; None for a good one."""
    if reply.status < 400:
        return f"{what} answers {reply}"
    error = reply.error()
    missing = [key for key in ("message", "type", "param", "code") if key not in error]
    if missing or not isinstance(error["message"], str) or not error["message"]:
        return f"{what}: no {', '.join(missing) or 'message'} in {reply}"
    odd = [key for key in ("param", "code") if not isinstance(error[key], str | None)]
    return f"{what}: {odd[0]} is {error[odd[0]]!r}" if odd else None


def _needs_key(target: Target) -> None:
    if not target.api_key:
        raise NeedsMore("a server with keys, and --api_key")


def _sent_until_refused(target: Target, head: bytes, before: bytes) -> None:
    """Send pieces of a body until an answer comes; it must be 413 (400 too) or an end of the connection."""
    piece = before + b" " * (1 << 20) + (b"\r\n" if before else b"")
    with target.connect() as connection:
        try:
            connection.sendall(head)
            connection.settimeout(0.02)
            for _ in range(_PATIENCE >> 20):
                with contextlib.suppress(TimeoutError):
                    if connection.recv(1, 2):  # 2 is MSG_PEEK: the answer has come
                        break
                connection.settimeout(target.timeout_s)
                connection.sendall(piece)
                connection.settimeout(0.02)
            else:
                raise Failed("413", f"{_PATIENCE >> 20} MiB taken without a word")
        except (ConnectionResetError, BrokenPipeError):
            pass  # hung up while we were still sending: what it said, if anything, is read next
        connection.settimeout(target.timeout_s)
        with contextlib.suppress(ConnectionError):
            reply = receive(connection)
            expect(reply.status in (400, 413), "413", reply)
