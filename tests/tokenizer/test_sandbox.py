"""Hostile templates: every one ends within its time and its memory, and the next conversation is rendered as ever."""

import time

import pytest

from danlu.core.errors import BadInput
from danlu.tokenizer import template as plain
from danlu.tokenizer.chat import CHATML
from danlu.tokenizer.sandbox import MOST_TEMPLATE, Sandbox

HOSTILE = {
    "loops in loops": "{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}",
    "one endless call": "{{ 9 ** (9 ** 9) }}",
    "a constant to fold": "{{ 'a' * 10 ** 12 }}",
    "doubling": "{% set n = namespace(t='aa') %}{% for i in range(99) %}{% set n.t = n.t ~ n.t %}{% endfor %}{{ n.t }}",
    "wide formats": "{{ '%999999999999d' % 1 }}",
    "wide methods": "{{ 'a'.ljust(10 ** 12) }}",
    "long lists": "{{ ([0] * 10 ** 11) | length }}",
    "endless output": "{% for a in range(99999) %}{{ 'x' * 999 }}{% endfor %}",
    "calls itself": "{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}",
    "deep nesting": "{{ " + "(" * 5_000 + ")" * 5_000 + " }}",
    "reaches out": "{{ cycler.__init__.__globals__ }}",
    "includes": "{% include '/etc/passwd' %}",
    "too long": "x" * (MOST_TEMPLATE + 1),
}


@pytest.fixture(scope="module")
def sandbox():
    sandbox = Sandbox(deadline_s=1.0, memory_bytes=1 << 28)
    sandbox.draw("", [{}])
    yield sandbox
    sandbox.close()


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_template_ends(case, sandbox):
    began = time.monotonic()
    with pytest.raises(BadInput):
        sandbox.draw(HOSTILE[case], [{}])
    assert time.monotonic() - began < 10
    assert sandbox.draw("{{ word }}", [{"word": "好"}]) == ["好"]


def test_the_sandbox_agrees_with_the_plain_twin(sandbox):
    for size in (1, 2, 300):
        variables = {"messages": [{"role": "user", "content": "炉\ud83d火\x00\n" * size}], "add_generation_prompt": size > 1}
        assert sandbox.draw(CHATML, [variables]) == [plain.draw(CHATML, variables)]
    assert sandbox.names(CHATML) == plain.names(CHATML) == ["add_generation_prompt", "messages", "tools"]


def test_a_process_that_was_killed_is_replaced(sandbox):
    sandbox._process.kill()
    sandbox._process.wait()
    assert sandbox.draw("{{ 1 + 1 }}", [{}]) == ["2"]


def test_secrets_of_the_environment_stay_outside(monkeypatch):
    monkeypatch.setenv("DANLU_API_KEY", "secret")
    sandbox = Sandbox()
    sandbox.draw("", [{}])
    with open(f"/proc/{sandbox._process.pid}/environ", "rb") as environment:
        assert b"secret" not in environment.read()
    sandbox.close()


def test_beginnings_are_what_each_would_be_alone(sandbox, monkeypatch):
    talk = [{"role": ("user", "assistant")[at % 2], "content": f"turn {at} 炉" * (at % 3)} for at in range(9)]
    loud = [{**one, "content": one["content"].upper()} for one in talk]
    conversations = [{"messages": talk, "tools": None}, {"messages": loud, "tools": None}]
    asked = [(which, size, {"add_generation_prompt": size % 2 == 1}) for which in (0, 1) for size in (1, 4, 9, 2, 0)]
    wanted = [plain.draw(CHATML, {**conversations[which], **more, "messages": conversations[which]["messages"][:size]})
              for which, size, more in asked]  # fmt: skip
    assert sandbox.draw_beginnings(CHATML, conversations, asked) == wanted
    monkeypatch.setattr("danlu.tokenizer.sandbox.MOST_AT_ONCE", 700)  # in several questions, none of which takes long
    assert sandbox.draw_beginnings(CHATML, conversations, asked) == wanted
    with pytest.raises(BadInput, match="no such thing"):
        sandbox.draw_beginnings("{{ raise_exception('no such thing') }}", conversations, asked)
    with pytest.raises(BadInput, match="ran longer than 1 s"):
        sandbox.draw_beginnings(HOSTILE["loops in loops"], conversations, asked)
    assert sandbox.draw_beginnings(CHATML, conversations, asked[:1]) == wanted[:1]
