"""Tools and thoughts over /v1/chat/completions, read by OpenAI's own client: whole and streamed, forced and free, cut short."""

import asyncio
import json

import openai
import pytest
from openai import AsyncOpenAI, OpenAI
from pydantic import BaseModel
from tests.server.scripted import scripted
from tests.server.test_responses import CALL, QWEN, TWO
from tests.tiny import SPECIAL, write_tiny
from tests.tokenizer import templates

from danlu.server.limits import Limits

MISTRAL = templates.STYLES["mistral"][0]
HI = [{"role": "user", "content": "Hi"}]
TOOLS = [
    {
        "type": "function",
        "function": {"name": "heat", "parameters": {"type": "object", "properties": {"degrees": {"type": "integer"}}}},
    },
    {"type": "function", "function": {"name": "wait_for"}},
]


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scripted") / "m"
    write_tiny(folder, max_position_embeddings=2048)
    with scripted(folder, QWEN, limits=Limits(ping_s=5)) as running:
        yield running


@pytest.fixture(scope="module")
def client(server):
    return OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)


def ask(client, **more):
    return client.chat.completions.create(**{"model": "m", "messages": HI, **more})


def streamed(client, **more):
    """The answer that the client's own accumulator makes of a stream, and the chunks."""
    with client.chat.completions.stream(model="m", messages=HI, **more) as stream:
        chunks = [event.chunk for event in stream if event.type == "chunk"]
        return stream.get_final_completion(), chunks


def calls_of(choice):
    return [(call.function.name, json.loads(call.function.arguments)) for call in choice.message.tool_calls or ()]


def test_whole_and_streamed_are_the_same(server, client):
    server.says(TWO)
    whole = ask(client, tools=TOOLS).choices[0]
    final, chunks = streamed(client, tools=TOOLS)
    for choice in (whole, final.choices[0]):
        assert choice.finish_reason == "tool_calls" and choice.message.content == "I will."
        assert calls_of(choice) == [("heat", {"degrees": 5}), ("wait_for", {"what": "炉火"})]
        assert len({call.id for call in choice.message.tool_calls}) == 2
    first: dict[int, int] = {}
    for number, chunk in enumerate(chunks):
        for call in (chunk.choices[0].delta.tool_calls or ()) if chunk.choices else ():
            if call.index not in first:
                first[call.index] = number
                assert call.id and call.type == "function" and call.function.name and call.function.arguments == ""
            else:
                assert call.id is None and call.type is None and call.function.name is None and call.function.arguments
    assert sorted(first) == [0, 1]


def test_each_choice_has_its_calls(server, client):
    server.says(CALL)
    found = ask(client, tools=TOOLS, n=2)
    assert [calls_of(choice) for choice in found.choices] == [[("heat", {"degrees": 5})]] * 2
    final, _ = streamed(client, tools=TOOLS, n=2)
    assert [calls_of(choice) for choice in final.choices] == [[("heat", {"degrees": 5})]] * 2
    assert found.choices[0].message.content is None


def test_calls_go_back_as_they_came(server, client):
    server.says(TWO)
    message = ask(client, tools=TOOLS).choices[0].message
    server.says("Done.")
    results = [{"role": "tool", "tool_call_id": call.id, "content": f"of {call.function.name}"} for call in message.tool_calls]
    assert ask(client, tools=TOOLS, messages=[*HI, message, *results]).choices[0].message.content == "Done."
    assert "<tool_response>\nof heat\n</tool_response>\n<tool_response>\nof wait_for\n</tool_response>" in server.prompt
    with pytest.raises(openai.BadRequestError) as refused:
        ask(client, tools=TOOLS, messages=[*HI, message, {**results[0], "tool_call_id": "call_none"}])
    assert refused.value.param == "messages[2].tool_call_id"


def test_a_call_that_must_come_comes_whatever_the_model_would_say(server, client):
    server.says("I would rather talk.")
    for choice in ("required", {"type": "function", "function": {"name": "heat"}}):
        found = ask(client, tools=TOOLS, tool_choice=choice, max_tokens=400, parallel_tool_calls=False).choices[0]
        assert found.finish_reason in ("tool_calls", "length") and not found.message.content
        assert found.message.tool_calls[0].function.name in ("heat", "wait_for")


class Heat(BaseModel):
    """Warm it."""

    degrees: int


def test_strict_tools_are_parsed_by_the_client(server, client):
    server.says(CALL.replace("heat", "Heat"))
    tool = openai.pydantic_function_tool(Heat)
    found = client.chat.completions.parse(model="m", messages=HI, tools=[tool])
    assert found.choices[0].message.tool_calls[0].function.parsed_arguments == Heat(degrees=5)
    server.says("No, thanks.")
    assert client.chat.completions.parse(model="m", messages=HI, tools=[tool]).choices[0].message.content == "No, thanks."


def test_a_schema_that_cannot_be_kept_is_refused_by_its_tool(client):
    bad = {"type": "object", "properties": {"x": {"type": "string", "contentEncoding": "base64"}}}
    tools = [*TOOLS, {"type": "function", "function": {"name": "bad", "parameters": bad, "strict": True}}]
    with pytest.raises(openai.BadRequestError, match="contentEncoding") as refused:
        ask(client, tools=tools)
    assert refused.value.param == "tools[2].function.parameters"
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "if": {}}}}
    for more in ({}, {"tools": TOOLS}):
        with pytest.raises(openai.BadRequestError) as refused:
            ask(client, response_format=form, **more)
        assert refused.value.param == "response_format"


def test_a_call_that_is_cut_off_says_length(server, client):
    server.says(CALL)
    found = ask(client, tools=TOOLS, max_tokens=len('<tool_call>\n{"name": "heat", "arguments": {"deg')).choices[0]
    assert (found.finish_reason, found.message.tool_calls[0].function.arguments) == ("length", '{"deg')


def test_no_tools_no_calls(server, client):
    server.says(CALL)
    for more in ({}, {"tools": TOOLS, "tool_choice": "none"}):
        found = ask(client, **more).choices[0]
        assert (found.finish_reason, found.message.content, found.message.tool_calls) == ("stop", CALL, None)


def test_thoughts_are_told_apart_and_counted(server, client):
    server.says("<think>\nHm, 5?\n</think>\n\nFive.")
    found = ask(client, logprobs=True)
    message = found.choices[0].message
    assert (message.reasoning_content, message.content) == ("Hm, 5?", "Five.")
    assert found.usage.completion_tokens_details.reasoning_tokens == len("\nHm, 5?\n</think>")
    assert bytes(byte for one in found.choices[0].logprobs.content for byte in one.bytes) == b"Five."
    final, chunks = streamed(client, logprobs=True)
    assert (final.choices[0].message.reasoning_content, final.choices[0].message.content) == ("Hm, 5?", "Five.")
    scores = [one for chunk in chunks if chunk.choices and chunk.choices[0].logprobs for one in chunk.choices[0].logprobs.content]
    assert [one.token for one in scores] == [one.token for one in found.choices[0].logprobs.content]


def test_log_probabilities_leave_calls_out(server, client):
    server.says(TWO)
    found = ask(client, tools=TOOLS, logprobs=True, top_logprobs=1).choices[0]
    assert bytes(byte for one in found.logprobs.content for byte in one.bytes) == found.message.content.encode()


def test_thinking_is_switched_off(server, client):
    server.says("Five.")
    for more in ({"reasoning_effort": "none"}, {"extra_body": {"chat_template_kwargs": {"enable_thinking": False}}}):
        ask(client, **more)
        assert server.prompt.endswith("<think>\n\n</think>\n\n")
    ask(client, reasoning_effort="high")
    assert server.prompt.endswith("assistant\n")


def test_two_clients_at_once(server):
    server.says(TWO)

    async def both():
        async with AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
            one = client.chat.completions.create(model="m", messages=HI, tools=TOOLS)
            two = client.chat.completions.create(model="m", messages=HI, tools=TOOLS)
            return await asyncio.gather(one, two)

    for found in asyncio.run(both()):
        assert len(found.choices[0].message.tool_calls) == 2


def test_a_format_with_special_tokens(tmp_path):
    special = templates.STYLES["mistral"][1]
    folder = tmp_path / "m"
    write_tiny(folder, max_position_embeddings=2048)
    templates.tokenizer("mistral").save(folder)
    config = json.loads((folder / "config.json").read_text())
    assert config["vocab_size"] == 256 + len(SPECIAL) < 256 + len(special)
    (folder / "config.json").write_text(json.dumps(config | {"vocab_size": 256 + len(special)}))
    _widen(folder, 256 + len(special))
    with scripted(folder, MISTRAL) as server:
        client = OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=30)
        server.says('[TOOL_CALLS] [{"name": "heat", "arguments": {"degrees": 5}}, {"name": "wait_for", "arguments": {}}]')
        for strict in (None, True):
            tools = [{**TOOLS[0], "function": {**TOOLS[0]["function"], "strict": strict}}, TOOLS[1]]
            found = ask(client, tools=tools).choices[0]
            assert calls_of(found) == [("heat", {"degrees": 5}), ("wait_for", {})] and found.finish_reason == "tool_calls"
            assert all(len(call.id) == 9 for call in found.message.tool_calls)
        server.says('{"name": "heat", "arguments": {"degrees": 5}}]')
        found = ask(client, tools=TOOLS, tool_choice="required").choices[0]
        assert calls_of(found) == [("heat", {"degrees": 5})]
        mark = server.tokenizer.special_tokens["[TOOL_CALLS]"]
        assert server.prompt_ids.count(mark) == 1 and server.prompt.endswith("[TOOL_CALLS] [")
        server.says("[TOOL_CALLS] is hidden from those who asked for no tools")
        assert ask(client).choices[0].message.content == " is hidden from those who asked for no tools"


def _widen(folder, size):
    """Give the table of a model more rows."""
    from safetensors.torch import load_file, save_file

    path = folder / "model.safetensors"
    tensors = load_file(path)
    for name, tensor in tensors.items():
        if tensor.shape[0] == 256 + len(SPECIAL):
            tensors[name] = tensor.new_zeros(size, *tensor.shape[1:])
    save_file(tensors, path, metadata={"format": "pt"})
