"""Our server passes the whole checklist, asked over the network, by plain HTTP and by the openai package's two clients."""

import json
import threading
import time
from contextlib import contextmanager

import pytest
from tests.server.live import KEY, live

from danlu.apps.conform import suite
from danlu.apps.conform.check import CHECKS, judge
from danlu.apps.conform.target import Target

pytest.importorskip("openai", reason="needs openai (extra: test)")

UNJUDGED = {
    "C26": "no guard is configured on this server; tests of moderations.py ask one that has one",
    "C27": "no standard request asks for citations",
    "C36": "no stream fails on its way in this run; test_a_stream_that_fails_says_so makes one",
    "C42": "no prompt of this run reads for half a minute; test_a_waiting_stream_gives_signs_of_life waits less",
}
"""Every check that our server does not pass, and why that is no failure."""


@pytest.fixture(scope="module")
def url(tmp_path_factory):
    with live(tmp_path_factory.mktemp("conform"), embedder=True) as url:
        yield url


@pytest.fixture(scope="module")
def verdicts(url):
    """Of all checks; those about vectors are put to the model that makes them."""
    words, vectors = Target(url, KEY, timeout_s=30), Target(url, KEY, model="embedder", timeout_s=30)
    return {one.id: judge(one, vectors if one.section == "embeddings" else words) for one in suite.chosen([])}


@pytest.mark.parametrize("id", sorted(one.id for one in CHECKS))
def test_the_checklist(verdicts, id):
    found = verdicts[id]
    assert (found.outcome == "pass") is (id not in UNJUDGED), (found.claim, found.outcome, found.detail)
    assert found.outcome != "fail"


@contextmanager
def crowded(target, n):
    """Keeps the engine busy, so that others are slow."""
    stop = threading.Event()

    def crowd():
        while not stop.is_set():
            target.post("/v1/chat/completions", target.chat(n=n, max_tokens=600, temperature=1))

    others = [threading.Thread(target=crowd) for _ in range(2)]
    for other in others:
        other.start()
    try:
        yield
    finally:
        stop.set()
        for other in others:
            other.join()


def test_a_stream_that_fails_says_so(tmp_path):
    """C36 and C37: the deadline passes in the middle; the stream ends with an error object that the client raises."""
    import openai

    with live(tmp_path, request_s=0.4, first_s=0.01) as url:
        target = Target(url, KEY, timeout_s=30)
        client = openai.OpenAI(base_url=f"{url}/v1", api_key=KEY, max_retries=0)
        with crowded(target, 6):
            for _ in range(30):
                stream = target.stream("/v1/chat/completions", target.chat(max_tokens=1900, stream=True))
                if stream.status == 200 and "error" in stream.chunks()[-1]:
                    break
            with pytest.raises(openai.APIError):
                for _ in range(30):
                    for _ in client.chat.completions.create(**target.chat(max_tokens=1900), stream=True):
                        pass
        assert stream.chunks()[-1]["error"]["code"] == "deadline_exceeded"
        (check,) = suite.chosen(["C36"])
        assert judge(check, target).outcome == "pass"


def test_a_waiting_stream_gives_signs_of_life(tmp_path):
    """C42: others have the only row; while the stream waits for it, comments come."""
    with live(tmp_path, rows=1, ping_s=0.02, first_s=0.01) as url:
        target = Target(url, KEY, timeout_s=30)
        with crowded(target, 1):
            for _ in range(30):
                stream = target.stream("/v1/chat/completions", target.chat(max_tokens=50, stream=True))
                if b": ping\n\n" in stream.raw:
                    break
    assert b": ping\n\n" in stream.raw and stream.data()[-1] == "[DONE]"


def test_a_burst_of_clients_that_all_leave_frees_everything(url):
    """C41 in numbers: sixty hang up at once; within a second the engine has nothing to do and its cache is free."""
    target = Target(url, KEY)
    body = json.dumps(target.chat(max_tokens=1500, stream=True)).encode()
    head = target.head("POST", "/v1/chat/completions", Content_Type="application/json", Content_Length=str(len(body)))
    connections = [target.connect() for _ in range(60)]
    for connection in connections:
        connection.sendall(head + body)
    time.sleep(0.3)
    for connection in connections:
        connection.close()
    deadline = time.monotonic() + 5
    while gauges(target) != {"num_requests_running": 0.0, "num_requests_waiting": 0.0, "kv_cache_usage_perc": 0.0}:
        assert time.monotonic() < deadline, gauges(target)
        time.sleep(0.05)
    assert target.post("/v1/chat/completions", target.chat()).status == 200


def gauges(target):
    names = ("num_requests_running", "num_requests_waiting", "kv_cache_usage_perc")
    lines = target.get("/metrics").body.decode().splitlines()
    return {name: sum(float(line.split()[-1]) for line in lines if line.startswith(f"danlu:{name}")) for name in names}
