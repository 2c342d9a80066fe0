"""The report's figures add up and mean what their names say."""

from dataclasses import dataclass

import pytest
from tests.tokenizer.texts import CHINESE, CODE, ENGLISH, corpus

from danlu.tokenizer import report
from danlu.tokenizer.readable import readable
from danlu.tokenizer.trainers import TRAINERS


@dataclass
class Doc:
    text: str
    source: str
    language: str


DOCS = [Doc(ENGLISH, "a", "en"), Doc(CODE, "a", "en"), Doc(CHINESE, "b", "zh")]


def figures(kind, **settings):
    thing = TRAINERS[kind]
    size = {"vocab_size": 700, "shrink": True} if thing.sized else {}
    tokenizer = thing(thing.Config(**settings)).train([doc.text for doc in DOCS] * 2, **size)
    return tokenizer, report.measure(tokenizer, lambda: DOCS, lambda: DOCS, "train")


@pytest.mark.parametrize("kind", TRAINERS.names())
def test_compression_is_bytes_over_tokens_for_every_kind_of_vocabulary(kind):
    tokenizer, found = figures(kind)
    for key, docs in (("all", DOCS), ("language zh", DOCS[2:]), ("source a", DOCS[:2])):
        tokens = sum(len(tokenizer.encode(doc.text)) for doc in docs)
        row = found["compression"][key]
        assert row["tokens"] == tokens
        assert row["bytes_per_token"] == pytest.approx(sum(len(doc.text.encode()) for doc in docs) / tokens, abs=1e-4)
        assert row["characters_per_token"] == pytest.approx(sum(len(doc.text) for doc in docs) / tokens, abs=1e-4)
    assert report.page(tokenizer, found).render().startswith("<!doctype html>")


def test_bytes_alone_are_one_byte_a_token():
    assert figures("bytes")[1]["bytes_per_token"] == 1.0


def test_tokens_that_the_text_never_uses_are_found_and_shown():
    tokenizer, found = figures("bpe")
    used = {number for doc in DOCS for number in tokenizer.encode(doc.text)}
    learned = {number for number in range(tokenizer.vocab_size) if len(tokenizer.token_bytes(number)) > 1} - {0, 1, 2}
    assert found["use"]["unused"] == len(learned - used)
    assert {row["id"] for row in found["use"]["glitch_candidates"] if row["count"] == 0} <= learned - used
    longest = found["use"]["longest"][0]
    assert longest["token"] == readable(tokenizer.token_bytes(longest["id"]))


def test_a_smaller_vocabulary_inside_the_larger_one_is_measured_as_if_trained():
    docs = [Doc(text, "a", "en") for text in corpus(12_000)]
    trainer, texts = TRAINERS["bpe"](TRAINERS["bpe"].Config()), [doc.text for doc in docs]
    found = report.measure(trainer.train(texts, vocab_size=600), lambda: docs, lambda: docs, "train")
    tokens = sum(map(len, trainer.train(texts, vocab_size=512).encode_batch(texts)))
    row = next(row for row in found["curve"] if row["vocab_size"] == 512)
    assert row["bytes_per_token"] == pytest.approx(sum(len(text.encode()) for text in texts) / tokens, abs=1e-4)


def test_patterns_are_compared_at_equal_size():
    tokenizer, _ = figures("bpe")
    total = sum(len(doc.text.encode()) for doc in DOCS)
    found = report.compare_patterns(tokenizer, lambda: DOCS, total)
    assert set(found["bytes_per_token"]) == {"danlu", "gpt2", "gpt4"}
    assert found["text_bytes"] == total
    assert all(row["all"] > 1 for row in found["bytes_per_token"].values())
