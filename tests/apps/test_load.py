"""The load client measures what its definitions say, counts what happened, and never asks the same twice."""

import asyncio
import json
import time

import numpy as np
import pytest
from tests.apps.fake_server import KEY, Faults, serving

import danlu
from danlu.apps.load.client import Answer, Client, said
from danlu.apps.load.figures import DEFINITIONS, figures, percentile
from danlu.apps.load.prompts import Prompts
from danlu.apps.load.run import Level, Load, connect, drive, measure
from danlu.core.errors import DanluError

MODEL = "maker/fake"


def load(url, **changes):
    return Load(url, MODEL, KEY, **{"requests": 12, "prompt_tokens": 90, "max_tokens": 7, "timeout_s": 5, **changes})


def test_percentiles_are_those_of_numpy():
    values = sorted(np.random.default_rng(0).normal(size=101).tolist())
    for share in (0, 1, 33, 50, 90, 99, 100):
        assert percentile(values, share) == pytest.approx(np.percentile(values, share))
    assert percentile([3.0], 99) == 3.0


def test_the_figures_of_a_worked_example():
    one = Answer(
        started=0.0, outcome="success", ended=2.0, pieces=[0.5, 0.75, 1.75], prompt_tokens=10, output_tokens=4, counted=True
    )
    two = Answer(started=1.0, outcome="success", ended=4.0, pieces=[2.0], prompt_tokens=20, output_tokens=1)
    gone = Answer(started=0.5, outcome="left", ended=5.0, pieces=[0.6], output_tokens=1)
    found = figures([one, two, gone])
    assert found["requests"] == {"success": 2, "incomplete": 0, "error": 0, "left": 1, "refused": 0}
    assert found["duration_s"] == 5.0 and found["request_rate"] == 2 / 5
    assert found["output_tokens_per_s"] == 1.0 and found["total_tokens_per_s"] == 7.0
    assert (found["ttft_s"]["min"], found["ttft_s"]["max"]) == (0.5, 1.0)
    assert (found["itl_s"]["min"], found["itl_s"]["max"]) == (0.25, 1.0)
    assert found["tpot_s"]["mean"] == pytest.approx((2.0 - 0.5) / 3), "one token has no time between tokens"
    assert found["e2e_s"]["mean"] == 2.5
    assert set(DEFINITIONS) >= {"ttft_s", "itl_s", "tpot_s", "e2e_s", *found["requests"]}


@pytest.mark.parametrize(
    ("choice", "text"),
    [
        ({"delta": {"role": "assistant", "content": ""}}, False),
        ({"delta": {}, "finish_reason": "stop"}, False),
        ({"delta": {"content": "a"}}, True),
        ({"text": "a"}, True),
        ({"text": "", "finish_reason": "stop"}, False),
        ({"delta": {"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": ""}}]}}, False),
        ({"delta": {"tool_calls": [{"index": 0, "function": {"arguments": "{"}}]}}, True),
    ],
)
def test_only_text_counts_as_text(choice, text):
    assert said(choice) is text


def test_the_chunk_with_the_role_is_not_the_first_token():
    seen = []

    def slowly(raw):
        seen.append(raw)
        time.sleep(0.08 if len(seen) == 2 else 0.02)
        return raw

    with serving(Faults(raw=slowly)) as url:
        answer = asyncio.run(ask(url))
    assert answer.outcome == "success" and len(answer.pieces) == 7 == answer.output_tokens
    assert answer.pieces[0] - answer.started > 0.09, "after the role chunk and the wait for text"
    assert answer.pieces == sorted(answer.pieces) and answer.pieces[-1] - answer.started > 0.09 + 6 * 0.02


async def ask(url, timeout_s=5):
    client = connect(load(url, timeout_s=timeout_s))
    prompts = Prompts(MODEL, "chat", 7, True, 0, {})
    prompts.characters = 50
    answer = await client.ask(prompts.path, prompts.next())
    await client.close()
    return answer


@pytest.mark.parametrize(
    ("faults", "outcome", "said"),
    [
        (Faults(chunks=lambda chunks: chunks.__delitem__(slice(-3, None))), "incomplete", ""),
        (Faults(chunks=lambda chunks: chunks.insert(3, {"error": {"message": "broken"}})), "error", "broken"),
        (Faults(chunks=lambda chunks: chunks.insert(3, "{half")), "error", "JSONDecodeError"),
        (Faults(request=lambda body: body.update(n=0)), "error", "400"),
        (Faults(raw=lambda raw: time.sleep(1) or raw), "incomplete", "no end within 0.5 s"),
    ],
    ids=["cut", "error inside", "no JSON", "refused", "late"],
)
def test_what_went_wrong_is_told_apart(faults, outcome, said):
    with serving(faults) as url:
        answer = asyncio.run(ask(url, timeout_s=0.5))
    assert answer.outcome == outcome and said in answer.error


def test_a_server_that_is_not_there_is_an_error_not_a_hang():
    client = Client("127.0.0.1", 9, False, {}, 1.0)
    assert asyncio.run(client.ask("/v1/chat/completions", b"{}")).outcome == "error"
    with pytest.raises(DanluError, match="nothing answers"):
        danlu.bench("http://127.0.0.1:9")


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize("stream", [True, False])
def test_every_level_has_its_figures(api, stream):
    with serving() as url:
        report = measure(load(url, api=api, stream=stream), [Level(concurrency=1), Level(concurrency=3), Level(rate=200.0)])
    assert [run["requests"]["success"] for run in report["runs"]] == [12, 12, 12]
    for run in report["runs"]:
        assert run["output_tokens"]["mean"] == 7 and run["counted_by"] == "usage of the server"
        assert abs(run["prompt_tokens"]["mean"] - 90) <= 1
        assert bool(run["ttft_s"]) is stream and run["e2e_s"]["p50"] > 0
    assert report["schema"] == 1 and report["definitions"] == DEFINITIONS
    json.dumps(report)


def test_no_prompt_is_sent_twice_unless_a_prefix_is_shared():
    seen = []
    with serving(Faults(request=lambda body: seen.append(body["messages"][0]["content"]))) as url:
        measure(load(url, requests=30), [Level(concurrency=2), Level(concurrency=3)])
        assert len(seen) == len(set(seen)) and len({text[:20] for text in seen}) > 55
        seen.clear()
        measure(load(url, requests=30, shared_prefix=60), [Level(concurrency=2)])
    prompts = seen[3:]  # the first three ask how many characters make a token
    assert len({text[:60] for text in prompts}) == 1 and len(set(prompts)) == len(prompts) == 31


def test_clients_that_leave_and_bodies_that_are_wrong_are_counted_apart():
    with serving() as url:
        (run,) = measure(load(url, requests=80, disconnects=0.3, bad_bodies=0.3), [Level(concurrency=4)])["runs"]
    found = run["requests"]
    assert sum(found.values()) == 80 and found["error"] == found["incomplete"] == 0 and run["errors"] == {}
    assert 10 < found["left"] < 40 and 10 < found["refused"] < 40


def test_a_wrong_body_that_is_taken_is_an_error():
    with serving(Faults(lenient=True)) as url:
        run = asyncio.run(wrong_ones(url))
    assert run["requests"]["error"] > 0 and any("a wrong body was answered with 200" in error for error in run["errors"])


async def wrong_ones(url):
    client = connect(load(url))
    prompts = Prompts(MODEL, "chat", 7, True, 0, {})
    answers = await drive(client, prompts, load(url, requests=40, bad_bodies=1.0), Level(concurrency=2))
    await client.close()
    return figures(answers)


def test_arrivals_of_the_open_loop_do_not_wait_for_the_server():
    with serving(Faults(raw=lambda raw: time.sleep(0.05) or raw)) as url:  # ten events: half a second an answer
        (run,) = measure(load(url, requests=0, duration_s=0.5, warmup=0), [Level(rate=60.0)])["runs"]
    assert 15 < run["requests"]["success"] < 60, "one at a time would have had time for one"


def test_a_load_of_some_seconds_ends_by_itself():
    with serving() as url:
        started = time.perf_counter()
        (run,) = measure(load(url, requests=0, duration_s=0.3), [Level(concurrency=2)])["runs"]
    assert time.perf_counter() - started < 3 and run["requests"]["success"] > 2


def test_connections_are_used_again():
    async def count(url):
        client = connect(load(url, stream=False))
        prompts = Prompts(MODEL, "chat", 7, False, 0, {})
        prompts.characters = 50
        for _ in range(5):
            assert (await client.ask(prompts.path, prompts.next())).outcome == "success"
        kept = len(client._idle)
        await client.close()
        return kept

    with serving() as url:
        assert asyncio.run(count(url)) == 1


def test_the_command_writes_a_report_without_the_key(tmp_path, capsys):
    with serving() as url:
        report = danlu.bench(url, api_key=KEY, requests=3, concurrency=[2], prompt_tokens=80, max_tokens=5, out=tmp_path / "load")
    assert "2 at a time" in capsys.readouterr().out
    assert json.loads((tmp_path / "load" / "report.json").read_text())["runs"] == report["runs"]
    page = (tmp_path / "load" / "report.html").read_text()
    assert "time to first token" in page
    assert all(KEY not in path.read_text() for path in (tmp_path / "load").iterdir())
