"""A good server passes every check; for each check there is a server that does one thing wrong and fails it."""

import importlib.util
import json
import re

import pytest
from tests.apps.fake_server import KEY, Faults, serving

from danlu.apps.conform import suite
from danlu.apps.conform.check import CHECKS, Check, NeedsMore, NotOffered, judge
from danlu.apps.conform.formats import random_schema
from danlu.apps.conform.target import Target
from danlu.apps.conform.valid import problem
from danlu.core.errors import UnknownName
from danlu.stages.conform import Conform, conform

UNJUDGED = {
    "C27": "no standard request asks for citations",
    "C36": "no standard request makes a stream fail on its way",
    "C42": "takes a prompt that reads for half a minute",
}
needs_openai = pytest.mark.skipif(importlib.util.find_spec("openai") is None, reason="needs openai")
BY_CLIENT = {"C03", "C25", "C38b", "C38c", "C55a", "C70b", "C83"}


@pytest.fixture(scope="module")
def good():
    with serving() as url:
        yield Target(url, KEY, timeout_s=10)


@pytest.fixture(scope="module")
def verdicts(good):
    return {verdict.id: verdict for verdict in suite.run(good, suite.chosen([]))}


def test_a_good_server_passes_all_that_can_be_judged(verdicts):
    missing = set() if importlib.util.find_spec("openai") else BY_CLIENT
    odd = {id: (one.outcome, one.detail) for id, one in verdicts.items() if one.outcome != "pass"}
    assert set(odd) == set(UNJUDGED) | missing, odd
    assert not [one for one in odd.values() if one[0] == "fail"]


def test_the_whole_checklist_is_there():
    numbers = {int(one.id[1:3]) for one in CHECKS}
    assert numbers == {*range(1, 15), *range(20, 28), *range(30, 44), *range(50, 57), *range(60, 68), 70, 71, 72, *range(80, 85)}
    assert len(CHECKS) == len({one.id for one in CHECKS}) > 100
    assert all(len(one.claim) > 20 and one.section in {"transport", "chat", "streaming", "formats", "completions", "embeddings",
                                                       "responses"} for one in CHECKS)  # fmt: skip


def drop(*fields):
    """The server ignores some fields."""
    return Faults(request=lambda body: [body.pop(field, None) for field in fields])


def answers(change):
    return Faults(answer=lambda body: change(body) if "choices" in body or "data" in body or "output" in body else None)


def streams(change):
    return Faults(chunks=lambda chunks: change(chunks, [one for one in chunks if isinstance(one, dict) and one.get("choices")]))


def first(change):
    """Change the first choice of an answer."""
    return Faults(answer=lambda body: change(body["choices"][0]) if body.get("choices") else None)


def errors(change):
    return Faults(error=change)


def header(name, value=None):
    return Faults(headers=lambda headers: headers.pop(name, None) if value is None else headers.update({name: value}))


def swap(items, one, other):
    items[one], items[other] = items[other], items[one]


def delta(chunk):
    return chunk["choices"][0]["delta"]


def set_in(place, **values):
    place.update(values)


def properties(body):
    return body["response_format"]["json_schema"]["schema"]["properties"]


def calls(ones):
    return [one for one in ones if "tool_calls" in delta(one)]


LENIENT = Faults(lenient=True)
FAULTS = {
    "C01": LENIENT,
    "C02a": errors(lambda error: error.pop("param")),
    "C02b": errors(lambda error: error.update(code=404)),
    "C03": Faults(status=lambda status: 422 if status == 400 else status),
    "C04a": errors(lambda error: error.update(code="nope")),
    "C04b": errors(lambda error: error.update(code="unauthorized")),
    "C05": LENIENT,
    "C06a": header("x-request-id", "always-the-same"),
    "C06b": header("x-request-id", 'a"><b>'),
    "C07a": Faults(open=True),
    "C07c": Faults(headers=lambda h: h.update({"Access-Control-Allow-Origin": "*", "Access-Control-Allow-Credentials": "true"})),
    "C08a": Faults(answer=lambda body: body["data"][0].pop("created") if "data" in body else None),
    "C08b": Faults(answer=lambda body: body.update(id="other") if body.get("object") == "model" else None),
    "C08c": Faults(status=lambda status: 400 if status == 404 else status),
    "C09a": Faults(status=lambda status: 500 if status == 400 else status),
    "C09b": Faults(status=lambda status: 500 if status == 415 else status),
    "C09c": Faults(most_bytes=1 << 30),
    "C09d": Faults(most_bytes=1 << 30),
    "C09e": Faults(status=lambda status: 500 if status == 400 else status),
    "C09f": Faults(status=lambda status: 200 if status == 400 else status),
    "C10x": drop("top_logprobs"),
    "C10y": Faults(request=lambda body: body.update(n="none") if body.get("n", 1) is None else None),
    "C11a": drop("max_completion_tokens"),
    "C11b": drop("max_completion_tokens"),
    "C11c": Faults(request=lambda body: body.update(messages=body["messages"][-1:]) if "developer" in str(body) else None),
    "C11d": Faults(request=lambda body: body.update(messages="?") if isinstance(body["messages"][-1]["content"], list) else None),
    "C12a": Faults(request=lambda body: body.update(messages="?") if "tool_calls" in str(body) else None),
    "C12b": Faults(request=lambda body: body["messages"][-1].update(tool_call_id="call_1") if "call_1" in str(body) else None),
    "C13": Faults(request=lambda body: body["messages"][0].update(content=body["messages"][0]["content"][:100])),
    "C14a": Faults(request=lambda body, n=[0]: (n.append(1), body.update(seed=len(n)))),
    "C14b": Faults(request=lambda body, n=[0]: (n.append(1), body.update(seed=len(n)))),
    "C14c": answers(lambda body: body.pop("system_fingerprint", None)),
    "C20": first(lambda one: one.get("message", {}).pop("refusal", None)),
    "C21a": first(lambda one: one.update(finish_reason="stop")),
    "C21b": drop("stop"),
    "C21c": first(lambda one: one.update(finish_reason="eos")),
    "C22a": answers(lambda body: body["usage"].update(total_tokens=1)),
    "C22b": answers(lambda body: body["usage"].update(completion_tokens=4)),
    "C23a": first(lambda one: one["logprobs"] and one["logprobs"]["content"][0]["top_logprobs"].reverse()),
    "C23b": first(lambda one: one["logprobs"] and [set_in(part, bytes=[63]) for part in one["logprobs"]["content"]]),
    "C23c": first(lambda one: one["logprobs"] and one["logprobs"]["content"][0].update(logprob=float("-inf"))),
    "C24a": first(lambda one: [set_in(call["function"], arguments=7) for call in one["message"].get("tool_calls") or ()]),
    "C24b": drop("tool_choice"),
    "C25": first(lambda one: one.update(finish_reason="stop")),
    "C26": answers(lambda body: body.pop("moderation", None)),
    "C27": first(lambda one: one["message"].update(annotations=[{"type": "note"}])),
    "C30a": header("Cache-Control"),
    "C30b": streams(lambda chunks, ones: ones[2].update(created=1)),
    "C31": streams(lambda chunks, ones: [set_in(delta(one), role="assistant") for one in ones]),
    "C32": streams(lambda chunks, ones: [set_in(call, id="call_0") for one in calls(ones) for call in delta(one)["tool_calls"]]),
    "C33": streams(lambda chunks, ones: swap(chunks, 0, 1)),
    "C34a": streams(lambda chunks, ones: swap(chunks, -2, -3)),
    "C34b": streams(lambda chunks, ones: chunks.insert(-1, {**chunks[0], "choices": [], "usage": {}})),
    "C34c": Faults(request=lambda body: body.pop("stream_options", None) if not body.get("stream") else None),
    "C35": streams(lambda chunks, ones: delta(ones[1]).update(entropy=1.5)),
    "C36": streams(lambda chunks, ones: chunks.insert(1, {**ones[0], "error": "it broke"})),
    "C37": streams(lambda chunks, ones: chunks.remove(ones[-1])),
    "C38a": streams(lambda chunks, ones: chunks.pop()),
    "C38b": streams(lambda chunks, ones: [set_in(delta(one), role="assistant") for one in ones]),
    "C38c": streams(lambda chunks, ones: chunks.remove(ones[-1])),
    "C39a": streams(lambda chunks, ones: chunks.pop(3)),
    "C39b": streams(lambda chunks, ones: delta(ones[3]).update(content="\ufffd")),
    "C39c": Faults(request=lambda body: body.pop("stop", None) if body.get("stream") else None),
    "C40": streams(lambda chunks, ones: ones[4].update(choices=[{**ones[4]["choices"][0], "logprobs": None}])),
    "C41a": Faults(stubborn=True),
    "C41b": Faults(stubborn=True),
    "C43": Faults(headers=lambda headers: headers.update({"Content-Type": "text/event-stream"})),
    "C50": first(lambda one: one.get("message", {}).update(content="Sure! {}")),
    "C51a": first(lambda one: one.get("message", {}).update(content='{"sure": "yes"}', )),
    "C51b": streams(lambda chunks, ones: chunks.pop(3)),
    "C52": first(lambda one: one.get("message", {}).update(content='{"it": 10.5}')),
    "C53": Faults(request=lambda body: properties(body).get("it", {}).pop("not", None)),
    "C54": Faults(status=lambda status: 500 if status == 400 else status),
    "C55a": first(lambda one: one.get("message", {}).update(content='{"hot": "very"}')),
    "C55b": first(lambda one: one.get("message", {}).update(content='{"it": [[]]}')),
    "C56": first(lambda one: one.get("message", {}).update(content="{}")),
    "C60": first(lambda one: one.pop("logprobs")),
    "C61a": Faults(request=lambda body: body.update(prompt=body["prompt"][:1]) if isinstance(body["prompt"], list) else None),
    "C61b": answers(lambda body: body["choices"].reverse()),
    "C62a": first(lambda one: one["logprobs"] and one["logprobs"]["token_logprobs"].__setitem__(0, -1.0)),
    "C62b": drop("echo"),
    "C62c": Faults(answer=lambda body: body["choices"][-1]["logprobs"]["token_logprobs"].__setitem__(2, -len(body["choices"]))),
    "C63": Faults(request=lambda body: body.setdefault("max_tokens", 50)),
    "C64": LENIENT,
    "C65": streams(lambda chunks, ones: ones[0].update(object="chat.completion.chunk")),
    "C66": drop("stop"),
    "C67": Faults(status=lambda status: 500 if status == 400 else status),
    "C70a": drop("encoding_format"),
    "C70b": Faults(answer=lambda body: body["data"][0].update(embedding="?") if "embedding" in str(body) else None),
    "C71a": Faults(request=lambda body: body.update(input=str(body["input"]))),
    "C71b": Faults(request=lambda body: body.update(input="tea")),
    "C71c": drop("dimensions"),
    "C72": answers(lambda body: body["data"].reverse()),
    "C80": answers(lambda body: body.get("usage", {}).update(total_tokens=1)),
    "C81": Faults(chunks=lambda chunks: swap(chunks, 0, 1)),
    "C82": Faults(chunks=lambda chunks: chunks.pop(5)),
    "C83": Faults(chunks=lambda chunks: chunks.pop(5)),
    "C84": Faults(request=lambda body: body.pop("previous_response_id", None)),
}  # fmt: skip
FAULTS |= {one.id: LENIENT for one in CHECKS if one.id.startswith("C10") and one.id not in FAULTS}
IGNORED = {"C50", "C51a", "C52", "C53", "C55b", "C56"}
NO_FAULT = {"C07b", "C09g", "C09h", "C42"}


@pytest.mark.parametrize("id", [one.id for one in CHECKS if one.id not in NO_FAULT])
def test_a_planted_fault_fails_its_check(id):
    if id in BY_CLIENT and importlib.util.find_spec("openai") is None:
        pytest.skip("needs openai")
    with serving(FAULTS[id]) as url:
        target = Target(url, KEY, model="maker/fake", timeout_s=5)
        target.patience_s = 0.5
        (one,) = [one for one in CHECKS if one.id == id]
        if id == "C36":
            target.stream("/v1/chat/completions", target.chat(stream=True))
        found = judge(one, target)
    assert found.outcome == "fail", found


@pytest.mark.parametrize("id", sorted(IGNORED))
def test_a_server_that_ignores_response_format_fails_even_if_the_limit_cuts_every_answer(id):
    with serving(drop("response_format")) as url:
        (one,) = suite.chosen([id])
        assert judge(one, Target(url, KEY, model="maker/fake", timeout_s=5)).outcome == "fail"


def test_checks_without_a_fault_here_pass_against_the_good_server(verdicts):
    assert [verdicts[id].outcome for id in sorted(NO_FAULT - {"C42"})] == ["pass"] * 3


@pytest.mark.parametrize(
    ("look", "outcome"),
    [
        (lambda target: None, "pass"),
        (lambda target: [][0], "fail"),
        (lambda target: target.get("/v1/models").json()["nothing"], "fail"),
        (lambda target: Target("http://127.0.0.1:9").get("/"), "fail"),
        (lambda target: (_ for _ in ()).throw(NotOffered("no")), "not offered"),
        (lambda target: (_ for _ in ()).throw(NeedsMore("no")), "needs more"),
    ],
)
def test_what_a_check_may_end_with(good, look, outcome):
    assert judge(Check("C00", "chat", "A claim", look), good).outcome == outcome


def test_what_is_not_offered_is_no_failure():
    with serving(Faults(status=lambda status: 404 if status == 200 else status)) as url:
        found = suite.run(Target(url, KEY, model="maker/fake"), suite.chosen(["C20", "C31", "C60", "C72", "C80"]))
    assert {one.id: one.outcome for one in found if one.id != "C31"} == dict.fromkeys(["C20", "C60", "C72", "C80"], "not offered")


def test_checks_are_chosen_by_id_by_number_and_by_section():
    assert [one.id for one in suite.chosen(["C31"])] == ["C31"]
    assert {one.id for one in suite.chosen(["c39"])} == {"C39a", "C39b", "C39c"}
    assert {one.section for one in suite.chosen(["embeddings"])} == {"embeddings"}
    with pytest.raises(UnknownName, match="no check called 'C99'"):
        suite.chosen(["C99"])


def test_the_command_prints_a_table_writes_a_report_and_keeps_the_key_to_itself(tmp_path, capsys):
    with serving() as url:
        conform(Conform(url=url, api_key=KEY, only=["C20", "C31"], out=tmp_path / "report"))
    heard = capsys.readouterr().out
    assert re.search(r"pass +C20 +An answer has all required fields", heard) and "2 pass, 0 fail" in heard
    report = json.loads((tmp_path / "report" / "report.json").read_text())
    assert report["schema"] == 1 and report["counts"]["pass"] == 2 and [one["id"] for one in report["checks"]] == ["C20", "C31"]
    assert "C31" in (tmp_path / "report" / "report.html").read_text()
    assert all(KEY not in path.read_text() for path in (tmp_path / "report").iterdir())


def test_the_command_fails_when_a_check_does(capsys):
    from danlu.cli import main

    with serving(FAULTS["C31"]) as url:
        assert main(["conform", url, "--api_key", KEY, "--only", "C31"]) == 1
    heard = capsys.readouterr()
    assert "1 of 1 checks failed" in heard.err and "one delta with a role" in heard.out


@pytest.mark.parametrize(
    ("words", "code", "said"), [(["http://127.0.0.1:9"], 1, "nothing answers"), (["ftp://x"], 2, "no http address")]
)
def test_a_server_that_is_not_there(words, code, said, capsys):
    from danlu.cli import main

    assert main(["conform", *words]) == code
    assert said in capsys.readouterr().err


def test_a_missing_key_is_told(capsys):
    from danlu.cli import main

    with serving() as url:
        assert main(["conform", url]) == 2
    assert "asks for a key" in capsys.readouterr().err


def test_validation_agrees_with_the_reference():
    jsonschema = pytest.importorskip("jsonschema_rs", reason="needs jsonschema-rs, which schemathesis brings")
    import random

    for seed in range(300):
        dice = random.Random(seed)
        schema = random_schema(dice)
        for value in (
            None,
            True,
            0,
            7,
            "",
            "ab",
            "tea",
            [],
            [1],
            ["a"],
            {},
            {"a": 1},
            {"a": True, "名": None},
            [None, True],
            2.5,
        ):
            assert (problem(value, schema) is None) == jsonschema.is_valid(schema, value), (schema, value)
