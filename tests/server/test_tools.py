"""Calls of tools: read the same however the text is cut, framed so that what is written is what is read, planned as asked."""

import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokenizer import templates

from danlu.engine.constrain.compile import compile as compile_form
from danlu.server.deltas import Finished, Text, ToolArguments, ToolBegin
from danlu.server.errors import ApiError
from danlu.server.fields import Chat
from danlu.server.planning import plan
from danlu.server.tools import TOOL_FORMATS, Arguments, Called, Said, format_of
from danlu.server.tools.json_call import JsonCall
from danlu.tokenizer.chat import CHATML, encode_chat

NAMES = {"heat", "wait_for"}
NASTY = '{"degrees": 5, "note": "a \\"b\\" } ] ; </tool_call> [TOOL_CALLS] 炉\\n", "deep": {"x": [1, {"y": null}]}}'
FORMATS = TOOL_FORMATS.names()


def written(name, calls):
    """Calls as a model writes them."""
    format = TOOL_FORMATS[name]()
    if name == "pythonic":
        return format.write([{"name": tool, "arguments": text} for tool, text in calls])
    template = {"mistral": "[TOOL_CALLS]"}.get(name, "")
    frame = format.frame(template)
    return (
        frame.opening
        + frame.between.join(format.before(tool, template) + text + frame.after for tool, text in calls)
        + frame.closing
    )


def gathered(pieces):
    """Pieces as (text, [(name, arguments)])."""
    text, calls = "", []
    for piece in pieces:
        match piece:
            case Said():
                text += piece.text
            case Called():
                calls.append([piece.name, ""])
            case Arguments():
                calls[-1][1] += piece.text
    return text, [tuple(call) for call in calls]


def read(name, pieces):
    """What a reader makes of pieces of text."""
    reader = TOOL_FORMATS[name]().reader(NAMES)
    found = []
    for piece in pieces:
        found += reader.push(piece)
    return gathered([*found, *reader.finish()])


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_written_is_what_is_read(name):
    for calls in ([("heat", NASTY)], [("heat", '{"degrees": 5}'), ("wait_for", "{}"), ("heat", NASTY)]):
        text, found = read(name, [written(name, calls)])
        assert text == ""
        if name == "pythonic":
            assert [(tool, json.loads(given)) for tool, given in found] == [(tool, json.loads(given)) for tool, given in calls]
        else:
            assert found == calls


CASES = {
    "hermes": [
        "Let me see.\n<tool_call>\n" + '{"arguments": {"degrees": 1}, "name": "heat"}' + "\n</tool_call> Done.",
        'x <tool_call>{"name": "unknown", "arguments": {}}</tool_call> y',
        "<tool_call><tool_call>\n"
        + '{"name": "heat", "arguments": '
        + NASTY
        + "}\n</tool_call>\n\n<tool_call>\nno json</tool_call>",
        "a <tool <tool_call> b </tool_call>  \n",
        '<tool_call>{"name": "heat", "arguments": {"degrees": 5',
        '<tool_call>{"name": "he',
        '<tool_call>{"name": "heat", "arguments": "{\\"degrees\\": 2}"}</tool_call>',
        '<tool_call>{"name": "heat"}</tool_call><tool_call>{"name": "wait_for", "arguments": null}</tool_call>',
        '<tool_call>{"name": "heat", "arguments": {"a": 1]}</tool_call>',
    ],
    "llama3_json": [
        '  {"name": "heat", "parameters": {"degrees": 1}}',
        '<|python_tag|>{"type": "function", "name": "heat", "parameters": {}}; {"name": "wait_for", "parameters": {}} and text',
        '{"name": "Bob", "age": 5}',
        '{"answer": [1, 2]}',
        "Just {text}.",
        '{"name": "heat", "parameters": {"degr',
        '{"nam',
    ],
    "mistral": [
        'Hm. [TOOL_CALLS] [{"name": "heat", "arguments": {"a": "]"}, "id": "123456"}, {"name": "wait_for", "arguments": {}}] ok',
        '[TOOL_CALLS]heat[ARGS]{"degrees": 1}[TOOL_CALLS]wait_for[CALL_ID]abc[ARGS]{} bye',
        '[TOOL_CALLS] [{"name": "unknown", "arguments": {}}]',
        "[TOOL_CALLS]unknown[ARGS]{}",
        "[TOOL_ [INST] text",
        "[TOOL_CALLS]",
        '[TOOL_CALLS]{"name": "heat", "arguments": {}}',
    ],
    "pythonic": [
        "[heat(degrees=5, note='it\\'s [so]', flags=[True, None, {'a': 1}]), wait_for()] then",
        '[heat(**{"degrees": true})]',
        "[1, 2, 3] is a list",
        "[unknown(x=1)]",
        "[heat(x=__import__('os').system('id'))]",
        "[heat(x=1",
        "[heat(x=1e999)]",
        "plain",
    ],
}


@pytest.mark.parametrize("name", FORMATS)
def test_cuts_change_nothing(name):
    for text in CASES[name]:
        whole = read(name, [text])
        assert read(name, list(text)) == whole, text
        for at in range(len(text)):
            assert read(name, [text[:at], text[at:]]) == whole, (text, at)


@settings(max_examples=80, deadline=None)
@given(st.data())
def test_cuts_change_nothing_in_any_mixture(data):
    name = data.draw(st.sampled_from(FORMATS))
    parts = ["<tool_call>", "</tool_call>", '{"name": "heat", "arguments": {', '"a": "', '"', "}", "]", "[", ", ", "\\",
             "火", "\n", "[TOOL_CALLS]", "[ARGS]", "heat", "(", ")", "=", "1", '{"name": "heat", "parameters": {}}', ";",
             " "]  # fmt: skip
    text = "".join(data.draw(st.lists(st.sampled_from(parts), max_size=12)))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=6)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]
    assert read(name, pieces) == read(name, [text])


def test_readers_give_what_only_looks_like_a_call_back_as_text():
    assert read("hermes", [CASES["hermes"][1]])[0] == CASES["hermes"][1]
    assert read("hermes", [CASES["hermes"][3]])[0] == CASES["hermes"][3]
    for name in ("llama3_json", "pythonic"):
        for text in CASES[name][2:5]:
            assert read(name, [text]) == (text, [])
    assert read("mistral", [CASES["mistral"][3]]) == (CASES["mistral"][3], [])


def test_long_answers_cost_no_more_than_their_length():
    """A quarter of a million characters in pieces of four, of the kinds that could make a reader look back again and again."""
    long = json.dumps({"text": "x" * 100_000})
    texts = {
        "hermes": [f'<tool_call>{{"name": "heat", "arguments": {long}}}</tool_call>', " \n" * 100_000, "<tool_call>{" * 20_000],
        "mistral": [f"[TOOL_CALLS]heat[ARGS]{long}", "[TOOL_CALLS]" * 20_000],
        "llama3_json": [f'{{"name": "heat", "parameters": {long}}}', " " * 200_000],
        "pythonic": ["[heat(x='" + "y" * 60_000, "[" * 100_000],
    }
    began = time.process_time()
    for name, kinds in texts.items():
        for text in kinds:
            reader = TOOL_FORMATS[name]().reader(NAMES)
            for at in range(0, len(text), 4):
                reader.push(text[at : at + 4])
            reader.finish()
    assert time.process_time() - began < 30  # seconds; what looks back takes minutes


def test_arguments_come_while_they_are_written():
    reader = TOOL_FORMATS["hermes"]().reader(NAMES)
    assert reader.push('<tool_call>\n{"name": "heat", "arguments": {"de') == [Called("heat"), Arguments('{"de')]
    assert reader.push('grees": 5') == [Arguments('grees": 5')]
    assert reader.push("}}") == [Arguments("}")]
    assert reader.push("\n</tool_call>") == reader.finish() == []


LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8)


def nested(inner):
    return st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)


@settings(max_examples=60, deadline=None)
@given(st.recursive(LEAVES, nested, max_leaves=8), st.booleans(), st.booleans())
def test_the_reader_of_json_agrees_with_json(value, ascii, first):
    arguments = json.dumps({"v": value}, ensure_ascii=ascii, indent=2 if first else None)
    text = f'{{"name": "heat", "arguments": {arguments}}}' if first else f'{{"arguments": {arguments}, "name": "heat"}}'
    call, pieces = JsonCall(NAMES), []
    for number, character in enumerate(text):
        assert not call.over, number
        pieces += call.take(character)
    assert call.state == "done"
    assert gathered(pieces) == ("", [("heat", arguments)])


def tool(name, properties=None, strict=None, **more):
    parameters = {
        "type": "object",
        "properties": properties or {},
        "required": list(properties or {}),
        "additionalProperties": False,
    }
    return {"type": "function", "function": {"name": name, "parameters": parameters, "strict": strict, **more}}


TOOLS = [tool("heat", {"degrees": {"type": "integer"}}), tool("wait_for", {"what": {"type": "string", "enum": ["tea", "rain"]}})]


def chat(**more):
    return Chat.model_validate({"model": "m", "messages": [{"role": "user", "content": "Hi"}], **more}, by_alias=True)


def template_for(name):
    """A template and a tokenizer that speak a format."""
    style = {"hermes": "qwen3", "llama3_json": "llama3", "mistral": "mistral"}.get(name)
    if style:
        return templates.tokenizer(style), templates.STYLES[style][0]
    return templates.tokenizer("llama3"), "{# [fn(x=1)] #}" + templates.STYLES["llama3"][0].replace('"parameters": ', "")


def write_some(held, tokenizer, ends, dice, most=300):
    """A text that a constraint allows, chosen by a hash; None where it does not end in time."""
    ids = []
    for _ in range(most):
        allowed = held.mask().nonzero()[0]
        token = int(dice.choice(allowed))
        if token in ends:
            return tokenizer.decode(ids)
        ids.append(token)
        if held.accept(token):
            return tokenizer.decode(ids)
    return None


@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("parallel", [True, False])
def test_a_forced_call_is_written_in_the_format_and_follows_the_schema(name, parallel):
    import numpy as np

    tokenizer, template = template_for(name)
    request = chat(tools=TOOLS, tool_choice="required", parallel_tool_calls=parallel)
    planned = plan(request, template, tokenizer.special_tokens)
    ends = frozenset([tokenizer.eos_id])
    kind, spec = planned.constraint
    held = compile_form(kind, spec, tokenizer, ends)
    many = 0
    for seed in range(8):
        text = write_some(held.clone(), tokenizer, ends, np.random.default_rng(seed))
        if text is None:
            continue
        splitter = planned.splitter(0)
        deltas = [*splitter.push(planned.prefill), *splitter.push(text), *splitter.finish("stop")]
        assert not [delta for delta in deltas if isinstance(delta, Text)], text
        assert deltas[-1] == Finished(0, "tool_calls")
        begun = [delta for delta in deltas if isinstance(delta, ToolBegin)]
        many += len(begun) > 1
        for call in begun:
            given = json.loads("".join(d.text for d in deltas if isinstance(d, ToolArguments) and d.index == call.index))
            assert isinstance(given["degrees"], int) if call.name == "heat" else given["what"] in ("tea", "rain")
    assert bool(many) == parallel


@pytest.mark.parametrize("name", FORMATS)
def test_a_strict_tool_may_be_left_alone_but_not_misused(name):
    tokenizer, template = template_for(name)
    request = chat(tools=[tool("heat", {"degrees": {"type": "integer"}}, strict=True)])
    planned = plan(request, template, tokenizer.special_tokens)
    ends = frozenset([tokenizer.eos_id])
    held = compile_form(*planned.constraint, tokenizer, ends)
    frame = TOOL_FORMATS[name]().frame(template)
    before = TOOL_FORMATS[name]().before("heat", template)

    def goes(text, ended=True):
        one = held.clone()
        for token in tokenizer.encode(text, allow_special=tokenizer.special_tokens):
            if not one.mask()[token]:
                return False
            if one.accept(token):
                return True
        return bool(one.mask()[tokenizer.eos_id]) if ended else True

    assert goes("Just a text, with {braces} and [brackets].")
    assert goes(frame.opening + before + '{"degrees": 5}' + frame.after + frame.closing)
    assert not goes(frame.opening + before + '{"degrees": "hot', ended=False)
    if not frame.alone:
        assert goes("I look. " + frame.opening + before + '{"degrees": 5}' + frame.after + frame.closing)


def test_forms_tools_and_thoughts_share_an_answer():
    tokenizer, template = template_for("hermes")
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"], "additionalProperties": False}
    form = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    planned = plan(chat(tools=TOOLS, response_format=form), template, tokenizer.special_tokens)
    ends = frozenset([tokenizer.eos_id])
    held = compile_form(*planned.constraint, tokenizer, ends)

    def goes(text):
        one = held.clone()
        for token in tokenizer.encode(text):
            if not one.mask()[token]:
                return False
            one.accept(token)
        return bool(one.mask()[tokenizer.eos_id])

    call = '<tool_call>\n{"name": "heat", "arguments": {"x": 1}}\n</tool_call>'
    assert goes('{"a": 1}') and goes(call)
    assert goes('<think>Hm {"b"}?</think>\n\n{"a": 1}') and goes(f"<think>Hm.</think>\n\n{call}")
    assert not goes("text") and not goes('{"b": 1}') and not goes("<think>Hm.</think>text")


def test_formats_are_told_by_the_template():
    assert {name: format_of(template_for(name)[1]).Config().name for name in FORMATS} == {name: name for name in FORMATS}
    assert format_of(CHATML).Config().name == format_of("{{ messages }}").Config().name == "hermes"


def test_templates_without_tools_are_told_in_words():
    messages = [
        {"role": "user", "content": "Heat!"},
        {"role": "assistant", "content": None, "tool_calls": [
            {"id": "a", "type": "function", "function": {"name": "heat", "arguments": '{"degrees":1}'}}]},
        {"role": "tool", "tool_call_id": "a", "content": "1 °C"},
    ]  # fmt: skip
    for style, system in (("phi3", True), ("gemma", False)):
        tokenizer = templates.tokenizer(style)
        planned = plan(chat(messages=messages, tools=TOOLS), tokenizer.chat_template, tokenizer.special_tokens)
        text = tokenizer.decode(encode_chat(tokenizer, tokenizer.chat_template, planned.messages, planned.tools))
        assert planned.tools is None and (planned.messages[0]["role"] == "system") == system
        assert '"name": "wait_for"' in text and '<tool_call>\n{"name": "heat", "arguments": {"degrees":1}}\n</tool_call>' in text
        assert "<tool_response>\n1 °C\n</tool_response>" in text


@pytest.mark.parametrize(
    ("wrong", "param"),
    [
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": TOOLS, "tool_choice": {"type": "function", "function": {"name": "cool"}}}, "tool_choice"),
        ({"tools": [*TOOLS, TOOLS[0]]}, "tools"),
        ({"tools": [{"type": "function", "function": {"name": "f", "parameters": {"type": "null"}}}]},
         "tools[0].function.parameters"),
        ({"tools": TOOLS, "tool_choice": "required", "regex": "a+"}, "regex"),
        ({"reasoning_effort": "high"}, "reasoning_effort"),
        ({"chat_template_kwargs": {"tokenize": True}}, "chat_template_kwargs.tokenize"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_by_name(wrong, param):
    tokenizer = templates.tokenizer("llama3")
    with pytest.raises(ApiError) as refused:
        plan(chat(**wrong), tokenizer.chat_template, tokenizer.special_tokens)
    assert (refused.value.status, refused.value.param) == (400, param)


def test_choices_of_tools():
    tokenizer, template = template_for("hermes")
    allowed = {
        "type": "allowed_tools",
        "allowed_tools": {"mode": "auto", "tools": [{"type": "function", "function": {"name": "heat"}}]},
    }

    def planned(choice):
        return plan(chat(tools=TOOLS, tool_choice=choice), template, tokenizer.special_tokens)

    assert planned("none").tools is None
    assert [one["function"]["name"] for one in planned(allowed).tools] == ["heat"]
    assert len(planned("auto").tools) == len(planned(None).tools) == 2
    named = planned({"type": "function", "function": {"name": "wait_for"}})
    assert '"heat"' not in named.constraint[1]["frame"] and "wait_for" in named.constraint[1]["frame"]
    assert named.prefill == "<tool_call>\n" and named.variables == {"enable_thinking": False}


def test_one_call_where_parallel_calls_are_off():
    tokenizer, template = template_for("hermes")
    splitter = plan(chat(tools=TOOLS, parallel_tool_calls=False), template, tokenizer.special_tokens).splitter(0)
    text = written("hermes", [("heat", '{"degrees": 1}'), ("wait_for", "{}")])
    deltas = [*splitter.push("First. " + text + " more"), *splitter.finish("stop")]
    assert [type(delta) for delta in deltas] == [Text, ToolBegin, ToolArguments, Finished]
    assert deltas[-1].reason == "tool_calls"


def test_a_call_that_is_cut_off_ends_by_length():
    tokenizer, template = template_for("hermes")
    splitter = plan(chat(tools=TOOLS), template, tokenizer.special_tokens).splitter(0)
    deltas = [*splitter.push('<tool_call>{"name": "heat", "arguments": {"degr'), *splitter.finish("length")]
    assert [type(delta) for delta in deltas] == [ToolBegin, ToolArguments, Finished]
    assert deltas[-1].reason == "length"
