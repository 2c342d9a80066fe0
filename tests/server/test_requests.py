"""Requests that are wrong: which field, which code, which status; and never a 5xx for a client's mistake (C01-C13)."""

import json

import httpx2
import openai
import pytest

BODY = {"model": "speaker", "messages": [{"role": "user", "content": "H"}], "max_tokens": 2}
WRONG = [
    ("temperature", -0.1), ("temperature", 2.1), ("temperature", "1"), ("temperature", True), ("top_p", 1.5), ("n", 0), ("n", 9),
    ("n", 129), ("n", 1.5), ("top_logprobs", 21), ("top_logprobs", 3), ("logprobs", 1), ("max_tokens", 0), ("max_tokens", -5),
    ("max_completion_tokens", 0), ("frequency_penalty", 2.5), ("presence_penalty", -3), ("seed", 2**63), ("seed", 1.5),
    ("stop", ""), ("stop", ["a"] * 5), ("stop", [""]), ("stop", "x" * 257), ("logit_bias", {"99999": 1}),
    ("logit_bias", {"x": 1}),
    ("logit_bias", [1]), ("top_k", -2), ("min_p", 2), ("typical_p", 0), ("repetition_penalty", 0), ("min_tokens", -1),
    ("min_tokens", 3), ("stream", "yes"), ("stream_options", {"include_usage": True}), ("messages", []), ("messages", "hi"),
    ("model", 5), ("tools", {}), ("user", 7), ("metadata", {"a": 1}), ("regex", ""), ("regex", "("), ("choices", []),
    ("temperatur", 1), ("adapter", "law"), ("reasoning_effort", "much"), ("response_format", {"type": "xml"}),
]  # fmt: skip
UNSUPPORTED = [
    ("store", True), ("service_tier", "flex"), ("modalities", ["text", "audio"]), ("audio", {"voice": "alloy"}),
    ("web_search_options", {}), ("prediction", {"type": "content", "content": "x"}), ("functions", []), ("function_call", "auto"),
    ("verbosity", "high"), ("prompt_cache_options", {"ttl": 5}), ("moderation", {}),
]  # fmt: skip


def refused(answer, status=400):
    """The error object of an answer, after checking its shape."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    assert set(body) == {"error"} and set(body["error"]) == {"message", "type", "param", "code"}
    assert body["error"]["message"] and isinstance(body["error"]["code"], str) and answer.headers["x-request-id"]
    return body["error"]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=lambda value: str(value)[:20])
@pytest.mark.parametrize("stream", [False, True])
def test_a_wrong_value_is_refused_by_the_name_of_its_field(live, name, value, stream):
    if stream and name in ("stream", "stream_options"):
        return
    answer = live.post("/v1/chat/completions", {**BODY, **({"stream": True} if stream else {}), name: value})
    error = refused(answer)
    assert error["param"].partition(".")[0].partition("[")[0] == name and error["type"] == "invalid_request_error"
    assert answer.headers["content-type"] == "application/json"


@pytest.mark.parametrize(("name", "value"), UNSUPPORTED)
def test_what_the_server_does_not_do_is_refused_and_never_ignored(live, name, value):
    error = refused(live.post("/v1/chat/completions", {**BODY, name: value}))
    assert error["param"] == name and error["code"] == "unsupported_parameter"


def test_null_means_the_default_and_harmless_values_are_taken(live):
    nulls = dict.fromkeys(
        ["temperature", "top_p", "n", "stop", "seed", "logprobs", "stream", "tools", "response_format", "audio"]
    )
    harmless = {"store": False, "service_tier": "auto", "modalities": ["text"], "user": "me", "metadata": {"a": "b"},
                "parallel_tool_calls": True, "prompt_cache_key": "k", "safety_identifier": "s", "reasoning_effort": "none",
                "response_format": {"type": "text"}}  # fmt: skip
    for more in (nulls, harmless):
        assert live.post("/v1/chat/completions", {**BODY, **more}).status_code == 200


@pytest.mark.parametrize(
    ("messages", "param"),
    [
        ([{"role": "robot", "content": "x"}], "messages[0]"),
        ([{"role": "user"}], "messages[0].content"),
        ([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://x"}}]}], "messages[0].content[0]"),
        ([{"role": "user", "content": "x", "colour": "red"}], "messages[0].colour"),
        ([{"role": "assistant"}], "messages[0]"),
        ([{"role": "tool", "content": "x", "tool_call_id": "nobody"}], "messages[0].tool_call_id"),
        ([{"role": "user", "content": []}], "messages[0].content"),
        ([{"role": "user", "content": "x"}] * 2049, "messages"),
    ],
)
def test_a_wrong_message_is_named_with_its_place(live, messages, param):
    assert refused(live.post("/v1/chat/completions", {**BODY, "messages": messages}))["param"] == param


def test_a_tools_answer_follows_a_call(live):
    call = {"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
    messages = [*BODY["messages"], {"role": "assistant", "content": None, "tool_calls": [call]},
                {"role": "tool", "tool_call_id": "call_1", "content": "42"}]  # fmt: skip
    assert live.post("/v1/chat/completions", {**BODY, "messages": messages}).status_code == 200


@pytest.mark.parametrize(
    "content",
    [
        b"", b"{", b"[]", b"null", b'"text"', b"[" * 100_000, b'{"a":' * 70 + b"1" + b"}" * 70, b'{"n": NaN}',
        b'{"n": -Infinity}',
        b'{"n": 1e999}', b'{"n": 1, "n": 2}', b"\xff\xfe{}", b'{"model": "\\ud800"}', b'{"n": ' + b"9" * 5000 + b"}",
    ],
    ids=lambda content: repr(content[:16]),
)  # fmt: skip
def test_a_body_that_is_no_strict_json_is_refused(live, content):
    headers = {"content-type": "application/json"}
    answer = httpx2.post(f"{live.url}/v1/chat/completions", content=content, headers=headers, timeout=30)
    assert refused(answer)["code"] == "invalid_json"


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data", None])
def test_a_body_that_does_not_say_that_it_is_json_is_refused(live, kind):
    headers = {"content-type": kind} if kind else {}
    answer = httpx2.post(f"{live.url}/v1/chat/completions", content=json.dumps(BODY).encode(), headers=headers, timeout=30)
    assert refused(answer)["code"] == "invalid_content_type"


def test_a_body_over_the_limit_is_413_with_and_without_its_length(live):
    most = live.service.limits.body_bytes
    headers = {"content-type": "application/json"}

    def pieces():
        yield from (b" " * 65536 for _ in range(most // 65536 + 2))

    told = httpx2.post(f"{live.url}/v1/chat/completions", content=b" " * (most + 1), headers=headers, timeout=30)
    assert refused(told, 413)["code"] == "request_too_large"
    try:
        untold = httpx2.post(f"{live.url}/v1/chat/completions", content=pieces(), headers=headers, timeout=30)
        assert refused(untold, 413)["code"] == "request_too_large"
    except httpx2.TransportError:
        pass  # the server may close before the client has read the answer
    assert live.get("/health").status_code == 200


def test_the_clients_exceptions_are_those_of_the_statuses(live, client):
    with pytest.raises(openai.NotFoundError) as unknown:
        client.chat.completions.create(**{**BODY, "model": "speeker"})
    assert unknown.value.code == "model_not_found" and unknown.value.param == "model" and "speaker" in unknown.value.message
    with pytest.raises(openai.BadRequestError) as wrong:
        client.chat.completions.create(**BODY, extra_body={"temperatur": 1})
    assert wrong.value.code == "unknown_parameter" and wrong.value.request_id and "temperature" in wrong.value.message
    assert refused(live.get("/v1/nothing"), 404) and refused(live.get("/v1/chat/completions"), 405)


@pytest.mark.parametrize("name", ["speaker", "org/base"])
def test_models_are_listed_and_found_by_id_even_with_a_slash(client, name):
    listed = client.models.list().data
    found = client.models.retrieve(name)
    assert found.id == name and found.object == "model" and found.owned_by and found.created > 1.7e9
    assert {**found.danlu, "receipt": None} == {**next(one for one in listed if one.id == name).danlu, "receipt": None}
    assert found.danlu["parameters"] > 1000 and found.danlu["receipt"] is None
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve(name + "x")


def test_a_sane_request_id_is_kept_and_any_other_replaced(live):
    assert live.get("/health", headers={"x-request-id": "mine-1.2:3"}).headers["x-request-id"] == "mine-1.2:3"
    for strange in ("a b", "x" * 200, "<script>"):
        assert live.get("/health", headers={"x-request-id": strange}).headers["x-request-id"].startswith("req_")


def test_tokens_go_there_and_back(live):
    text = "中文 <|im_end|> é"
    tokens = live.post("/tokenize", {"model": "speaker", "prompt": text, "return_token_strs": True}).json()
    assert tokens["count"] == len(tokens["tokens"]) == len(tokens["token_strs"])
    without = live.post("/tokenize", {"prompt": text, "add_special_tokens": False}).json()["tokens"]
    assert live.post("/detokenize", {"tokens": without}).json() == {"prompt": text} and tokens["tokens"][1:] == without
    assert refused(live.post("/detokenize", {"tokens": [10**6]}))["param"] == "tokens"
    assert refused(live.post("/tokenize", {"model": "speaker"}))["param"] == "prompt"
