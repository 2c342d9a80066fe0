"""Connections that are slow, many or strange; and work that does not end (C09, serving.md 5.2)."""

import asyncio
import json
import socket
import threading
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.server.running import made_service, serving

from danlu.server import workers as workers_module
from danlu.server.errors import ApiError, clean
from danlu.server.limits import DEPTH, Limits, parse
from danlu.server.models import Served
from danlu.server.workers import Workers


@pytest.fixture(scope="module")
def strict(folders):
    """A server with little patience and few connections."""
    limits = Limits(arrive_s=0.5, connections=20, body_bytes=4096)
    with serving(made_service(Served("base", folders / "base"), limits=limits)) as running:
        yield running


def sent(running, data: bytes, wait: float = 5) -> tuple[bytes, float]:
    """What comes back on a raw connection, and after how many seconds it was closed."""
    started = time.monotonic()
    with socket.create_connection(("127.0.0.1", running.port), timeout=wait) as connection:
        connection.sendall(data)
        found = b""
        try:
            while part := connection.recv(65536):
                found += part
        except ConnectionError:
            pass
        return found, time.monotonic() - started


@pytest.mark.parametrize("data", [b"", b"GET /health HT", b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\n"])
def test_headers_that_do_not_arrive_close_the_connection(strict, data):
    found, seconds = sent(strict, data)
    assert found == b"" and seconds < 4


def test_a_body_that_does_not_arrive_is_408(strict):
    head = b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\nContent-Length: 50\r\n\r\n{"
    found, seconds = sent(strict, head)
    assert found.startswith(b"HTTP/1.1 408") and b'"error"' in found and seconds < 4


@pytest.mark.parametrize("size", [20_000, 400_000])
def test_headers_over_the_limit_are_refused(strict, size):
    found, _ = sent(strict, b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-A: " + b"a" * size + b"\r\n\r\n")
    assert found[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 431", b"")


@pytest.mark.parametrize("length", [b"-1", b"1e3", b"99999999999999999999", b"4097"])
def test_a_length_that_is_none_or_too_large_is_refused(strict, length):
    found, _ = sent(strict, b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + length + b"\r\n\r\n")
    assert found[:12] in (b"HTTP/1.1 400", b"HTTP/1.1 413")


def test_more_connections_than_allowed_are_closed_and_the_others_are_served(strict):
    held = [socket.create_connection(("127.0.0.1", strict.port)) for _ in range(60)]
    for connection in held:
        connection.close()
    time.sleep(0.2)
    assert strict.get("/health").status_code == 200


def test_depth_is_counted_as_it_stands():
    parse(b"[" * DEPTH + b"]" * DEPTH)
    with pytest.raises(ApiError, match="deeper"):
        parse(b"[" * (DEPTH + 1) + b"]" * (DEPTH + 1))


TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
LEAF = st.none() | st.booleans() | st.integers(-(2**53), 2**53) | TEXT


@settings(max_examples=50)
@given(st.recursive(LEAF, lambda part: st.lists(part) | st.dictionaries(TEXT, part), max_leaves=12))
def test_strict_reading_gives_what_json_gives(tree):
    assert parse(json.dumps(tree).encode()) == tree == parse(json.dumps(tree, ensure_ascii=False).encode())


@given(st.binary(max_size=60))
def test_no_bytes_make_reading_fail_otherwise(data):
    try:
        parse(data)
    except ApiError as error:
        assert error.status == 400 and error.code == "invalid_json"


def test_work_that_takes_too_long_is_given_up_and_holds_nobody_else_up():
    go = threading.Event()

    async def main():
        workers = Workers(threads=2)
        with pytest.raises(ApiError, match="Counting took longer") as error:
            await workers.run(0.1, "Counting", go.wait, 20)
        assert error.value.status == 400
        assert await workers.run(10, "Adding", lambda: 1 + 1) == 2
        go.set()
        workers.close()

    asyncio.run(main())


def test_seconds_count_from_the_beginning_and_what_has_not_begun_can_be_dropped():
    done = []

    async def main():
        workers = Workers(threads=1)
        first = asyncio.ensure_future(workers.run(5, "Sleeping", time.sleep, 0.4))
        await asyncio.sleep(0.1)
        second = asyncio.ensure_future(workers.run(5, "Noting", done.append, "dropped"))
        third = asyncio.ensure_future(workers.run(0.2, "Noting", done.append, "kept"))
        await asyncio.sleep(0.05)
        second.cancel()
        await first
        await third
        with pytest.raises(asyncio.CancelledError):
            await second
        workers.close()

    asyncio.run(main())
    assert done == ["kept"]


def test_work_that_finds_no_thread_for_long_is_503(monkeypatch):
    monkeypatch.setattr(workers_module, "_QUEUE_S", 0.1)
    go = threading.Event()

    async def main():
        workers = Workers(threads=1)
        first = asyncio.ensure_future(workers.run(5, "Waiting", go.wait, 20))
        await asyncio.sleep(0.05)
        with pytest.raises(ApiError) as error:
            await workers.run(5, "Adding", lambda: 1)
        go.set()
        await first
        workers.close()
        return error.value

    error = asyncio.run(main())
    assert error.status == 503 and error.headers["retry-after"] == "5"


def test_messages_lose_places_and_addresses():
    assert clean("open /data/models/x.bin, ./here/y, C:\\z\\w or ~/q: see /v1/models") == (
        "open (a file), (a file), (a file) or (a file): see /v1/models"
    )
    assert clean("at 0x7ffe12345678, <danlu.x.Foo object at 0x7ffe1>") == "at (an object), (an object)"
    assert len(clean("x" * 5000)) < 1100


def test_small_answers_do_not_wait_for_an_acknowledgement(strict):
    """Without TCP_NODELAY head and body, or two events of a stream, lie 40 ms apart."""

    def seconds():
        started = time.monotonic()
        assert strict.get("/health").status_code == 200
        return time.monotonic() - started

    assert min(seconds() for _ in range(20)) < 0.02
