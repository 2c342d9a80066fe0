"""/v1/messages with Anthropic's own client: whole, streamed, with tools and thoughts, tokens counted, errors in their shape."""

import anthropic
import httpx2
import pytest
from tests.server.running import KEY, keyed, serving
from tests.server.scripted import scripted
from tests.server.test_responses import CALL, PARAMETERS, QWEN, TWO
from tests.tiny import write_tiny

from danlu.server.limits import Limits
from danlu.server.models import Models, Served
from danlu.server.service import Service

TOOLS = [{"name": "heat", "description": "Warm it.", "input_schema": PARAMETERS},
         {"name": "wait_for", "input_schema": {"type": "object", "properties": {"what": {"type": "string"}}}}]  # fmt: skip
HI = [{"role": "user", "content": "Hi"}]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripted") / "m"
    write_tiny(folder, max_position_embeddings=2048)
    with scripted(folder, QWEN, limits=Limits(ping_s=5)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return anthropic.Anthropic(base_url=server.url, api_key="none", max_retries=0, timeout=30)


def ask(client, **more):
    return client.messages.create(**{"model": "m", "max_tokens": 200, "messages": HI, **more})


def test_a_text(server, client):
    server.says("Warm 炉火.")
    found = ask(client, system=[{"type": "text", "text": "Be brief."}], metadata={"user_id": "me"}, extra_body={"temperature": 0})
    assert (found.content[0].text, found.stop_reason, found.role, found.type) == (
        "Warm 炉火.",
        "end_turn",
        "assistant",
        "message",
    )
    assert server.prompt == (
        "<|im_start|>system\nBe brief.<|im_end|>\n<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n<think>\n\n</think>\n\n"
    )
    assert found.usage.output_tokens == len("Warm 炉火.".encode()) + 1
    counted = client.messages.count_tokens(model="m", messages=HI, system="Be brief.")
    assert counted.input_tokens == found.usage.input_tokens


def test_why_it_ended(server, client):
    server.says("Warm, very warm.")
    found = ask(client, max_tokens=5)
    assert (found.content[0].text, found.stop_reason) == ("Warm,", "max_tokens")
    found = ask(client, stop_sequences=["very", "zzz"])
    assert (found.content[0].text, found.stop_reason, found.stop_sequence) == ("Warm, ", "stop_sequence", "very")
    found = ask(client, stop_sequences=["very"], tools=TOOLS)
    assert (found.stop_reason, found.stop_sequence) == ("stop_sequence", "very")


def test_a_stream(server, client):
    server.says("Warm 炉火 👩‍👩‍👧.")
    kinds = [event.type for event in ask(client, stream=True)]
    assert [kind for place, kind in enumerate(kinds) if kind not in kinds[:place]] == [
        "message_start", "content_block_start", "content_block_delta", "content_block_stop", "message_delta", "message_stop",
    ]  # fmt: skip
    with client.messages.stream(model="m", max_tokens=200, messages=HI) as stream:
        assert "".join(stream.text_stream) == "Warm 炉火 👩‍👩‍👧."
        final = stream.get_final_message()
    assert final.stop_reason == "end_turn" and final.usage.output_tokens == len("Warm 炉火 👩‍👩‍👧.".encode()) + 1
    text = httpx2.post(f"{server.url}/v1/messages", json={"model": "m", "max_tokens": 9, "messages": HI, "stream": True}).text
    assert 'event: ping\ndata: {"type":"ping"}\n\n' in text and "[DONE]" not in text


def test_tools(server, client):
    server.says(TWO)
    found = ask(client, tools=TOOLS)
    text, heat, wait = found.content
    assert (text.text, heat.name, heat.input, wait.input) == ("I will.", "heat", {"degrees": 5}, {"what": "炉火"})
    assert found.stop_reason == "tool_use"
    with client.messages.stream(model="m", max_tokens=200, messages=HI, tools=TOOLS) as stream:
        final = stream.get_final_message()
    assert [block.type for block in final.content] == ["text", "tool_use", "tool_use"]
    assert (final.content[1].input, final.content[2].input, final.stop_reason) == ({"degrees": 5}, {"what": "炉火"}, "tool_use")

    server.says("Done.")
    results = [{"type": "tool_result", "tool_use_id": heat.id, "content": "5 °C"},
               {"type": "tool_result", "tool_use_id": wait.id, "content": [{"type": "text", "text": "out"}], "is_error": True},
               {"type": "text", "text": "Well?"}]  # fmt: skip
    ask(
        client, tools=TOOLS, messages=[*HI, {"role": "assistant", "content": found.content}, {"role": "user", "content": results}]
    )
    assert f"<|im_start|>assistant\nI will.\n{CALL}" in server.prompt
    assert "<tool_response>\n5 °C\n</tool_response>\n<tool_response>\nError: out\n</tool_response><|im_end|>\n" in server.prompt
    assert "<|im_start|>user\nWell?<|im_end|>" in server.prompt


def test_a_call_that_must_come(server, client):
    server.says('{"name": "heat", "arguments": {"degrees": 5}}\n</tool_call>')
    for choice in ({"type": "any"}, {"type": "tool", "name": "heat"}, {"type": "any", "disable_parallel_tool_use": True}):
        found = ask(client, tools=TOOLS, tool_choice=choice)
        assert [(block.type, block.input) for block in found.content] == [("tool_use", {"degrees": 5})]
    server.says("No.")
    assert ask(client, tools=TOOLS, tool_choice={"type": "none"}).content[0].text == "No." and "heat" not in server.prompt


def test_thoughts(server, client):
    server.says("<think>\nHm.\n</think>\n\nFive.")
    found = ask(client, thinking={"type": "adaptive"})
    assert [(block.type, getattr(block, "thinking", None) or block.text) for block in found.content] == [
        ("thinking", "Hm."),
        ("text", "Five."),
    ]
    with client.messages.stream(model="m", max_tokens=200, messages=HI, thinking={"type": "adaptive"}) as stream:
        assert [block.type for block in stream.get_final_message().content] == ["thinking", "text"]
    ask(client, thinking={"type": "adaptive"}, extra_body={"output_config": {"effort": "high"}})
    assert server.prompt.endswith("assistant\n")
    server.says("So.")
    ask(client, messages=[*HI, {"role": "assistant", "content": found.content}, *HI])
    assert "Five." in server.prompt


def test_a_form(server, client):
    server.says('{"degrees": 5}')
    found = ask(client, extra_body={"output_config": {"format": {"type": "json_schema", "schema": PARAMETERS}}})
    assert found.content[0].text == '{"degrees": 5}'


@pytest.mark.parametrize(
    ("more", "place"),
    [
        ({"temperature": 1.5}, "temperature"), ({"max_tokens": 0}, "max_tokens"), ({"max_tokens": 99999}, "messages"),
        ({"messages": []}, "messages"), ({"mood": "good"}, "mood"), ({"top_k": -1}, "top_k"),
        ({"messages": [*HI, {"role": "assistant", "content": "It is"}]}, "messages"),
        ({"messages": [{"role": "user", "content": [{"type": "image", "source": {}}]}]}, "messages[0].content[0]"),
        ({"messages": [{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "x"}]}]},
         "messages[0].content[0].tool_use_id"),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}}, "thinking"),
        ({"tools": [{"type": "bash_20250124", "name": "b"}]}, "tools[0]"),
        ({"tool_choice": {"type": "any"}}, "tool_choice"), ({"stop_sequences": ["a"] * 5}, "stop_sequences"),
        ({"tools": [{"name": "f", "input_schema": {"type": "string"}}]}, "tools[0].input_schema"),
        ({"container": "c"}, "container"),
        ({"output_config": {"effort": "high"}}, "output_config.effort"),
        ({"messages": [{"role": "user", "content": "x" * 3000}]}, "messages"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(client, more, place):
    with pytest.raises(anthropic.BadRequestError) as refused:
        ask(client, extra_body=more)
    body = refused.value.body
    assert body["type"] == "error" and body["error"]["type"] == "invalid_request_error"
    assert place in body["error"]["message"] and body["request_id"] == refused.value.response.headers["x-request-id"]


def test_errors_before_the_route_have_the_same_shape(server, client, tmp_path):
    with pytest.raises(anthropic.NotFoundError) as refused:
        ask(client, model="nobody")
    assert refused.value.body["error"]["type"] == "not_found_error"
    service = Service(Models([Served("m", tmp_path)]))
    with serving(service, keyed(), KEY) as running:
        stranger = anthropic.Anthropic(base_url=running.url, api_key="wrong-key-for-sure", max_retries=0)
        with pytest.raises(anthropic.AuthenticationError) as refused:
            ask(stranger)
        assert refused.value.body["type"] == "error" and refused.value.body["error"]["type"] == "authentication_error"
        known = anthropic.Anthropic(base_url=running.url, api_key=KEY, max_retries=0)
        with pytest.raises(anthropic.InternalServerError) as loading:
            ask(known)
        assert loading.value.status_code == 503 and loading.value.body["error"]["type"] == "overloaded_error"
    assert (
        httpx2.post(f"{server.url}/v1/messages", content=b"{", headers={"content-type": "application/json"}).json()["type"]
        == "error"
    )


def test_counting_takes_no_fields_of_writing(server):
    answer = httpx2.post(f"{server.url}/v1/messages/count_tokens", json={"model": "m", "messages": HI, "max_tokens": 5})
    assert answer.status_code == 400 and "max_tokens" in answer.json()["error"]["message"]
    more = httpx2.post(f"{server.url}/v1/messages/count_tokens", json={"model": "m", "messages": HI, "tools": TOOLS}).json()
    less = httpx2.post(f"{server.url}/v1/messages/count_tokens", json={"model": "m", "messages": HI}).json()
    assert more["input_tokens"] > less["input_tokens"] + 100


def test_a_failure_in_the_middle_is_told(server, client):
    server.says("Warm, very warm.")
    said = ""
    with server.breaking(at=6):
        with pytest.raises(anthropic.APIStatusError) as failed:
            for event in ask(client, stream=True):
                said += event.delta.text if event.type == "content_block_delta" else ""
        with pytest.raises(anthropic.InternalServerError):
            ask(client)
    assert said == "Warm, "
    assert failed.value.body["error"]["type"] == "api_error"
    server.running.settle()
    assert ask(client).content[0].text == "Warm, very warm."
