"""Texts as heads meet them: every character of a context keeps its token, every word its first, and nothing is lost in parts."""

from itertools import pairwise

import pytest

from danlu.data.shards import Document
from danlu.objectives import OBJECTIVES
from danlu.objectives.extract import place_of
from danlu.objectives.frame import Frame
from danlu.objectives.labelled import TooLong
from danlu.tokenizer.trainers import TRAINERS
from tests.tokenizer.texts import corpus

CONTEXT = "A furnace keeps what the fire cannot take. 丹炉之中，火候为先。On the ninth day the master opens the door — once 🙂."


def tokenizer(name="bpe"):
    size = None if name == "bytes" else 700
    return TRAINERS.build(TRAINERS[name].Config()).train(list(corpus(20_000)), ["<|endoftext|>"], size)


def frame(most=64, both_ways=False, name="bpe"):
    return Frame(tokenizer(name), both_ways, most, first=both_ways)


@pytest.mark.parametrize("name", ["bpe", "bytes", "unigram", "wordpiece"])
def test_bounds_lead_from_tokens_back_to_characters(name):
    made = frame(name=name)
    ids, bounds = made.bounded(CONTEXT)
    assert len(ids) == len(bounds) and ids == made.tokenizer.encode(CONTEXT)
    covered = {place for start, end in bounds for place in range(start, end)}
    assert covered >= {place for place, letter in enumerate(CONTEXT) if not letter.isspace()} or name == "wordpiece"
    assert (bounds[1:, 0] >= bounds[:-1, 0]).all()


@pytest.mark.parametrize("answer", ["furnace", "火候", "🙂", "A", "master opens"])
@pytest.mark.parametrize("most", [64, 200])
def test_an_answer_stands_in_the_tokens_that_are_asked_for(answer, most):
    made = frame(most)
    start, hits = CONTEXT.index(answer), 0
    for reading in made.readings("what?", CONTEXT):
        first, last = place_of([{"text": answer, "start": start}], reading)
        if (first, last) != (0, 0):
            hits += 1
            begin, end = reading.bounds[first - reading.first, 0], reading.bounds[last - reading.first, 1]
            assert begin <= start and end >= start + len(answer)
            assert answer in CONTEXT[begin:end] and end - begin <= len(answer) + 8
        assert len(reading.ids) <= most
    assert hits >= 1


def test_readings_overlap_and_cover_the_context():
    made = frame(most=40)
    readings = made.readings("why?", CONTEXT)
    ids, _ = made.bounded(CONTEXT)
    assert len(readings) > 2
    assert readings[0].bounds[0, 0] == 0 and readings[-1].bounds[-1, 1] == len(CONTEXT)
    for one, two in pairwise(readings):
        assert two.bounds[0, 0] < one.bounds[-1, 1]
    assert made.readings("a very long question " * 20, CONTEXT) == []
    assert len(made.readings("why?", "")) == 1 and len(ids) > 40


def test_an_encoder_closes_a_text_and_a_decoder_does_not():
    plain, closed = frame().text("fire"), frame(both_ways=True).text("fire")
    assert closed == [*plain, closed[-1]] and closed[-1] == closed[0]


def test_words_keep_their_tokens_apart():
    made = frame()
    words = ["丹", "炉", "opens", "!"]
    tokens = made.words(words)
    assert "".join(made.tokenizer.decode(ids) for ids in tokens) == "丹炉opens !"


def test_long_sentences_split_at_words_only():
    made = frame(most=12)
    objective = OBJECTIVES.build(OBJECTIVES["tag"].Config())
    words = list("丹炉之中火候为先投石入炉")
    document = Document("i", "s", "p", 3, "".join(words), sample={"words": words, "tags": ["O", "B-X"] * 6})
    objective.learn([document])
    with pytest.raises(TooLong):
        objective.encode(document, made, "raise")
    parts = objective.encode(document, made, "split")
    assert len(parts) > 1 and all(len(part.ids) <= 12 for part in parts)
    assert [int(tag) for part in parts for tag in part.targets[part.targets >= 0]] == [0, 1] * 6
    (cut,) = objective.encode(document, made, "truncate")
    assert cut.cut and len(cut.ids) <= 12
