"""Thoughts and answers: told apart however the text is cut, whoever opens the block, and switched off where a template can."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokenizer import templates

from danlu.server.deltas import Reasoning, Text
from danlu.server.errors import ApiError
from danlu.server.fields import Chat
from danlu.server.planning import plan
from danlu.server.reasoning import KNOWN, Marks, Thinking, marks_of, opens, switches_of
from danlu.tokenizer.chat import CHATML

THINK = KNOWN[0]
ALWAYS = CHATML.replace("assistant\\n' }}\n{%- endif %}\n", "assistant\\n<think>\\n' }}\n{%- endif %}\n")
EFFORT = "{{ reasoning_effort }}" + CHATML + "{# <think> #}"


def split(pieces, opened=False, marks=THINK):
    thinking = Thinking(marks, opened)
    found = [pair for piece in pieces for pair in thinking.push(piece)] + thinking.finish()
    return tuple("".join(text for thought, text in found if thought == wanted) for wanted in (True, False))


@pytest.mark.parametrize(
    ("text", "opened", "wanted"),
    [
        ("<think>\nHm.\n</think>\n\nYes. \n", False, ("Hm.", "Yes. \n")),
        ("Hm.\n\nWell.\n</think>\n\nYes.", True, ("Hm.\n\nWell.", "Yes.")),
        ("\n<think>\n\n</think>\n\nYes.", False, ("", "Yes.")),
        (" Yes <think>no</think>", False, ("", " Yes <think>no</think>")),
        ("<think>cut off </thi", False, ("cut off </thi", "")),
        ("<thin", False, ("", "<thin")),
        ("", True, ("", "")),
        ("a < b </think>c", True, ("a < b", "c")),
    ],
)
def test_thoughts_and_answer(text, opened, wanted):
    assert split([text], opened) == wanted
    assert split(list(text), opened) == wanted


@settings(max_examples=80, deadline=None)
@given(
    st.lists(st.sampled_from(["<think>", "</think>", "<", "/", "think>", " ", "\n", "a", "炉"]), max_size=10),
    st.booleans(),
    st.data(),
)
def test_cuts_change_nothing(parts, opened, data):
    text = "".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    pieces = [text[start:end] for start, end in zip([0, *cuts], [*cuts, len(text)])]
    assert split(pieces, opened) == split([text], opened)


def test_who_opens_the_block():
    qwen = templates.STYLES["qwen3"][0]
    assert (marks_of(qwen), marks_of(CHATML), marks_of(ALWAYS)) == (THINK, None, THINK)
    assert not opens(qwen, THINK, {}) and not opens(qwen, THINK, {"enable_thinking": False}) and opens(ALWAYS, THINK, {})
    assert opens("{{ bos_token + messages[0].content + eos_token + '<think>' }}", THINK, {})
    assert marks_of("[THINK]") == Marks("[THINK]", "[/THINK]")


def test_what_an_effort_means():
    qwen = templates.STYLES["qwen3"][0]
    assert switches_of("none", qwen, THINK) == ({"enable_thinking": False}, False)
    assert switches_of("high", qwen, THINK) == ({"enable_thinking": True}, False)
    assert switches_of("low", EFFORT, THINK) == ({"reasoning_effort": "low"}, False)
    assert switches_of("none", EFFORT, THINK) == ({"reasoning_effort": "none"}, False)
    assert switches_of("none", ALWAYS, THINK) == ({}, True)
    assert (
        switches_of("high", ALWAYS, THINK) == switches_of(None, qwen, THINK) == switches_of("none", CHATML, None) == ({}, False)
    )
    with pytest.raises(ApiError, match="no switch"):
        switches_of("high", CHATML, None)


def test_a_block_without_a_switch_is_closed():
    request = Chat(model="m", messages=[{"role": "user", "content": "Hi"}], reasoning_effort="none")
    planned = plan(request, ALWAYS, {})
    splitter = planned.splitter(0)
    assert splitter.thinking
    assert planned.prefill == "\n</think>\n\n" and splitter.push(planned.prefill) == []
    assert not splitter.thinking and splitter.push("Yes.") == [Text(0, "Yes.")]


def test_what_is_counted_as_thought():
    splitter = plan(Chat(model="m", messages=[{"role": "user", "content": "Hi"}]), ALWAYS, {}).splitter(0)
    held = []
    for piece in ["Hm", ".", "\n", "</think>", "\n\n", "Yes", "."]:
        held.append(splitter.thinking)
        splitter.push(piece)
    assert held == [True] * 4 + [False] * 3


def test_a_form_comes_after_the_thoughts():
    from danlu.engine.constrain.compile import compile as compile_form

    tokenizer = templates.tokenizer("qwen3")
    request = {"model": "m", "messages": [{"role": "user", "content": "Hi"}], "response_format": {"type": "json_object"}}
    for template, first in ((ALWAYS, "Hm.\n</think>\n\n"), (templates.STYLES["qwen3"][0], "<think>\nHm {.\n</think>\n\n")):
        planned = plan(Chat.model_validate(request), template, tokenizer.special_tokens)
        held = compile_form(*planned.constraint, tokenizer, frozenset([tokenizer.eos_id]))
        for token in tokenizer.encode(first + '{"a": 1}'):
            assert held.mask()[token]
            done = held.accept(token)
        assert done or held.mask()[tokenizer.eos_id]
        deltas = planned.splitter(0).push(first + '{"a": 1}')
        assert deltas[-1] == Text(0, '{"a": 1}') and isinstance(deltas[0], Reasoning)
    with pytest.raises(ApiError) as refused:
        plan(Chat(model="m", messages=[{"role": "user", "content": "Hi"}], grammar='start: "a"'), ALWAYS, {})
    assert refused.value.param == "grammar"
