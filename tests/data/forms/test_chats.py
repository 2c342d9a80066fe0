"""Conversations of every style become messages; what makes no sense is set aside with its line and the reason."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.shared_data import shared

from danlu.core.errors import NoUsableText
from danlu.core.settings import load
from danlu.data.forms import FORMS
from danlu.data.forms.talk import Talk, messages_of, tools_of
from danlu.data.shards import read_documents, sample_columns
from danlu.stages.prepare import Prepare, prepare

USER, ANSWER = {"role": "user", "content": "炉 e\u0301?"}, {"role": "assistant", "content": "火  \n"}
ASKED, ANSWERED = {"role": "user", "content": "炉 é?"}, {"role": "assistant", "content": "火"}  # as editors leave them
SYSTEM = {"role": "system", "content": "Be brief."}
TOOL = {"name": "heat", "description": "Warm.", "parameters": {"type": "object"}}
TOOLS = json.dumps([{"type": "function", "function": TOOL}], separators=(",", ":"))
CALL = {"type": "function", "function": {"name": "heat", "arguments": {"degrees": "e\u0301"}}}
CALLS = [ASKED, {"role": "assistant", "content": "", "tool_calls": [CALL]}, {"role": "tool", "content": '{"now": 5}'}, ANSWERED]

SAMPLES = {
    "alpaca": [
        ({"instruction": USER["content"], "input": "", "output": ANSWER["content"]}, {"messages": [ASKED, ANSWERED]}),
        ({"instruction": "Say", "input": "this", "output": "this.", "system": "Be brief.", "history": [["a", "b"]]},
         {"messages": [SYSTEM, {"role": "user", "content": "a"}, {"role": "assistant", "content": "b"},
                       {"role": "user", "content": "Say\n\nthis"}, {"role": "assistant", "content": "this."}]}),
    ],
    "sharegpt": [
        ({"conversations": [{"from": "human", "value": USER["content"]},
                            {"from": "function_call", "value": json.dumps({"name": "heat", "arguments": {"degrees": "e\u0301"}})},
                            {"from": "observation", "value": '{"now": 5}'}, {"from": "gpt", "value": ANSWER["content"]}],
          "tools": json.dumps([TOOL])}, {"messages": CALLS, "tools": TOOLS}),
        ({"conversations": [{"from": "human", "value": USER["content"]}, {"from": "gpt", "value": ANSWER["content"]}],
          "system": "Be brief."}, {"messages": [SYSTEM, ASKED, ANSWERED]}),
    ],
    "messages": [
        ({"messages": [{"role": "developer", "content": "Be brief."}, USER, {**ANSWER, "reasoning_content": "Hm. e\u0301"}]},
         {"messages": [SYSTEM, ASKED, {**ANSWERED, "reasoning_content": "Hm. é"}]}),
        ({"messages": [{"role": "user", "content": [{"type": "text", "text": "炉 "}, {"type": "text", "text": "e\u0301?"}]},
                       {"role": "assistant", "content": None, "tool_calls": [
                           {"id": "one", "function": {"name": "heat", "arguments": '{"degrees": "e\u0301"}'}}]},
                       {"role": "tool", "tool_call_id": "one", "content": '{"now": 5}'}, {**ANSWER, "weight": 0}],
          "tools": [{"type": "function", "function": {**TOOL, "strict": None}}]},
         {"messages": [ASKED, {"role": "assistant", "content": "", "tool_calls": [{"id": "one", **CALL}]},
                       {**CALLS[2], "tool_call_id": "one"}, {**ANSWERED, "weight": 0}], "tools": TOOLS}),
    ],
    "completion": [
        ({"prompt": USER["content"], "completion": ANSWER["content"]}, {"messages": [ASKED, ANSWERED]}),
        ({"prompt": [SYSTEM, USER], "completion": [ANSWER]}, {"messages": [SYSTEM, ASKED, ANSWERED]}),
    ],
    "preference": [
        ({"prompt": USER["content"], "chosen": ANSWER["content"], "rejected": "no"},
         {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [{"role": "assistant", "content": "no"}]}),
        ({"conversations": [{"from": "system", "value": "Be brief."}, {"from": "human", "value": USER["content"]}],
          "chosen": {"from": "gpt", "value": ANSWER["content"]}, "rejected": {"from": "gpt", "value": "no"}},
         {"prompt": [SYSTEM, ASKED], "chosen": [ANSWERED], "rejected": [{"role": "assistant", "content": "no"}]}),
        ({"instruction": "Say", "input": "this", "output": "x", "chosen": "this.", "rejected": "that."},
         {"prompt": [{"role": "user", "content": "Say\n\nthis"}], "chosen": [{"role": "assistant", "content": "this."}],
          "rejected": [{"role": "assistant", "content": "that."}]}),
        ({"chosen": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: yes",
          "rejected": "\n\nHuman: a\n\nAssistant: b\n\nHuman: c\n\nAssistant: no"},
         {"prompt": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}, {"role": "user", "content": "c"}],
          "chosen": [{"role": "assistant", "content": "yes"}], "rejected": [{"role": "assistant", "content": "no"}]}),
        ({"prompt": USER["content"], "chosen": [USER, ANSWER], "rejected": [USER, {"role": "assistant", "content": "no"}]},
         {"prompt": [ASKED], "chosen": [ANSWERED], "rejected": [{"role": "assistant", "content": "no"}]}),
        ({"chosen": [SYSTEM, USER, ANSWER], "rejected": [SYSTEM, USER, {"role": "assistant", "content": "no"}]},
         {"prompt": [SYSTEM, ASKED], "chosen": [ANSWERED], "rejected": [{"role": "assistant", "content": "no"}]}),
    ],
    "judged": [
        ({"messages": [USER, ANSWER], "label": True}, {"prompt": [ASKED], "completion": [ANSWERED], "label": "true"}),
        ({"prompt": USER["content"], "completion": ANSWER["content"], "label": 0},
         {"prompt": [ASKED], "completion": [ANSWERED], "label": "false"}),
    ],
    "verifiable": [
        ({"question": USER["content"], "answer": "e\u0301 = 4"}, {"prompt": [ASKED], "answer": "e\u0301 = 4"}),
        ({"prompt": [SYSTEM, USER], "answer": {"tests": ["f(1) == 2"]}},
         {"prompt": [SYSTEM, ASKED], "answer": '{"tests":["f(1) == 2"]}'}),
        ({"prompt": USER["content"], "answer": 72}, {"prompt": [ASKED], "answer": "72"}),
    ],
}  # fmt: skip


def run(folder, rows, form, name="rows.jsonl", **settings):
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = {"sources": [str(path)], "engine": "sequential", "out": folder / "out", "form": form, "holdout": 0, **settings}
    return prepare(load(Prepare, words)).path


def told(document):
    """A sample with its conversations as lists and without empty columns."""
    sample = {
        key: json.loads(part) if part.startswith("[{") and key != "tools" else part for key, part in document.sample.items()
    }
    return {key: part for key, part in sample.items() if part != ""}


def reasons(out):
    return [json.loads(line) for line in (out / "quarantine.jsonl").read_text().splitlines()]


def test_every_form_of_conversation_is_tested_here():
    kinds = {name for name in FORMS.names() if issubclass(FORMS[name], Talk)}
    assert kinds == {*SAMPLES, "chat"}


@pytest.mark.parametrize("form", SAMPLES)
def test_samples_arrive_edited_and_whole(form, tmp_path):
    records, samples = zip(*SAMPLES[form], strict=True)
    out = run(tmp_path, records, form, dedups=[])
    found = list(read_documents(out))
    assert [told(document) for document in found] == list(samples)
    assert sample_columns(out) == list(FORMS[form].columns)
    for document, sample in zip(found, samples, strict=True):
        for message in (message for part in sample.values() if isinstance(part, list) for message in part):
            assert message["content"] in document.text
        assert '"role"' not in document.text


def test_styles_may_stand_in_one_set_and_tables_are_read(tmp_path):
    pairs = [pair for form in ("alpaca", "sharegpt", "messages", "completion") for pair in SAMPLES[form]]
    out = run(tmp_path, [record for record, _ in pairs], "chat")
    found = [json.dumps(told(document), sort_keys=True) for document in read_documents(out)]
    assert sorted(found) == sorted({json.dumps(sample, sort_keys=True) for _, sample in pairs})  # copies go, whatever style
    rows = [{"messages": [USER, ANSWER], "tools": None}, {"messages": [USER, {**ANSWER, "tool_calls": None}], "tools": None}]
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "rows.parquet")
    words = {
        "sources": [str(tmp_path / "rows.parquet")],
        "engine": "sequential",
        "form": "chat",
        "out": tmp_path / "table",
        "dedups": [],
    }
    out = prepare(load(Prepare, words)).path
    found = [told(document) for split in ("train", "validation") for document in read_documents(out, split)]
    assert found == [{"messages": [ASKED, ANSWERED]}] * 2


BROKEN = [
    ("messages", {"messages": [USER]}, "ends with the user"),
    ("messages", {"messages": [USER, {"role": "assistant", "content": " \n"}]}, "message 2, the assistant's, is empty"),
    ("messages", {"messages": [{"role": "wizard", "content": "x"}, ANSWER]}, "message 1 has an unknown role 'wizard'"),
    ("messages", {"messages": [{"text": "x"}]}, "message 1 has no 'role'; it has text"),
    ("messages", {"messages": [ANSWER]}, "message 1 is the assistant's, before any of a user"),
    ("messages", {"messages": [USER, USER, ANSWER]}, "message 2 is the user's, right behind one of the user's"),
    ("messages", {"messages": [USER, ANSWER, ANSWER]}, "message 3 is the assistant's, right behind one of the assistant's"),
    ("messages", {"messages": [USER, ANSWER, SYSTEM, ANSWER]}, "message 3 is a system message"),
    ("messages", {"messages": [*CALLS[:2], ASKED, ANSWER]}, "message 3, the user's, stands where the result of a call (heat)"),
    ("messages", {"messages": [USER, CALLS[2], ANSWER]}, "message 2 is the result of a tool, but no call waits for it"),
    ("messages", {"messages": [*CALLS[:3], CALLS[2], ANSWER]}, "message 4 is the result of a tool, but no call waits"),
    ("messages", {"messages": [USER, {**CALLS[1], "tool_calls": [{"id": "a", **CALL}]},
                               {**CALLS[2], "tool_call_id": "b"}, ANSWER]}, "message 3 answers call 'b'; waiting: a"),
    ("messages", {"messages": [USER, {**CALLS[1], "tool_calls": [{"id": "a", **CALL}, {"id": "b", **CALL}]},
                               {**CALLS[2], "tool_call_id": "b"}, ANSWER]}, "stands where the result of a call (heat) should"),
    ("messages", {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}, ANSWER]},
     "message 1 has a part of type 'image_url'; only text"),
    ("messages", {"messages": [USER, ANSWER], "images": ["1.jpg"]}, "the record has images"),
    ("messages", {"messages": "hello"}, "the conversation is no JSON"),
    ("messages", {"text": "x"}, "no field 'messages'; it has text"),
    ("messages", {"messages": []}, "field 'messages' is empty"),
    ("messages", {"messages": [USER, ANSWER], "tools": [{"type": "function"}]}, "a tool has no name"),
    ("messages", {"messages": [USER, ANSWER], "tools": [{"name": "f", "description": "\ud800"}]}, "half a surrogate pair"),
    ("messages", {"messages": [USER, ANSWER], "tools": [TOOL, TOOL]}, "two tools are called 'heat'"),
    ("messages", {"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"name": "f", "arguments": "{"}}]}]},
     "the arguments of f is no JSON"),
    ("messages", {"messages": [USER, {"role": "assistant", "tool_calls": [{"function": {"arguments": "{}"}}]}]},
     "message 2 calls a function without a name"),
    ("messages", {"messages": [USER, {"role": "assistant", "content": "\x00"}]}, "nothing is left of a message of the assistant"),
    ("sharegpt", {"conversations": [{"from": "human", "value": "x"}, {"from": "function_call", "value": "heat()"}]},
     "message 2, a call, is no JSON"),
    ("alpaca", {"instruction": "x", "output": ""}, "field 'output' is empty"),
    ("alpaca", {"instruction": "x", "output": "y", "history": ["a"]}, "entry 1 is no pair"),
    ("alpaca", {"instruction": "x", "output": "y", "history": True}, "is bool, not a list of pairs"),
    ("completion", {"prompt": "x", "completion": [USER]}, "right behind one of the user's"),
    ("completion", {"prompt": [USER, ANSWER], "completion": "x"}, "the prompt ends with the assistant"),
    ("chat", {"text": "x"}, "no style of chat has these fields (text): messages: messages; sharegpt: conversations"),
    ("preference", {"prompt": "x", "chosen": "y", "rejected": "y"}, "both answers are the same"),
    ("preference", {"prompt": "x", "chosen": "y", "rejected": "y \n"}, "both answers are the same"),
    ("preference", {"prompt": "x", "chosen": "y"}, "no field 'rejected'"),
    ("preference", {"chosen": "y", "rejected": "z"}, "no field holds a prompt"),
    ("preference", {"chosen": "\n\nHuman: a\n\nAssistant: b", "rejected": "\n\nHuman: c\n\nAssistant: d"}, "do not begin alike"),
    ("judged", {"messages": [USER, ANSWER], "label": "maybe"}, "is 'maybe', neither true nor false"),
    ("judged", {"messages": [USER, ANSWER]}, "no field 'label'"),
    ("judged", {"messages": [USER], "label": True}, "ends with the user"),
    ("verifiable", {"prompt": "x", "answer": ""}, "field 'answer' is empty"),
    ("verifiable", {"answer": "x"}, "no field holds a prompt"),
]  # fmt: skip


@pytest.mark.parametrize("form", [*SAMPLES, "chat"])
def test_what_makes_no_sense_is_set_aside_with_its_line_and_the_reason(form, tmp_path):
    good = SAMPLES["messages" if form == "chat" else form][0][0]
    broken = [(record, reason) for name, record, reason in BROKEN if name == form]
    out = run(tmp_path, [good, *(record for record, _ in broken)], form)
    notes = reasons(out)
    assert [note["line"] for note in notes] == list(range(2, len(broken) + 2))
    for note, (_, reason) in zip(notes, broken, strict=True):
        assert reason in note["reason"]
    assert len(list(read_documents(out))) == 1
    ledger = json.loads((out / "ledger.json").read_text())["total"]["all"]
    assert ledger["read"]["documents"] == 1 + len(broken) and ledger["quarantined"]["documents"] == len(broken)


def test_fields_may_have_other_names(tmp_path):
    rows = [{"ask": "x", "more": "y", "say": "z"}]
    (document,) = read_documents(run(tmp_path, rows, {"name": "alpaca", "instruction": "ask", "input": "more", "output": "say"}))
    assert told(document)["messages"][0]["content"] == "x\n\ny"
    rows = [{"talk": [{"who": "user", "what": "a"}, {"who": "bot", "what": "b"}]}]
    form = {"name": "sharegpt", "conversations": "talk", "role": "who", "content": "what"}
    (document,) = read_documents(run(tmp_path, rows, form, overwrite=True))
    assert document.text == "a\n\nb"
    rows = [{"ask": "x", "more": "", "good": "y", "bad": "z"}]
    form = {"name": "preference", "prompt": "ask,more", "chosen": "good", "rejected": "bad"}
    (document,) = read_documents(run(tmp_path, rows, form, overwrite=True))
    assert told(document)["prompt"] == [{"role": "user", "content": "x"}]


def test_short_answers_stay_and_copies_are_whole_conversations(tmp_path):
    rows = [{"instruction": ask, "output": say} for ask, say in [("1+1?", "2"), ("1+1?", "2"), ("1+1?", "two"), ("好?", "好")]]
    out = run(tmp_path, rows, "chat")
    assert [document.text for document in read_documents(out)] == ["1+1?\n\n2", "1+1?\n\ntwo", "好?\n\n好"]


@pytest.mark.parametrize(("record", "form"), [
    (SAMPLES["alpaca"][0][0], "chat"), (SAMPLES["messages"][0][0], "chat"), (SAMPLES["preference"][0][0], "preference"),
])  # fmt: skip
def test_conversations_that_are_read_as_text_are_known(record, form, tmp_path):
    with pytest.raises(NoUsableText, match=f"--form {form} reads them"):
        run(tmp_path, [record], None)


def test_thoughts_may_be_left_out(tmp_path):
    record = SAMPLES["messages"][0][0]
    (document,) = read_documents(run(tmp_path, [record], {"name": "messages", "reasoning": False}))
    assert told(document)["messages"] == [SYSTEM, ASKED, ANSWERED] and "Hm" not in document.text


def test_answers_behind_a_mark(tmp_path):
    rows = [{"question": "2+2?", "answer": "2+2 = <<2+2=4>>4\n#### 1,004"}, {"question": "3?", "answer": "three"}]
    out = run(tmp_path, rows, {"name": "verifiable", "answer_after": "####"})
    (document,) = read_documents(out)
    assert document.sample["answer"] == "1,004"
    assert reasons(out)[0]["reason"] == "field 'answer' holds no '####'"


def test_tools_of_every_style_are_told_alike():
    for found in ([TOOL], json.dumps([TOOL]), TOOL, [{"type": "function", "function": TOOL}], [json.dumps(TOOL)]):
        assert tools_of(found) == TOOLS
    assert tools_of(None) == tools_of("") == tools_of([]) == tools_of("[]") == ""
    (_, message) = messages_of([USER, {"role": "assistant", "content": "", "function_call": {"name": "heat", "arguments": "{}"}}])
    assert message["tool_calls"] == [{"type": "function", "function": {"name": "heat", "arguments": {}}}]


REAL = [
    ("instruct_demo/glaive_toolcall_zh_demo.json", "chat", 300, 2),
    ("instruct_en_small/instruction-data.json", "chat", 1100, 0),
    ("preference/hh_rlhf_harmless_base_test_first800.jsonl", "preference", 800, 4),
    ("preference/instruction-data-with-preference.json", "preference", 1100, 6),
    ("preference/kto_en_demo.json", "judged", 300, 0),
]


@pytest.mark.parametrize(("name", "form", "count", "broken"), REAL)
def test_real_sets_are_read_as_they_are(name, form, count, broken, tmp_path):
    if (path := shared(name)) is None:
        pytest.skip("no such set on this machine; the tests above read small ones of ours in every style")
    words = {"sources": [str(path)], "engine": "sequential", "out": tmp_path / "out", "form": form}
    out = prepare(load(Prepare, words)).path
    ledger = json.loads((out / "ledger.json").read_text())["total"]["all"]
    assert ledger["read"]["documents"] == count and len(reasons(out)) == broken
    assert all(note["line"] and note["reason"] for note in reasons(out))
    kept = sum(ledger[row]["documents"] for row in ("train", "validation", "exact copies", "quarantined") if row in ledger)
    assert kept == count
    for document in read_documents(out):
        assert all(part == "" or json.loads(part) for key, part in document.sample.items() if key != "label")


KEYS = st.sampled_from(
    ["role", "content", "from", "value", "tool_calls", "function", "name", "arguments", "id", "type", "text", "reasoning_content",
     "function_call", "tool_call_id", "weight", "refusal", "images"]
)  # fmt: skip
WORDS = st.sampled_from(
    ["user", "assistant", "human", "gpt", "tool", "function_call", "text", "x", "", "{", "[]", '{"name": "f"}', "####", "true",
     "\n\nHuman: a\n\nAssistant: b"]
)  # fmt: skip
LEAVES = st.none() | st.booleans() | st.integers(-1, 2) | st.floats() | WORDS
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4), max_leaves=12)


@settings(max_examples=150, deadline=None)
@given(form=st.sampled_from(sorted({*SAMPLES, "chat"})), data=st.data())
def test_any_record_is_a_sample_or_has_a_reason(form, data):
    reader = FORMS.build(FORMS[form].Config())
    names = sorted({*reader.fields(), *reader.optional()})
    record = data.draw(st.dictionaries(st.sampled_from(names), TREES, max_size=6) | TREES)
    try:
        text, sample = reader.take(record)
    except ValueError as error:
        assert str(error)
        return
    assert set(sample) == set(reader.columns) and isinstance(text, str)
    assert all(isinstance(part, str) for part in sample.values())
    assert reader.edit(text, sample, lambda said: said) == (text, sample)
