"""Whatever is sent, no 5xx, no hang, and every error in the one shape that clients read; neighbours are served meanwhile."""

import contextlib
import copy
import json
import os
import random
import socket
import time

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from tests.server.live import KEY, live

from danlu.apps.conform.target import Target, receive

WAIT_S = 10
CONNECTIONS = int(os.environ.get("DANLU_LORIS", "10"))
"""Slow connections at the same time; a thousand make a better attack and take longer."""
EXAMPLES = int(os.environ.get("DANLU_FUZZ", "40"))
"""Mutations of each good body; thousands find more and take longer."""


@pytest.fixture(scope="module")
def target(tmp_path_factory):
    with live(tmp_path_factory.mktemp("fuzz"), max_tokens=8, answer_tokens=24, arrive_s=1.0, connections=CONNECTIONS + 40) as url:
        yield Target(url, KEY, timeout_s=WAIT_S)


def quick(examples):
    return settings(max_examples=examples, deadline=None, database=None, derandomize=True, phases=[Phase.generate],
                    suppress_health_check=[*HealthCheck])  # fmt: skip


def check(reply, what):
    """No 5xx (503 and 504 neither: one client at a time is no overload), and errors are objects with four fields."""
    assert reply.status < 500, (what, str(reply))
    if reply.status >= 400:
        error = reply.error()
        assert isinstance(error.get("message"), str) and error["message"], (what, str(reply))
        assert {"message", "type", "param", "code"} <= set(error) and isinstance(error["type"], str), (what, str(reply))
        assert isinstance(error["param"], str | None) and isinstance(error["code"], str | None), (what, str(reply))
        assert reply.headers.get("x-request-id"), what
        assert "Traceback" not in error["message"] and ".py" not in error["message"], (what, str(reply))


EXCUSES = ("unsupported_parameter", "unsupported_model", "not_found", "no_guard")
QUESTION = [{"role": "user", "content": "tea? 茶 😀"}]
TOOL = {
    "type": "function",
    "function": {"name": "look", "parameters": {"type": "object", "properties": {"a": {"type": "string"}}}},
}
BODIES = {
    "/v1/chat/completions": {
        "messages": [{"role": "system", "content": "Be brief."}, *QUESTION], "max_tokens": 4, "temperature": 0.5,
        "top_p": 0.9, "n": 2,
        "stop": ["x", "yz"], "seed": 3, "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": 3}, "frequency_penalty": 0.5,
        "presence_penalty": -0.5, "stream": False, "user": "me", "metadata": {"a": "b"}, "tools": [TOOL], "tool_choice": "auto",
        "response_format": {"type": "text"},
    },
    "/v1/completions": {
        "prompt": ["tea", "茶"], "max_tokens": 4, "temperature": 0, "logprobs": 2, "echo": True, "n": 1, "stop": "q", "seed": 1,
        "best_of": 1, "stream": False,
    },
    "/v1/embeddings": {"input": ["tea", "茶"], "encoding_format": "float"},
    "/v1/responses": {"input": [{"role": "user", "content": "tea"}], "max_output_tokens": 16, "temperature": 0, "store": False},
    "/v1/messages": {"messages": QUESTION, "max_tokens": 4, "system": "Be brief.", "temperature": 0.5, "stop_sequences": ["x"]},
    "/v1/rerank": {"query": "tea", "documents": ["green tea", "a mountain"], "top_n": 1},
    "/v1/moderations": {"input": ["tea", "茶"]},
    "/tokenize": {"prompt": "tea 茶"},
    "/detokenize": {"tokens": [70, 71, 72]},
}  # fmt: skip
ODD = (
    None, True, False, 0, -1, 1, 2, 1.5, -0.0, 1e308, -1e308, 5e-324, 2**31, 2**63, -(2**63) - 1, 10**400, "", " ", "a", "\x00",
    "\ud800", "\ufffd\u202e", "a" * 3000, "<|im_start|>system", "{{ 7*7 }}", "{% for x in range(10**9) %}", "../../etc/passwd",
    [], [[]], [None], {}, {"": {}}, {"a": 1}, ["a"] * 200, [[[[[[]]]]]], {"type": "object"}, {"$ref": "#"}, "auto", "json_schema",
)  # fmt: skip


def places(tree, path=()):
    """Every place in a body."""
    yield path
    parts = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    for key, part in parts:
        yield from places(part, (*path, key))


def mutated(dice, body):
    """A body with one to three things wrong, as bytes."""
    body = json.loads(json.dumps(body))
    for _ in range(dice.randrange(1, 4)):
        path = dice.choice([*places(body)][1:] or [()])
        if not path:
            continue
        at = body
        for key in path[:-1]:
            at = at[key]
        match dice.randrange(6):
            case 0:
                del at[path[-1]]
            case 1 if isinstance(at, dict):
                at[dice.choice(["odd", "Model", "", "__class__", "stream_options", "n "])] = copy.deepcopy(dice.choice(ODD))
            case 2 if isinstance(at, list):
                at.extend(at[:1] * dice.choice([1, 70, 2000]))
            case _:
                at[path[-1]] = copy.deepcopy(dice.choice(ODD))
    text = json.dumps(body, ensure_ascii=dice.random() < 0.5)
    match dice.randrange(12):
        case 0:
            text = text.replace(": 4", ": NaN").replace(": 0.5", ": Infinity")
        case 1:
            text = text[:-1] + ', "model": "twice"}'
        case 2:
            text = text[: dice.randrange(len(text))]
        case 3:
            text = text.replace('"tea"', "[" * 3000 + "]" * 3000)
        case 4:
            text = text.replace(": 4", ": 4e999").replace(": 1", ": 1" + "0" * 5000)
        case 5:
            return text.encode("utf-16", "surrogatepass")
    return text.encode("utf-8", "surrogatepass")


@pytest.mark.parametrize("path", BODIES)
def test_good_bodies_are_good(target, path):
    """Else the mutations below would only ever meet the first check."""
    reply = target.post(path, {**BODIES[path], "model": target.model})
    check(reply, path)
    assert reply.status == 200 or reply.error()["code"] in EXCUSES, str(reply)


@pytest.mark.parametrize("path", BODIES)
def test_mutations_of_good_bodies(target, path):
    @quick(EXAMPLES)
    @given(st.integers(0, 2**32))
    def fuzz(seed):
        body = mutated(random.Random(seed), {**BODIES[path], "model": target.model})
        check(target.post(path, body), (path, seed, body[:300]))

    fuzz()


def test_any_bytes_as_a_body(target):
    @quick(60)
    @given(st.sampled_from([*BODIES]), st.binary(max_size=200))
    def fuzz(path, body):
        check(target.post(path, body), (path, body))

    fuzz()


def test_any_json_as_a_body(target):
    tree = st.recursive(
        st.sampled_from(ODD), lambda part: st.lists(part, max_size=4) | st.dictionaries(st.text(max_size=5), part, max_size=4)
    )

    @quick(60)
    @given(st.sampled_from([*BODIES]), tree)
    def fuzz(path, body):
        check(target.post(path, json.dumps(body).encode()), (path, body))

    fuzz()


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/models/%00"), ("GET", "/v1/models/" + "a" * 5000), ("GET", "/%2e%2e/%2e%2e/etc/passwd"),
        ("GET", "//etc/passwd"), ("GET", "/studio/%2e%2e/app.py"), ("GET", "/v1/models/%ff%fe"), ("DELETE", "/v1/models/x"),
        ("PUT", "/v1/chat/completions"),
        ("PATCH", "/health"), ("TRACE", "/"), ("GET", "/v1/models?a=%00&b=" + "x" * 2000), ("HEAD", "/v1/models"), ("FOO", "/"),
    ],
)  # fmt: skip
def test_odd_addresses_and_methods(target, method, path):
    reply = target.request(method, path)
    assert reply.status < 500
    if method != "HEAD" and reply.headers.get("content-type", "").startswith("application/json"):
        check(reply, path)
    assert b"root:" not in reply.body and b"import " not in reply.body


POST = b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer " + KEY.encode() + b"\r\n"


@pytest.mark.parametrize(
    "head",
    [
        POST + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        POST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\n{}",
        POST + b"Content-Length: 99999999999999999999999\r\n\r\n{}",
        POST + b"Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFFFFFF\r\n",
        POST + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"GET /v1/models HTTP/1.1\r\n" + b"X: y\r\n" * 5000 + b"\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n",
        b"GET /v1/models HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET http://evil.example/v1/models HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\nHost: localhost\r\n\r\n",
        b"GET /v1/models HTTP/1.1\nHost: localhost\n\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"\x00" * 4096,
    ],
    ids=lambda head: head[:24].decode("latin-1").strip() + f"-{len(head)}",
)
def test_requests_that_no_library_would_send(target, head):
    with target.connect() as connection:
        connection.settimeout(WAIT_S)
        with contextlib.suppress(ConnectionError):
            connection.sendall(head)
            assert receive(connection).status in (400, 401, 403, 404, 408, 413, 414, 421, 431, 501, 505)
    assert target.get("/v1/models").status == 200


def test_slow_connections_are_cut_and_nobody_waits_for_them(target):
    """Slow-loris: many clients that send a byte now and then, some in the head of a request, some in its body."""
    head = target.head("POST", "/v1/chat/completions", Content_Type="application/json", Content_Length="500")
    slow = []
    for number in range(CONNECTIONS):
        connection = socket.create_connection((target.host, target.port))
        connection.sendall(head if number % 2 else head[:40])
        slow.append(connection)
    started, answered = time.monotonic(), []
    open_ones = set(slow)
    while open_ones and time.monotonic() - started < WAIT_S:
        begun = time.monotonic()
        assert target.post("/v1/chat/completions", target.chat(max_tokens=2)).status == 200
        answered.append(time.monotonic() - begun)
        for connection in [*open_ones]:
            if gone(connection):
                open_ones.discard(connection)
    for connection in slow:
        connection.close()
    assert not open_ones, f"{len(open_ones)} slow connections are still open after {WAIT_S} s"
    assert max(answered) < 2, "a good client waited"


def gone(connection):
    """Whether the server has ended this connection; sends one more byte if not."""
    connection.settimeout(0.001)
    try:
        while piece := connection.recv(4096):
            assert b" 408 " in piece or b" 400 " in piece or not piece.startswith(b"HTTP/"), piece[:100]
        return True
    except TimeoutError:
        pass
    except OSError:
        return True
    try:
        connection.sendall(b"a")
    except OSError:
        return True
    return False


def test_the_openapi_document_and_the_server_agree(target):
    """Schemathesis makes requests from the document; the server must take or refuse each, never break."""
    schemathesis = pytest.importorskip("schemathesis", reason="needs schemathesis (extra: test)")
    headers = {"Authorization": f"Bearer {KEY}"}
    schema = schemathesis.openapi.from_dict(target.get("/openapi.json").json())
    tried = 0
    for found in schema.get_all_operations():
        operation = found.ok()

        @quick(6)
        @given(operation.as_strategy())
        def fuzz(case):
            case.headers = {**(case.headers or {}), **headers} if "Authorization" not in (case.headers or {}) else case.headers
            reply = case.call(base_url=target.url, timeout=WAIT_S)
            assert reply.status_code < 500, (case.formatted_path, case.body, reply.text[:300])
            if reply.status_code >= 400:
                assert set(reply.json()["error"]) >= {"message", "type", "param", "code"}, reply.text[:300]

        fuzz()
        tried += 1
    assert tried >= 8
    assert target.get("/health").status == 200
