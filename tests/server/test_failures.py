"""What goes wrong behind the door: a request's fault, a dead or stalled engine, too much at once, a stop in the middle (C05)."""

import contextlib
import threading
import time

import httpx2
import openai
import pytest
from tests.server.running import made_service, serving

from danlu.engine.opening import Serving
from danlu.engine.work import RowFault
from danlu.server.limits import Limits
from danlu.server.models import Models, Served
from danlu.server.service import Service

ASK = {"model": "base", "prompt": "abc", "max_tokens": 4}


@pytest.fixture
def fragile(folders):
    """A server of its own, whose runner a test may break."""
    service = made_service(Served("base", folders / "base"), serving=Serving(rows=2, waiting=2, cache_tokens=512),
                           limits=Limits(request_s=20, first_s=1, ping_s=0.2))  # fmt: skip
    with serving(service) as running:
        yield running


def runner_of(running):
    return running.service.models.all[0].engine.runner


@contextlib.contextmanager
def slow(running, seconds):
    """Steps that take so long."""
    runner = runner_of(running)
    run = runner.run

    def late(pieces):
        time.sleep(seconds)
        return run(pieces)

    runner.run = late
    yield
    del runner.run


@contextlib.contextmanager
def held(running, rows):
    """Steps of so many rows wait for the test's word, so that what is to happen before happens on a slow machine too."""
    runner, go = runner_of(running), threading.Event()
    run = runner.run

    def late(pieces):
        assert len({piece.row for piece in pieces}) < rows or go.wait(20)
        return run(pieces)

    runner.run = late
    try:
        yield go
    finally:
        go.set()
        del runner.run


def asked(running, jobs):
    """Wait until the engine has so many answers to write."""
    engine = running.service.models.all[0].engine
    until(lambda: (state := engine.status()).running + state.waiting == jobs)


def until(true, seconds=10):
    deadline = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_fault_fails_its_request_alone_and_is_not_repeated(fragile):
    runner, bad = runner_of(fragile), 200
    run = runner.run

    def broken(pieces):
        for piece in pieces:
            if bad in piece.ids:
                raise RowFault(piece.row, "/secret/path at 0x7f00aa")
        return run(pieces)

    runner.run = broken
    with pytest.raises(openai.InternalServerError) as failed:
        fragile.client(max_retries=2).completions.create(**{**ASK, "prompt": [bad]})
    assert failed.value.response.headers["x-should-retry"] == "false" and failed.value.code == "internal_error"
    assert "secret" not in failed.value.message and "0x" not in failed.value.message
    assert fragile.metric("request_failed_total") == 1  # asked once, though the client may ask three times
    assert fragile.post("/v1/completions", {**ASK, "max_tokens": 1}).status_code == 200
    assert fragile.get("/health").status_code == 200


def test_a_fault_in_the_middle_of_a_stream_is_an_error_object(fragile):
    runner = runner_of(fragile)
    run, steps = runner.run, []

    def broken(pieces):
        steps.append(pieces)
        if len(steps) > 3:
            raise RuntimeError("boom")
        return run(pieces)

    runner.run = broken
    with pytest.raises(openai.APIError) as failed:
        list(fragile.client().completions.create(**{**ASK, "max_tokens": 20}, extra_body={"ignore_eos": True}, stream=True))
    assert failed.value.code == "internal_error" and "boom" not in failed.value.message


def test_a_dead_engine_turns_health_to_503_and_fails_what_is_under_way(fragile):
    engine = fragile.service.models.all[0].engine
    assert fragile.get("/health").json() == {"status": "ok"}

    def plan():
        raise MemoryError

    engine._scheduler.plan = plan
    answer = fragile.post("/v1/completions", ASK)
    assert answer.status_code in (500, 503) and answer.json()["error"]["type"] == "server_error"
    health = fragile.get("/health")
    assert health.status_code == 503 and health.json() == {"status": "dead"}
    again = fragile.post("/v1/completions", ASK)
    assert again.status_code == 503 and again.json()["error"]["code"] == "overloaded" and int(again.headers["retry-after"]) > 0
    assert fragile.metric("engine_alive") == 0


def test_a_stalled_engine_turns_health_to_503_until_it_moves(fragile):
    fragile.service.stall_s = 0.1
    with held(fragile, rows=1) as go:
        thread = threading.Thread(target=fragile.post, args=("/v1/completions", {**ASK, "max_tokens": 1}))
        thread.start()
        until(lambda: fragile.get("/health").status_code == 503)
        assert fragile.get("/health").json() == {"status": "stalled"}
        go.set()
        thread.join()
    assert fragile.get("/health").status_code == 200


def test_too_much_at_once_is_503_with_a_time_to_ask_again(fragile):
    answers: list[httpx2.Response] = []
    body = {**ASK, "max_tokens": 2, "n": 2}
    with held(fragile, rows=1) as go:
        threads = [threading.Thread(target=lambda: answers.append(fragile.post("/v1/completions", body))) for _ in range(3)]
        for thread in threads:
            thread.start()
        until(lambda: answers)  # nothing is written yet, so this is a refusal
        go.set()
        for thread in threads:
            thread.join()
    refused = answers[0]
    assert refused.status_code == 503 and refused.json()["error"]["code"] == "overloaded"
    assert int(refused.headers["retry-after"]) >= 1 and "x-should-retry" not in refused.headers
    assert fragile.metric("admission_rejections_total") >= 1
    assert fragile.post("/v1/completions", ASK).status_code == 200


def test_a_client_that_leaves_the_line_holds_nobody_up(fragile):
    with held(fragile, rows=2) as go:
        long = threading.Thread(
            target=fragile.post, args=("/v1/completions", {**ASK, "max_tokens": 8, "n": 2, "ignore_eos": True})
        )
        long.start()
        asked(fragile, 2)
        with pytest.raises(httpx2.ReadTimeout):
            httpx2.post(f"{fragile.url}/v1/completions", json=ASK, timeout=0.2)
        go.set()
        long.join()
    assert fragile.get("/health").status_code == 200 and fragile.post("/v1/completions", ASK).status_code == 200


def test_an_answer_that_takes_too_long_is_given_up(folders):
    service = made_service(Served("base", folders / "base"), limits=Limits(request_s=0.3))
    with serving(service) as running, slow(running, 0.2):
        answer = running.post("/v1/completions", {**ASK, "max_tokens": 40, "ignore_eos": True})
    assert answer.status_code == 504 and answer.json()["error"]["code"] == "deadline_exceeded"
    assert answer.headers["x-should-retry"] == "false"


def test_a_stream_in_which_nothing_happens_sends_pings(fragile):
    with slow(fragile, 1.5):
        answer = fragile.post("/v1/completions", {**ASK, "max_tokens": 1, "stream": True})
    assert answer.text.startswith(": ping\n\n") and answer.text.endswith("data: [DONE]\n\n")


def test_a_stopping_server_lets_streams_end_and_says_so_where_they_do_not(fragile):
    body = {**ASK, "max_tokens": 40, "ignore_eos": True, "stream": True}
    with slow(fragile, 0.1), httpx2.stream("POST", f"{fragile.url}/v1/completions", json=body, timeout=30) as answer:
        events = answer.iter_lines()
        next(events)
        fragile.service.drain(0.3)
        assert fragile.get("/health").json() == {"status": "draining"}
        refused = fragile.post("/v1/completions", ASK)
        rest = list(events)
    assert refused.status_code == 503 and "retry-after" in refused.headers
    assert '"error"' in rest[-2] and '"overloaded"' in rest[-2] and "[DONE]" not in "".join(rest)


def test_a_server_that_is_opening_its_models_says_so(folders):
    service = Service(Models([Served("base", folders / "base")]))
    with serving(service) as running:
        assert running.get("/health").json() == {"status": "loading"} and running.get("/health").status_code == 503
        assert running.get("/v1/models").json()["data"][0]["danlu"]["ready"] is False
        early = running.post("/v1/completions", ASK)
        assert early.status_code == 503 and early.headers["retry-after"]
        opened = threading.Event()
        service.open(Serving(rows=2, cache_tokens=256), ready=opened.set)
        assert opened.wait(30) and running.get("/health").json() == {"status": "ok"}
        assert running.post("/v1/completions", ASK).status_code == 200


def test_counts_add_up(fragile):
    client = fragile.client()
    used = [client.completions.create(**{**ASK, "seed": seed, "n": 2}).usage for seed in range(3)]
    assert fragile.metric("generation_tokens_total") == sum(one.completion_tokens for one in used)
    read = fragile.metric("prompt_tokens_total") + fragile.metric("prefix_cache_hits_total")
    assert read >= sum(one.prompt_tokens for one in used)
    assert fragile.metric("request_success_total") == 6
    assert fragile.metric("e2e_request_latency_seconds_count") == fragile.metric("time_to_first_token_seconds_count") == 3
    assert 'route="/v1/completions",status="200"} 3.0' in fragile.get("/metrics").text
