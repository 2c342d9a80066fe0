"""Labelled samples of every form, from every kind of file: columns stay with their text, and nothing goes unseen."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tests.shared_data import shared

from danlu.core.settings import load
from danlu.data.forms import FORMS
from danlu.data.forms.tags import pieces
from danlu.data.shards import read_documents, sample_columns
from danlu.stages.prepare import Prepare, prepare

ANSWERS = [{"text": "炉", "answer_start": 1}, {"text": "火", "answer_start": 3}]
RECORDS = {
    "labels": ({"text": "hot  \u0065\u0301", "label": " good\n"}, {"label": "good"}),
    "tags": ({"tokens": ["Ada", "e\u0301", "炉"], "tags": ["B-PER", "O", "B-LOC"]},
             {"words": ["Ada", "e\u0301", "炉"], "tags": ["B-PER", "O", "B-LOC"]}),
    "spans": ({"question": "e\u0301 ?", "context": "丹炉 火  x", "answers": ANSWERS},
              {"question": "e\u0301 ?", "context": "丹炉 火  x",
               "answers": [{"text": "炉", "start": 1}, {"text": "火", "start": 3}]}),
    "answers": ({"prompt": "e\u0301 ?", "answer": "yes"}, {"prompt": "é ?", "answer": "yes"}),
    "pairs": ({"query": "e\u0301 ?", "positive": "yes"}, {"query": "é ?", "positive": "yes"}),
}  # fmt: skip


def run(folder, rows, form, name="rows.jsonl", **settings):
    path = folder / name
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    words = {"sources": [str(path)], "engine": "sequential", "out": folder / "out", "form": form, **settings}
    return prepare(load(Prepare, words)).path


@pytest.mark.parametrize("form", FORMS.names())
def test_a_sample_of_every_form_arrives_whole(form, tmp_path):
    if form not in RECORDS:
        pytest.skip("a form with tests of its own")
    record, sample = RECORDS[form]
    out = run(tmp_path, [record], form, holdout=0)
    (document,) = read_documents(out)
    assert document.sample == sample
    assert sample_columns(out) == list(FORMS[form].columns)
    edited = "e\u0301" not in document.text
    assert edited == (form in ("labels", "pairs", "answers"))  # what points into the text keeps it as it was


def test_offsets_of_answers_still_hold_after_preparing(tmp_path):
    out = run(tmp_path, [RECORDS["spans"][0]], "spans", holdout=0)
    for document in read_documents(out):
        for answer in document.sample["answers"]:
            context, start = document.sample["context"], answer["start"]
            assert context[start : start + len(answer["text"])] == answer["text"]


def test_short_labelled_samples_stay_and_only_true_copies_go(tmp_path):
    rows = [("ok", 1), ("ok", 1), ("ok", 0), ("no", 0), ("太好了", 1)]
    out = run(tmp_path, [{"review": text, "stars": label} for text, label in rows],
              {"name": "labels", "text": "review", "label": "stars"}, holdout=0)  # fmt: skip
    assert [(document.text, document.sample["label"]) for document in read_documents(out)] == [
        ("ok", "1"), ("ok", "0"), ("no", "0"), ("太好了", "1"),
    ]  # fmt: skip
    ledger = json.loads((out / "ledger.json").read_text())["total"]["all"]
    assert ledger["exact copies"]["documents"] == 1


def test_filters_that_are_asked_for_still_apply(tmp_path):
    out = run(tmp_path, [{"text": text, "label": "a"} for text in ("one", "one two three four")], "labels", holdout=0,
              filters=["length:least=5"])  # fmt: skip
    assert [document.text for document in read_documents(out)] == ["one two three four"]


@pytest.mark.parametrize(("form", "record", "reason"), [
    ("labels", {"text": "x"}, "no field 'label'; it has text"),
    ("labels", {"text": "x", "label": ""}, "field 'label' is empty"),
    ("labels", {"text": "x", "label": [1]}, "is list; a label is a name or a number"),
    ("tags", {"tokens": ["a", "b"], "tags": ["O"]}, "2 words in 'tokens' but 1 tags in 'tags'"),
    ("spans", {"question": "q", "context": "abc", "answers": ["z"]}, "'z' does not stand in the context"),
    ("spans", {"question": "q", "context": "abc", "answers": [{"text": "b", "answer_start": 2}]}, "at its place (2)"),
    ("spans", {"question": "q", "context": "abc"}, "no field 'answers'"),
    ("pairs", {"query": "q", "positive": None}, "field 'positive' is empty"),
])  # fmt: skip
def test_a_sample_without_its_labels_is_set_aside_with_the_reason(form, record, reason, tmp_path):
    out = run(tmp_path, [RECORDS[form][0], record], form, holdout=0)
    (note,) = map(json.loads, (out / "quarantine.jsonl").read_text().splitlines())
    assert reason in note["reason"] and note["line"] == 2
    assert len(list(read_documents(out))) == 1


def test_a_long_sample_is_neither_cut_nor_held_out_in_part(tmp_path):
    rows = [{"text": "word " * 15_000, "label": "long"}, {"text": "y " * 700, "label": "b"}, {"text": "short", "label": "a"}]
    out = run(tmp_path, rows, "labels", holdout=0.5)
    found = [*read_documents(out), *read_documents(out, "validation")]
    assert sorted(document.sample["label"] for document in found) == ["a", "b", "long"]
    out = run(tmp_path, rows, "labels", overwrite=True, holdout=0, max_document_chars=1000)
    assert "is not cut; the limit is 1000" in (out / "quarantine.jsonl").read_text()


def test_tables_hold_labels_too(tmp_path):
    (tmp_path / "a.tsv").write_text("label\ttext_a\n1\tgood stay\n0\tbad stay\n")
    (tmp_path / "b.csv").write_text('text_a,label\n"so, so",1\n')
    pq.write_table(pa.table({"text_a": ["fine"], "label": [3]}), tmp_path / "c.parquet")
    (tmp_path / "d.json").write_text('[{"text_a": "well", "label": 2.5}]')
    (tmp_path / "e.txt").write_text("no fields here")
    sources = [str(tmp_path / name) for name in ("a.tsv", "b.csv", "c.parquet", "d.json", "e.txt")]
    form = {"name": "labels", "text": "text_a"}
    words = {"sources": sources, "engine": "sequential", "form": form, "out": tmp_path / "out", "holdout": 0}
    out = prepare(load(Prepare, words)).path
    found = [(document.text, document.sample["label"]) for document in read_documents(out)]
    assert found == [("good stay", "1"), ("bad stay", "0"), ("so, so", "1"), ("fine", "3"), ("well", "2.5")]
    assert "a txt file has no fields" in (out / "quarantine.jsonl").read_text()


def test_conll_and_squad_files(tmp_path):
    (tmp_path / "a.conll").write_text("-DOCSTART- O\n\nAda NNP B-PER\nmet VBD O\n\n丹 N B-LOC\n")
    words = {"engine": "sequential", "holdout": 0}
    out = prepare(load(Prepare, {**words, "sources": [str(tmp_path / "a.conll")], "reader": "conll", "form": "tags",
                                 "out": tmp_path / "tags"})).path  # fmt: skip
    assert [(row.text, row.line, row.sample["tags"]) for row in read_documents(out)] == [
        ("Ada met", 3, ["B-PER", "O"]), ("丹", 6, ["B-LOC"]),
    ]  # fmt: skip
    asked = [{"question": "谁?", "answers": [{"text": "师父", "answer_start": 2}]}, {"question": "why?", "answers": []}]
    (tmp_path / "a.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "炉前师父", "qas": asked}]}]}))
    out = prepare(load(Prepare, {**words, "sources": [str(tmp_path / "a.json")], "reader": "squad", "form": "spans",
                                 "out": tmp_path / "spans"})).path  # fmt: skip
    assert [row.sample["answers"] for row in read_documents(out)] == [[{"text": "师父", "start": 2}], []]


def test_words_are_joined_as_people_write_them():
    assert "".join(pieces(["in", "1998", "，", "丹", "炉", "opened", "!"])) == "in 1998，丹炉opened !"
    assert "".join(pieces(list("1998年"))) == "1998年"


def test_real_sets_are_read_whole(tmp_path):
    if (folder := shared("zh_ner_msra")) is None:
        pytest.skip("no such set on this machine; the tests above read small ones of ours")
    ner = folder / "dev.tsv"
    words = {"sources": [str(ner)], "engine": "sequential", "out": tmp_path / "out", "holdout": 0.1,
             "form": {"name": "tags", "words": "text_a", "tags": "label"}}  # fmt: skip
    out = prepare(load(Prepare, words)).path
    ledger = json.loads((out / "ledger.json").read_text())["total"]["all"]
    lines = ner.read_text(encoding="utf-8").splitlines()
    assert ledger["read"]["documents"] == len(lines) - 1 and "quarantined" not in ledger
    assert all(len(row.sample["words"]) == len(row.sample["tags"]) for row in read_documents(out))
