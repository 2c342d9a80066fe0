"""What is taught of a conversation: exactly what serving would have the model write, with the token that ends a turn."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.tokenizer import templates

from danlu.core.errors import BadInput
from danlu.tokenizer.chat import CHATML, encode_chat, knows_tools
from danlu.tokenizer.chatml import CHATML_THINKING, TEMPLATES
from danlu.tokenizer.tokenizer import Tokenizer
from danlu.tokenizer.trainers.bytes import Bytes
from danlu.tokenizer.turns import end_of_turn, ends_of, lessons, taught, with_template

TALK = [
    {"role": "user", "content": "炉火? {{ 1 + 1 }}"},
    {"role": "assistant", "content": "Warm <b>."},
    {"role": "user", "content": "And <|im_end|> now?"},
    {"role": "assistant", "content": "Hot\n\n  yes 丹."},
]
SYSTEM = [{"role": "system", "content": "Be brief."}, *TALK]
TOOLS = [{"type": "function", "function": {"name": "heat", "description": "Warm.", "parameters": {"type": "object"}}}]
CALLS = [
    {"role": "user", "content": "Heat it."},
    {"role": "assistant", "content": "", "tool_calls": [
        {"id": "call00001", "type": "function", "function": {"name": "heat", "arguments": {"degrees": 5}}}]},
    {"role": "tool", "tool_call_id": "call00001", "content": "5 °C"},
    {"role": "assistant", "content": "It is 5 °C."},
]  # fmt: skip
THOUGHT = [{**one, "reasoning_content": f"Hm {at}."} if one["role"] == "assistant" else one for at, one in enumerate(SYSTEM)]
MARKED = """\
{{- bos_token }}{% for message in messages %}
{%- if message.role == 'assistant' %}
    {{- '<|im_start|>assistant\\n' }}
    {%- generation %}{{ message.content + '<|im_end|>' }}{% endgeneration %}{{ '\\n' }}
{%- else %}
    {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>\\n' }}
{%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}
"""
"""A template with marks, as those that transformers trains by."""


def chat_model(template=CHATML):
    return with_template(Bytes(Bytes.Config()).train(), template)


def model_of(style):
    made = templates.tokenizer(style)
    end = made.special_tokens[end_of_turn(made, made.chat_template)]
    return Tokenizer(made.definition, made.config, made.chat_template, [end])  # as generation_config.json says it


def masked(tokenizer, found):
    """The taught stretches of a lesson as texts."""
    return [tokenizer.decode([found.ids[at] for at in range(turn.start, turn.end) if found.mask[at]]) for turn in found.turns]


@pytest.mark.parametrize("style", templates.STYLES)
def test_ids_are_those_of_serving_and_turns_begin_where_its_prompts_end(style):
    tokenizer = model_of(style)
    template = tokenizer.chat_template
    talks = [(TALK, None)]
    talks += [(SYSTEM, None)] if style in ("llama3", "qwen3", "phi3") else []
    talks += [(CALLS, TOOLS)] if knows_tools(template) else []
    for messages, tools in talks:
        found = taught(tokenizer, template, messages, tools)
        assert found.ids == encode_chat(tokenizer, template, messages, tools, add_generation_prompt=False)
        assert [turn.message for turn in found.turns] == [at for at, one in enumerate(messages) if one["role"] == "assistant"]
        for turn in found.turns:
            prompt = encode_chat(tokenizer, template, messages[: turn.message], tools)
            assert found.ids[: turn.start] == prompt
            assert found.ids[turn.end - 1] in tokenizer.ends
            assert tokenizer.ends.isdisjoint(found.ids[turn.start : turn.end - 1])
            assert messages[turn.message]["content"].strip() in tokenizer.decode(found.ids[turn.start : turn.end])
        assert sum(found.mask) == sum(turn.end - turn.start for turn in found.turns)
        last = taught(tokenizer, template, messages, tools, first=len(messages) - 1)
        assert last.ids == found.ids and last.turns == found.turns[-1:]


def test_marks_of_a_template_give_the_mask_of_transformers(tmp_path):
    from transformers import AutoTokenizer

    tokenizer = chat_model(MARKED)
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    for messages in (TALK[:2], TALK, SYSTEM):
        plain = [{**one, "content": one["content"].replace("<|im_end|>", "")} for one in messages]  # theirs would take control
        wanted = theirs.apply_chat_template(plain, return_assistant_tokens_mask=True, return_dict=True)
        found = taught(tokenizer, MARKED, plain)
        assert found.ids == wanted["input_ids"] and found.mask == [bool(one) for one in wanted["assistant_masks"]]
        bare = MARKED.replace("{%- generation %}", "{%- if true %}").replace("{% endgeneration %}", "{% endif %}")
        assert taught(tokenizer, bare, plain) == found  # the marks say what rendering prompts finds


def test_marks_only_take_away():
    tokenizer = chat_model(MARKED)
    part = "message.content.split('/')"
    within = MARKED.replace(
        "message.content + '<|im_end|>'",
        f"{part}[0] }}}}{{% endgeneration %}}{{{{ '/' + {part}[1] + '/' }}}}{{% generation %}}{{{{ {part}[2] + '<|im_end|>'",
    )
    found = taught(tokenizer, within, [TALK[0], {"role": "assistant", "content": "one /seen/ two"}])
    assert masked(tokenizer, found) == ["one  two<|im_end|>"]
    some = MARKED.replace("{%- generation %}{{", "{%- if loop.last %}{%- generation %}{{").replace(
        "{% endgeneration %}", "{% endgeneration %}{% else %}{{ message.content + '<|im_end|>' }}{% endif %}"
    )
    assert [turn.message for turn in taught(tokenizer, some, TALK).turns] == [3]
    early = MARKED.replace(" + '<|im_end|>' }}{% endgeneration %}", " }}{% endgeneration %}{{ '<|im_end|>' }}")
    late = MARKED.replace("{%- generation %}", "{{- 'Oh, ' }}{%- generation %}")
    counted = "{%- set text %}{% generation %}{{ message.content }}{% endgeneration %}{% endset %}{{ text | length }}"
    inner = MARKED.replace("{%- generation %}{{ message.content", f"{counted}{{% generation %}}{{{{ ''")
    for template, reason in (
        (early, r"before '<\|im_end\|>'.*never stop"), (late, r"begins behind 'Oh, '.*untaught"),
        (inner, "works on what it marks"),
    ):  # fmt: skip
        with pytest.raises(BadInput, match=reason):
            taught(tokenizer, template, TALK)


def test_nobody_outside_can_set_the_marks():
    from danlu.tokenizer.chat import switches
    from danlu.tokenizer.template import MARKS

    assert not switches(MARKED) & set(MARKS)
    with pytest.raises(BadInput, match="reads no variable"):
        encode_chat(chat_model(MARKED), MARKED, TALK, variables={MARKS[0]: "x"})


def test_a_template_that_rewrites_earlier_turns_gives_each_its_own_lesson():
    tokenizer = model_of("qwen3")
    template = tokenizer.chat_template
    with pytest.raises(BadInput, match=r"message 3 of 5 would be served otherwise .* serving has '<think>\\nHm 2"):
        taught(tokenizer, template, THOUGHT)
    one, two = lessons(tokenizer, template, THOUGHT)
    assert masked(tokenizer, one) == ["<think>\nHm 2.\n</think>\n\nWarm <b>.<|im_end|>"]
    assert masked(tokenizer, two) == ["<think>\nHm 4.\n</think>\n\nHot\n\n  yes 丹.<|im_end|>"]
    assert "Hm 2" not in tokenizer.decode(two.ids)
    assert one.ids == encode_chat(tokenizer, template, THOUGHT[:3], add_generation_prompt=False)
    assert lessons(tokenizer, template, SYSTEM) == [taught(tokenizer, template, SYSTEM)]
    each = lessons(tokenizer, template, SYSTEM, per_turn=True)
    assert [[turn.message for turn in found.turns] for found in each] == [[2], [4]]
    assert taught(tokenizer, template, THOUGHT, first=3) == two  # the last turn alone is served so


def test_only_turns_that_disagree_stand_alone():
    tokenizer = model_of("qwen3")
    talk = [*TALK, {"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}]
    talk[1] = {**talk[1], "reasoning_content": "Hm."}
    found = lessons(tokenizer, tokenizer.chat_template, talk)
    assert [[turn.message for turn in one.turns] for one in found] == [[1], [3, 5]]


def test_a_token_never_spans_the_seam_of_the_turn_that_is_taught():
    from danlu.tokenizer.trainers.bpe import ByteLevelBPE

    texts = ["user\n\nassistant\n\nabc\n\n" * 30]
    tokenizer = with_template(ByteLevelBPE(ByteLevelBPE.Config()).train(texts, vocab_size=262, shrink=True), CHATML)
    assert len(tokenizer.encode("\n\n")) == 1  # the header's newline and the answer's would be one
    talk = [TALK[0], {"role": "assistant", "content": "\nabc"}]
    found = taught(tokenizer, CHATML, talk)
    prompt = encode_chat(tokenizer, CHATML, talk[:1])
    assert found.ids[: found.turns[0].start] == prompt
    assert found.ids != encode_chat(tokenizer, CHATML, talk, add_generation_prompt=False)
    assert masked(tokenizer, found) == ["\nabc<|im_end|>"]
    longer = [*talk, *TALK[2:]]
    with pytest.raises(BadInput, match=r"message 2 of 4: one token holds"):
        taught(tokenizer, CHATML, longer)
    one, two = lessons(tokenizer, CHATML, longer)
    assert one == found and [turn.message for turn in two.turns] == [3]


def test_a_model_that_would_never_stop_is_refused():
    bare = Bytes(Bytes.Config()).train()
    with pytest.raises(BadInput, match=r"answers end at <\|endoftext\|>; it writes <\|im_end\|>.*never stop"):
        taught(bare, CHATML, TALK)  # the vocabulary's own end is another
    endless = CHATML.replace("message['content'] + '<|im_end|>\\n'", "message['content'] + '\\n'")
    with pytest.raises(BadInput, match="never stop"):
        taught(chat_model(), endless, TALK)
    with pytest.raises(BadInput, match="no special token behind an answer"):
        with_template(bare, endless)
    twice = CHATML.replace("message['content'] + '<|im_end|>", "message['content'] + '<|im_end|> bye <|im_end|>")
    with pytest.raises(BadInput, match="goes on behind the token that ends an answer"):
        taught(chat_model(), twice, TALK)


def test_planted_differences_of_prompt_and_lesson_are_named():
    tokenizer = chat_model()
    spaced = CHATML.replace("{{- '<|im_start|>assistant\\n' }}", "{{- '<|im_start|>assistant:' }}")
    with pytest.raises(BadInput, match=r"message 2 of 4 .* serving has ':', the whole conversation '\\nWarm"):
        taught(tokenizer, spaced, TALK)
    opened = CHATML.replace("{{- '<|im_start|>assistant\\n' }}", "{{- '<|im_start|>assistant\\n<think>\\n' }}")
    with pytest.raises(BadInput, match="serving has '<think>"):
        taught(tokenizer, opened, TALK)


def test_what_a_template_leaves_out_is_refused():
    tokenizer = chat_model()
    with pytest.raises(BadInput, match=r"what the assistant thought \(reasoning_content\)"):
        taught(tokenizer, CHATML, THOUGHT)
    gemma = model_of("gemma")
    with pytest.raises(BadInput, match=r"functions that may be called \(tools\) and calls of functions \(tool_calls\)"):
        taught(gemma, gemma.chat_template, CALLS, TOOLS)


def test_messages_that_weigh_nothing_are_read_and_not_taught():
    tokenizer = chat_model()
    found = taught(tokenizer, CHATML, [TALK[0], {**TALK[1], "weight": 0}, *TALK[2:]])
    assert [turn.message for turn in found.turns] == [3]
    assert found.ids == taught(tokenizer, CHATML, TALK).ids
    for messages, first in ((TALK, 4), (TALK[:1], 0), ([TALK[0], {**TALK[1], "weight": 0}], 0)):
        with pytest.raises(BadInput, match="nothing to teach"):
            taught(tokenizer, CHATML, messages, first=first)


def test_a_conversation_may_go_on_behind_the_last_answer():
    tokenizer = chat_model()
    found = taught(tokenizer, CHATML, TALK[:3])
    assert found.ids == encode_chat(tokenizer, CHATML, TALK[:3], add_generation_prompt=False)
    assert masked(tokenizer, found) == ["Warm <b>.<|im_end|>"]


@settings(max_examples=25, deadline=None)
@given(st.lists(st.text(st.sampled_from("ab 炉\n<|im_end|>{%"), min_size=1, max_size=12), min_size=2, max_size=6))
def test_whatever_is_said_the_laws_hold(texts):
    tokenizer = chat_model()
    messages = [{"role": ("user", "assistant")[at % 2], "content": text} for at, text in enumerate(texts)]
    for found in lessons(tokenizer, CHATML, messages):
        for turn in found.turns:
            assert found.ids[: turn.start] == encode_chat(tokenizer, CHATML, messages[: turn.message])
            assert tokenizer.decode(found.ids[turn.start : turn.end]) == messages[turn.message]["content"] + "<|im_end|>"


@pytest.mark.parametrize("name", TEMPLATES)
def test_our_templates_load_and_render_in_transformers(name, tmp_path):
    from transformers import AutoTokenizer

    tokenizer = chat_model(TEMPLATES[name])
    tokenizer.save(tmp_path)
    theirs = AutoTokenizer.from_pretrained(tmp_path)
    assert theirs.eos_token == "<|im_end|>" and "{% generation" not in theirs.chat_template
    thoughtful = [CALLS[0], {**CALLS[1], "reasoning_content": "5?"}, *CALLS[2:]]
    for messages, tools in ((SYSTEM[:2], None), (CALLS, TOOLS), (THOUGHT[:3], None), (thoughtful, TOOLS)):
        clean = json.loads(json.dumps(messages))
        wanted = theirs.apply_chat_template(clean, tools=tools, return_dict=False)
        assert encode_chat(tokenizer, TEMPLATES[name], messages, tools, add_generation_prompt=False) == wanted


def test_thoughts_stand_before_the_answer_of_the_last_turn():
    tokenizer = chat_model(CHATML_THINKING)
    assert [masked(tokenizer, one) for one in lessons(tokenizer, CHATML_THINKING, THOUGHT)] == [
        ["<think>\nHm 2.\n</think>\n\nWarm <b>.<|im_end|>"], ["<think>\nHm 4.\n</think>\n\nHot\n\n  yes 丹.<|im_end|>"],
    ]  # fmt: skip
    called = [CALLS[0], {**CALLS[1], "reasoning_content": "5?"}, *CALLS[2:]]
    (found,) = lessons(tokenizer, CHATML_THINKING, called, TOOLS)
    first = masked(tokenizer, found)[0]
    assert first == '<think>\n5?\n</think>\n<tool_call>\n{"name": "heat", "arguments": {"degrees": 5}}\n</tool_call><|im_end|>'
    assert lessons(tokenizer, CHATML_THINKING, TALK) == lessons(chat_model(), CHATML, TALK)


def test_a_template_makes_its_end_of_turn_end_answers(tmp_path):
    bare = Bytes(Bytes.Config()).train()
    made = with_template(bare, CHATML)
    assert made.eos_id == made.vocab["<|im_end|>"] and made.ends == {made.eos_id, bare.eos_id} and made.pad_id == bare.pad_id
    assert ends_of(made, bare.eos_id, None) == [made.eos_id, bare.eos_id] == ends_of(made)
    made.save(tmp_path)
    (tmp_path / "generation_config.json").write_text(json.dumps({"eos_token_id": ends_of(made)}))
    again = Tokenizer.open(tmp_path)
    assert again.ends == made.ends and again.chat_template == CHATML
    with pytest.raises(BadInput, match=r"writes <\|im_end\|>, <\|im_start\|>, which are no tokens"):
        with_template(Bytes(Bytes.Config()).train(special_tokens=["<s>"]), CHATML)
